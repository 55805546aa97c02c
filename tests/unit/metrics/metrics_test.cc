// Metrics as values, as text, and as the list that the documentation has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/metrics/exposition_reader.h"
#include "userspace/metrics/exposition.h"
#include "userspace/metrics/process.h"
#include "userspace/metrics/render.h"

namespace waggle::metrics {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;

// kube-proxy's name for what is a gauge.
const std::vector<std::string> kAnyName = {"kubeproxy_sync_proxy_rules_no_local_endpoints_total"};

// ---- The reader, which all else relies on.

struct ReaderCase {
  const char* name;
  std::string text;
  bool good = false;
};
void PrintTo(const ReaderCase& test, std::ostream* out) {
  *out << test.name;
}

class Reader : public testing::TestWithParam<ReaderCase> {};

TEST_P(Reader, FindsFaults) {
  EXPECT_EQ(ParseExposition(GetParam().text).faults.empty(), GetParam().good)
      << testing::PrintToString(ParseExposition(GetParam().text).faults);
}

const std::string kGauge = "# HELP g Text\n# TYPE g gauge\n";
const std::string kHistogramHead = "# HELP h Text\n# TYPE h histogram\n";

INSTANTIATE_TEST_SUITE_P(
    Rules, Reader,
    testing::Values(
        ReaderCase{"Good", kGauge + "g 1\ng{a=\"x\\\"\\\\\\n,}\",b=\"\"} -2.5e-3\n", true},
        ReaderCase{"NoSamples", kGauge, true}, ReaderCase{"NoEnd", kGauge + "g 1"},
        ReaderCase{"NoHelp", "# TYPE g gauge\ng 1\n"},
        ReaderCase{"EmptyHelp", "# HELP g\n# TYPE g gauge\ng 1\n"},
        ReaderCase{"NoType", "# HELP g x\ng 1\n"},
        ReaderCase{"UnknownType", "# HELP g x\n# TYPE g number\ng 1\n"},
        ReaderCase{"LateType", "# HELP g x\ng 1\n# TYPE g gauge\n"},
        ReaderCase{"TypeOfAnother", "# HELP g x\n# TYPE f gauge\ng 1\n"},
        ReaderCase{"FamilyTwice", kGauge + "g 1\n" + kGauge},
        ReaderCase{"SampleTwice", kGauge + "g{a=\"1\",b=\"2\"} 1\ng{b=\"2\",a=\"1\"} 1\n"},
        ReaderCase{"LabelTwice", kGauge + "g{a=\"1\",a=\"2\"} 1\n"},
        ReaderCase{"SampleOfAnother", kGauge + "f 1\n"},
        ReaderCase{"BadName", "# HELP 1g x\n# TYPE 1g gauge\n1g 1\n"},
        ReaderCase{"BadLabel", kGauge + "g{a-b=\"1\"} 1\n"},
        ReaderCase{"BadEscape", kGauge + "g{a=\"\\x\"} 1\n"},
        ReaderCase{"OpenLabel", kGauge + "g{a=\"1} 1\n"}, ReaderCase{"NoValue", kGauge + "g \n"},
        ReaderCase{"NoNumber", kGauge + "g one\n"}, ReaderCase{"EmptyLine", kGauge + "\ng 1\n"},
        ReaderCase{"CounterWithoutTotal", "# HELP c x\n# TYPE c counter\nc 1\n"},
        ReaderCase{"GaugeWithTotal", "# HELP c_total x\n# TYPE c_total gauge\nc_total 1\n"},
        ReaderCase{"NegativeCounter", "# HELP c_total x\n# TYPE c_total counter\nc_total -1\n"},
        ReaderCase{"Histogram",
                   kHistogramHead + "h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\n"
                                    "h_count 2\n",
                   true},
        ReaderCase{"HistogramFalls", kHistogramHead + "h_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} "
                                                      "2\nh_sum 3\nh_count 2\n"},
        ReaderCase{"HistogramUnsorted", kHistogramHead +
                                            "h_bucket{le=\"2\"} 1\nh_bucket{le=\"1\"} 1\n"
                                            "h_bucket{le=\"+Inf\"} 1\nh_sum 3\nh_count 1\n"},
        ReaderCase{"HistogramWithoutInf",
                   kHistogramHead + "h_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n"},
        ReaderCase{"HistogramCount",
                   kHistogramHead + "h_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 3\n"},
        ReaderCase{"HistogramWithoutSum", kHistogramHead + "h_bucket{le=\"+Inf\"} 2\nh_count 2\n"},
        ReaderCase{"HistogramPlain", kHistogramHead + "h 2\n"}),
    [](const testing::TestParamInfo<ReaderCase>& test) { return test.param.name; });

// ---- The writer.

TEST(Exposition, WritesWhatPrometheusReads) {
  static constexpr std::array<double, 3> kBounds = {0.00001, 0.5, 2};
  Histogram histogram(kBounds);
  for (const double value : {0.00001, 0.0000101, 0.5, 2.5, 7.0})
    histogram.Observe(value);
  Counter counter;
  counter.Add(3);
  Exposition out;
  out.Family("h", Type::kHistogram, "Of \\ and \n").Sample({{"a", "x"}}, histogram);
  out.Family("c_total", Type::kCounter, "C").Sample({}, counter);
  out.Family("g", Type::kGauge, "G")
      .Sample({{"a", "\"\\\n"}, {"b", ""}}, 1e-5)
      .Sample({}, 1769860800.25)
      .Sample({{"a", "big"}}, 9007199254740994.0)
      .Sample({{"a", "inf"}}, std::numeric_limits<double>::infinity());
  EXPECT_EQ(out.text(), R"(# HELP h Of \\ and \n
# TYPE h histogram
h_bucket{a="x",le="1e-05"} 1
h_bucket{a="x",le="0.5"} 3
h_bucket{a="x",le="2"} 3
h_bucket{a="x",le="+Inf"} 5
h_sum{a="x"} 10.0000201
h_count{a="x"} 5
# HELP c_total C
# TYPE c_total counter
c_total 3
# HELP g G
# TYPE g gauge
g{a="\"\\\n",b=""} 1e-05
g 1769860800.25
g{a="big"} 9007199254740994
g{a="inf"} +Inf
)");
}

TEST(Values, AreReadWhileTheyAreWritten) {
  static constexpr std::array<double, 1> kBounds = {1};
  Histogram histogram(kBounds);
  Counter counter;
  constexpr uint64_t kTimes = 100'000;
  std::thread writer([&] {
    for (uint64_t i = 0; i < kTimes; ++i) {
      histogram.Observe(0.5);
      counter.Add();
    }
  });
  uint64_t last = 0;
  while (last < kTimes) {
    const uint64_t now = counter.value();
    EXPECT_GE(now, last);
    last = now;
  }
  writer.join();
  EXPECT_THAT(histogram.counts(), ElementsAre(kTimes, 0));
  EXPECT_EQ(histogram.sum(), kTimes * 0.5);
}

// ---- What is served.

struct World {
  AgentMetrics agent;
  std::array<k8s::RequestCounts, 3> api;
  k8s::EventCounts events;
  maps::KernelCounters kernel;

