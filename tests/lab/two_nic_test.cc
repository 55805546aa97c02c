// F1 and F2: three nodes with two NICs each. eth0 is on a network of its own that
// leads to no other node (as virtual machines behind NAT have it), with the default
// route or none; the cluster is on eth1. Each test shows the failure with
// the rules of kube-proxy, then success with Waggle, on the same machines.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/lab/cluster.h"
#include "tests/lab/kube_proxy.h"

namespace waggle::lab {
namespace {

class TwoNicTest : public testing::TestWithParam<Traffic> {
 protected:
  void Wire(bool default_route) {
    lab_.AddNetwork("cluster", {"192.168.50.1/24", "fd00:50::1/64"});
    for (int i = 1; i <= 3; ++i) {
      Node& node = lab_.AddNode(Cni::kRouted);
      std::string nat = absl::StrCat("nat", i);
      lab_.AddNetwork(nat, {"10.0.2.2/24", "fd00:2::2/64"});
      node.Sysctl("net.ipv4.conf.default.rp_filter", "2");  // as systemd sets it
      node.AddNic("eth0", nat,
                  {absl::StrCat("10.0.2.1", i, "/24"), absl::StrCat("fd00:2::1", i, "/64")});
      if (default_route) node.AddDefaultRoute({"10.0.2.2", "fd00:2::2"});
      node.AddNic(
          "eth1", "cluster",
          {absl::StrCat("192.168.50.", 10 + i, "/24"), absl::StrCat("fd00:50::", 10 + i, "/64")});
    }
    lab_.RoutePods();
    Pod& b2 = lab_.node(2).AddPod("b2");
    Pod& b3 = lab_.node(3).AddPod("b3");
    client_ = &lab_.node(1).AddPod("client");
    for (const Pod* pod : {&b2, &b3}) {
      pod->Nft(
          "table inet watch {\n  counter wrong_nic { }\n  chain in {\n"
          "    type filter hook input priority 0;\n    ip saddr 10.0.2.0/24 counter name "
          "wrong_nic\n"
          "    ip6 saddr fd00:2::/64 counter name wrong_nic\n  }\n}\n");
    }
    lab_.Settle();
    servers_.push_back(ServeAll(b2));
    servers_.push_back(ServeAll(b3));
    web_ = Cluster::Make("web", 10, {EndpointOf(lab_.node(2), b2), EndpointOf(lab_.node(3), b3)});
    web_.ports = {{"tcp", "TCP", 8090, 8080}, {"udp", "UDP", 8090, 8080}};
    lab_.WriteManifest("web.yaml", Render(web_));
  }

  std::string Target() const { return At(web_.cluster_ips.Of(GetParam().family), 8090); }

  Tally AskBriefly(const Node& from, int count) const {
    Load asking(from, {"rate", "--mode", GetParam().mode, "--to", Target(), "--count",
                       std::to_string(count), "--timeout-ms", "400"});
    return asking.Finish();
  }

  // Packets that reached a backend with an address of eth0.
  uint64_t FromTheWrongNic() const {
    uint64_t packets = 0;
    for (const char* pod : {"b2", "b3"}) {
      RunResult listed =
          RunProgram({"/run/netns/" + std::string(pod)}, {"nft", "-j", "list", "ruleset"});
      const nlohmann::json rules = nlohmann::json::parse(listed.out);
      for (const nlohmann::json& item : rules["nftables"]) {
        if (item.contains("counter")) packets += item["counter"]["packets"].get<uint64_t>();
      }
    }
    return packets;
  }

  // What the client's call says when no answer comes.
  std::string TimeOut() const {
    if (GetParam().tcp()) return "connect: timeout";
    return GetParam().mode == "udp-connected" ? "recv: timeout" : "recvfrom: timeout";
  }

  void ExpectThatWaggleServesAll() {
    std::vector<std::unique_ptr<Agent>> agents;
    for (int i = 1; i <= 3; ++i)
      agents.push_back(std::make_unique<Agent>(lab_, lab_.node(i)));
    for (const auto& agent : agents)
      agent->AwaitProgrammed();
    const Place* places[] = {&lab_.node(1), &lab_.node(2), &lab_.node(3), client_};
    for (const Place* from : places) {
      Tally tally = AskMany(*from, GetParam().mode, Target(), 50);
      EXPECT_TRUE(tally.AllOk()) << from->name() << " " << tally;
      EXPECT_EQ(tally.attempts, 50u);
      EXPECT_EQ(tally.names.size(), 2u) << from->name() << " " << tally;
    }
  }

  Lab lab_;
  Pod* client_ = nullptr;
  std::vector<Server> servers_;
  Service web_;
};

INSTANTIATE_TEST_SUITE_P(, TwoNicTest, testing::ValuesIn(AllTraffic()), TrafficOf);

TEST_P(TwoNicTest, F1TheSourceAddressOfTheWrongNic) {
  Wire(true);
  for (int i = 1; i <= 3; ++i)
    InstallKubeProxyRules(lab_.node(i), web_);

  Tally control_plane = AskBriefly(lab_.node(1), 4);
  EXPECT_EQ(control_plane.failures, (std::map<std::string, uint64_t>{{TimeOut(), 4}}))
      << control_plane;
  EXPECT_GE(FromTheWrongNic(), 4u);
  // Half the time: whenever the local backend is chosen.
  Tally worker = AskBriefly(lab_.node(2), 16);
  EXPECT_EQ(worker.names.size(), 1u) << worker;
  EXPECT_EQ(worker.names.count("b2"), 1u) << worker;
  EXPECT_GT(worker.ok, 0u) << worker;
  EXPECT_EQ(worker.failures.count(TimeOut()), 1u) << worker;

  for (int i = 1; i <= 3; ++i)
    RemoveKubeProxyRules(lab_.node(i));
  ExpectThatWaggleServesAll();
}

TEST_P(TwoNicTest, F2NoDefaultRoute) {
  Wire(false);
  for (int i = 1; i <= 3; ++i)
    InstallKubeProxyRules(lab_.node(i), web_);
  std::string unreachable =
      GetParam().mode == "udp-new" ? "sendto: ENETUNREACH" : "connect: ENETUNREACH";
  for (int i = 1; i <= 3; ++i) {
    Tally tally = AskBriefly(lab_.node(i), 3);
    EXPECT_EQ(tally.failures, (std::map<std::string, uint64_t>{{unreachable, 3}})) << tally;
  }

  for (int i = 1; i <= 3; ++i)
    RemoveKubeProxyRules(lab_.node(i));
  ExpectThatWaggleServesAll();
}

}  // namespace
}  // namespace waggle::lab
