// F6: the pod network arrives by a route, by a tunnel with Ethernet header, or by one
// without; pods are routed or bridged. The packet path works on each, both ways.
#include <gtest/gtest.h>

#include <tuple>

#include "tests/lab/conditions.h"
#include "tests/lab/kube_proxy.h"
#include "tests/lab/packet_cluster.h"

namespace waggle::lab {
namespace {

class TunnelsTest : public testing::TestWithParam<std::tuple<Cni, PodNetwork>> {
 protected:
  PacketCluster cluster_{std::get<0>(GetParam()), std::get<1>(GetParam())};
};

INSTANTIATE_TEST_SUITE_P(, TunnelsTest, testing::ValuesIn(EveryPodNetwork()), PodNetworkOf);

TEST_P(TunnelsTest, F6EveryPodNetwork) {
  InstallKubeProxyRules(cluster_.node1, cluster_.far);
  ExpectServed(cluster_.client, cluster_.far, "b2");
  RemoveKubeProxyRules(cluster_.node1);

  WatchForwarded(cluster_.node1);
  for (const Way& way : AllWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.StartBoth(way);
    uint64_t forwarded = Count(cluster_.node1, "forwarded");
    for (const auto& [service, name] : {std::pair{&cluster_.near, "b1"}, {&cluster_.far, "b2"}}) {
      ExpectServed(cluster_.client, *service, name);
      ExpectAddresses(cluster_.client, *service, cluster_.client.addresses());
    }
    // Redirected flows meet nothing of the host's stack, in neither direction.
    forwarded = Count(cluster_.node1, "forwarded") - forwarded;
    if (way.forwarding == "redirect") {
      EXPECT_EQ(forwarded, 0u);
    } else {
      EXPECT_GT(forwarded, 0u);
    }
    // Datagrams that must be cut into smaller pieces on the way are the stack's work.
    ExpectBulk(cluster_.client, cluster_.near);
    ExpectBulk(cluster_.client, cluster_.far);
  }
  // What is no Service's goes on as ever.
  for (const Traffic& traffic : AllTraffic()) {
    Tally tally = AskMany(cluster_.client, traffic.mode,
                          At(cluster_.b2.addresses().Of(traffic.family), 8080), 3);
    EXPECT_TRUE(tally.AllOk()) << traffic.Name() << " " << tally;
  }
}

}  // namespace
}  // namespace waggle::lab
