// F3 and what other firewalls do to forwarded packets: a policy of DROP, and rules that
// drop what connection tracking cannot place.
#include <gtest/gtest.h>

#include "tests/lab/conditions.h"
#include "tests/lab/kube_proxy.h"
#include "tests/lab/packet_cluster.h"

namespace waggle::lab {
namespace {

class ForwardDropTest : public testing::TestWithParam<Cni> {
 protected:
  PacketCluster cluster_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(, ForwardDropTest, testing::Values(Cni::kRouted, Cni::kBridged),
                         [](const auto& param) { return NameOf(param.param); });

// On the client's node nothing is forwarded. On the other one the CNI lets packets to and
// from its pods through: bringing them from the wire to a pod is its business.
TEST_P(ForwardDropTest, F3PolicyDrop) {
  DropForwarded(cluster_.node1, false);
  DropForwarded(cluster_.node2, true);
  for (const Service* service : {&cluster_.near, &cluster_.far}) {
    InstallKubeProxyRules(cluster_.node1, *service);
    ExpectSilence(cluster_.client, *service);
    RemoveKubeProxyRules(cluster_.node1);
  }
  // So it is in stack forwarding: the policy bites there. Past the stack it does not.
  cluster_.StartBoth({"stack", "off"});
  ExpectSilence(cluster_.client, cluster_.near);
  ExpectSilence(cluster_.client, cluster_.far);
  for (const char* socket_lb : {"off", "all"}) {
    SCOPED_TRACE(socket_lb);
    cluster_.StartBoth({"redirect", socket_lb});
    ExpectServed(cluster_.client, cluster_.near, "b1");
    ExpectServed(cluster_.client, cluster_.far, "b2");
    ExpectBulk(cluster_.client, cluster_.near);
    ExpectBulk(cluster_.client, cluster_.far);
  }
}

// Item 4: both directions of a flow take the same way, so connection tracking sees all of
// it or nothing.
TEST_P(ForwardDropTest, Item4NothingIsInvalidToConnectionTracking) {
  DropInvalid(cluster_.node1);
  DropInvalid(cluster_.node2);
  for (const Way& way : AllWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.StartBoth(way);
    for (const auto& [service, name] : {std::pair{&cluster_.near, "b1"}, {&cluster_.far, "b2"}}) {
      ExpectServed(cluster_.client, *service, name);
      ExpectBulk(cluster_.client, *service);
    }
    EXPECT_EQ(Count(cluster_.node1, "invalid"), 0u);
    EXPECT_EQ(Count(cluster_.node2, "invalid"), 0u);
  }
}

// kube-proxy's KUBE-FORWARD is what accepts replies where the CNI accepts new packets only.
TEST(ForwardDropWithoutKubeProxy, RepliesPassUntilForced) {
  PacketCluster cluster(Cni::kRouted);
  for (net::Family family : kBothFamilies) {
    Surroundings where = cluster.node1.surroundings();
    where.input =
        "*filter\n:FORWARD DROP [0:0]\n:KUBE-FORWARD - [0:0]\n:KUBE-SERVICES - [0:0]\n"
        "-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES\n"
        "-A FORWARD -j KUBE-FORWARD\n-A FORWARD -s " +
        cluster.node1.pod_cidrs().Of(family) +
        " -m conntrack --ctstate NEW -j ACCEPT\n"
        "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n";
    const RunResult made = RunProgram(
        where, {family == net::Family::kIpv4 ? "iptables-nft-restore" : "ip6tables-nft-restore"});
    ASSERT_TRUE(made.ok()) << made.ToString();
  }
  cluster.StartBoth({"stack", "off"});
  ExpectServed(cluster.client, cluster.near, "b1");
  const auto cleanup = [&](const Argv& flags) {
    Argv argv = {"cleanup", "--kube-proxy", "--pin-path", cluster.node1.pin_path()};
    argv.insert(argv.end(), flags.begin(), flags.end());
    return Waggle(cluster.node1, argv);
  };
  const RunResult cleaned = cleanup({});
  EXPECT_TRUE(cleaned.ok()) << cleaned.ToString();
  for (const char* part :
       {"removed 1 chain and 1 rule of iptables-nft\n",
        "stays: in table filter of iptables-nft: chain KUBE-FORWARD: the policy of "
        "FORWARD is DROP"}) {
    EXPECT_NE(cleaned.out.find(part), std::string::npos) << cleaned.out;
  }
  ExpectServed(cluster.client, cluster.near, "b1");
  const RunResult forced = cleanup({"--force"});
  EXPECT_TRUE(forced.ok()) << forced.ToString();
  EXPECT_NE(forced.out.find("warning: in table filter of ip6tables-nft: chain KUBE-FORWARD goes"),
            std::string::npos)
      << forced.out;
  ExpectSilence(cluster.client, cluster.near);
}

}  // namespace
}  // namespace waggle::lab
