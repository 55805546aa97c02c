// What is wrong with a file is told all at once, each with its line and field.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/config/testing.h"

namespace waggle::config {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;

// One field of a KubeProxyConfiguration, in line 3.
struct FieldCase {
  const char* yaml;
  std::vector<std::string> errors;  // behind "config.conf: line 3: KubeProxyConfiguration."
};

class BadField : public testing::TestWithParam<FieldCase> {};

TEST_P(BadField, IsNamed) {
  std::vector<std::string> errors;
  for (const std::string& error : GetParam().errors)
    errors.push_back("config.conf: line 3: KubeProxyConfiguration." + error);
  const LoadedConfig loaded = LoadConfig(FileInput(absl::StrCat(kHead, GetParam().yaml)));
  EXPECT_THAT(loaded.errors, ElementsAreArray(errors)) << GetParam().yaml;
}

INSTANTIATE_TEST_SUITE_P(
    Types, BadField,
    testing::Values(
        FieldCase{"mode: 7", {"mode: is 7, expected a string"}},
        FieldCase{"oomScoreAdj: '1'",
                  {"oomScoreAdj: is the string \"1\", expected a whole number from -2147483648 to "
                   "2147483647"}},
        FieldCase{"oomScoreAdj: 1.5",
                  {"oomScoreAdj: is 1.5, expected a whole number from -2147483648 to 2147483647"}},
        FieldCase{"conntrack: {min: 2147483648}",
                  {"conntrack.min: is 2147483648, expected a whole number from -2147483648 to "
                   "2147483647"}},
        FieldCase{"logging: {verbosity: -1}",
                  {"logging.verbosity: is -1, expected a whole number from 0 to 4294967295"}},
        FieldCase{"bindAddressHardFail: 'no'",
                  {"bindAddressHardFail: is the string \"no\", expected true or false"}},
        FieldCase{"iptables: []", {"iptables: is a list, expected a mapping"}},
        FieldCase{"iptables: {syncPeriod: 30}",
                  {"iptables.syncPeriod: is 30, expected a duration such as 30s, 1m30s or 0s"}},
        FieldCase{"iptables: {syncPeriod: 30x}",
                  {"iptables.syncPeriod: is the string \"30x\", expected a duration such as 30s, "
                   "1m30s or 0s"}},
        FieldCase{"nodePortAddresses: 10.0.0.0/8",
                  {"nodePortAddresses: is the string \"10.0.0.0/8\", expected a list"}},
        FieldCase{"nodePortAddresses: [1]", {"nodePortAddresses[0]: is 1, expected a string"}},
        FieldCase{"featureGates: [a]", {"featureGates: is a list, expected a mapping"}},
        FieldCase{"featureGates: {AllAlpha: 'x'}",
                  {"featureGates.AllAlpha: is the string \"x\", expected true or false"}},
        FieldCase{"clientConnection: {qps: fast}",
                  {"clientConnection.qps: is the string \"fast\", expected a number"}},
        FieldCase{"logging: {flushFrequency: 5x}",
                  {"logging.flushFrequency: is the string \"5x\", expected a duration such as 30s, "
                   "1m30s or 0s"}},
        FieldCase{"logging: {vmodule: [a]}",
                  {"logging.vmodule[0]: is the string \"a\", expected a mapping"}}));

INSTANTIATE_TEST_SUITE_P(
    Values, BadField,
    testing::Values(
        FieldCase{"clientConnection: {burst: -1}",
                  {"clientConnection.burst: is -1, expected 0 or more"}},
        FieldCase{"logging: {format: xml}",
                  {"logging.format: is \"xml\", expected one of text, json"}},
        FieldCase{"logging: {verbosity: 2147483648}",
                  {"logging.verbosity: is 2147483648, expected a number from 0 to 2147483647"}},
        FieldCase{"logging: {format: json, vmodule: [{filePattern: a, verbosity: 1}]}",
                  {"logging.vmodule: is set, which needs logging.format text"}},
        FieldCase{"logging: {vmodule: [{filePattern: 'a=b', verbosity: 1}]}",
                  {"logging.vmodule[0].filePattern: is \"a=b\", expected a pattern without '=' and "
                   "','"}},
        FieldCase{"logging: {options: {json: {infoBufferSize: 64Ki}}}",
                  {"logging.options.json.infoBufferSize: is set, which needs the feature gate "
                   "LoggingAlphaOptions"}},
        FieldCase{
            "logging: {options: {json: {infoBufferSize: 0x}}}",
            {"logging.options.json.infoBufferSize: is \"0x\", expected a number of bytes such "
             "as 0 or 64Ki"}},
        FieldCase{"hostnameOverride: a_b",
                  {"hostnameOverride: is \"a_b\", expected a node name (RFC 1123: letters, digits, "
                   "'-' and '.', at most 253)"}},
        FieldCase{"bindAddress: localhost",
                  {"bindAddress: is \"localhost\", expected an IPv4 or IPv6 address"}},
        FieldCase{
            "healthzBindAddress: ':10256'",
            {"healthzBindAddress: is \":10256\", expected an address, or an address and a port "
             "such as 0.0.0.0:10256 or [::]:10256"}},
        FieldCase{
            "metricsBindAddress: 127.0.0.1:0",
            {"metricsBindAddress: is \"127.0.0.1:0\", expected an address, or an address and a "
             "port such as 0.0.0.0:10256 or [::]:10256"}},
        FieldCase{"metricsBindAddress: ::1:80:x",
                  {"metricsBindAddress: is \"::1:80:x\", expected an address, or an address and a "
                   "port such as 0.0.0.0:10256 or [::]:10256"}},
        FieldCase{"showHiddenMetricsForVersion: v1.33",
                  {"showHiddenMetricsForVersion: is \"v1.33\", expected a version such as 1.33"}},
        FieldCase{"mode: userspace",
                  {"mode: is \"userspace\", expected one of iptables, ipvs, nftables"}},
        FieldCase{"iptables: {masqueradeBit: 32}",
                  {"iptables.masqueradeBit: is 32, expected a number from 0 to 31"}},
        FieldCase{"iptables: {syncPeriod: -1s, minSyncPeriod: -2s}",
                  {"iptables.syncPeriod: is -1s, expected more than 0s",
                   "iptables.minSyncPeriod: is -2s, expected 0s or more"}},
        FieldCase{"iptables: {syncPeriod: 2s, minSyncPeriod: 3s}",
                  {"iptables.minSyncPeriod: is 3s, expected at most iptables.syncPeriod, 2s"}},
        FieldCase{"detectLocalMode: Pods",
                  {"detectLocalMode: is \"Pods\", expected one of ClusterCIDR, NodeCIDR, "
                   "BridgeInterface, InterfaceNamePrefix"}},
        FieldCase{"clusterCIDR: 10.0.0.0",
                  {"clusterCIDR: is \"10.0.0.0\", expected a CIDR such as 10.0.0.0/16 or "
                   "fd00::/64"}},
        FieldCase{"clusterCIDR: 10.0.0.0/8,10.1.0.0/16",
                  {"clusterCIDR: is \"10.0.0.0/8,10.1.0.0/16\", expected one CIDR, or two, of IPv4 "
                   "and IPv6"}},
        FieldCase{
            "clusterCIDR: 10.0.0.0/8,fd00::/8,fd01::/16",
            {"clusterCIDR: is \"10.0.0.0/8,fd00::/8,fd01::/16\", expected one CIDR, or two, of "
             "IPv4 and IPv6"}},
        FieldCase{"nodePortAddresses: [primary, 10.0.0.0/8]",
                  {"nodePortAddresses[0]: is primary, which has to stand alone"}},
        FieldCase{"nodePortAddresses: [10.0.0.0/8, fd00::/8, 10.0.0.1]",
                  {"nodePortAddresses[2]: is \"10.0.0.1\", expected a CIDR such as 10.0.0.0/16 or "
                   "fd00::/64"}},
        FieldCase{"oomScoreAdj: -1001",
                  {"oomScoreAdj: is -1001, expected a number from -1000 to 1000"}},
        FieldCase{"conntrack: {maxPerCore: -1, min: -2, tcpEstablishedTimeout: -1s, "
                  "tcpCloseWaitTimeout: -1s, udpTimeout: -1s, udpStreamTimeout: -1s}",
                  {"conntrack.maxPerCore: is -1, expected 0 or more",
                   "conntrack.min: is -2, expected 0 or more",
                   "conntrack.tcpEstablishedTimeout: is -1s, expected 0s or more",
                   "conntrack.tcpCloseWaitTimeout: is -1s, expected 0s or more",
                   "conntrack.udpTimeout: is -1s, expected 0s or more",
                   "conntrack.udpStreamTimeout: is -1s, expected 0s or more"}},
        FieldCase{"configSyncPeriod: -1s", {"configSyncPeriod: is -1s, expected more than 0s"}}));

// A whole text.
struct TextCase {
  const char* name;
  std::string text;
  std::vector<std::string> errors;  // behind "config.conf: "
};

class BadText : public testing::TestWithParam<TextCase> {};

TEST_P(BadText, IsTold) {
  std::vector<std::string> errors;
  for (const std::string& error : GetParam().errors)
    errors.push_back("config.conf: " + error);
  EXPECT_THAT(LoadConfig(FileInput(GetParam().text)).errors, ElementsAreArray(errors));
}

constexpr char kOwnHead[] = "apiVersion: waggle.dev/v1alpha1\nkind: WaggleConfiguration\n";

INSTANTIATE_TEST_SUITE_P(
    Table, BadText,
    testing::Values(
        TextCase{"Empty", "", {"is empty, expected a KubeProxyConfiguration"}},
        TextCase{
            "OnlyComments", "# nothing\n---\n", {"is empty, expected a KubeProxyConfiguration"}},
        TextCase{"List", "- a\n", {"line 1: is a list, expected a mapping"}},
        TextCase{"NotYaml", "a: b: c\n", {"line 1, column 5: not YAML: illegal map value"}},
        TextCase{"NoKind",
                 "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n",
                 {"line 1: kind: is missing, expected KubeProxyConfiguration or "
                  "WaggleConfiguration"}},
        TextCase{"OtherKind",
                 "apiVersion: v1\nkind: ConfigMap\n",
                 {"line 2: kind: is the string \"ConfigMap\", expected KubeProxyConfiguration or "
                  "WaggleConfiguration"}},
        TextCase{"NoVersion",
                 "kind: KubeProxyConfiguration\n",
                 {"line 1: KubeProxyConfiguration.apiVersion: is missing, expected "
                  "kubeproxy.config.k8s.io/v1alpha1"}},
        TextCase{"OtherVersion",
                 "kind: KubeProxyConfiguration\napiVersion: kubeproxy.config.k8s.io/v1\nmode: 7\n",
                 {"line 2: KubeProxyConfiguration.apiVersion: is the string "
                  "\"kubeproxy.config.k8s.io/v1\", expected kubeproxy.config.k8s.io/v1alpha1"}},
        TextCase{"Twice",
                 absl::StrCat(kHead, "---\n", kHead),
                 {"line 4: KubeProxyConfiguration: stands twice in the file"}},
        TextCase{"KeyTwice",
                 absl::StrCat(kHead, "mode: ipvs\nmode: iptables\n"),
                 {"line 4, column 1: the key \"mode\" stands twice in one mapping"}},
        TextCase{"BothDocuments",
                 absl::StrCat(kHead, "mode: x\n---\n", kOwnHead, "socketLB: some\n"),
                 {"line 3: KubeProxyConfiguration.mode: is \"x\", expected one of iptables, ipvs, "
                  "nftables",
                  "line 7: WaggleConfiguration.socketLB: is \"some\", expected one of all, host, "
                  "off"}},
        TextCase{"OfNftables",
                 absl::StrCat(kHead,
                              "mode: nftables\n"
                              "nftables: {masqueradeBit: -1, minSyncPeriod: 31s}\n"
                              "ipvs: {syncPeriod: -1s, tcpTimeout: -1s}\n"),
                 {"line 4: KubeProxyConfiguration.nftables.minSyncPeriod: is 31s, expected at most "
                  "nftables.syncPeriod, 30s",
                  "line 4: KubeProxyConfiguration.nftables.masqueradeBit: is -1, expected a number "
                  "from 0 to 31"}},
        TextCase{"OfIpvs",
                 absl::StrCat(kHead,
                              "mode: ipvs\n"
                              "ipvs:\n"
                              "  syncPeriod: -1ms\n"
                              "  excludeCIDRs:\n"
                              "  - 10.0.0.0/8\n"
                              "  - x\n"
                              "  tcpTimeout: -1s\n"
                              "  tcpFinTimeout: -2s\n"
                              "  udpTimeout: -3s\n"
                              "iptables: {syncPeriod: -1s}\n"),
                 {"line 5: KubeProxyConfiguration.ipvs.syncPeriod: is -1ms, expected more than 0s",
                  "line 8: KubeProxyConfiguration.ipvs.excludeCIDRs[1]: is \"x\", expected a CIDR "
                  "such as 10.0.0.0/16 or fd00::/64",
                  "line 9: KubeProxyConfiguration.ipvs.tcpTimeout: is -1s, expected 0s or more",
                  "line 10: KubeProxyConfiguration.ipvs.tcpFinTimeout: is -2s, expected 0s or more",
                  "line 11: KubeProxyConfiguration.ipvs.udpTimeout: is -3s, expected 0s or more"}},
        TextCase{"Json",
                 "{\"apiVersion\": \"kubeproxy.config.k8s.io/v1alpha1\",\n \"kind\": "
                 "\"KubeProxyConfiguration\",\n \"ipvs\": {\"strictARP\": 1}}",
                 {"line 3: KubeProxyConfiguration.ipvs.strictARP: is 1, expected true or false"}},
        TextCase{
            "OwnFields",
            absl::StrCat(kOwnHead,
                         "apiServers: [https://10.0.0.1:6443, 'ftp://a']\n"
                         "manifests: /x\n"
                         "pinPath: ''\n"
                         "forwarding: fast\n"
                         "tcAttach: xdp\n"
                         "devices: {pods: cali*}\n"
                         "max: {flows: 0, services: 99999999}\n"),
            {"line 8: WaggleConfiguration.devices.pods: is the string \"cali*\", expected a "
             "list",
             "line 3: WaggleConfiguration.apiServers[1]: is \"ftp://a\", expected a URL like "
             "https://10.0.0.1:6443: the scheme is neither https nor http",
             "line 4: WaggleConfiguration.manifests: is set, which excludes apiServers",
             "line 5: WaggleConfiguration.pinPath: is empty, expected a folder of a bpf file "
             "system",
             "line 6: WaggleConfiguration.forwarding: is \"fast\", expected one of auto, stack, "
             "redirect",
             "line 7: WaggleConfiguration.tcAttach: is \"xdp\", expected one of auto, tcx, "
             "clsact",
             "line 9: WaggleConfiguration.max.services: is 99999999, expected a number from 1 "
             "to 67108864",
             "line 9: WaggleConfiguration.max.flows: is 0, expected a number from 1 to "
             "67108864"}}),
    [](const auto& test) { return test.param.name; });

TEST(UnknownField, IsAWarningUnlessStrict) {
  const std::string text =
      absl::StrCat(kHead, "bindAddres: x\niptables:\n  masquerade: true\nresourceContainer: /a\n",
                   "---\n", kOwnHead, "socketLb: all\n");
  const std::vector<std::string> all = {
      "config.conf: line 5: KubeProxyConfiguration.iptables.masquerade: is not a field of this "
      "version",
      "config.conf: line 3: KubeProxyConfiguration.bindAddres: is not a field of this version",
      "config.conf: line 6: KubeProxyConfiguration.resourceContainer: is not a field of this "
      "version",
      "config.conf: line 10: WaggleConfiguration.socketLb: is not a field of this version"};
  ConfigInput input = FileInput(text);
  LoadedConfig loaded = LoadConfig(input);
  EXPECT_THAT(loaded.errors, IsEmpty());
  EXPECT_THAT(loaded.warnings, ElementsAreArray(all));
  input.strict = true;
  EXPECT_THAT(LoadConfig(input).errors, ElementsAreArray(all));
}

TEST(Order, WarnsOfAFirstDocumentThatKubeProxyWouldRefuse) {
  EXPECT_THAT(LoadConfig(FileInput(absl::StrCat(kOwnHead, "---\n", kHead))).warnings,
              ElementsAre("config.conf: the WaggleConfiguration stands before the "
                          "KubeProxyConfiguration; kube-proxy reads only the first document of a "
                          "file"));
  EXPECT_THAT(LoadConfig(FileInput(absl::StrCat(kHead, "---\n", kOwnHead))).warnings, IsEmpty());
  EXPECT_THAT(LoadConfig(FileInput(kOwnHead)).warnings, IsEmpty());
}

// A ConfigMap of another release must not stop the agent.
TEST(Gates, OfOtherReleasesAreOnlyTold) {
  struct Row {
    const char* gates;
    std::vector<std::string> told;
  };
  const std::string at = "config.conf: line 3: KubeProxyConfiguration.featureGates.";
  for (const Row& row : {
           Row{"{Foo: true}", {"Foo: is not a feature gate of kube-proxy 1.34"}},
           Row{"{NFTablesProxyMode: false, Bar: false}",
               {"Bar: is not a feature gate of kube-proxy 1.34",
                "NFTablesProxyMode: is false, but this feature cannot be switched off any more"}},
           Row{"{AllowServiceLBStatusOnNonLB: true}",
               {"AllowServiceLBStatusOnNonLB: is true, but this feature cannot be switched on any "
                "more"}},
       }) {
    std::vector<std::string> expected;
    for (const std::string& text : row.told)
      expected.push_back(at + text);
    ConfigInput input =
        FileInput(absl::StrCat(kHead, "featureGates: {", std::string(row.gates).substr(1)));
    EXPECT_THAT(LoadConfig(input).errors, IsEmpty());
    EXPECT_THAT(LoadConfig(input).warnings, testing::IsSupersetOf(expected));
    input.strict = true;
    EXPECT_THAT(LoadConfig(input).errors, testing::ElementsAreArray(expected));
  }
}

TEST(Gates, OfKubeProxyAreTaken) {
  EXPECT_THAT(
      LoadConfig(FileInput(absl::StrCat(kHead,
                                        "featureGates: {AllAlpha: true, "
                                        "NFTablesProxyMode: true, TopologyAwareHints: true, "
                                        "PreferSameTrafficDistribution: false}\n"
                                        "logging: {options: {text: {infoBufferSize: 1}}}")))
          .errors,
      IsEmpty());
}

}  // namespace
}  // namespace waggle::config
