// Waggle's reading of kube-proxy's configuration beside that of the real kube-proxy. Needs no
// control plane.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "k8s-watch/document.h"
#include "tests/cluster/control_plane.h"
#include "tests/lab/agent.h"
#include "tests/lab/lab.h"
#include "userspace/config/flags.h"

namespace waggle::cluster {
namespace {

constexpr char kHead[] =
    "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
    "kind: KubeProxyConfiguration\n";

class ConfigTest : public testing::Test {
 protected:
  enum class Who { kKubeProxy, kWaggle };

  // The file that `who` writes for these arguments.
  struct Written {
    lab::RunResult run;
    std::string text;
    Json first;  // document
  };
  Written Write(Who who, lab::Argv arguments) {
    const std::string path = absl::StrCat(lab_.scratch(), "/written-", ++files_);
    lab::Argv argv = {WAGGLE_BINARY, "agent"};
    if (who == Who::kKubeProxy) argv = {KubernetesProgram("kube-proxy")};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    argv.insert(argv.end(), {"--write-config-to", path});
    Written written;
    written.run = lab::RunProgram({}, argv);
    written.text = Read(path);
    EXPECT_TRUE(k8s::ForEachDocument(written.text, k8s::TextFormat::kAny,
                                     [&written](k8s::Document document) {
                                       if (document.number == 1) {
                                         written.first = *document.value;
                                       }
                                     })
                    .ok());
    return written;
  }
  std::string File(const std::string& text) {
    const std::string path = absl::StrCat(lab_.scratch(), "/config-", ++files_);
    std::ofstream(path, std::ios::binary) << text << std::flush;
    return path;
  }
  static std::string Read(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }
  // Both understand `file` alike, and each what the other one writes.
  void ExpectSameMeaning(const std::string& file) {
    const Written theirs = Write(Who::kKubeProxy, {"--config", file});
    const Written ours = Write(Who::kWaggle, {"--config", file});
    ASSERT_TRUE(theirs.run.ok()) << theirs.run.ToString();
    ASSERT_TRUE(ours.run.ok()) << ours.run.ToString();
    EXPECT_EQ(ours.first, theirs.first);
    EXPECT_EQ(Write(Who::kKubeProxy, {"--config", File(ours.text)}).text, theirs.text);
    EXPECT_EQ(Write(Who::kWaggle, {"--config", File(theirs.text)}).first, theirs.first);
  }

  lab::Lab lab_;

