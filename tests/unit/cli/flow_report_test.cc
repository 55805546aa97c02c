// `waggle flow list` without a kernel: which flows match, and how they look.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <ostream>

#include "tests/unit/cli/run.h"
#include "tests/unit/maps/testing.h"
#include "userspace/cli/flow_filter.h"
#include "userspace/cli/flow_report.h"

namespace waggle::cli {
namespace {

using maps::At;
using maps::Flow;
using maps::FlowMode;
using maps::FlowState;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kSecond = 1'000'000'000;

const maps::ServicePorts& Services() {
  static const auto* const services = new maps::ServicePorts{
      {3, {{"default", "web"}, "http", {}}},           {4, {{"default", "web"}, "", {}}},
      {5, {{"kube-system", "kube-dns"}, "dns", {}}},   {6, {{"kube-system", "web"}, "http", {}}},
      {7, {{"evil\x1b", "name with spaces"}, "", {}}},
  };
  return *services;
}

FlowNames Names() {
  return {Services(), [](uint32_t ifindex) -> std::string {
            if (ifindex == 12) return "veth1a2b";
            return ifindex == 2 ? "eth0" : "";
          }};
}

Flow Web() {
  Flow flow;
  flow.state = FlowState::kEstablished;
  flow.mode = FlowMode::kNeigh;
  flow.established = true;
  flow.client = At("10.244.1.5:40000");
  flow.frontend = At("10.96.0.10:80");
  flow.backend = At("10.244.2.7:8080");
  flow.service_id = 3;
  flow.device = 12;
  flow.out_device = 2;
  flow.age_ns = 7200 * kSecond;
  flow.idle_ns = 1'500'000'000;
  flow.remaining_ns = 431'998'500'000'000;
  return flow;
}

// One of everything, out of order.
std::vector<Flow> Flows() {
  Flow v6 = Web();
  v6.client = At("[fd00:1::5]:40001");
  v6.frontend = At("[fd00:96::a]:80");
  v6.backend = At("[fd00:2::7]:8080");
  v6.mode = FlowMode::kPeer;
  v6.out_device = 99;
  v6.service_id = 4;
  Flow syn = Web();
  syn.established = false;
  syn.state = FlowState::kSynSent;
  syn.mode = FlowMode::kStack;
  syn.out_device = 0;
  syn.half = true;
  syn.client = At("10.244.1.5:9");
  syn.service_id = 1000;
  syn.remaining_ns = 119 * kSecond;
  Flow dns = Web();
  dns.protocol = net::Protocol::kUdp;
  dns.state = FlowState::kStream;
  dns.frontend = At("10.96.0.53:53");
  dns.backend = At("10.244.1.5:53");
  dns.source = At("10.96.0.53:40000");
  dns.hairpin = true;
  dns.mode = FlowMode::kPeer;
  dns.out_device = 12;
  dns.service_id = 5;
  Flow direct = Web();
  direct.direct = true;
  direct.service_id = 0;
  direct.frontend = direct.backend;
  direct.source = At("10.244.1.5:61000");
  direct.mode = FlowMode::kStack;
  direct.out_device = 0;
  direct.client = At("10.244.1.5:40002");
  Flow learned = Web();
  learned.socket = true;
  learned.client = At("10.244.1.5:40003");
  learned.frontend = learned.backend;
  learned.frontend_known = false;
  Flow stranger = Web();
  stranger.client = At("10.244.1.6:1");
  stranger.service_id = 7;
  return {stranger, direct, v6, syn, learned, dns, Web()};
}

std::string Text(const std::vector<Flow>& flows, bool wide) {
  std::string text;
  WriteFlowsTable(flows, Names(), wide, [&](std::string_view piece) {
    text += piece;
    return true;
  });
  return text;
}

std::string JsonText(const std::vector<Flow>& flows) {
  std::string text;
  WriteFlowsJson(flows, Names(), [&](std::string_view piece) {
    text += piece;
    return true;
  });
  return text;
}

TEST(FlowReport, LooksAsAUserSeesIt) {
  std::vector<Flow> flows = Flows();
  SortFlows(flows, 0);
  ExpectGolden(Text(flows, false), "flows.txt");
  ExpectGolden(Text(flows, true), "flows-wide.txt");
  ExpectGolden(JsonText(flows), "flows.json");
  EXPECT_EQ(nlohmann::json::parse(JsonText(flows)).size(), flows.size());
}

TEST(FlowReport, OfNothingIsATitleOrAnEmptyArray) {
  EXPECT_EQ(Text({}, false),
            "PROTOCOL   CLIENT   FRONTEND   BACKEND   STATE   MODE   IDLE   SERVICE\n");
  EXPECT_EQ(JsonText({}), "[]\n");
}

TEST(FlowReport, ComesInPiecesAndStopsWhenNobodyListens) {
  std::vector<Flow> flows(3000, Web());
  size_t longest = 0;
  int pieces = 0;
  const TextSink count = [&](std::string_view piece) {
    longest = std::max(longest, piece.size());
    ++pieces;
    return true;
  };
  const std::string text = Text(flows, false);
  const std::string json = JsonText(flows);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3001);
  EXPECT_EQ(nlohmann::json::parse(json).size(), 3000u);
  WriteFlowsTable(flows, Names(), false, count);
  EXPECT_GT(pieces, 2);
  EXPECT_LT(longest, text.size() / 2);
  pieces = 0;
  WriteFlowsJson(flows, Names(), count);
  EXPECT_GT(pieces, 5);
  EXPECT_LT(longest, json.size() / 5);
  pieces = 0;
  const TextSink deaf = [&](std::string_view) { return ++pieces < 2; };
  WriteFlowsTable(flows, Names(), false, deaf);
  EXPECT_EQ(pieces, 2);
  pieces = 0;
  WriteFlowsJson(flows, Names(), deaf);
  EXPECT_EQ(pieces, 2);
}

TEST(SortFlows, DropsWhatWasReadTwiceAndKeepsTheFirst) {
  Flow promoted = Web();
  promoted.established = false;
  Flow later = Web();
  later.client = At("10.244.1.5:40001");
  Flow udp = Web();
  udp.protocol = net::Protocol::kUdp;
  Flow earlier = Web();
  earlier.client = At("10.244.1.4:50000");
  std::vector<Flow> flows = {udp, promoted, later, Web(), promoted, earlier};
  const auto shown = [&] {
    std::vector<std::string> all;
    for (const Flow& flow : flows) {
      all.push_back(std::string(net::ProtocolName(flow.protocol)) + " " + flow.client.ToString() +
                    (flow.established ? "" : " half-open"));
    }
    return all;
  };
  SortFlows(flows, 0);
  EXPECT_THAT(shown(), ElementsAre("TCP 10.244.1.4:50000", "TCP 10.244.1.5:40000",
                                   "TCP 10.244.1.5:40001", "UDP 10.244.1.5:40000"));
  SortFlows(flows, 4);
  EXPECT_EQ(flows.size(), 4u);
  SortFlows(flows, 2);
  EXPECT_THAT(shown(), ElementsAre("TCP 10.244.1.4:50000", "TCP 10.244.1.5:40000"));
}

struct FilterCase {
  const char* what;
  FlowFilter filter;
  std::vector<int> matches;  // by place in Flows()
  friend void PrintTo(const FilterCase& row, std::ostream* out) { *out << row.what; }
};

class Filter : public testing::TestWithParam<FilterCase> {};

TEST_P(Filter, Matches) {
  std::vector<int> matches;
  const std::vector<Flow> flows = Flows();
  for (size_t i = 0; i < flows.size(); ++i) {
    if (GetParam().filter.Matches(flows[i], Services())) matches.push_back(static_cast<int>(i));
  }
  EXPECT_EQ(matches, GetParam().matches);
}

FlowFilter With(auto change) {
  FlowFilter filter;
  change(filter);
  return filter;
}

// 0 stranger, 1 direct, 2 v6, 3 syn, 4 learned, 5 dns, 6 web
const FilterCase kFilters[] = {
    {"nothing", {}, {0, 1, 2, 3, 4, 5, 6}},
    {"namespace", With([](FlowFilter& f) { f.ns = "default"; }), {2, 4, 6}},
    {"another namespace", With([](FlowFilter& f) { f.ns = "defaul"; }), {}},
    {"service", With([](FlowFilter& f) { f.service = *ParseServiceFilter("web"); }), {2, 4, 6}},
    {"service in a namespace",
     With([](FlowFilter& f) { f.service = *ParseServiceFilter("kube-system/kube-dns"); }),
     {5}},
    {"service in another namespace",
     With([](FlowFilter& f) { f.service = *ParseServiceFilter("kube-system/web"); }),
     {}},
    {"client",
     With([](FlowFilter& f) { f.client = *ParseEndpointFilter("10.244.1.5"); }),
     {1, 3, 4, 5, 6}},
    {"client and port",
     With([](FlowFilter& f) { f.client = *ParseEndpointFilter("10.244.1.5:40000"); }),
     {5, 6}},
    {"client, IPv6",
     With([](FlowFilter& f) { f.client = *ParseEndpointFilter("fd00:1::5"); }),
     {2}},
    {"frontend",
     With([](FlowFilter& f) { f.frontend = *ParseEndpointFilter("10.96.0.10:80"); }),
     {0, 3, 6}},
    {"frontend that is not told",
     With([](FlowFilter& f) { f.frontend = *ParseEndpointFilter("10.244.2.7"); }),
     {1}},
    {"backend",
     With([](FlowFilter& f) { f.backend = *ParseEndpointFilter("10.244.2.7"); }),
     {0, 1, 3, 4, 6}},
    {"protocol", With([](FlowFilter& f) { f.protocol = "UDP"; }), {5}},
    {"state", With([](FlowFilter& f) { f.state = "syn-sent"; }), {3}},
    {"mode", With([](FlowFilter& f) { f.mode = "peer"; }), {2, 5}},
    {"all that is given must hold",
     With([](FlowFilter& f) {
       f.mode = "peer";
       f.protocol = "TCP";
     }),
     {2}},
};
INSTANTIATE_TEST_SUITE_P(Table, Filter, testing::ValuesIn(kFilters));

struct EndpointCase {
  const char* text;
  const char* parsed;  // null: an error
};

TEST(EndpointFilter, TakesAddressesWithAndWithoutPort) {
  const EndpointCase cases[] = {
      {"10.0.0.1", "10.0.0.1"},
      {"10.0.0.1:80", "10.0.0.1 80"},
      {"fd00::1", "fd00::1"},
      {"[fd00::1]", "fd00::1"},
      {"[fd00::1]:65535", "fd00::1 65535"},
      {"::ffff:10.0.0.1", "10.0.0.1"},
      {"", nullptr},
      {"web", nullptr},
      {"10.0.0.1:", nullptr},
      {"10.0.0.1:0", nullptr},
      {"10.0.0.1:65536", nullptr},
      {"10.0.0.1:+8", nullptr},
      {"10.0.0.1: 8", nullptr},
      {"10.0.0.1:8x", nullptr},
      {"10.0.0.1/24", nullptr},
      {":80", nullptr},
      {"[fd00::1", nullptr},
      {"[fd00::1]80", nullptr},
      {"[fd00::1]:", nullptr},
      {"[]:80", nullptr},
  };
  for (const EndpointCase& row : cases) {
    const auto filter = ParseEndpointFilter(row.text);
    ASSERT_EQ(filter.ok(), row.parsed != nullptr) << row.text << " " << filter.status();
    if (!filter.ok()) {
      EXPECT_THAT(std::string(filter.status().message()), HasSubstr("expected 10.0.0.1"));
      continue;
    }
    std::string text = filter->address.ToString();
    if (filter->port) text += " " + std::to_string(*filter->port);
    EXPECT_EQ(text, row.parsed);
  }
}

TEST(ServiceFilter, TakesANameWithAndWithoutNamespace) {
  EXPECT_EQ(ParseServiceFilter("web")->name, "web");
  EXPECT_EQ(ParseServiceFilter("web")->ns, "");
  EXPECT_EQ(ParseServiceFilter("default/web")->ns, "default");
  for (const char* text : {"", "/", "default/", "/web", "a/b/c"})
    EXPECT_FALSE(ParseServiceFilter(text).ok()) << text;
}

TEST(FlowNamesOfStates, AreAllThereAre) {
  EXPECT_THAT(FlowStateNames(), ElementsAre("syn-sent", "syn-recv", "established", "closing",
                                            "closed", "unreplied", "replied", "stream"));
  EXPECT_THAT(FlowModeNames(), ElementsAre("stack", "peer", "neigh"));
}

}  // namespace
}  // namespace waggle::cli
