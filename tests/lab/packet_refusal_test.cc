// Services that nobody serves, as packets find them: refused at once, with what a closed
// port would send, or dropped where the policy says so.
#include <gtest/gtest.h>

#include <tuple>

#include "tests/lab/packet_cluster.h"

namespace waggle::lab {
namespace {

using net::Family;

constexpr double kAtOnceMs = 200;

class PacketRefusalTest : public testing::TestWithParam<std::tuple<Cni, std::string>> {
 protected:
  PacketRefusalTest() {
    cluster_.Apply(empty_);
    local_.internal_local = true;
    cluster_.Apply(local_);
  }

  const std::string& forwarding() const { return std::get<1>(GetParam()); }
  // Connects, which must be refused by a reset.
  static void ExpectRefused(const Place& from, const std::string& to, Family family) {
    SCOPED_TRACE(from.name() + " to " + to);
    Client client(from);
    client.Must({"socket " + SocketKindOf("tcp", family)});
    StepResult refused = client.Do("connect " + to);
    EXPECT_EQ(refused.error(), "ECONNREFUSED") << refused;
    EXPECT_LT(refused.ms(), kAtOnceMs) << refused;
    // connect() works, as it sends nothing; the first datagram is refused.
    client.Must({"socket " + SocketKindOf("udp", family), "connect " + to, "send x"});
    StepResult later = client.Do("recv");
    EXPECT_EQ(later.error(), "ECONNREFUSED") << later;
    EXPECT_LT(later.ms(), kAtOnceMs) << later;
    // And the socket lives on.
    EXPECT_EQ(client.Do("send x").error(), "") << "after the refusal was told";
    EXPECT_EQ(client.Do("recv").error(), "ECONNREFUSED");
    client.Must({"socket " + SocketKindOf("udp", family), "timeout 100", "sendto " + to + " x"});
    EXPECT_TRUE(client.Do("recvfrom").timed_out());
  }