 private:
  int files_ = 0;
};

TEST_F(ConfigTest, KubeadmsFileMeansTheSame) {
  ExpectSameMeaning(WAGGLE_CONFIG_TESTDATA "/kubeadm.conf");
}

TEST_F(ConfigTest, EachModeMeansTheSame) {
  for (const char* mode : {"iptables", "ipvs", "nftables"}) {
    ExpectSameMeaning(File(absl::StrCat(
        kHead, "mode: ", mode,
        "\n"
        "bindAddress: fd00::1\n"
        "hostnameOverride: Node-1\n"
        "iptables: {syncPeriod: 10s, minSyncPeriod: 1500ms, masqueradeAll: true}\n"
        "ipvs: {syncPeriod: 20s, minSyncPeriod: 2s, excludeCIDRs: [10.0.0.0/8], tcpTimeout: 1h}\n"
        "nftables: {syncPeriod: 40s, minSyncPeriod: 4s, masqueradeAll: true}\n"
        "clientConnection: {qps: 0.25}\n"
        "metricsBindAddress: 192.0.2.1\n"
        "clusterCIDR: 10.244.0.0/16,fd00:244::/32\n"
        "conntrack: {maxPerCore: 0, udpTimeout: 100us}\n"
        "featureGates: {AllAlpha: false, NFTablesProxyMode: true}\n"
        "logging: {verbosity: 1, vmodule: [{filePattern: a*, verbosity: 3}]}\n"
        "unknown: {field: 1}\n")));
  }
}

TEST_F(ConfigTest, FlagsMeanTheSame) {
  for (const lab::Argv& flags : std::vector<lab::Argv>{
           {},
           {"--bind-address=::1", "--healthz-bind-address", "192.0.2.1:80", "-v=2"},
           {"--proxy-mode", "nftables", "--iptables-sync-period=1m", "--masquerade-all"},
           {"--cluster-cidr=10.0.0.0/8,fd00::/8", "--nodeport-addresses", "10.0.0.0/8,fd00::/8"},
           {"--feature-gates=AllAlpha=false,AllBeta=true", "--profiling", "--v", "3"},
           {"--oom-score-adj", "-5", "--iptables-localhost-nodeports=false", "--conntrack-min=7"},
           {"--pod-bridge-interface", "cni0", "--detect-local-mode=BridgeInterface"}}) {
    const Written theirs = Write(Who::kKubeProxy, flags);
    const Written ours = Write(Who::kWaggle, flags);
    ASSERT_TRUE(theirs.run.ok()) << theirs.run.ToString();
    ASSERT_TRUE(ours.run.ok()) << ours.run.ToString();
    EXPECT_EQ(ours.first, theirs.first) << testing::PrintToString(flags);
  }
}

// What one refuses the other one refuses, too; each alone.
TEST_F(ConfigTest, TheSameIsRefused) {
  for (const char* text :
       {"mode: 7", "mode: userspace", "oomScoreAdj: '1'", "oomScoreAdj: 1001",
        "bindAddress: localhost", "iptables: {syncPeriod: 30}",
        "iptables: {syncPeriod: 1s, minSyncPeriod: 2s}", "healthzBindAddress: ':10256'",
        "metricsBindAddress: 127.0.0.1:0", "clusterCIDR: '10.0.0.0/8, fd00::/8'",
        "clusterCIDR: 10.0.0.0/8,10.0.0.0/16", "nodePortAddresses: [primary, 10.0.0.0/8]",
        "detectLocalMode: BridgeInterface", "logging: {options: {json: {infoBufferSize: 5Mi}}}"}) {
    const std::string file = File(absl::StrCat(kHead, text, "\n"));
    const Written theirs = Write(Who::kKubeProxy, {"--config", file});
    const Written ours = Write(Who::kWaggle, {"--config", file});
    EXPECT_FALSE(theirs.run.ok()) << text << theirs.run.ToString();
    EXPECT_FALSE(ours.run.ok()) << text << ours.run.ToString();
  }
}

// Gates come and go with each release: what kube-proxy refuses is a warning here, unless strict.
TEST_F(ConfigTest, GatesAreRefusedWhenStrict) {
  for (const char* gates : {"{NoSuchGate: false}", "{NFTablesProxyMode: false}"}) {
    const std::string file = File(absl::StrCat(kHead, "featureGates: ", gates, "\n"));
    EXPECT_FALSE(Write(Who::kKubeProxy, {"--config", file}).run.ok()) << gates;
    EXPECT_FALSE(Write(Who::kWaggle, {"--config", file, "--strict-config"}).run.ok()) << gates;
    const Written ours = Write(Who::kWaggle, {"--config", file});
    EXPECT_TRUE(ours.run.ok()) << ours.run.ToString();
    EXPECT_THAT(ours.run.err, testing::HasSubstr("KubeProxyConfiguration.featureGates."));
  }
}

// Odd, and fine for both.
TEST_F(ConfigTest, TheSameIsTaken) {
  for (const char* text : {"oomScoreAdj: 14.0\n"
                           "bindAddressHardFail: on\n"
                           "bindAddress: 010.0.0.1\n"
                           "iptables: {syncPeriod: '0'}\n"
                           "ipvs: {syncPeriod: -1s}\n"
                           "nftables: {masqueradeBit: 32}\n"
                           "healthzBindAddress: '::'\n"
                           "metricsBindAddress: '[10.0.0.1]:80'\n"
                           "clusterCIDR: 10.0.0.5/8\n"
                           "nodePortAddresses: [0.0.0.0/0]\n"
                           "featureGates: {PreferSameTrafficDistribution: false}\n"
                           "logging: {format: json, options: {text: {splitStream: true}}}\n"
                           "nosuchfield: 1\n",
                           "bindAddress: '::ffff:10.0.0.1'\n"
                           "healthzBindAddress: '::1:80'\n"
                           "metricsBindAddress: 127.0.0.1:080\n"
                           "detectLocalMode: NodeCIDR\n"
                           "clusterCIDR: nonsense\n"}) {
    const std::string file = File(absl::StrCat(kHead, text));
    const Written theirs = Write(Who::kKubeProxy, {"--config", file});
    const Written ours = Write(Who::kWaggle, {"--config", file});
    EXPECT_TRUE(theirs.run.ok()) << text << theirs.run.ToString();
    EXPECT_TRUE(ours.run.ok()) << text << ours.run.ToString();
  }
}

// Each flag in kube-proxy's help is one that `waggle agent` knows.
TEST_F(ConfigTest, EveryFlagIsKnown) {
  const lab::RunResult help = lab::RunProgram({}, {KubernetesProgram("kube-proxy"), "--help"});
  ASSERT_TRUE(help.ok()) << help.ToString();
  std::vector<std::string> known = {"--config", "--write-config-to",   "--cleanup", "--init-only",
                                    "--master", "--hostname-override", "--help",    "--version"};
  for (const config::FlagInfo& info : config::KubeProxyFlags())
    known.push_back("--" + std::string(info.name));
  int flags = 0;
  for (const absl::string_view line : absl::StrSplit(help.out, '\n')) {
    const size_t start = line.find("--");
    // "      --bind-address ip    Overrides" or "  -v, --v Level"
    if (start == absl::string_view::npos || start > 6) continue;
    ++flags;
    EXPECT_THAT(known, testing::Contains(line.substr(start, line.find(' ', start) - start)));
  }
  EXPECT_GT(flags, 50);
}

}  // namespace
}  // namespace waggle::cluster
