// A ClusterIP from processes of a node and from pods, on both kinds of pod network.
#include <gtest/gtest.h>

#include <tuple>

#include "tests/lab/cluster.h"
#include "tests/lab/kube_proxy.h"

namespace waggle::lab {
namespace {

class ClusterIpTest : public testing::TestWithParam<std::tuple<Cni, Traffic>> {
 protected:
  Cni cni() const { return std::get<0>(GetParam()); }
  const Traffic& traffic() const { return std::get<1>(GetParam()); }
  net::Family family() const { return traffic().family; }

  Tally Ask(const Place& from, const Service& service, int count) const {
    return AskMany(from, traffic().mode, Cluster::Frontend(service, family()), count);
  }
};

INSTANTIATE_TEST_SUITE_P(, ClusterIpTest,
                         testing::Combine(testing::Values(Cni::kRouted, Cni::kBridged),
                                          testing::ValuesIn(AllTraffic())),
                         [](const auto& param) {
                           return (std::get<0>(param.param) == Cni::kRouted ? "Routed"
                                                                            : "Bridged") +
                                  std::get<1>(param.param).Name();
                         });

TEST_P(ClusterIpTest, NodeAndPodReachEveryBackend) {
  Cluster cluster(cni());
  cluster.Apply(cluster.web);
  cluster.StartAgent();
  for (const Place* from :
       {static_cast<Place*>(&cluster.node1), static_cast<Place*>(&cluster.client)}) {
    Tally tally = Ask(*from, cluster.web, 40);
    EXPECT_TRUE(tally.AllOk()) << from->name() << " " << tally;
    EXPECT_EQ(tally.names.size(), 2u) << from->name() << " " << tally;
  }
}

// Without hairpin mode the bridge sends nothing back to where it came from: the
// kube-proxy way hangs. At the socket the connection never leaves the pod.
TEST_P(ClusterIpTest, F4PodReachesItselfThroughItsService) {
  Nodes nodes(cni());
  Pod& pod = nodes.node1.AddPod("self");
  nodes.lab.Settle();
  Server server = ServeAll(pod);
  Service self = Cluster::Make("self", 11, {EndpointOf(nodes.node1, pod)});
  nodes.lab.WriteManifest("self.yaml", Render(self));

  if (cni() == Cni::kBridged) {
    InstallKubeProxyRules(nodes.node1, self);
    Load asking(pod, {"rate", "--mode", traffic().mode, "--to", Cluster::Frontend(self, family()),
                      "--count", "2", "--timeout-ms", "200"});
    Tally tally = asking.Finish();
    const char* hangs = traffic().tcp()                     ? "connect: timeout"
                        : traffic().mode == "udp-connected" ? "recv: timeout"
                                                            : "recvfrom: timeout";
    EXPECT_EQ(tally.failures, (std::map<std::string, uint64_t>{{hangs, 2}})) << tally;
    RemoveKubeProxyRules(nodes.node1);
  }

  pod.Nft(
      "table inet stay {\n  chain out {\n    type filter hook output priority 0;\n"
      "    oifname != \"lo\" meta l4proto { tcp, udp } drop\n  }\n}\n");
  Agent agent(nodes.lab, nodes.node1);
  agent.AwaitReady();
  agent.AwaitProgrammed();
  Tally tally = Ask(pod, self, 20);
  EXPECT_TRUE(tally.AllOk()) << tally;
}

TEST_P(ClusterIpTest, BackendOnTheHostNetworkOfThisNodeAndOfAnother) {
  Nodes nodes(cni());
  Pod& pod = nodes.node1.AddPod("client");
  nodes.lab.Settle();
  Server server1 = ServeAll(nodes.node1), server2 = ServeAll(nodes.node2);
  Service api = Cluster::Make(
      "api", 1, {EndpointOf(nodes.node1, nodes.node1), EndpointOf(nodes.node2, nodes.node2)});
  nodes.lab.WriteManifest("api.yaml", Render(api));
  Agent agent(nodes.lab, nodes.node1);
  agent.AwaitReady();
  agent.AwaitProgrammed();
  for (const Place* from : {static_cast<Place*>(&nodes.node1), static_cast<Place*>(&pod)}) {
    Tally tally = Ask(*from, api, 40);
    EXPECT_TRUE(tally.AllOk()) << from->name() << " " << tally;
    EXPECT_EQ(tally.names.size(), 2u) << from->name() << " " << tally;
  }
}

TEST_P(ClusterIpTest, TheBackendSeesTheClientsOwnAddress) {
  Cluster cluster(cni());
  cluster.web.endpoints = {cluster.on2(cluster.b2)};
  cluster.Apply(cluster.web);
  cluster.StartAgent();
  for (const Place* from :
       {static_cast<Place*>(&cluster.node1), static_cast<Place*>(&cluster.client)}) {
    Client client(*from);
    std::string protocol = traffic().tcp() ? "tcp" : "udp";
    StepResult answer =
        client.Must({"socket " + SocketKindOf(protocol, family()),
                     "connect " + Cluster::Frontend(cluster.web, family()), "ask x"});
    EXPECT_EQ(HostOf(answer.peer()), from->addresses().Of(family())) << answer;
  }
}

// Each node's agent serves its own node, on the same machine, at the same time.
TEST(ClusterIpOnTwoNodesTest, EveryNodeHasItsOwnAgent) {
  Cluster cluster;
  Pod& client2 = cluster.node2.AddPod("client2");
  cluster.lab.Settle();
  cluster.Apply(cluster.web);
  cluster.StartAgent();
  Agent agent2(cluster.lab, cluster.node2);
  agent2.AwaitReady();
  agent2.AwaitProgrammed();
  const Place* places[] = {&cluster.node1, &cluster.client, &cluster.node2, &client2};
  for (const Place* from : places) {
    for (const Traffic& traffic : AllTraffic()) {
      Tally tally =
          AskMany(*from, traffic.mode, Cluster::Frontend(cluster.web, traffic.family), 40);
      EXPECT_TRUE(tally.AllOk()) << from->name() << " " << traffic.Name() << " " << tally;
      EXPECT_EQ(tally.names.size(), 2u) << from->name() << " " << traffic.Name() << " " << tally;
    }
  }
}

}  // namespace
}  // namespace waggle::lab
