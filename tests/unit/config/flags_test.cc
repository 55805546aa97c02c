// kube-proxy's flags: what each sets, what it takes, and that none is missing.
#include "userspace/config/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/config/testing.h"
#include "userspace/config/defaults.h"
#include "userspace/config/effects.h"
#include "userspace/config/write.h"

namespace waggle::config {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::IsEmpty;

struct FlagCase {
  const char* flag;
  const char* value;
  const char* pointer;   // into the configuration; empty: nothing changes
  const char* expected;  // JSON
};

constexpr FlagCase kCases[] = {
    {"bind-address", "192.0.2.1", "/bindAddress", R"("192.0.2.1")"},
    {"bind-address-hard-fail", "true", "/bindAddressHardFail", "true"},
    {"boot-id-file", "/x", "", ""},
    {"cluster-cidr", "10.0.0.0/8,fd00::/8", "/clusterCIDR", R"("10.0.0.0/8,fd00::/8")"},
    {"config-sync-period", "1m", "/configSyncPeriod", R"("1m0s")"},
    {"conntrack-max-per-core", "0", "/conntrack/maxPerCore", "0"},
    {"conntrack-min", "1", "/conntrack/min", "1"},
    {"conntrack-tcp-be-liberal", "t", "/conntrack/tcpBeLiberal", "true"},
    {"conntrack-tcp-timeout-close-wait", "1s", "/conntrack/tcpCloseWaitTimeout", R"("1s")"},
    {"conntrack-tcp-timeout-established", "0", "/conntrack/tcpEstablishedTimeout", R"("0s")"},
    {"conntrack-udp-timeout", "1s", "/conntrack/udpTimeout", R"("1s")"},
    {"conntrack-udp-timeout-stream", "1s", "/conntrack/udpStreamTimeout", R"("1s")"},
    {"detect-local-mode", "NodeCIDR", "/detectLocalMode", R"("NodeCIDR")"},
    {"feature-gates", "AllAlpha=false,AllBeta=T", "/featureGates",
     R"({"AllAlpha": false, "AllBeta": true})"},
    {"healthz-bind-address", "192.0.2.1", "/healthzBindAddress", R"("192.0.2.1:10256")"},
    {"healthz-port", "0", "/healthzBindAddress", R"("")"},
    {"iptables-localhost-nodeports", "false", "/iptables/localhostNodePorts", "false"},
    {"iptables-masquerade-bit", "3", "/iptables/masqueradeBit", "3"},
    {"iptables-min-sync-period", "2s", "/iptables/minSyncPeriod", R"("2s")"},
    {"iptables-sync-period", "1m", "/iptables/syncPeriod", R"("1m0s")"},
    {"ipvs-exclude-cidrs", "10.0.0.0/8,fd00::/8", "/ipvs/excludeCIDRs",
     R"(["10.0.0.0/8", "fd00::/8"])"},
    {"ipvs-min-sync-period", "2s", "/ipvs/minSyncPeriod", R"("2s")"},
    {"ipvs-scheduler", "rr", "/ipvs/scheduler", R"("rr")"},
    {"ipvs-strict-arp", "1", "/ipvs/strictARP", "true"},
    {"ipvs-sync-period", "1m", "/ipvs/syncPeriod", R"("1m0s")"},
    {"ipvs-tcp-timeout", "1s", "/ipvs/tcpTimeout", R"("1s")"},
    {"ipvs-tcpfin-timeout", "1s", "/ipvs/tcpFinTimeout", R"("1s")"},
    {"ipvs-udp-timeout", "1s", "/ipvs/udpTimeout", R"("1s")"},
    {"kube-api-burst", "1", "/clientConnection/burst", "1"},
    {"kube-api-content-type", "application/json", "/clientConnection/contentType",
     R"("application/json")"},
    {"kube-api-qps", "0.5", "/clientConnection/qps", "0.5"},
    {"kubeconfig", "/x", "/clientConnection/kubeconfig", R"("/x")"},
    {"log-flush-frequency", "1s", "/logging/flushFrequency", R"("1s")"},
    {"log-json-info-buffer-size", "1Ki", "/logging/options/json/infoBufferSize", R"("1Ki")"},
    {"log-json-split-stream", "true", "/logging/options/json/splitStream", "true"},
    {"log-text-info-buffer-size", "1Ki", "/logging/options/text/infoBufferSize", R"("1Ki")"},
    {"log-text-split-stream", "true", "/logging/options/text/splitStream", "true"},
    {"logging-format", "json", "/logging/format", R"("json")"},
    {"machine-id-file", "/x", "", ""},
    {"masquerade-all", "true", "/iptables/masqueradeAll", "true"},
    {"metrics-bind-address", "0.0.0.0:1", "/metricsBindAddress", R"("0.0.0.0:1")"},
    {"metrics-port", "0", "/metricsBindAddress", R"("")"},
    {"nodeport-addresses", "10.0.0.0/8,fd00::/8", "/nodePortAddresses",
     R"(["10.0.0.0/8", "fd00::/8"])"},
    {"oom-score-adj", "-1", "/oomScoreAdj", "-1"},
    {"pod-bridge-interface", "cni0", "/detectLocal/bridgeInterface", R"("cni0")"},
    {"pod-interface-name-prefix", "cali", "/detectLocal/interfaceNamePrefix", R"("cali")"},
    {"profiling", "true", "/enableProfiling", "true"},
    {"proxy-mode", "ipvs", "/mode", R"("ipvs")"},
    {"show-hidden-metrics-for-version", "1.33", "/showHiddenMetricsForVersion", R"("1.33")"},
    {"v", "4", "/logging/verbosity", "4"},
    {"vmodule", "a=1,b*=2", "/logging/vmodule",
     R"([{"filePattern": "a", "verbosity": 1}, {"filePattern": "b*", "verbosity": 2}])"},
};

json Defaults() {
  KubeProxyConfigurationV1alpha1 config;
  SetDefaults(&config);
  return ToJson(config);
}

// The flags of `list` on defaults.
json Applied(const std::vector<FlagValue>& list, std::vector<Remark>* faults = nullptr) {
  KubeProxyConfigurationV1alpha1 config;
  SetDefaults(&config);
  std::vector<Remark> found = ApplyFlags(list, &config);
  if (faults == nullptr) {
    EXPECT_THAT(found, IsEmpty());
  } else {
    *faults = std::move(found);
  }
  return ToJson(config);
}

TEST(Flags, EachSetsItsField) {
  std::set<std::string_view> tried;
  for (const FlagCase& test : kCases) {
    tried.insert(test.flag);
    json expected = Defaults();
    if (*test.pointer != '\0') {
      expected[json::json_pointer(test.pointer)] = json::parse(test.expected);
    }
    json actual = Applied({{test.flag, test.value}});
    // What the mode does not look at.
    if (test.flag == std::string_view("masquerade-all")) {
      EXPECT_EQ(actual["nftables"]["masqueradeAll"], true);
      actual["nftables"]["masqueradeAll"] = false;
    }
    EXPECT_EQ(actual, expected) << "--" << test.flag;
  }
  std::set<std::string_view> all;
  for (const FlagInfo& info : KubeProxyFlags())
    all.insert(info.name);
  EXPECT_EQ(tried, all);
}

TEST(Flags, PeriodsAreThoseOfTheMode) {
  const json nftables = Applied({{"iptables-sync-period", "1m"},
                                 {"iptables-min-sync-period", "2s"},
                                 {"proxy-mode", "nftables"}});
  EXPECT_EQ(nftables["nftables"]["syncPeriod"], "1m0s");
  EXPECT_EQ(nftables["nftables"]["minSyncPeriod"], "2s");
  EXPECT_EQ(nftables["iptables"]["syncPeriod"], "30s");
  const json ipvs = Applied({{"proxy-mode", "ipvs"}, {"iptables-sync-period", "1m"}});
  EXPECT_EQ(ipvs["ipvs"]["syncPeriod"], "30s");
  EXPECT_EQ(ipvs["iptables"]["syncPeriod"], "30s");
}

TEST(Flags, ListsGrow) {
  EXPECT_EQ(Applied({{"nodeport-addresses", "10.0.0.0/8"},
                     {"nodeport-addresses", "fd00::/8"}})["nodePortAddresses"],
            json::parse(R"(["10.0.0.0/8", "fd00::/8"])"));
  EXPECT_EQ(Applied({{"feature-gates", "AllAlpha=true"},
                     {"feature-gates", "AllBeta=false"}})["featureGates"],
            json::parse(R"({"AllAlpha": true, "AllBeta": false})"));
}

TEST(Flags, NameWhatCannotBeRead) {
  const struct {
    FlagValue flag;
    const char* text;
  } kBad[] = {
      {{"oom-score-adj", "x"}, "is \"x\", expected a whole number"},
      {{"oom-score-adj", "2147483648"}, "is \"2147483648\", expected a whole number"},
      {{"oom-score-adj", "1.5"}, "is \"1.5\", expected a whole number"},
      {{"v", "-1"}, "is \"-1\", expected a number from 0 on"},
      {{"v", ""}, "is \"\", expected a number from 0 on"},
      {{"profiling", "maybe"}, "is \"maybe\", expected true or false"},
      {{"kube-api-qps", "fast"}, "is \"fast\", expected a number"},
      {{"config-sync-period", "5"}, "is \"5\", expected a duration such as 30s, 1m30s or 0s"},
      {{"iptables-sync-period", "x"}, "is \"x\", expected a duration such as 30s, 1m30s or 0s"},
      {{"healthz-port", "x"}, "is \"x\", expected a whole number"},
      {{"masquerade-all", "x"}, "is \"x\", expected true or false"},
      {{"feature-gates", "AllAlpha"},
       "is \"AllAlpha\", expected NAME=true or NAME=false, separated by commas"},
      {{"vmodule", "a"}, "is \"a\", expected PATTERN=N, separated by commas"},
      {{"vmodule", "a=b"}, "is \"a=b\", expected PATTERN=N, separated by commas"},
      {{"vmodule", "a=1=2"}, "is \"a=1=2\", expected PATTERN=N, separated by commas"},
  };
  for (const auto& test : kBad) {
    std::vector<Remark> faults;
    Applied({test.flag}, &faults);
    EXPECT_THAT(faults, ElementsAre(Remark{"--" + std::string(test.flag.name), test.text}));
  }
}

TEST(Flags, FaultsOfValuesNameTheFlag) {
  ConfigInput input;
  input.flags = {{"oom-score-adj", "5000"},
                 {"nodeport-addresses", "10.0.0.0/8,x"},
                 {"feature-gates", "Nope=true, AllBeta=false"}};
  EXPECT_THAT(
      LoadConfig(input).warnings,
      testing::IsSupersetOf({"--feature-gates.Nope: is not a feature gate of kube-proxy 1.34"}));
  EXPECT_THAT(
      LoadConfig(input).errors,
      ElementsAre("--nodeport-addresses[1]: is \"x\", expected a CIDR such as 10.0.0.0/16 or "
                  "fd00::/64",
                  "--oom-score-adj: is 5000, expected a number from -1000 to 1000"));
}

TEST(NoEffect, NamesFlagsThatWereGiven) {
  ConfigInput input;
  input.flags = {{"conntrack-min", "131072"},
                 {"profiling", "true"},
                 {"conntrack-udp-timeout", "1s"},
                 {"machine-id-file", "/x"},
                 {"proxy-mode", "ipvs"}};
  EXPECT_THAT(
      LoadConfig(input).warnings,
      ElementsAre("no effect: --conntrack-min, --conntrack-udp-timeout (Waggle keeps its own "
                  "flows); --profiling (there is no /debug/pprof); --machine-id-file (nothing "
                  "asks for it)"));
}

TEST(NoEffect, SaysNothingWhereAllActs) {
  ConfigInput input;
  EXPECT_THAT(LoadConfig(input).warnings, IsEmpty());
  input.flags = {{"healthz-bind-address", "192.0.2.1"},
                 {"oom-score-adj", "1"},
                 {"v", "2"},
                 {"iptables-sync-period", "1m"},
                 {"proxy-mode", "nftables"}};
  EXPECT_THAT(LoadConfig(input).warnings, IsEmpty());
}

}  // namespace
}  // namespace waggle::config
