// From a file and flags to what an agent is told.
#include "userspace/config/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/config/testing.h"

namespace waggle::config {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

AgentConfig Agent(const ConfigInput& input) {
  LoadedConfig loaded = LoadConfig(input);
  EXPECT_THAT(loaded.errors, IsEmpty());
  return loaded.agent;
}

AgentConfig OfFile(const std::string& text) {
  return Agent(FileInput(absl::StrCat(kHead, text)));
}

AgentConfig OfFlags(std::vector<FlagValue> flags) {
  ConfigInput input;
  input.flags = std::move(flags);
  return Agent(input);
}

std::string Text(const std::optional<net::Endpoint>& endpoint) {
  return endpoint ? endpoint->ToString() : "";
}

// ---- Golden files: the ConfigMap that kubeadm makes.

TEST(Kubeadm, MeansWhatKubeProxyMakesOfIt) {
  const LoadedConfig loaded = LoadConfig(FileInput(FileText(TestData("kubeadm.conf"))));
  EXPECT_THAT(loaded.errors, IsEmpty());
  EXPECT_THAT(loaded.warnings,
              ElementsAre("no effect: clusterCIDR (not yet: only NodePorts, load balancers and "
                          "external addresses ask for it)"));
  ExpectGolden(loaded.yaml, "kubeadm-effective.yaml");
  ExpectGolden(nlohmann::json::parse(loaded.agent.configz_json).dump(2) + "\n",
               "kubeadm-configz.json");
  EXPECT_EQ(loaded.agent.client.kubeconfig, "/var/lib/kube-proxy/kubeconfig.conf");
  EXPECT_EQ(loaded.agent.node_name, "");
}

TEST(Kubeadm, EffectiveFileMeansTheSame) {
  const std::string effective = FileText(TestData("kubeadm-effective.yaml"));
  EXPECT_EQ(LoadConfig(FileInput(effective)).yaml, effective);
}

TEST(EveryField, IsReadAndWritten) {
  const std::string text = FileText(TestData("everything.conf"));
  const LoadedConfig loaded = LoadConfig(FileInput(text));
  EXPECT_THAT(loaded.errors, IsEmpty());
  ExpectGolden(loaded.yaml, "everything-effective.yaml");
  ExpectGolden(nlohmann::json::parse(loaded.agent.configz_json).dump(2) + "\n",
               "everything-configz.json");
  EXPECT_EQ(LoadConfig(FileInput(loaded.yaml)).yaml, loaded.yaml);
  std::string warnings;
  for (const std::string& warning : loaded.warnings)
    warnings += warning + "\n";
  ExpectGolden(warnings, "everything-warnings.txt");
}

// ---- Fields as types.

TEST(Typed, DefaultsAreKubeProxys) {
  for (const AgentConfig& config : {Agent(ConfigInput()), OfFile("")}) {
    EXPECT_EQ(config.proxy_mode, ProxyMode::kIptables);
    EXPECT_EQ(Text(config.healthz_bind_address), "0.0.0.0:10256");
    EXPECT_EQ(Text(config.metrics_bind_address), "127.0.0.1:10249");
    EXPECT_FALSE(config.bind_address_hard_fail);
    EXPECT_EQ(config.sync_period, seconds(30));
    EXPECT_EQ(config.min_sync_period, seconds(1));
    EXPECT_EQ(config.config_sync_period, minutes(15));
    EXPECT_FALSE(config.bind_address);
    EXPECT_EQ(config.detect_local_mode, DetectLocalMode::kClusterCidr);
    EXPECT_THAT(config.cluster_cidrs, IsEmpty());
    EXPECT_FALSE(config.node_port_addresses.primary);
    EXPECT_THAT(config.node_port_addresses.ranges, IsEmpty());
    EXPECT_TRUE(config.localhost_node_ports);
    EXPECT_FALSE(config.masquerade_all);
    EXPECT_EQ(config.oom_score_adj, -999);
    EXPECT_EQ(config.verbosity, 0u);
    EXPECT_EQ(config.datapath.pin_path, maps::kDefaultPinPath);
    EXPECT_EQ(config.datapath.socket_lb, loader::SocketLb::kAll);
    EXPECT_EQ(config.forwarding, WAGGLE_FORWARDING_AUTO);
  }
}

TEST(Typed, SectionOfTheModeCounts) {
  constexpr char kSections[] =
      "iptables: {syncPeriod: 10s, minSyncPeriod: 100ms, masqueradeAll: true}\n"
      "ipvs: {syncPeriod: 20s, minSyncPeriod: 200ms}\n"
      "nftables: {syncPeriod: 40s, minSyncPeriod: 400ms}\n";
  const struct {
    const char* mode;
    ProxyMode proxy_mode;
    int seconds;
    bool masquerade_all;
    bool primary;
  } kCases[] = {
      {"''", ProxyMode::kIptables, 10, true, false},
      {"iptables", ProxyMode::kIptables, 10, true, false},
      {"ipvs", ProxyMode::kIpvs, 20, true, false},
      {"nftables", ProxyMode::kNftables, 40, false, true},
  };
  for (const auto& test : kCases) {
    const AgentConfig config = OfFile(absl::StrCat("mode: ", test.mode, "\n", kSections));
    EXPECT_EQ(config.proxy_mode, test.proxy_mode) << test.mode;
    EXPECT_EQ(config.sync_period, seconds(test.seconds)) << test.mode;
    EXPECT_EQ(config.min_sync_period, milliseconds(test.seconds * 10)) << test.mode;
    EXPECT_EQ(config.masquerade_all, test.masquerade_all) << test.mode;
    EXPECT_EQ(config.node_port_addresses.primary, test.primary) << test.mode;
  }
}

TEST(Typed, ServersFollowTheBindAddress) {
  const struct {
    const char* yaml;
    const char* healthz;
    const char* metrics;
  } kCases[] = {
      {"bindAddress: '::'", "[::]:10256", "[::1]:10249"},
      {"bindAddress: fd00::1", "[::]:10256", "[::1]:10249"},
      {"bindAddress: 192.0.2.1", "0.0.0.0:10256", "127.0.0.1:10249"},
      {"healthzBindAddress: 192.0.2.1\nmetricsBindAddress: 'fd00::1'", "192.0.2.1:10256",
       "[fd00::1]:10249"},
      {"healthzBindAddress: '192.0.2.1:80'\nmetricsBindAddress: '[fd00::1]:81'", "192.0.2.1:80",
       "[fd00::1]:81"},
      {"healthzBindAddress: ''\nmetricsBindAddress: null", "0.0.0.0:10256", "127.0.0.1:10249"},
  };
  for (const auto& test : kCases) {
    const AgentConfig config = OfFile(test.yaml);
    EXPECT_EQ(Text(config.healthz_bind_address), test.healthz) << test.yaml;
    EXPECT_EQ(Text(config.metrics_bind_address), test.metrics) << test.yaml;
  }
}

TEST(Typed, AddressesAndRanges) {
  const AgentConfig config = OfFile(
      "bindAddress: 192.0.2.1\n"
      "clusterCIDR: 10.244.0.0/16,fd00:10::/56\n"
      "nodePortAddresses: [192.0.2.9/24, 'fd00::/64']\n"
      "hostnameOverride: ' Node-1.Example '\n");
  EXPECT_EQ(config.bind_address, net::Address::Parse("192.0.2.1"));
  EXPECT_THAT(config.cluster_cidrs, ElementsAre(*net::Prefix::Parse("10.244.0.0/16"),
                                                *net::Prefix::Parse("fd00:10::/56")));
  EXPECT_THAT(config.node_port_addresses.ranges,
              ElementsAre(*net::Prefix::Parse("192.0.2.0/24"), *net::Prefix::Parse("fd00::/64")));
  EXPECT_EQ(config.node_name, "node-1.example");
}

TEST(Typed, DetectLocal) {
  const AgentConfig bridge =
      OfFile("detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}");
  EXPECT_EQ(bridge.detect_local_mode, DetectLocalMode::kBridgeInterface);
  EXPECT_EQ(bridge.bridge_interface, "cni0");
  const AgentConfig prefix =
      OfFile("detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: cali}");
  EXPECT_EQ(prefix.detect_local_mode, DetectLocalMode::kInterfaceNamePrefix);
  EXPECT_EQ(prefix.interface_name_prefix, "cali");
  // Nobody asks for the CIDR then, so that it may be anything.
  EXPECT_EQ(OfFile("detectLocalMode: NodeCIDR\nclusterCIDR: none").detect_local_mode,
            DetectLocalMode::kNodeCidr);
  // Each needs its field.
  for (const auto& [mode, field] : {std::pair{"BridgeInterface", "bridgeInterface"},
                                    std::pair{"InterfaceNamePrefix", "interfaceNamePrefix"}}) {
    EXPECT_THAT(LoadConfig(FileInput(absl::StrCat(kHead, "detectLocalMode: ", mode))).errors,
                ElementsAre(absl::StrCat("config.conf: KubeProxyConfiguration.detectLocal.", field,
                                         ": is missing, which detectLocalMode ", mode, " needs")));
  }
}

TEST(Typed, OwnDocument) {
  const AgentConfig config = Agent(FileInput(
      "apiVersion: waggle.dev/v1alpha1\n"
      "kind: WaggleConfiguration\n"
      "apiServers: ['https://10.0.0.1:6443', 'https://10.0.0.2:6443']\n"
      "pinPath: /sys/fs/bpf/a\n"
      "cgroupPath: /sys/fs/cgroup/a\n"
      "socketLB: off\n"  // a boolean for YAML
      "forwarding: redirect\n"
      "tcAttach: clsact\n"
      "devices: {pods: [cali*], uplinks: [eth0], ignore: [docker0]}\n"
      "max: {frontends: 1, services: 2, backends: 3, udpFlows: 4, flows: 5, halfOpen: 6}\n"));
  EXPECT_THAT(config.client.apiservers,
              ElementsAre("https://10.0.0.1:6443", "https://10.0.0.2:6443"));
  EXPECT_EQ(config.datapath.pin_path, "/sys/fs/bpf/a");
  EXPECT_EQ(config.datapath.cgroup_path, "/sys/fs/cgroup/a");
  EXPECT_EQ(config.datapath.socket_lb, loader::SocketLb::kOff);
  EXPECT_EQ(config.forwarding, WAGGLE_FORWARDING_REDIRECT);
  EXPECT_EQ(config.datapath.tc_attach, loader::TcAttach::kClsact);
  EXPECT_THAT(config.datapath.devices.pods, ElementsAre("cali*"));
  EXPECT_THAT(config.datapath.devices.uplinks, ElementsAre("eth0"));
  EXPECT_THAT(config.datapath.devices.ignore, ElementsAre("docker0"));
  const maps::Sizes& sizes = config.datapath.sizes;
  EXPECT_THAT((std::vector<uint32_t>{sizes.frontends, sizes.services, sizes.backends,
                                     sizes.udp_flows, sizes.flows, sizes.half_open}),
              ElementsAre(1, 2, 3, 4, 5, 6));
}

// ---- Who goes before whom.

TEST(Precedence, BesideAFileOnlyLoggingFlagsCount) {
  ConfigInput input =
      FileInput(absl::StrCat(kHead, "bindAddress: 192.0.2.1\nlogging: {verbosity: 1}"));
  input.flags = {
      {"bind-address", "192.0.2.2"}, {"oom-score-adj", "5"},    {"v", "4"}, {"vmodule", "a=1"},
      {"kubeconfig", "/other"},      {"masquerade-all", "true"}};
  const LoadedConfig loaded = LoadConfig(input);
  EXPECT_EQ(loaded.agent.bind_address, net::Address::Parse("192.0.2.1"));
  EXPECT_EQ(loaded.agent.oom_score_adj, -999);
  EXPECT_EQ(loaded.agent.client.kubeconfig, "");
  EXPECT_FALSE(loaded.agent.masquerade_all);
  EXPECT_EQ(loaded.agent.verbosity, 4u);
  EXPECT_THAT(
      loaded.warnings,
      ElementsAre("--bind-address is ignored, as --config is given",
                  "--oom-score-adj is ignored, as --config is given",
                  "--kubeconfig is ignored, as --config is given",
                  "--masquerade-all is ignored, as --config is given",
                  "no effect: logging.vmodule (each line goes to the standard error as text, at "
                  "once)"));
}

TEST(Precedence, AnIgnoredFlagIsNotEvenRead) {
  ConfigInput input = FileInput(kHead);
  input.flags = {{"bind-address", "nonsense"}};
  EXPECT_THAT(LoadConfig(input).errors, IsEmpty());
}

TEST(Precedence, NodeNameOfTheFlag) {
  ConfigInput input = FileInput(absl::StrCat(kHead, "hostnameOverride: of-the-file"));
  EXPECT_EQ(Agent(input).node_name, "of-the-file");
  input.hostname_override = "of-the-flag";
  EXPECT_EQ(Agent(input).node_name, "of-the-flag");
}

TEST(Precedence, MasterCountsBesideAFile) {
  ConfigInput input = FileInput(absl::StrCat(kHead, "clientConnection: {kubeconfig: /k}"));
  input.master = "https://10.0.0.9";
  const AgentConfig config = Agent(input);
  EXPECT_EQ(config.client.master, "https://10.0.0.9");
  EXPECT_EQ(config.client.kubeconfig, "/k");
}

TEST(Precedence, OwnFlagsBeforeTheFile) {
  ConfigInput input = FileInput(
      "apiVersion: waggle.dev/v1alpha1\n"
      "kind: WaggleConfiguration\n"
      "pinPath: /a\n"
      "socketLB: host\n");
  input.own_flags = [](WaggleConfigurationV1alpha1* own) { own->pin_path = "/b"; };
  const AgentConfig config = Agent(input);
  EXPECT_EQ(config.datapath.pin_path, "/b");
  EXPECT_EQ(config.datapath.socket_lb, loader::SocketLb::kHost);
}

TEST(Precedence, LaterFlagsBeforeEarlier) {
  EXPECT_EQ(OfFlags({{"oom-score-adj", "1"}, {"oom-score-adj", "2"}}).oom_score_adj, 2);
}

TEST(Servers, AreSwitchedOffByFlagsOnly) {
  const struct {
    std::vector<FlagValue> flags;
    const char* healthz;
    const char* metrics;
  } kCases[] = {
      {{{"healthz-bind-address", ""}}, "", "127.0.0.1:10249"},
      {{{"metrics-bind-address", ""}}, "0.0.0.0:10256", ""},
      {{{"healthz-port", "0"}, {"metrics-port", "0"}}, "", ""},
      // As with kube-proxy a port is only for an address without one.
      {{{"healthz-port", "80"}}, "0.0.0.0:10256", "127.0.0.1:10249"},
      {{{"healthz-port", "80"}, {"healthz-bind-address", "192.0.2.1"}},
       "192.0.2.1:80",
       "127.0.0.1:10249"},
      {{{"metrics-bind-address", "::"}}, "0.0.0.0:10256", "[::]:10249"},
      // Nor does --bind-address change the others.
      {{{"bind-address", "fd00::1"}}, "0.0.0.0:10256", "127.0.0.1:10249"},
  };
  for (const auto& test : kCases) {
    const AgentConfig config = OfFlags(test.flags);
    EXPECT_EQ(Text(config.healthz_bind_address), test.healthz) << test.flags[0].name;
    EXPECT_EQ(Text(config.metrics_bind_address), test.metrics) << test.flags[0].name;
  }
}

}  // namespace
}  // namespace waggle::config
