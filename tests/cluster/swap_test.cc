// The real kube-proxy and Waggle change places under traffic: no open connection breaks, no new
// one fails, no packet is lost, and nothing of the one that went is left. Waggle is the pod of
// deploy/waggle.yaml, and what docs/install.md has done in it is done with its rights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/cluster/daemon_set.h"
#include "tests/cluster/deploy_fixture.h"
#include "tests/cluster/real_kube_proxy.h"
#include "tests/lab/losses.h"

namespace waggle::cluster {
namespace {

using net::Family;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// Two agents, apiservers and compilers may be busy on the same CPUs. A lost datagram is a question
// without an answer all the same, and of TCP's losses LossWatch knows.
constexpr char kPatient[] = "10000";

struct Mode {
  const char* name;
  const char* mode;
  bool legacy;

  friend void PrintTo(const Mode& mode, std::ostream* out) { *out << mode.name; }
};

// What others have on a node, and keep.
constexpr char kKubeletRules[] =
    "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"
    "*nat\n:OTHERS - [0:0]\n-A POSTROUTING -s 198.51.100.0/24 -j OTHERS\n"
    "-A OTHERS -m comment --comment \"leads nowhere: -j KUBE-SERVICES\" -j RETURN\nCOMMIT\n";

// Their counters change all the time.
size_t LinesOf(const std::string& rules) {
  return static_cast<size_t>(std::count(rules.begin(), rules.end(), '\n'));
}

// Everything in nftables and in both iptables of a place.
std::string AllRules(const lab::Place& place) {
  std::string rules = place.Run({"nft", "list", "ruleset"}).out;
  for (const char* save : {"iptables-legacy-save", "ip6tables-legacy-save"})
    absl::StrAppend(&rules, place.Run({save}).out);
  return rules;
}

class SwapTest : public DeployFixture, public testing::WithParamInterface<Mode> {
 protected:
  SwapTest() {
    // What has ended is forgotten at once, so that 'none is left' can be waited for.
    for (const char* timeout : {"tcp_timeout_time_wait", "tcp_timeout_close",
                                "tcp_timeout_last_ack", "udp_timeout", "udp_timeout_stream"}) {
      cluster_.node1.Sysctl(absl::StrCat("net.netfilter.nf_conntrack_", timeout), "2");
    }
    ips_ = ClusterIpsOf(cluster_.CreateWeb());
  }

  std::string Front(Family family) const { return lab::At(ips_.Of(family), 80); }

