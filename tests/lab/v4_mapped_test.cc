// IPv4 Services through AF_INET6 sockets (traps, item 9): such a socket connects by
// one family's hook, sends by the other's and receives by the first's again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/cluster.h"

namespace waggle::lab {
namespace {

using net::Family;

class V4MappedTest : public testing::Test {
 protected:
  V4MappedTest() {
    cluster_.Apply(cluster_.web);
    cluster_.StartAgent();
  }

  std::string Web4() const { return Mapped(cluster_.web.cluster_ips.v4, 80); }
  std::string Web6() const { return Cluster::Frontend(cluster_.web, Family::kIpv6); }

  Cluster cluster_;
};

TEST_F(V4MappedTest, Tcp) {
  Client client(cluster_.client);
  StepResult answer = client.Must({"socket tcp6", "connect " + Web4(), "ask x"});
  EXPECT_EQ(HostOf(answer.peer()), cluster_.client.addresses().v4) << answer;
  EXPECT_EQ(client.Must({"getpeername"}).address(), Web4());
  EXPECT_EQ(HostOf(client.Must({"getsockname"}).address()),
            "::ffff:" + cluster_.client.addresses().v4);
}

TEST_F(V4MappedTest, ConnectedUdpInEveryMixture) {
  Client client(cluster_.client);
  for (const char* receive : {"recv", "read", "recvfrom", "recvmsg"}) {
    StepResult answer = client.Must({"socket udp6", "connect " + Web4(), "send x", receive});
    EXPECT_EQ(answer.echo(), "x") << answer;
    if (!answer.from().empty()) {
      EXPECT_EQ(answer.from(), Web4()) << answer;
    }
    EXPECT_EQ(client.Must({"getpeername"}).address(), Web4());
  }
}

TEST_F(V4MappedTest, UnconnectedUdpInEveryMixture) {
  Client client(cluster_.client);
  client.Must({"socket udp6"});
  for (const char* send : {"sendto ", "sendmsg "}) {
    for (const char* receive : {"recvfrom", "recvmsg"}) {
      EXPECT_EQ(client.Must({send + Web4() + " x", receive}).from(), Web4());
      EXPECT_EQ(client.Must({send + Web6() + " x", receive}).from(), Web6());
    }
    EXPECT_EQ(client.Must({send + Web4() + " x", "recv"}).echo(), "x");
  }
  // Both under way at once.
  client.Must({"sendto " + Web4() + " four", "sendto " + Web6() + " six"});
  std::map<std::string, std::string> seen;
  for (int i = 0; i < 2; ++i) {
    StepResult answer = client.Must({"recvfrom"});
    seen[answer.from()] = answer.echo();
  }
  EXPECT_EQ(seen, (std::map<std::string, std::string>{{Web4(), "four"}, {Web6(), "six"}}));
}

TEST_F(V4MappedTest, BoundAndThenUsedForBothFamilies) {
  Client client(cluster_.client);
  client.Must({"socket udp6", "bind [::]:20003"});
  EXPECT_EQ(client.Must({"query " + Web4() + " x"}).peer(),
            cluster_.client.addresses().v4 + ":20003");
  EXPECT_EQ(client.Must({"query " + Web6() + " x"}).peer(),
            At(cluster_.client.addresses().v6, 20003));
}

// send() on a connected v4-mapped socket runs the sendmsg4 hook with the address that
// connect() wrote. Here that address is itself a Service's: it must not be followed.
TEST_F(V4MappedTest, ABackendAddressIsNotTranslatedASecondTime) {
  Service narrow = Cluster::Make("narrow", 31, {cluster_.on1(cluster_.b1)});
  Service trap = Cluster::Make("trap", 32, {cluster_.on2(cluster_.b2)});
  trap.cluster_ips = cluster_.b1.addresses();
  trap.ports = {{"tcp", "TCP", 8080, 8080}, {"udp", "UDP", 8080, 8080}};
  cluster_.Apply(narrow);
  cluster_.Apply(trap);
  cluster_.agent->AwaitProgrammed();
  Client client(cluster_.client);
  const std::string v4 = Cluster::Frontend(narrow, Family::kIpv4),
                    v6 = Cluster::Frontend(narrow, Family::kIpv6),
                    mapped = Mapped(narrow.cluster_ips.v4, 80);
  for (const auto& [kind, frontend] :
       std::vector<std::pair<std::string, std::string>>{{"udp4", v4},
                                                        {"udp6", v6},
                                                        {"udp6", mapped},
                                                        {"tcp4", v4},
                                                        {"tcp6", v6},
                                                        {"tcp6", mapped}}) {
    client.Must({"socket " + kind, "connect " + frontend});
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(client.Must({"ask x"}).name(), "b1") << kind << " " << frontend;
    }
    EXPECT_EQ(client.Must({"getpeername"}).address(), frontend);
  }
}

TEST_F(V4MappedTest, V6OnlySocketsFailAsTheyDoWithoutUs) {
  Client client(cluster_.client);
  client.Must({"socket tcp6 v6only"});
  EXPECT_EQ(client.Do("connect " + Web4()).error(), "ENETUNREACH");
  EXPECT_EQ(client.Must({"socket tcp6 v6only", "connect " + Web6(), "ask x"}).echo(), "x");
  client.Must({"socket udp6 v6only"});
  EXPECT_EQ(client.Do("connect " + Web4()).error(), "ENETUNREACH");
  EXPECT_EQ(client.Do("sendto " + Web4() + " x").error(), "ENETUNREACH");
  EXPECT_EQ(client.Must({"query " + Web6() + " x"}).from(), Web6());
}

// A v4-mapped UDP socket sends through sendmsg4 with the address that it is connected to,
// at every send(). One from before Waggle takes answers from that address only.
TEST(TakeoverTest, SocketsConnectedBeforeWaggleKeepTheirPeer) {
  Cluster cluster;
  const std::string& address = cluster.web.cluster_ips.v4;
  // Who answers as the Service before Waggle does: kube-proxy's part.
  ASSERT_EQ(cluster.client.Run({"ip", "address", "add", address + "/32", "dev", "lo"}).status, 0);
  const Server before(cluster.client, "before", {"udp:" + address + ":80"});
  Client mapped(cluster.client);
  Client plain(cluster.client);
  const std::string frontend = Cluster::Frontend(cluster.web, Family::kIpv4);
  EXPECT_EQ(mapped.Must({"socket udp6", "connect " + Mapped(address, 80), "ask x"}).name(),
            "before");
  EXPECT_EQ(plain.Must({"socket udp4", "connect " + frontend, "ask x"}).name(), "before");

  cluster.Apply(cluster.web);
  cluster.StartAgent();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(mapped.Must({"ask x"}).name(), "before");
    EXPECT_EQ(plain.Must({"ask x"}).name(), "before");
  }
  Client fresh(cluster.client);
  EXPECT_THAT(fresh.Must({"socket udp6", "connect " + Mapped(address, 80), "ask x"}).name(),
              testing::AnyOf("b1", "b2"));
}

}  // namespace
}  // namespace waggle::lab