  World() {
    const char* const names[] = {"services", "endpointslices", "nodes"};
    for (size_t i = 0; i < api.size(); ++i)
      api[i].resource = names[i];
    kernel.stats.resize(WAGGLE_REASON_COUNT);
    kernel.maps = {{"frontends", "--max-frontends", 0, 100},
                   {"flows", "--max-flows", 7, 200},
                   {"stats", "", 31, 31}};
  }
  ReadExposition Read() {
    Facts facts;
    facts.agent = &agent;
    facts.kernel = &kernel;
    facts.api = api;
    facts.events = &events;
    facts.process = ReadProcess();
    facts.queued_slices = 2;
    facts.queued_others = 1;
    facts.version = "1.2.3";
    ReadExposition read = ParseExposition(Render(facts), kAnyName);
    EXPECT_THAT(read.faults, IsEmpty());
    return read;
  }
};

TEST(Render, IsWhatTheParserTakesWithNothingKnown) {
  AgentMetrics agent;
  Facts facts;
  facts.agent = &agent;
  const ReadExposition read = ParseExposition(Render(facts), kAnyName);
  EXPECT_THAT(read.faults, IsEmpty());
  EXPECT_EQ(read.Value("waggle_kernel_readable"), 0);
  EXPECT_THAT(Render(facts), testing::Not(testing::HasSubstr("waggle_events_total")))
      << "a counter that falls to 0 was reset, and this one was not";
}

TEST(Render, ShowsEachValueInItsPlace) {
  World world;
  AgentMetrics& agent = world.agent;
  agent.families[1].sync.Observe(0.003);
  agent.families[1].sync_partial.Observe(0.003);
  agent.families[0].programming.Observe(59.5);
  agent.families[0].failures.Add(4);
  agent.families[0].last_sync.Set(1769860800.5);
  agent.service_changes.Add(5);
  agent.slice_changes.Add(6);
  agent.slices_pending.Set(3);
  agent.event_to_kernel.Observe(30e-6);
  agent.no_local_endpoints[1][0].Set(8);
  agent.problems[static_cast<size_t>(ProblemReason::kConflict)].Set(9);
  agent.services.Set(10);
  agent.used.frontends.Set(11);
  agent.healthz[1].Add(12);
  agent.livez[0].Add(13);
  world.api[0].HeadCame(200, 30'000'000);
  world.api[1].HeadCame(200, 30'000'000);
  world.api[1].HeadCame(503, 70'000'000'000);
  world.api[2].unanswered = 2;
  world.api[1].connected = true;
  world.api[1].watches = 14;
  world.events.rate_limited = 17;
  world.kernel.stats[WAGGLE_REASON_NO_ENDPOINTS] = 15;
  world.kernel.agent.events = 16;
  world.kernel.agent.state = WAGGLE_AGENT_READY;
  world.kernel.devices[4].role = WAGGLE_ROLE_POD;
  world.kernel.devices[5].role = WAGGLE_ROLE_POD;
  const ReadExposition read = world.Read();
  const auto value = [&read](const std::string& name, const LabelMap& labels = {}) {
    return read.Value(name, labels);
  };
  const std::string kProxy = "kubeproxy_";
  const std::string kSync = kProxy + "sync_proxy_rules_";
  EXPECT_EQ(value(kSync + "duration_seconds_bucket", {{"ip_family", "IPv6"}, {"le", "0.004"}}), 1);
  EXPECT_EQ(value(kSync + "duration_seconds_bucket", {{"ip_family", "IPv6"}, {"le", "0.002"}}), 0);
  EXPECT_EQ(value(kSync + "duration_seconds_count", {{"ip_family", "IPv4"}}), 0);
  EXPECT_EQ(
      value(kProxy + "sync_partial_proxy_rules_duration_seconds_count", {{"ip_family", "IPv6"}}),
      1);
  EXPECT_EQ(value(kProxy + "sync_full_proxy_rules_duration_seconds_count", {{"ip_family", "IPv6"}}),
            0);
  EXPECT_EQ(value(kProxy + "network_programming_duration_seconds_bucket",
                  {{"ip_family", "IPv4"}, {"le", "60"}}),
            1);
  EXPECT_EQ(value(kSync + "nftables_sync_failures_total", {{"ip_family", "IPv4"}}), 4);
  EXPECT_EQ(value(kSync + "last_timestamp_seconds", {{"ip_family", "IPv4"}}), 1769860800.5);
  EXPECT_EQ(value(kSync + "service_changes_total"), 5);
  EXPECT_EQ(value(kSync + "endpoint_changes_total"), 6);
  EXPECT_EQ(value(kSync + "endpoint_changes_pending"), 5);
  EXPECT_EQ(value(kSync + "no_local_endpoints_total",
                  {{"traffic_policy", "external"}, {"ip_family", "IPv4"}}),
            8);
  EXPECT_EQ(value(kProxy + "proxy_healthz_total", {{"code", "503"}}), 12);
  EXPECT_EQ(value(kProxy + "proxy_livez_total", {{"code", "200"}}), 13);
  EXPECT_EQ(value("rest_client_requests_total", {{"code", "200"}, {"method", "GET"}}), 2);
  EXPECT_EQ(value("rest_client_requests_total", {{"code", "503"}, {"method", "GET"}}), 1);
  EXPECT_EQ(value("rest_client_requests_total", {{"code", "<error>"}, {"method", "GET"}}), 2);
  EXPECT_EQ(value("rest_client_request_duration_seconds_bucket", {{"verb", "GET"}, {"le", "0.1"}}),
            2);
  EXPECT_EQ(value("rest_client_request_duration_seconds_bucket", {{"verb", "GET"}, {"le", "60"}}),
            2);
  EXPECT_EQ(value("rest_client_request_duration_seconds_count", {{"verb", "GET"}}), 3);
  EXPECT_EQ(value("waggle_apiserver_connected", {{"resource", "endpointslices"}}), 1);
  EXPECT_EQ(value("waggle_apiserver_connected", {{"resource", "services"}}), 0);
  EXPECT_EQ(value("waggle_apiserver_watches_total", {{"resource", "endpointslices"}}), 14);
  EXPECT_EQ(value("waggle_kubernetes_events_total", {{"result", "rate_limited"}}), 17);
  EXPECT_EQ(value("waggle_packets_total", {{"reason", "no-endpoints"}, {"effect", "refused"}}), 15);
  EXPECT_EQ(value("waggle_events_total"), 16);
  EXPECT_EQ(value("waggle_ready"), 1);
  EXPECT_EQ(value("waggle_devices", {{"role", "pod"}}), 2);
  EXPECT_EQ(value("waggle_devices", {{"role", "uplink"}}), 0);
  EXPECT_EQ(value("waggle_map_entries", {{"map", "frontends"}}), 11);
  EXPECT_EQ(value("waggle_map_entries", {{"map", "flows"}}), 7);
  EXPECT_EQ(value("waggle_map_capacity", {{"map", "frontends"}}), 100);
  EXPECT_TRUE(std::isnan(value("waggle_map_entries", {{"map", "stats"}})));
  EXPECT_EQ(value("waggle_problems", {{"reason", "conflict"}}), 9);
  EXPECT_EQ(value("waggle_services"), 10);
  EXPECT_EQ(value("waggle_queue_length"), 3);
  EXPECT_EQ(value("waggle_event_to_kernel_seconds_bucket", {{"le", "5e-05"}}), 1);
  EXPECT_EQ(value("waggle_event_to_kernel_seconds_bucket", {{"le", "2e-05"}}), 0);
  EXPECT_EQ(value("waggle_build_info", {{"version", "1.2.3"}}), 1);
}

TEST(Buckets, AreThoseOfKubeProxy) {
  std::vector<double> sync;
  for (int i = 0; i < 15; ++i)
    sync.push_back(std::ldexp(1, i) / 1000);
  EXPECT_THAT(SyncSeconds(), ElementsAreArray(sync));
  std::vector<double> programming = {0.25, 0.5};
  for (int i = 1; i <= 59; ++i)
    programming.push_back(i);
  for (int i = 0; i < 12; ++i)
    programming.push_back(60 + 5 * i);
  for (int i = 0; i < 7; ++i)
    programming.push_back(120 + 30 * i);
  EXPECT_THAT(ProgrammingSeconds(), ElementsAreArray(programming));
}

TEST(Process, KnowsItself) {
  const ProcessFacts facts = ReadProcess();
  EXPECT_GT(facts.resident_bytes, 1e5);
  EXPECT_GE(facts.virtual_bytes, facts.resident_bytes);
  EXPECT_GT(facts.start_time, 1.6e9);
  EXPECT_GE(facts.open_fds, 3);
  EXPECT_GE(facts.max_fds, facts.open_fds);
  EXPECT_GE(facts.cpu_seconds, 0);
}

// docs/metrics.md: each name that is served has a row, `name` or its family's, and no other.
TEST(Docs, ListExactlyWhatIsServed) {
  std::ifstream file(WAGGLE_SOURCE_DIR "/docs/metrics.md");
  std::vector<std::string> documented;
  bool served = true;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("## ")) served = line != "## Not served";
    if (!served || !line.starts_with("| `")) continue;
    documented.push_back(line.substr(3, line.find('`', 3) - 3));
  }
  std::sort(documented.begin(), documented.end());
  EXPECT_EQ(documented, World().Read().Names());
}

}  // namespace
}  // namespace waggle::metrics
