// F5: two pods on one bridge, and answers that go straight from one to the other.
#include <gtest/gtest.h>

#include "tests/lab/conditions.h"
#include "tests/lab/kube_proxy.h"
#include "tests/lab/packet_cluster.h"

namespace waggle::lab {
namespace {

class BridgeTest : public testing::Test {
 protected:
  PacketCluster cluster_{Cni::kBridged};
};

TEST_F(BridgeTest, F5AnswersThroughTheBridgeAreTranslated) {
  const Service& near = cluster_.near;
  SetBridgeNfCall(cluster_.node1, false);
  InstallKubeProxyRules(cluster_.node1, near);
  for (const Traffic& traffic : AllTraffic()) {
    Load asking(cluster_.client,
                {"rate", "--mode", traffic.mode, "--to", Cluster::Frontend(near, traffic.family),
                 "--count", "1", "--timeout-ms", "300"});
    // The answer comes, from an address that nobody asked.
    std::string failure =
        traffic.mode == "udp-new"
            ? "recvfrom: answer from " + At(cluster_.b1.addresses().Of(traffic.family), 8080)
            : traffic.Silence();
    Tally tally = asking.Finish();
    EXPECT_EQ(tally.failures, (std::map<std::string, uint64_t>{{failure, 1}})) << traffic.Name();
  }
  RemoveKubeProxyRules(cluster_.node1);

  for (bool nf_call : {false, true}) {
    SetBridgeNfCall(cluster_.node1, nf_call);
    SCOPED_TRACE(nf_call ? "bridge-nf-call-iptables=1" : "bridge-nf-call-iptables=0");
    for (const Way& way : AllWays()) {
      SCOPED_TRACE(way.Name());
      cluster_.Start(way);
      ExpectServed(cluster_.client, near, "b1");
      ExpectAddresses(cluster_.client, near, cluster_.client.addresses());
      ExpectBulk(cluster_.client, near);
    }
  }
}

// The same with rules on the bridge that know connections: what the stack forwards of a
// flow, it forwards in both directions.
TEST_F(BridgeTest, F5WithRulesThatDropWhatIsInvalid) {
  DropInvalid(cluster_.node1);
  for (bool nf_call : {false, true}) {
    SetBridgeNfCall(cluster_.node1, nf_call);
    for (const Way& way : AllWays()) {
      SCOPED_TRACE(way.Name());
      cluster_.Start(way);
      ExpectServed(cluster_.client, cluster_.near, "b1");
      EXPECT_EQ(Count(cluster_.node1, "invalid"), 0u);
    }
  }
}

// Pods of one bridge that talk directly are no business of Waggle's.
TEST_F(BridgeTest, DirectTrafficOnTheBridgeIsLeftAlone) {
  for (const Way& way : AllWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    for (const Traffic& traffic : AllTraffic()) {
      Tally tally = AskMany(cluster_.client, traffic.mode,
                            At(cluster_.b1.addresses().Of(traffic.family), 8080), 3);
      EXPECT_TRUE(tally.AllOk()) << traffic.Name() << " " << tally;
    }
  }
}

}  // namespace
}  // namespace waggle::lab