  PacketCluster cluster_{std::get<0>(GetParam())};
  Service empty_ = MakeWithEcho("empty", 41, {});
  Service local_ = MakeWithEcho("local", 42, {cluster_.on2(cluster_.b2)});
};

INSTANTIATE_TEST_SUITE_P(, PacketRefusalTest,
                         testing::Combine(testing::Values(Cni::kRouted, Cni::kBridged),
                                          testing::Values("stack", "redirect")),
                         [](const auto& param) {
                           return NameOf(std::get<0>(param.param)) + std::get<1>(param.param);
                         });

TEST_P(PacketRefusalTest, WithoutEndpointsIsRefusedAtOnce) {
  cluster_.Start({forwarding(), "off"});
  uint64_t before = cluster_.Reason(WAGGLE_REASON_PACKET_REFUSED);
  for (Family family : kBothFamilies) {
    ExpectRefused(cluster_.client, Cluster::Frontend(empty_, family), family);
  }
  // TCP once, datagrams three times, each.
  EXPECT_EQ(cluster_.Reason(WAGGLE_REASON_PACKET_REFUSED), before + 8);
}

// Behind the pod's own address translation the refusal must fit to the packet: what it
// quotes, its numbers, its checksums.
TEST_P(PacketRefusalTest, WithoutEndpointsIsRefusedToAMachineBehindAPod) {
  Machine machine("machine", cluster_.client);
  cluster_.lab.Settle();
  cluster_.Start({forwarding(), "all"});
  for (Family family : kBothFamilies) {
    ExpectRefused(machine, Cluster::Frontend(empty_, family), family);
  }
}

// With checksums made by software every bit of them is looked at.
TEST_P(PacketRefusalTest, WithoutEndpointsIsRefusedWithFullChecksums) {
  for (bool offloads : {false, true}) {
    cluster_.client.SetOffloads("eth0", offloads);
    if (!offloads) cluster_.Start({forwarding(), "off"});
    for (Family family : kBothFamilies) {
      ExpectRefused(cluster_.client, Cluster::Frontend(empty_, family), family);
    }
  }
}

// Every SYN gets its reset, however many there are.
TEST_P(PacketRefusalTest, EverySynIsReset) {
  cluster_.Start({forwarding(), "off"});
  for (Family family : kBothFamilies) {
    Tally tally = AskMany(cluster_.client, "tcp", Cluster::Frontend(empty_, family), 3000);
    EXPECT_EQ(tally.failures, (std::map<std::string, uint64_t>{{"connect: ECONNREFUSED", 3000}}))
        << tally;
    EXPECT_LT(tally.slowest_ms, 500) << tally;
  }
}

// A connection with data in its SYN is refused as well.
TEST_P(PacketRefusalTest, FastOpenIsRefused) {
  cluster_.Start({forwarding(), "off"});
  for (Family family : kBothFamilies) {
    Client client(cluster_.client);
    client.Must({"socket " + SocketKindOf("tcp", family)});
    StepResult refused = client.Do("fastopen " + Cluster::Frontend(empty_, family) + " hello");
    EXPECT_EQ(refused.error(), "ECONNREFUSED") << refused;
    EXPECT_LT(refused.ms(), kAtOnceMs) << refused;
  }
}

// Item 14: a pod's UDP connect() is let through by the hooks, packets are refused, and once
// there are endpoints the same socket is served.
TEST_P(PacketRefusalTest, Item14AConnectedSocketSeesLaterEndpoints) {
  Service later = MakeWithEcho("later", 43, {});
  for (const char* socket_lb : {"off", "all"}) {
    SCOPED_TRACE(socket_lb);
    later.endpoints.clear();
    cluster_.Apply(later);
    cluster_.Start({forwarding(), socket_lb});
    for (Family family : kBothFamilies) {
      later.endpoints.clear();
      cluster_.Apply(later);
      cluster_.agent->AwaitProgrammed();
      std::string to = Cluster::Frontend(later, family);
      Client client(cluster_.client);
      client.Must({"socket " + SocketKindOf("udp", family), "connect " + to, "send x"});
      EXPECT_EQ(client.Do("recv").error(), "ECONNREFUSED");
      later.endpoints = {cluster_.on2(cluster_.b2)};
      cluster_.Apply(later);
      cluster_.agent->AwaitProgrammed();
      EXPECT_EQ(client.Must({"ask x"}).name(), "b2");
      EXPECT_EQ(client.Must({"getpeername"}).address(), to);
      // TCP: the hooks refuse at once with an errno, packets with a reset.
      EXPECT_EQ(
          client.Must({"socket " + SocketKindOf("tcp", family), "connect " + to, "ask x"}).name(),
          "b2");
    }
  }
}

// internalTrafficPolicy: Local, and the only endpoint is on another node.
TEST_P(PacketRefusalTest, LocalPolicyWithoutLocalEndpointIsSilent) {
  cluster_.StartBoth({forwarding(), "off"});
  uint64_t before = cluster_.Reason(WAGGLE_REASON_PACKET_NO_LOCAL);
  ExpectSilence(cluster_.client, local_);
  EXPECT_GE(cluster_.Reason(WAGGLE_REASON_PACKET_NO_LOCAL), before + 6);
  Pod& client2 = cluster_.node2.AddPod("client2");
  cluster_.lab.Settle();
  ExpectServed(client2, local_, "b2");
}

TEST_P(PacketRefusalTest, LocalPolicyTakesLocalEndpointsOnly) {
  Service both = MakeWithEcho("both", 44, {cluster_.on1(cluster_.b1), cluster_.on2(cluster_.b2)});
  both.internal_local = true;
  cluster_.Apply(both);
  cluster_.Start({forwarding(), "off"});
  ExpectServed(cluster_.client, both, "b1", 10);
}

}  // namespace
}  // namespace waggle::lab