  // Connections and conversations that stay open, in a pod and in the node itself.
  void OpenConnections() {
    // In the node kube-proxy and the agent have connections, too.
    losses_.emplace(std::vector<const lab::Place*>{&cluster_.client, &cluster_.b1, &cluster_.b2},
                    std::vector<const lab::Place*>{&cluster_.node1});
    for (const lab::Place* place : Places()) {
      loads_.emplace_back(absl::StrCat("open connections of ", place->name()),
                          lab::Load(*place, {"hold", "--tcp", Front(Family::kIpv4), "--tcp",
                                             Front(Family::kIpv6), "--udp", Front(Family::kIpv4),
                                             "--udp", Front(Family::kIpv6), "--connections", "3",
                                             "--interval-ms", "20", "--timeout-ms", kPatient}));
    }
  }
  // 200 new ones a second each.
  void StartClients() {
    for (const lab::Place* place : Places()) {
      for (const char* mode : {"tcp", "udp-new", "udp-connected"}) {
        const bool tcp = std::string_view(mode) == "tcp";
        loads_.emplace_back(absl::StrCat(mode, " clients of ", place->name()),
                            lab::Load(*place, {"rate", "--mode", mode, "--to", Front(Family::kIpv4),
                                               "--to", Front(Family::kIpv6), "--per-second",
                                               tcp ? "200" : "50", "--timeout-ms", kPatient}));
      }
    }
  }
  // Everybody has asked at least `count` times since the last call, and all went well.
  void ExpectAllWell(const std::string& when, uint64_t count = 40) {
    for (auto& [name, load] : loads_) {
      uint64_t attempts = 0;
      const bool enough = lab::WaitFor([&] {
        lab::Tally tally = load.Mark();
        EXPECT_EQ(tally.ok, tally.attempts) << when << ": " << name << " " << tally;
        return (attempts += tally.attempts) >= count;
      });
      EXPECT_TRUE(enough) << when << ": " << name;
    }
    EXPECT_EQ(losses_->Losses(), "") << when;
  }
  // The same, of what was under way, too.
  void EndClients(const std::string& when) {
    EXPECT_EQ(losses_->Losses(), "") << when;
    for (auto& [name, load] : loads_) {
      const lab::Tally tally = load.Stop();
      EXPECT_EQ(tally.ok, tally.attempts) << when << ": " << name << " " << tally;
    }
    loads_.clear();
  }
  // On the node itself, with all rights; as `kubectl debug` has it.
  lab::RunResult CleanupOnNode(const lab::Argv& flags) {
    lab::Argv argv = {"cleanup"};
    argv.insert(argv.end(), flags.begin(), flags.end());
    argv.insert(argv.end(), {"--pin-path", cluster_.node1.pin_path()});
    return lab::Waggle(cluster_.node1, argv);
  }
  // As docs/install.md has it: in the pod, but for rules of iptables-legacy.
  lab::RunResult CleanupKubeProxy(const lab::Argv& flags = {}) {
    lab::Argv argv = {"/usr/sbin/waggle", "cleanup", "--kube-proxy"};
    argv.insert(argv.end(), flags.begin(), flags.end());
    if (!GetParam().legacy) return pod_->Exec(argv);
    return CleanupOnNode({argv.begin() + 2, argv.end()});
  }
  void StartKubeProxy() {
    KubeProxyOptions options;
    options.mode = GetParam().mode;
    options.legacy_iptables = GetParam().legacy;
    kube_proxy_.emplace(cluster_.control, cluster_.node1, options);
    std::vector<std::string> there;
    for (const lab::Place* pod : {&cluster_.b1, &cluster_.b2}) {
      for (Family family : lab::kBothFamilies)
        there.push_back(lab::At(pod->addresses().Of(family), 8080));
    }
    kube_proxy_->AwaitRules(there);
  }
  std::vector<const lab::Place*> Places() const { return {&cluster_.client, &cluster_.node1}; }

