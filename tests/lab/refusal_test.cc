// Services that nobody serves: refused at once, and the socket lives on.
#include <gtest/gtest.h>

#include "tests/lab/cluster.h"

namespace waggle::lab {
namespace {

using net::Family;

constexpr double kAtOnceMs = 200;

class RefusalTest : public testing::TestWithParam<Family> {
 protected:
  void Start(AgentOptions options = {}) {
    cluster_.Apply(cluster_.web);
    cluster_.Apply(empty_);
    Service local = Cluster::Make("local", 42, {cluster_.on2(cluster_.b2)});
    local.internal_local = true;
    cluster_.Apply(local);
    cluster_.StartAgent(std::move(options));
  }

  std::string At(const Service& service) const { return Cluster::Frontend(service, GetParam()); }
  std::string Empty() const { return At(empty_); }
  std::string Web() const { return At(cluster_.web); }
  std::string Local() const { return lab::At(ClusterIps(42).Of(GetParam()), 80); }
  std::string Kind(const std::string& protocol) const {
    return "socket " + SocketKindOf(protocol, GetParam());
  }
  uint64_t Reason(waggle_reason reason) const {
    return ReadReason(cluster_.node1.pin_path(), reason);
  }
  std::vector<const Place*> NodeAndPod() const { return {&cluster_.node1, &cluster_.client}; }

