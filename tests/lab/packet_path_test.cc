// The packet path under what nodes and clients do: clients that no hook sees, reverse path
// filters, pods that come later, backends that go.
#include <gtest/gtest.h>

#include <tuple>

#include "absl/strings/str_cat.h"
#include "tests/lab/conditions.h"
#include "tests/lab/packet_cluster.h"

namespace waggle::lab {
namespace {

using net::Family;

class PacketPathTest : public testing::TestWithParam<Cni> {
 protected:
  void ExpectBothServed(const Place& from, int count = 3) {
    ExpectServed(from, cluster_.near, "b1", count);
    ExpectServed(from, cluster_.far, "b2", count);
  }

  PacketCluster cluster_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(, PacketPathTest, testing::Values(Cni::kRouted, Cni::kBridged),
                         [](const auto& param) { return NameOf(param.param); });

// Two kinds of clients that no socket hook sees, with hooks for all others: a process of
// another cgroup, whose packets belong to sockets, and a machine with a stack of its own,
// whose packets belong to none (item 10).
TEST_P(PacketPathTest, Item10WhatNoSocketHookSees) {
  Outsider outsider(cluster_.client);
  Machine machine("machine", cluster_.client);
  cluster_.lab.Settle();
  for (const Way& way : AllWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    for (const Place* from : {static_cast<Place*>(&outsider), static_cast<Place*>(&machine)}) {
      uint64_t before = cluster_.Reason(WAGGLE_REASON_FLOW_TRANSLATED);
      ExpectBothServed(*from);
      ExpectBulk(*from, cluster_.near);
      ExpectBulk(*from, cluster_.far);
      ExpectAddresses(*from, cluster_.near, cluster_.client.addresses());
      EXPECT_GE(cluster_.Reason(WAGGLE_REASON_FLOW_TRANSLATED), before + 36);
    }
    ExpectBothServed(cluster_.client);
  }
}

// Checksums by software: every sum is looked at by the receiver.
TEST_P(PacketPathTest, WithoutOffloads) {
  for (const Place* pod : {&cluster_.client, &cluster_.b1, &cluster_.b2})
    pod->SetOffloads("eth0", false);
  for (const Node* node : {&cluster_.node1, &cluster_.node2})
    node->SetOffloads("eth0", false);
  for (const Way& way : AllWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    ExpectBothServed(cluster_.client);
    ExpectBulk(cluster_.client, cluster_.near);
    ExpectBulk(cluster_.client, cluster_.far);
  }
}

TEST_P(PacketPathTest, Item6ReversePathFilters) {
  for (int mode : {0, 1, 2}) {
    cluster_.node1.SetRpFilter(mode);
    cluster_.node2.SetRpFilter(mode);
    for (const Way& way : AllWays()) {
      SCOPED_TRACE(absl::StrCat(way.Name(), " rp_filter ", mode));
      cluster_.Start(way);
      ExpectBothServed(cluster_.client, 1);
    }
  }
}

// The node's own processes by sockets, pods by packets.
TEST_P(PacketPathTest, SocketLbHost) {
  for (const char* forwarding : {"stack", "redirect"}) {
    cluster_.Start({forwarding, "host"});
    ExpectBothServed(cluster_.client);
    ExpectBothServed(cluster_.node1);
    ExpectAddresses(cluster_.client, cluster_.far, cluster_.client.addresses());
  }
}

// A pod that starts while the agent runs is served from its first packet on.
TEST_P(PacketPathTest, PodsThatComeLater) {
  for (const char* forwarding : {"stack", "redirect"}) {
    cluster_.Start({forwarding, "off"});
    for (int i = 0; i < 3; ++i) {
      Pod& pod = cluster_.node1.AddPod(absl::StrCat(forwarding, i));
      cluster_.lab.Settle();
      ExpectBothServed(pod, 1);
      // As a backend as well.
      Server server = ServeAll(pod);
      Service late = MakeWithEcho("late", 30 + i, {cluster_.on1(pod)});
      cluster_.Apply(late);
      cluster_.agent->AwaitProgrammed();
      ExpectServed(cluster_.client, late, pod.name(), 1);
    }
  }
}

// A backend leaves: its UDP flows move on with the next datagram, TCP connections stay.
TEST_P(PacketPathTest, WhenABackendLeavesUdpMovesAndTcpStays) {
  for (const Way& way : PacketWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.web.endpoints = {cluster_.on1(cluster_.b1)};
    cluster_.Apply(cluster_.web);
    cluster_.Start(way);
    for (Family family : kBothFamilies) {
      cluster_.web.endpoints = {cluster_.on1(cluster_.b1)};
      cluster_.Apply(cluster_.web);
      cluster_.agent->AwaitProgrammed();
      std::string to = Cluster::Frontend(cluster_.web, family);
      Client tcp(cluster_.client), connected(cluster_.client), unconnected(cluster_.client);
      EXPECT_EQ(
          tcp.Must({"socket " + SocketKindOf("tcp", family), "connect " + to, "ask x"}).name(),
          "b1");
      connected.Must({"socket " + SocketKindOf("udp", family), "connect " + to});
      unconnected.Must({"socket " + SocketKindOf("udp", family)});
      for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(connected.Must({"ask x"}).name(), "b1");
        EXPECT_EQ(unconnected.Must({"query " + to + " x"}).name(), "b1");
      }
      uint64_t moved = cluster_.Reason(WAGGLE_REASON_UDP_FLOW_MOVED);
      cluster_.web.endpoints = {cluster_.on2(cluster_.b2)};
      cluster_.Apply(cluster_.web);
      cluster_.agent->AwaitProgrammed();
      EXPECT_EQ(tcp.Must({"ask y"}).name(), "b1");
      EXPECT_EQ(connected.Must({"ask y"}).name(), "b2");
      StepResult answer = unconnected.Must({"query " + to + " y"});
      EXPECT_EQ(answer.name(), "b2");
      EXPECT_EQ(answer.from(), to);
      EXPECT_EQ(cluster_.Reason(WAGGLE_REASON_UDP_FLOW_MOVED), moved + 2);
      EXPECT_EQ(tcp.Must({"ask z"}).name(), "b1");
      tcp.Must({"shutdown"});
      EXPECT_TRUE(tcp.Must({"recv"}).eof());
    }
  }
}

// Data in the SYN, and several subflows: both are TCP, and both are translated.
TEST_P(PacketPathTest, FastOpenAndMultipath) {
  Server server(cluster_.b2, "multipath",
                {"mptcp:" + At(cluster_.b2.addresses().v4, 8081),
                 "mptcp:" + At(cluster_.b2.addresses().v6, 8081)});
  Service multipath = Cluster::Make("multipath", 23, {cluster_.on2(cluster_.b2)});
  multipath.ports = {{"tcp", "TCP", 80, 8081}};
  cluster_.Apply(multipath);
  for (const Way& way : PacketWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    for (Family family : kBothFamilies) {
      Client client(cluster_.client);
      StepResult answer =
          client.Must({"socket " + SocketKindOf("tcp", family),
                       "fastopen " + Cluster::Frontend(cluster_.far, family) + " x", "recv"});
      EXPECT_EQ(answer.echo(), "x");
      EXPECT_TRUE(client.Must({"tcpinfo"}).syn_data());
      client.Must({"socket " + SocketKindOf("mptcp", family),
                   "connect " + Cluster::Frontend(multipath, family), "ask x"});
      EXPECT_TRUE(client.Must({"tcpinfo"}).mptcp());
    }
  }
}

// Everybody else's traffic: pods and nodes among themselves, with the programs in place.
TEST_P(PacketPathTest, WhatIsNoServicePassesUntouched) {
  std::vector<Server> servers;
  servers.push_back(ServeAll(cluster_.node1));
  servers.push_back(ServeAll(cluster_.node2));
  const Place* places[] = {&cluster_.node1, &cluster_.node2, &cluster_.client, &cluster_.b1,
                           &cluster_.b2};
  for (const Way& way : AllWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    for (const Place* from : places) {
      for (const Place* to : places) {
        if (to == &cluster_.client) continue;
        for (const Traffic& traffic : AllTraffic()) {
          Tally tally =
              AskMany(*from, traffic.mode, At(to->addresses().Of(traffic.family), 8080), 1);
          EXPECT_TRUE(tally.AllOk())
              << from->name() << " to " << to->name() << " " << traffic.Name() << " " << tally;
        }
      }
    }
  }
}

// The agents go, and so does everything of theirs: packets are as before.
TEST_P(PacketPathTest, AfterCleanupNothingIsTranslated) {
  cluster_.Start({"redirect", "off"});
  ExpectBothServed(cluster_.client, 1);
  cluster_.CleanUp();
  ExpectSilence(cluster_.client, cluster_.near);
  Tally direct = AskMany(cluster_.client, "tcp", At(cluster_.b2.addresses().v4, 8080), 3);
  EXPECT_TRUE(direct.AllOk()) << direct;
  cluster_.Start({"stack", "off"});
  ExpectBothServed(cluster_.client, 1);
}

}  // namespace
}  // namespace waggle::lab