  std::optional<lab::LossWatch> losses_;
  lab::Addresses ips_;
  const Containerd containerd_{PackedImage()};
  const std::unique_ptr<DaemonSetPod> pod_ = PodOnNode1(containerd_);
  std::optional<RealKubeProxy> kube_proxy_;
  std::deque<std::pair<std::string, lab::Load>> loads_;
};

INSTANTIATE_TEST_SUITE_P(, SwapTest,
                         testing::Values(Mode{"Nftables", "nftables", false},
                                         Mode{"Iptables", "iptables", false},
                                         Mode{"IptablesLegacy", "iptables", true}),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(SwapTest, ThereAndBackUnderTraffic) {
  const bool nftables = GetParam().mode == std::string_view("nftables");
  if (!nftables) {
    const std::string restore =
        GetParam().legacy ? "iptables-legacy-restore" : "iptables-nft-restore";
    lab::Surroundings where = cluster_.node1.surroundings();
    where.input = kKubeletRules;
    const lab::RunResult made = lab::RunProgram(where, {restore, "--noflush"});
    ASSERT_TRUE(made.ok()) << made.ToString();
  }
  StartKubeProxy();
  OpenConnections();
  StartClients();
  ExpectAllWell("with kube-proxy");

  pod_->Start();
  pod_->Await("readinessProbe");
  cluster_.AwaitFollowed();
  ExpectAllWell("with both");
  EXPECT_THAT(pod_->Exec({"/usr/sbin/waggle", "status"}).out,
              HasSubstr("Forwarding: stack (asked for: auto): an open connection of kube-proxy"));
  const lab::RunResult refused = CleanupOnNode({"--kube-proxy"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("kube-proxy runs on this node"));
  kube_proxy_->Stop();
  ExpectAllWell("after kube-proxy stopped");

  const std::string before = AllRules(cluster_.node1);
  const lab::RunResult dry = CleanupKubeProxy({"--dry-run"});
  EXPECT_TRUE(dry.ok()) << dry.ToString();
  EXPECT_THAT(dry.out, HasSubstr("would remove "));
  EXPECT_EQ(LinesOf(AllRules(cluster_.node1)), LinesOf(before)) << "a dry run changed something";
  if (GetParam().legacy) {
    // The pod has not the right for it, and says so.
    const lab::RunResult may_not =
        pod_->Exec({"/usr/sbin/waggle", "cleanup", "--kube-proxy", "--dry-run"});
    EXPECT_EQ(may_not.status, 1);
    EXPECT_THAT(may_not.err, AllOf(HasSubstr("waggle: iptables-legacy-save failed"),
                                   HasSubstr("waggle: ip6tables-legacy-save failed")));
  }
  const lab::RunResult cleaned = CleanupKubeProxy();
  EXPECT_TRUE(cleaned.ok()) << cleaned.ToString();
  EXPECT_EQ(cleaned.err, "");
  const std::string after = AllRules(cluster_.node1);
  EXPECT_THAT(after,
              AllOf(Not(HasSubstr("kube-proxy {")), Not(HasSubstr("KUBE-SVC")),
                    Not(HasSubstr("KUBE-SEP")), Not(HasSubstr("KUBE-PROXY-CANARY")),
                    Not(HasSubstr("-j KUBE-SERVICES\n")), Not(HasSubstr("chain KUBE-SERV"))));
  if (!nftables) {
    EXPECT_THAT(after, AllOf(HasSubstr("KUBE-IPTABLES-HINT"), HasSubstr("KUBE-KUBELET-CANARY"),
                             HasSubstr("KUBE-FIREWALL"), HasSubstr("OTHERS")));
  }
  // The last one who translated has gone; what it had translated goes on.
  EXPECT_THAT(cleaned.out, AllOf(HasSubstr("stays: table ip waggle-keeps-nat"),
                                 HasSubstr("stays: table ip6 waggle-keeps-nat")));
  ExpectAllWell("after the cleanup", 100);
  const lab::RunResult again = CleanupKubeProxy();
  EXPECT_TRUE(again.ok()) << again.ToString();
  EXPECT_THAT(again.out, Not(HasSubstr("removed")));
  // Until its last connection has ended.
  EndClients("at the end of the swap");
  std::string said;
  EXPECT_TRUE(lab::WaitFor([&] {
    said = CleanupKubeProxy().out;
    return said.find("stays") == std::string::npos;
  })) << said;
  EXPECT_THAT(AllRules(cluster_.node1), Not(HasSubstr("waggle")));
  EXPECT_EQ(CleanupKubeProxy().out, "nothing of kube-proxy in this network namespace\n");

  // And back, now that packets take the short way: first kube-proxy's rules come, then
  // Waggle goes.
  pod_->Stop(SIGKILL);
  pod_->Start();
  pod_->Await("readinessProbe");
  OpenConnections();
  StartClients();
  ExpectAllWell("before the way back");
  StartKubeProxy();
  ExpectAllWell("with both again");
  pod_->Stop(SIGTERM);
  const lab::RunResult gone = CleanupOnNode({});
  EXPECT_TRUE(gone.ok()) << gone.ToString();
  ExpectAllWell("back with kube-proxy", 100);
  EXPECT_THAT(AllRules(cluster_.node1), Not(HasSubstr("waggle")));
  EndClients("at the end of the way back");
}

}  // namespace
}  // namespace waggle::cluster
