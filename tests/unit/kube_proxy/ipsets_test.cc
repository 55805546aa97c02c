// Names of ipsets: one row each.
#include "userspace/kube_proxy/ipsets.h"

#include <gtest/gtest.h>

namespace waggle::kube_proxy {
namespace {

TEST(IpSets, AreKubeProxysByTheirWholeNames) {
  for (const char* name :
       {"KUBE-LOOP-BACK", "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL",
        "KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL", "KUBE-LOAD-BALANCER-FW",
        "KUBE-LOAD-BALANCER-SOURCE-IP", "KUBE-LOAD-BALANCER-SOURCE-CIDR", "KUBE-NODE-PORT-TCP",
        "KUBE-NODE-PORT-LOCAL-TCP", "KUBE-NODE-PORT-UDP", "KUBE-NODE-PORT-LOCAL-UDP",
        "KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT-LOCAL-SCTP-HASH", "KUBE-HEALTH-CHECK-NODE-PORT",
        "KUBE-IPVS-IPS", "KUBE-6-CLUSTER-IP", "KUBE-6-IPVS-IPS",
        // Cut to 31 letters.
        "KUBE-6-LOAD-BALANCER-SOURCE-CID", "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS"}) {
    EXPECT_TRUE(IsKubeProxysSet(name)) << name;
  }
  for (const char* name :
       {"", "KUBE-", "KUBE-6-", "CLUSTER-IP", "KUBE-CLUSTER-IP-2", "KUBE-CLUSTER",
        "kube-cluster-ip", "KUBE-SRC-2FAVVDOWQKCUVPBZ", "KUBE-DST-2FAVVDOWQKCUVPBZ",
        "inet6:KUBE-CLUSTER-IP", "inet6:KUBE-SRC-2FAVVDOWQKCUVPBZ", "KUBE-6-SRC-A",
        "KUBE-NODE-PORT-LOCAL-SCTP-HAS"}) {
    EXPECT_FALSE(IsKubeProxysSet(name)) << name;
  }
}

}  // namespace
}  // namespace waggle::kube_proxy