  Cluster cluster_;
  Service empty_ = Cluster::Make("empty", 41, {});
};

INSTANTIATE_TEST_SUITE_P(, RefusalTest, testing::ValuesIn(kBothFamilies), FamilyOf);

TEST_P(RefusalTest, TcpIsRefusedAndTheSocketCanConnectElsewhere) {
  Start();
  for (const Place* place : NodeAndPod()) {
    Client client(*place);
    uint64_t before = Reason(WAGGLE_REASON_NO_ENDPOINTS);
    client.Must({Kind("tcp")});
    StepResult refused = client.Do("connect " + Empty());
    EXPECT_EQ(refused.error(), "ECONNREFUSED") << refused;
    EXPECT_LT(refused.ms(), kAtOnceMs);
    EXPECT_EQ(Reason(WAGGLE_REASON_NO_ENDPOINTS), before + 1);
    EXPECT_EQ(client.Must({"connect " + Web(), "ask x"}).echo(), "x");
  }
}

// Not EINPROGRESS: the answer is known before anything is sent.
TEST_P(RefusalTest, NonBlockingConnectIsRefusedImmediately) {
  Start();
  Client client(cluster_.client);
  client.Must({Kind("tcp")});
  EXPECT_EQ(client.Do("connect-nb " + Empty()).immediate(), "ECONNREFUSED");
}

TEST_P(RefusalTest, FastOpenIsRefused) {
  Start();
  Client client(cluster_.client);
  client.Must({Kind("tcp")});
  EXPECT_EQ(client.Do("fastopen " + Empty() + " x").error(), "ECONNREFUSED");
}

TEST_P(RefusalTest, ConnectedUdpIsRefusedAndTheSocketCanConnectElsewhere) {
  Start();
  Client client(cluster_.node1);
  client.Must({Kind("udp")});
  EXPECT_EQ(client.Do("connect " + Empty()).error(), "ECONNREFUSED");
  EXPECT_EQ(client.Must({"connect " + Web(), "ask x"}).echo(), "x");
}

// Item 14: as with kube-proxy the next call fails, and not the socket for ever.
TEST_P(RefusalTest, ConnectedUdpOfAPodIsRefusedAtTheNextCallUntilEndpointsCome) {
  Start();
  Client client(cluster_.client);
  uint64_t before = Reason(WAGGLE_REASON_PACKET_REFUSED);
  client.Must({Kind("udp"), "connect " + Empty(), "send x"});
  StepResult refused = client.Do("recv");
  EXPECT_EQ(refused.error(), "ECONNREFUSED") << refused;
  EXPECT_LT(refused.ms(), kAtOnceMs);
  EXPECT_EQ(Reason(WAGGLE_REASON_PACKET_REFUSED), before + 1);
  empty_.endpoints = {cluster_.on2(cluster_.b2)};
  cluster_.Apply(empty_);
  cluster_.agent->AwaitProgrammed();
  EXPECT_EQ(client.Must({"ask y"}).name(), "b2");
  EXPECT_EQ(client.Must({"connect " + Web(), "ask x"}).echo(), "x");
}

TEST_P(RefusalTest, UnconnectedUdpIsRefusedAndTheSocketCanSendElsewhere) {
  Start();
  for (const Place* place : NodeAndPod()) {
    Client client(*place);
    client.Must({Kind("udp")});
    EXPECT_EQ(client.Do("sendto " + Empty() + " x").error(), "ECONNREFUSED");
    EXPECT_EQ(client.Do("sendmsg " + Empty() + " x").error(), "ECONNREFUSED");
    EXPECT_EQ(client.Must({"query " + Web() + " x"}).from(), Web());
  }
}

TEST_P(RefusalTest, EndpointsComeAndTheNextCallSucceeds) {
  Start();
  Client client(cluster_.client);
  client.Must({Kind("udp")});
  EXPECT_EQ(client.Do("sendto " + Empty() + " x").error(), "ECONNREFUSED");
  empty_.endpoints = {cluster_.on2(cluster_.b2)};
  cluster_.Apply(empty_);
  cluster_.agent->AwaitProgrammed();
  EXPECT_EQ(client.Must({"query " + Empty() + " x"}).name(), "b2");
  EXPECT_EQ(client.Must({Kind("tcp"), "connect " + Empty(), "ask x"}).name(), "b2");
}

TEST_P(RefusalTest, AnUnreadyEndpointIsNone) {
  Start();
  Endpoint unready = cluster_.on1(cluster_.b1);
  unready.ready = false;
  empty_.endpoints = {unready};
  cluster_.Apply(empty_);
  cluster_.agent->AwaitProgrammed();
  Client client(cluster_.client);
  client.Must({Kind("tcp")});
  EXPECT_EQ(client.Do("connect " + Empty()).error(), "ECONNREFUSED");
}

TEST_P(RefusalTest, LocalPolicyWithoutLocalEndpointTimesOutAtOnce) {
  Start();
  for (const Place* place : NodeAndPod()) {
    Client client(*place);
    uint64_t before = Reason(WAGGLE_REASON_NO_LOCAL_ENDPOINTS);
    client.Must({Kind("tcp")});
    StepResult dropped = client.Do("connect " + Local());
    EXPECT_EQ(dropped.error(), "ETIMEDOUT") << dropped;
    EXPECT_LT(dropped.ms(), kAtOnceMs);
    client.Must({Kind("udp")});
    EXPECT_EQ(client.Do("sendto " + Local() + " x").error(), "ETIMEDOUT");
    EXPECT_EQ(Reason(WAGGLE_REASON_NO_LOCAL_ENDPOINTS), before + 2);
    EXPECT_EQ(client.Must({"query " + Web() + " x"}).from(), Web());
  }
  Client of_node(cluster_.node1);
  of_node.Must({Kind("udp")});
  EXPECT_EQ(of_node.Do("connect " + Local()).error(), "ETIMEDOUT");
  // A pod's connect() is left to the packet path, which drops without a word.
  Client of_pod(cluster_.client);
  of_pod.Must({Kind("udp"), "timeout 100", "connect " + Local(), "send x"});
  EXPECT_TRUE(of_pod.Do("recv").timed_out());
  EXPECT_EQ(Reason(WAGGLE_REASON_PACKET_NO_LOCAL), 1u);
}

TEST_P(RefusalTest, LocalPolicyTakesLocalEndpointsOnly) {
  cluster_.web.internal_local = true;
  Start();
  for (const Place* place : NodeAndPod()) {
    Tally tally = AskMany(*place, "tcp", Web(), 30);
    EXPECT_TRUE(tally.AllOk()) << tally;
    EXPECT_EQ(tally.names, (std::map<std::string, uint64_t>{{"b1", 30}})) << tally;
  }
}

// Item 13: kernels before 5.18 cannot say which errno. The call goes to a closed port
// of the loopback, which refuses it.
TEST_P(RefusalTest, WithoutSetRetvalTheRefusalComesFromTheLoopback) {
  Start({.flags = {"--disable-feature", "set_retval"}});
  for (const Place* place : NodeAndPod()) {
    Client client(*place);
    client.Must({Kind("tcp")});
    EXPECT_EQ(client.Do("connect " + Empty()).error(), "ECONNREFUSED");
    client.Must({Kind("tcp")});
    StepResult later = client.Do("connect-nb " + Empty());
    EXPECT_EQ(later.immediate(), "EINPROGRESS") << later;
    EXPECT_EQ(later.error(), "ECONNREFUSED") << later;
    // Connected UDP: the next call says it.
    client.Must({Kind("udp"), "connect " + Empty(), "send x"});
    EXPECT_EQ(client.Do("recv").error(), "ECONNREFUSED");
    // Unconnected UDP: silence, and the socket can be used.
    client.Must({Kind("udp"), "timeout 100", "sendto " + Empty() + " x"});
    EXPECT_TRUE(client.Do("recvfrom").timed_out());
    EXPECT_EQ(client.Must({"timeout 2000", "query " + Web() + " x"}).from(), Web());
    EXPECT_EQ(client.Must({Kind("tcp"), "connect " + Web(), "ask x"}).echo(), "x");
  }
}

// In the list of differences: a source on the loopback cannot reach a pod.
TEST(LoopbackSourceTest, CannotReachAService) {
  Cluster cluster;
  cluster.Apply(cluster.web);
  cluster.StartAgent();
  Client client(cluster.client);
  client.Must({"socket tcp4", "bind 127.0.0.1:0"});
  EXPECT_EQ(client.Do("connect " + Cluster::Frontend(cluster.web, Family::kIpv4)).error(),
            "EINVAL");
}

}  // namespace
}  // namespace waggle::lab
