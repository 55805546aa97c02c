// The fixture: the real kube-proxy serves a node of the lab, follows, and leaves.
#include "tests/cluster/real_kube_proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cluster/kube_cluster.h"

namespace waggle::cluster {
namespace {

using testing::HasSubstr;
using testing::Not;

class RealKubeProxyTest : public testing::TestWithParam<const char*> {
 protected:
  KubeCluster cluster_;
};

INSTANTIATE_TEST_SUITE_P(, RealKubeProxyTest, testing::ValuesIn(kKubeProxyModes),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(RealKubeProxyTest, ServesFollowsAndLeaves) {
  const lab::Addresses ips = ClusterIpsOf(cluster_.CreateWeb());
  RealKubeProxy proxy(cluster_.control, cluster_.node1, {.mode = GetParam()});
  const lab::Addresses &at1 = cluster_.b1.addresses(), &at2 = cluster_.b2.addresses();
  proxy.AwaitRules({"default/web", lab::At(at1.v4, 8080), lab::At(at1.v6, 8080),
                    lab::At(at2.v4, 8080), lab::At(at2.v6, 8080)});
  for (const lab::Place* from :
       {static_cast<lab::Place*>(&cluster_.client), static_cast<lab::Place*>(&cluster_.node1)}) {
    for (const lab::Traffic& traffic : lab::AllTraffic()) {
      lab::Tally tally = lab::AskMany(*from, traffic.mode, lab::At(ips.Of(traffic.family), 80), 40);
      EXPECT_TRUE(tally.AllOk()) << from->name() << " " << traffic.Name() << " " << tally;
      EXPECT_EQ(tally.names.size(), 2u) << from->name() << " " << traffic.Name() << " " << tally;
    }
  }

  SetReady(cluster_.api(), cluster_.b1, false);
  proxy.AwaitRules({lab::At(at2.v4, 8080), lab::At(at2.v6, 8080)},
                   {lab::At(at1.v4, 8080), lab::At(at1.v6, 8080)});
  lab::Tally tally = lab::AskMany(cluster_.client, "tcp", lab::At(ips.v6, 80), 10);
  EXPECT_EQ(tally.names, (std::map<std::string, uint64_t>{{"b2", 10}})) << tally;

  // Its end changes nothing; what it wrote goes when it is told so.
  proxy.Kill();
  EXPECT_THAT(proxy.Rules(), HasSubstr("default/web"));
  proxy.Start();
  proxy.CleanUp();
  EXPECT_THAT(proxy.Rules(), Not(HasSubstr("KUBE-SERVICES")));
  EXPECT_THAT(proxy.Rules(), Not(HasSubstr("default/web")));
}

}  // namespace
}  // namespace waggle::cluster
