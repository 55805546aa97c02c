// The lab itself: what the scenarios take for granted.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tuple>

#include "absl/strings/str_cat.h"
#include "tests/lab/clients.h"
#include "tests/lab/cluster.h"
#include "tests/lab/conditions.h"
#include "tests/lab/kube_proxy.h"
#include "tests/lab/lab.h"
#include "tests/lab/losses.h"
#include "tests/lab/manifest.h"
#include "tests/lab/sandbox.h"

namespace waggle::lab {
namespace {

class LabTest : public testing::TestWithParam<Cni> {};

INSTANTIATE_TEST_SUITE_P(, LabTest, testing::Values(Cni::kRouted, Cni::kBridged),
                         [](const auto& param) {
                           return param.param == Cni::kRouted ? "Routed" : "Bridged";
                         });

class LabNetworkTest : public testing::TestWithParam<std::tuple<Cni, PodNetwork>> {};

INSTANTIATE_TEST_SUITE_P(, LabNetworkTest, testing::ValuesIn(EveryPodNetwork()), PodNetworkOf);

// Every pair of places of a two-node cluster, both families, TCP and UDP.
TEST_P(LabNetworkTest, EverybodyReachesEverybodyDirectly) {
  Lab lab;
  Node& node1 = lab.AddNode(std::get<0>(GetParam()));
  Node& node2 = lab.AddNode(std::get<0>(GetParam()));
  lab.Connect(std::get<1>(GetParam()));
  Pod& a = node1.AddPod("a");
  Pod& b = node1.AddPod("b");
  Pod& c = node2.AddPod("c");
  lab.Settle();
  const Place* places[] = {&node1, &node2, &a, &b, &c};
  std::vector<Server> servers;
  for (const Place* place : places)
    servers.push_back(ServeAll(*place));
  for (const Place* from : places) {
    for (const Place* to : places) {
      for (net::Family family : {net::Family::kIpv4, net::Family::kIpv6}) {
        for (const char* mode : {"tcp", "udp", "udp-connected"}) {
          Tally tally = AskMany(*from, mode, At(to->addresses().Of(family), 8080), 1);
          EXPECT_TRUE(tally.AllOk())
              << from->name() << " to " << to->name() << " " << mode << " " << tally;
          EXPECT_EQ(tally.names.count(to->name()), 1u) << tally;
        }
      }
    }
  }
}

// Large packets and whole windows get through, both ways, whoever segments.
TEST_P(LabNetworkTest, BulkGetsThrough) {
  Lab lab;
  Node& node1 = lab.AddNode(std::get<0>(GetParam()));
  Node& node2 = lab.AddNode(std::get<0>(GetParam()));
  lab.Connect(std::get<1>(GetParam()));
  Pod& a = node1.AddPod("a");
  Pod& c = node2.AddPod("c");
  lab.Settle();
  Server server = ServeAll(c);
  for (bool offloads : {true, false}) {
    a.SetOffloads("eth0", offloads);
    c.SetOffloads("eth0", offloads);
    for (net::Family family : kBothFamilies) {
      Client client(a);
      client.Must({"socket " + SocketKindOf("tcp", family),
                   "connect " + At(c.addresses().Of(family), kEchoPort), "recv",
                   "transfer 3000000"});
      client.Must({"socket " + SocketKindOf("udp", family),
                   "query-bytes " + At(c.addresses().Of(family), 8080) + " 9000"});
    }
  }
}

TEST_P(LabTest, APodOfAnotherNodeIsSeenByItsOwnAddress) {
  Lab lab;
  Node& node1 = lab.AddNode(GetParam());
  Node& node2 = lab.AddNode(GetParam());
  lab.Connect();
  Pod& a = node1.AddPod("a");
  Pod& c = node2.AddPod("c");
  lab.Settle();
  Server server = ServeAll(c);
  Client client(a);
  StepResult answer =
      client.Must({"socket tcp4", "connect " + At(c.addresses().v4, 8080), "ask hello"});
  EXPECT_EQ(answer.peer().substr(0, answer.peer().rfind(':')), a.addresses().v4) << answer;
  EXPECT_EQ(answer.echo(), "hello");
}

TEST(PeerTest, StepsSayWhatTheKernelSaid) {
  Lab lab;
  Node& node = lab.AddNode(Cni::kRouted);
  lab.Connect();
  Pod& pod = node.AddPod("a");
  lab.Settle();
  Server server = ServeAll(pod);
  Client client(node);
  const std::string at = At(pod.addresses().v4, 8080), closed = At(pod.addresses().v4, 9);

  EXPECT_EQ(client.Do("recv").error(), "EBADF");
  client.Must({"socket tcp4"});
  EXPECT_EQ(client.Do("connect " + closed).error(), "ECONNREFUSED");
  EXPECT_TRUE(
      client.Must({"socket tcp4", "connect " + at, "send x", "recv", "shutdown", "recv"}).eof());
  client.Must({"socket udp4", "connect " + closed, "send x"});
  EXPECT_EQ(client.Do("recv").error(), "ECONNREFUSED");
  client.Must({"socket udp4", "timeout 50", "bind " + At(node.addresses().v4, 0)});
  EXPECT_TRUE(client.Do("recvfrom").timed_out());
  EXPECT_EQ(client.Must({"query " + at + " x"}).from(), at);
  client.Must({"socket tcp6"});
  EXPECT_EQ(client.Must({"connect-nb [::ffff:" + pod.addresses().v4 + "]:8080"}).immediate(),
            "EINPROGRESS");
  EXPECT_EQ(client.Must({"getpeername"}).address(), "[::ffff:" + pod.addresses().v4 + "]:8080");
  client.Must({"socket tcp4", "fastopen " + at + " x", "recv"});
  EXPECT_TRUE(client.Must({"tcpinfo"}).syn_data());
  EXPECT_FALSE(client.Do("nonsense").ok());
}

TEST(PeerTest, LoadCountsWhatFails) {
  Lab lab;
  Node& node = lab.AddNode(Cni::kRouted);
  lab.Connect();
  Pod& pod = node.AddPod("a");
  lab.Settle();
  auto server = std::make_unique<Server>(ServeAll(pod));
  Load rate(node,
            {"rate", "--mode", "tcp", "--to", At(pod.addresses().v4, 8080), "--per-second", "200"});
  Load hold(node, {"hold", "--tcp", At(pod.addresses().v6, 8080), "--interval-ms", "5"});
  uint64_t held = 0;
  EXPECT_TRUE(WaitFor([&] { return (held += hold.Mark().ok) > 3; }));
  server.reset();
  rate.Mark();
  EXPECT_TRUE(WaitFor([&] { return rate.Mark().failures.count("connect: ECONNREFUSED") == 1; }));
  EXPECT_FALSE(hold.Stop().AllOk());
}

// The other half of F1 and F2 stands on these rules: they must work where nothing
// is in the way.
TEST_P(LabTest, KubeProxyRulesServeAPlainCluster) {
  Lab lab;
  Node& node1 = lab.AddNode(GetParam());
  Node& node2 = lab.AddNode(GetParam());
  lab.Connect();
  Pod& client = node1.AddPod("client");
  Pod& local = node1.AddPod("local");
  Pod& remote = node2.AddPod("remote");
  lab.Settle();
  Server server1 = ServeAll(local), server2 = ServeAll(remote);
  Service web{.name = "web",
              .cluster_ips = ClusterIps(10),
              .endpoints = {EndpointOf(node1, local), EndpointOf(node2, remote)}};
  InstallKubeProxyRules(node1, web);
  for (const Place* from : {static_cast<Place*>(&client), static_cast<Place*>(&node1)}) {
    for (const char* mode : {"tcp", "udp-new"}) {
      for (net::Family family : {net::Family::kIpv4, net::Family::kIpv6}) {
        Tally tally = AskMany(*from, mode, At(web.cluster_ips.Of(family), 80), 20);
        EXPECT_TRUE(tally.AllOk()) << from->name() << " " << mode << " " << tally;
        EXPECT_EQ(tally.names.size(), 2u) << tally;
      }
    }
  }
}

TEST_P(LabTest, KubeProxyRulesRejectAServiceWithoutEndpoints) {
  Lab lab;
  Node& node = lab.AddNode(GetParam());
  lab.Connect();
  Pod& client = node.AddPod("client");
  lab.Settle();
  Service empty{.name = "empty", .cluster_ips = ClusterIps(10), .endpoints = {}};
  InstallKubeProxyRules(node, empty);
  for (const char* mode : {"tcp", "udp-connected"}) {
    std::string failure = mode == std::string("tcp") ? "connect" : "recv";
    for (net::Family family : kBothFamilies) {
      // Often the ICMP message finds the socket inside of connect(), and it is the one
      // about the next SYN, a second later, that counts.
      Load asking(client, {"rate", "--mode", mode, "--to", At(empty.cluster_ips.Of(family), 80),
                           "--count", "1", "--timeout-ms", "5000"});
      EXPECT_EQ(asking.Finish().failures,
                (std::map<std::string, uint64_t>{{failure + ": ECONNREFUSED", 1}}));
    }
  }
}

TEST_P(LabTest, MachinesAndOutsidersHaveTheAddressOfTheirPod) {
  Lab lab;
  Node& node = lab.AddNode(GetParam());
  lab.Connect();
  Pod& a = node.AddPod("a");
  Pod& b = node.AddPod("b");
  Outsider outsider(a);
  Machine machine("machine", a);
  lab.Settle();
  Server server = ServeAll(b);
  for (const Place* place : {static_cast<Place*>(&outsider), static_cast<Place*>(&machine)}) {
    for (net::Family family : kBothFamilies) {
      for (const char* protocol : {"tcp", "udp"}) {
        Client client(*place);
        StepResult answer = client.Must({"socket " + SocketKindOf(protocol, family),
                                         "connect " + At(b.addresses().Of(family), 8080), "ask x"});
        EXPECT_EQ(HostOf(answer.peer()), a.addresses().Of(family)) << answer;
      }
    }
  }
}

// The conditions do what they say: otherwise nothing would be shown by surviving them.
TEST_P(LabTest, ConditionsBite) {
  Lab lab;
  Node& node1 = lab.AddNode(GetParam());
  Node& node2 = lab.AddNode(GetParam());
  lab.Connect();
  Pod& a = node1.AddPod("a");
  Pod& c = node2.AddPod("c");
  lab.Settle();
  Server pod = ServeAll(c), host = ServeAll(node2);
  auto ask = [&](const Place& to, net::Family family) {
    Load asking(a, {"rate", "--mode", "tcp", "--to", At(to.addresses().Of(family), 8080), "--count",
                    "1", "--timeout-ms", "200"});
    return asking.Finish();
  };
  node1.MasqueradePods();
  for (net::Family family : kBothFamilies) {
    Client client(a);
    for (const auto& [to, seen] : {std::pair<Place*, Place*>{&c, &a}, {&node2, &node1}}) {
      StepResult answer = client.Must({"socket " + SocketKindOf("tcp", family),
                                       "connect " + At(to->addresses().Of(family), 8080), "ask x"});
      EXPECT_EQ(HostOf(answer.peer()), seen->addresses().Of(family)) << answer;
    }
  }
  DropForwarded(node2, true);
  for (net::Family family : kBothFamilies)
    EXPECT_TRUE(ask(c, family).AllOk());
  DropForwarded(node1, false);
  for (net::Family family : kBothFamilies)
    EXPECT_EQ(ask(c, family).failures.count("connect: timeout"), 1u);
  AcceptForwarded(node1);

  // An answer whose question was not seen: it goes another way than it came.
  DropInvalid(node2);
  node2.Nft(
      "table inet blind {\n  chain in {\n    type filter hook prerouting priority -300;\n"
      "    iifname \"eth0\" tcp dport 8080 notrack\n  }\n}\n");
  EXPECT_EQ(Count(node2, "invalid"), 0u);
  for (net::Family family : kBothFamilies)
    EXPECT_EQ(ask(c, family).failures.count("connect: timeout"), 1u);
  EXPECT_GT(Count(node2, "invalid"), 0u);
}

// A patient client tells nothing of it.
TEST(PeerTest, LossesAreSeenOnWhicheverSideSendsAgain) {
  Lab lab;
  Node& node = lab.AddNode(Cni::kRouted);
  lab.Connect();
  Pod& pod = node.AddPod("a");
  lab.Settle();
  Server server = ServeAll(pod);
  LossWatch watch({&node, &pod});
  // The first one of these that comes in.
  const auto drop = [](const Place& at, const char* which) {
    at.Nft(absl::StrCat("table inet loss {\n  chain in {\n    type filter hook input priority 0;\n",
                        "    tcp flags ", which, " numgen inc mod 1000 0 drop\n  }\n}\n"));
  };
  struct Case {
    const Place& at;
    const char* which;
    const char* losses;
  };
  const Case cases[] = {
      {pod, "syn", "node1 sent 1 TCP segments again, 1 of them SYNs"},
      {node, "& psh == psh", "a sent 1 TCP segments again, 0 of them SYNs"},
  };
  const auto ask = [&](net::Family family) {
    Load load(node, {"rate", "--mode", "tcp", "--to", At(pod.addresses().Of(family), 8080),
                     "--count", "1", "--timeout-ms", "10000"});
    return load.Finish();
  };
  for (net::Family family : kBothFamilies) {
    EXPECT_TRUE(ask(family).AllOk());
    EXPECT_EQ(watch.Losses(), "");
    for (const Case& row : cases) {
      drop(row.at, row.which);
      EXPECT_TRUE(ask(family).AllOk());
      row.at.Nft("delete table inet loss\n");
      EXPECT_EQ(watch.Losses(), row.losses);
    }
  }

  // What was sent twice for nothing is no loss: here the acknowledgement did not come.
  Client client(node);
  client.Must({"socket tcp4", "connect " + At(pod.addresses().v4, 8080)});
  drop(pod, "& (psh | ack) == ack");
  const uint64_t before = CountTcp(pod).sent_again;
  client.Must({"ask x"});
  EXPECT_TRUE(WaitFor([&] { return CountTcp(pod).had_already > 0; }));
  EXPECT_GT(CountTcp(pod).sent_again, before);
  EXPECT_EQ(watch.Losses(), "");
}

TEST(PeerTest, ClashToldByWhoeverAnswersIsSeen) {
  Lab lab;
  Node& node = lab.AddNode(Cni::kRouted);
  lab.Connect();
  Pod& a = node.AddPod("a");
  Pod& b = node.AddPod("b");
  Pod& c = node.AddPod("c");
  lab.Settle();
  Server server1 = ServeAll(b), server2 = ServeAll(c);
  a.Sysctl("net.ipv4.ip_local_port_range", "32768 33267");
  for (net::Family family : kBothFamilies) {
    for (bool udp : {false, true}) {
      Argv clash = {"clash",
                    "--count",
                    "400",
                    "--open",
                    "50",
                    "--to",
                    At(b.addresses().Of(family), 8080) + "=b",
                    "--to",
                    At(c.addresses().Of(family), 8080) + "=c"};
      if (udp) clash.insert(clash.end(), {"--udp", "--first-port", "2000", "--last-port", "2099"});
      Tally tally = Load(a, clash).Finish();
      EXPECT_TRUE(tally.AllOk()) << tally;
      EXPECT_GT(tally.shared, 20u) << tally;
      EXPECT_EQ(tally.changed, 0u) << tally;
      EXPECT_EQ(tally.names.size(), 2u) << tally;
      clash.back() = udp ? "2099" : At(c.addresses().Of(family), 8080) + "=b";
      if (udp) continue;
      Tally wrong = Load(a, clash).Finish();
      EXPECT_EQ(wrong.failures.count("first answer: from another server"), 1u) << wrong;
    }
  }
}

TEST(SandboxTest, IsOurOwn) {
  EXPECT_EQ(getpid(), 2);
  struct stat info;
  EXPECT_EQ(stat((TheSandbox().cgroup + "/cgroup.procs").c_str(), &info), 0);
  EXPECT_EQ(RunProgram({}, {"ip", "-o", "link"}).out.find("eth"), std::string::npos);
}

TEST(SandboxTest, ALabLeavesNothingBehind) {
  std::string cgroup;
  {
    Lab lab;
    Node& node = lab.AddNode(Cni::kBridged);
    lab.Connect();
    Pod& pod = node.AddPod("a");
    cgroup = node.cgroup();
    Server server = ServeAll(pod);
    EXPECT_EQ(access(cgroup.c_str(), F_OK), 0);
  }
  EXPECT_NE(access(cgroup.c_str(), F_OK), 0);
  EXPECT_EQ(RunProgram({}, {"ip", "netns", "list"}).out, "");
}

}  // namespace
}  // namespace waggle::lab
