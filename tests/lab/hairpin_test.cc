// F4: a pod calls its own Service and is its own backend, with the bridge's hairpin mode
// off and on a routed network, by packets and by sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/conditions.h"
#include "tests/lab/kube_proxy.h"
#include "tests/lab/packet_cluster.h"

namespace waggle::lab {
namespace {

using testing::HasSubstr;

class HairpinTest : public testing::TestWithParam<Cni> {
 protected:
  HairpinTest() { cluster_.Apply(self_); }

  PacketCluster cluster_{GetParam()};
  Service self_ = MakeWithEcho("self", 13, {cluster_.on1(cluster_.b1)});
};

INSTANTIATE_TEST_SUITE_P(, HairpinTest, testing::Values(Cni::kRouted, Cni::kBridged),
                         [](const auto& param) { return NameOf(param.param); });

TEST_P(HairpinTest, F4ThePodReachesItselfAndTheBridgeStaysAsItIs) {
  if (GetParam() == Cni::kBridged) {
    InstallKubeProxyRules(cluster_.node1, self_);
    ExpectSilence(cluster_.b1, self_);
    RemoveKubeProxyRules(cluster_.node1);
  }
  for (const Way& way : AllWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    ExpectServed(cluster_.b1, self_, "b1", 10);
    ExpectBulk(cluster_.b1, self_);
    // By packets the pod sees the Service's address, which it can answer: in IPv6 too
    // (item 8). At the socket the connection never leaves the pod.
    ExpectAddresses(cluster_.b1, self_,
                    way.socket_lb == "off" ? self_.cluster_ips : cluster_.b1.addresses());
    // Others reach it as ever, and it reaches others.
    ExpectServed(cluster_.client, self_, "b1");
    ExpectServed(cluster_.b1, cluster_.far, "b2");
  }
  if (GetParam() == Cni::kBridged) {
    RunResult port =
        cluster_.node1.Run({"bridge", "-d", "link", "show", "dev", cluster_.b1.host_device()});
    EXPECT_THAT(port.out, HasSubstr("hairpin off")) << port.ToString();
  }
}

// Two backends, one of them the client itself: each is chosen, each answers.
TEST_P(HairpinTest, F4OneOfSeveralBackendsIsTheClient) {
  Service both = MakeWithEcho("both", 14, {cluster_.on1(cluster_.b1), cluster_.on2(cluster_.b2)});
  cluster_.Apply(both);
  for (const Way& way : PacketWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    for (const Traffic& traffic : AllTraffic()) {
      Tally tally = AskMany(cluster_.b1, traffic.mode, Cluster::Frontend(both, traffic.family), 40);
      EXPECT_TRUE(tally.AllOk()) << traffic.Name() << " " << tally;
      EXPECT_EQ(tally.names.size(), 2u) << traffic.Name() << " " << tally;
    }
  }
}

// Strict reverse path filters in the pod and on the node, FORWARD dropped: nothing of a
// hairpin flow is the stack's business, in either forwarding.
TEST_P(HairpinTest, F4PastFiltersAndFirewalls) {
  DropForwarded(cluster_.node1, false);
  cluster_.node1.SetRpFilter(1);
  cluster_.b1.SetRpFilter(1);
  for (const Way& way : PacketWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    ExpectServed(cluster_.b1, self_, "b1");
  }
}

// A virtual machine behind the pod reaches the pod by its Service: the pod's own
// connection tracking must recognise what comes back.
TEST_P(HairpinTest, F4AMachineBehindThePod) {
  Machine machine("machine", cluster_.b1);
  cluster_.lab.Settle();
  for (const Way& way : AllWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    ExpectServed(machine, self_, "b1");
  }
}

}  // namespace
}  // namespace waggle::lab
