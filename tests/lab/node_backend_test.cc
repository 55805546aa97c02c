// Backends that are nodes' own addresses (host-network pods; the apiserver of F8): this
// node's and another one's, asked by pods and by processes of the node.
#include <gtest/gtest.h>

#include <tuple>

#include "tests/lab/conditions.h"
#include "tests/lab/packet_cluster.h"

namespace waggle::lab {
namespace {

class NodeBackendTest : public testing::TestWithParam<std::tuple<Cni, PodNetwork>> {
 protected:
  NodeBackendTest() {
    cluster_.Apply(own_);
    cluster_.Apply(other_);
  }

  // The other node finds out what fits the pod's device, at the price of one answer. (Nobody
  // may fragment in IPv6 on the way.)
  void LetTheOtherNodeLearnTheMtu() {
    for (net::Family family : kBothFamilies) {
      Client client(cluster_.client);
      client.Must({"socket " + SocketKindOf("udp", family), "timeout 200"});
      client.Do("query-bytes " + At(cluster_.node2.addresses().Of(family), 8080) + " 9000");
    }
  }

  void ExpectAllServed() {
    ExpectServed(cluster_.client, own_, "node1");
    ExpectServed(cluster_.client, other_, "node2");
  }

  PacketCluster cluster_{std::get<0>(GetParam()), std::get<1>(GetParam())};
  Service own_ = MakeWithEcho("own", 51, {cluster_.on1(cluster_.node1)});
  Service other_ = MakeWithEcho("other", 52, {cluster_.on2(cluster_.node2)});
  Server server1_ = ServeAll(cluster_.node1);
  Server server2_ = ServeAll(cluster_.node2);
};

INSTANTIATE_TEST_SUITE_P(, NodeBackendTest,
                         testing::Combine(testing::Values(Cni::kRouted, Cni::kBridged),
                                          testing::Values(PodNetwork::kRoutes, PodNetwork::kVxlan)),
                         [](const auto& param) {
                           return NameOf(std::get<0>(param.param)) +
                                  NameOf(std::get<1>(param.param));
                         });

TEST_P(NodeBackendTest, F8PodsAndProcessesReachNodeAddresses) {
  LetTheOtherNodeLearnTheMtu();
  for (Way way : {Way{"stack", "off"}, Way{"redirect", "off"}, Way{"stack", "all"},
                  Way{"redirect", "all"}, Way{"redirect", "host"}}) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    ExpectAllServed();
    ExpectBulk(cluster_.client, own_);
    ExpectBulk(cluster_.client, other_);
    // What packets alone cannot serve: without a hook a node's own connect() finds no route.
    if (way.socket_lb == "off") continue;
    ExpectServed(cluster_.node1, own_, "node1");
    ExpectServed(cluster_.node1, other_, "node2");
    ExpectServed(cluster_.node1, cluster_.near, "b1");
    ExpectServed(cluster_.node1, cluster_.far, "b2");
  }
}

// The stack serves them even where redirect is in force, and says so.
TEST_P(NodeBackendTest, RedirectLeavesThemToTheStackAndCounts) {
  cluster_.Start({"redirect", "off"});
  uint64_t before = cluster_.Reason(WAGGLE_REASON_NO_SHORT_WAY);
  ExpectAllServed();
  // Each family, two kinds of UDP and TCP, three times, two Services.
  EXPECT_EQ(cluster_.Reason(WAGGLE_REASON_NO_SHORT_WAY), before + 36);
}

// Item 6: the answer's source is translated where it leaves for the client, never where a
// filter would wonder about it.
TEST_P(NodeBackendTest, Item6ReversePathFilters) {
  for (int mode : {0, 1, 2}) {
    // Loose is what a tunnel whose node masquerades needs in any case.
    cluster_.node1.SetRpFilter(mode);
    cluster_.node2.SetRpFilter(mode);
    for (const Way& way : PacketWays()) {
      SCOPED_TRACE(way.Name() + " rp_filter " + std::to_string(mode));
      cluster_.Start(way);
      ExpectAllServed();
    }
  }
}

// A CNI that masquerades what leaves for other nodes goes on doing so, and the backend
// sees the node.
TEST_P(NodeBackendTest, TheCniMasqueradesOnTheWayToAnotherNode) {
  if (std::get<1>(GetParam()) == PodNetwork::kRoutes) cluster_.node1.MasqueradePods();
  for (const Way& way : AllWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    ExpectAllServed();
    ExpectAddresses(cluster_.client, other_, cluster_.node1.addresses());
  }
}

TEST_P(NodeBackendTest, Item4RulesThatDropWhatIsInvalid) {
  DropInvalid(cluster_.node1);
  DropInvalid(cluster_.node2);
  for (const Way& way : PacketWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    ExpectAllServed();
    EXPECT_EQ(Count(cluster_.node1, "invalid"), 0u);
  }
}

}  // namespace
}  // namespace waggle::lab
