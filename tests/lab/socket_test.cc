// What programs see of the translation on their sockets. Names in comments are the
// items of the traps page that a test stands for.
#include <gtest/gtest.h>

#include <set>

#include "tests/lab/cluster.h"

namespace waggle::lab {
namespace {

using net::Family;

class SocketTest : public testing::TestWithParam<Family> {
 protected:
  SocketTest() {
    cluster_.Apply(cluster_.web);
    cluster_.StartAgent();
  }

  Family family() const { return GetParam(); }
  std::string Web() const { return Cluster::Frontend(cluster_.web, family()); }
  std::string Kind(const std::string& protocol) const { return SocketKindOf(protocol, family()); }
  std::string Host(const Place& place) const { return place.addresses().Of(family()); }

  Cluster cluster_;
};

INSTANTIATE_TEST_SUITE_P(, SocketTest, testing::ValuesIn(kBothFamilies), FamilyOf);

TEST_P(SocketTest, RecvfromShowsTheServiceAddress) {
  for (const Place* place :
       {static_cast<const Place*>(&cluster_.client), static_cast<const Place*>(&cluster_.node1)}) {
    Client client(*place);
    for (const char* receive : {"recvfrom", "recvmsg"}) {
      StepResult unconnected =
          client.Must({"socket " + Kind("udp"), "sendto " + Web() + " x", receive});
      EXPECT_EQ(unconnected.from(), Web()) << unconnected;
      StepResult message = client.Must({"sendmsg " + Web() + " x", receive});
      EXPECT_EQ(message.from(), Web()) << message;
      StepResult connected =
          client.Must({"socket " + Kind("udp"), "connect " + Web(), "send x", receive});
      EXPECT_EQ(connected.from(), Web()) << connected;
    }
    EXPECT_EQ(client.Must({"send x", "read"}).echo(), "x");
  }
}

// The answer must come from the backend that the socket is connected to: the kernel
// takes no other.
TEST_P(SocketTest, AConnectedSocketMayNameItsServiceAgain) {
  Client client(cluster_.client);
  std::vector<std::pair<std::string, std::string>> ways = {{Kind("udp"), Web()}};
  if (family() == Family::kIpv4) ways.push_back({"udp6", Mapped(cluster_.web.cluster_ips.v4, 80)});
  for (const auto& [kind, frontend] : ways) {
    for (int i = 0; i < 10; ++i) {
      StepResult answer = client.Must(
          {"timeout 500", "socket " + kind, "connect " + frontend, "query " + frontend + " x"});
      EXPECT_EQ(answer.from(), frontend) << answer;
    }
  }
}

TEST_P(SocketTest, GetpeernameShowsTheService) {
  Client client(cluster_.client);
  for (const char* protocol : {"tcp", "udp"}) {
    StepResult peer =
        client.Must({"socket " + Kind(protocol), "connect " + Web(), "ask x", "getpeername"});
    EXPECT_EQ(peer.address(), Web());
    EXPECT_EQ(HostOf(client.Must({"getsockname"}).address()), Host(cluster_.client));
  }
}

TEST_P(SocketTest, GetpeernameOfADirectConnectionShowsThePod) {
  Client client(cluster_.client);
  std::string pod = At(Host(cluster_.b1), 8080);
  for (const char* protocol : {"tcp", "udp"}) {
    StepResult peer = client.Must({"socket " + Kind(protocol), "connect " + pod, "getpeername"});
    EXPECT_EQ(peer.address(), pod);
  }
}

TEST_P(SocketTest, HalfCloseArrivesAndTheLastWordsComeBack) {
  Client client(cluster_.client);
  client.Must({"socket " + Kind("tcp"), "connect " + Web(), "ask x", "shutdown"});
  EXPECT_TRUE(client.Must({"recv"}).eof());
}

TEST_P(SocketTest, OneUnconnectedSocketToSeveralServices) {
  Service one = Cluster::Make("one", 21, {cluster_.on1(cluster_.b1)});
  Service two = Cluster::Make("two", 22, {cluster_.on2(cluster_.b2)});
  cluster_.Apply(one);
  cluster_.Apply(two);
  cluster_.agent->AwaitProgrammed();
  std::string to_one = Cluster::Frontend(one, family()), to_two = Cluster::Frontend(two, family());
  Client client(cluster_.client);
  client.Must({"socket " + Kind("udp"), "sendto " + to_one + " 1", "sendto " + to_two + " 2"});
  std::map<std::string, std::string> seen;
  for (int i = 0; i < 2; ++i) {
    StepResult answer = client.Must({"recvfrom"});
    seen[answer.from()] = answer.name() + answer.echo();
  }
  EXPECT_EQ(seen, (std::map<std::string, std::string>{{to_one, "b11"}, {to_two, "b22"}}));
}

TEST_P(SocketTest, TcpFastOpenBothWays) {
  Client client(cluster_.client);
  StepResult by_flag =
      client.Must({"socket " + Kind("tcp"), "fastopen " + Web() + " hello", "recv"});
  EXPECT_EQ(by_flag.echo(), "hello");
  EXPECT_TRUE(client.Must({"tcpinfo"}).syn_data());
  EXPECT_EQ(client.Must({"getpeername"}).address(), Web());

  StepResult by_option = client.Must(
      {"socket " + Kind("tcp"), "fastopen-connect", "connect " + Web(), "send hello", "recv"});
  EXPECT_EQ(by_option.echo(), "hello");
  EXPECT_TRUE(client.Must({"tcpinfo"}).syn_data());
  EXPECT_EQ(client.Must({"getpeername"}).address(), Web());
}

TEST_P(SocketTest, MultipathTcp) {
  Server server(cluster_.b2, "multipath", {"mptcp:" + At(Host(cluster_.b2), 8081)});
  Service service = Cluster::Make("multipath", 23, {cluster_.on2(cluster_.b2)});
  service.ports = {{"tcp", "TCP", 80, 8081}};
  cluster_.Apply(service);
  cluster_.agent->AwaitProgrammed();
  std::string frontend = Cluster::Frontend(service, family());
  Client client(cluster_.client);
  StepResult answer = client.Must({"socket " + Kind("mptcp"), "connect " + frontend, "ask hello"});
  EXPECT_EQ(answer.echo(), "hello");
  EXPECT_EQ(client.Must({"getpeername"}).address(), frontend);
  EXPECT_TRUE(client.Must({"tcpinfo"}).mptcp());
}

TEST_P(SocketTest, NonBlockingConnect) {
  Client client(cluster_.client);
  StepResult connected = client.Must({"socket " + Kind("tcp"), "connect-nb " + Web()});
  EXPECT_EQ(connected.immediate(), "EINPROGRESS") << connected;
  EXPECT_EQ(client.Must({"ask x"}).echo(), "x");
  StepResult datagrams = client.Must({"socket " + Kind("udp"), "connect-nb " + Web()});
  EXPECT_EQ(datagrams.immediate(), "0") << datagrams;
}

TEST_P(SocketTest, BindToASourceAddress) {
  Client client(cluster_.client);
  for (const char* protocol : {"tcp", "udp"}) {
    std::string source = At(Host(cluster_.client), 20001);
    StepResult answer =
        client.Must({"socket " + Kind(protocol), "bind " + source, "connect " + Web(), "ask x"});
    EXPECT_EQ(answer.peer(), source) << answer;
  }
  StepResult answer =
      client.Must({"socket " + Kind("udp"), "bind " + At(Host(cluster_.client), 20002),
                   "query " + Web() + " x"});
  EXPECT_EQ(answer.peer(), At(Host(cluster_.client), 20002)) << answer;
}

// A disconnected AF_INET6 UDP socket goes on taking datagrams from its old peer only
// (a quirk of the kernel): the Service must send it to the same backend again.
TEST_P(SocketTest, AfterADisconnectTheSameServiceStillAnswers) {
  Client client(cluster_.client);
  for (int i = 0; i < 10; ++i) {
    client.Must(
        {"timeout 500", "socket " + Kind("udp"), "connect " + Web(), "ask x", "disconnect"});
    EXPECT_EQ(client.Must({"query " + Web() + " x"}).from(), Web());
  }
}

TEST_P(SocketTest, DisconnectForgetsTheService) {
  std::string pod = At(Host(cluster_.b2), 8080);
  Client client(cluster_.client);
  for (const char* protocol : {"udp", "tcp"}) {
    client.Must({"socket " + Kind(protocol), "connect " + Web(), "ask x", "disconnect"});
    EXPECT_EQ(client.Do("getpeername").error(), "ENOTCONN");
    EXPECT_EQ(client.Must({"connect " + pod, "getpeername"}).address(), pod);
    EXPECT_EQ(client.Must({"ask x"}).name(), "b2");
  }
  // Without a disconnect between, as only UDP may.
  client.Must({"socket " + Kind("udp"), "connect " + Web(), "connect " + pod});
  EXPECT_EQ(client.Must({"getpeername"}).address(), pod);
  EXPECT_EQ(client.Must({"connect " + Web(), "getpeername"}).address(), Web());
}

// The socket reached the pod through a Service before; connected to the pod itself it
// sees the pod.
TEST_P(SocketTest, ADirectlyConnectedSocketSeesThePodAndNoEarlierService) {
  Service narrow = Cluster::Make("narrow", 24, {cluster_.on2(cluster_.b2)});
  cluster_.Apply(narrow);
  cluster_.agent->AwaitProgrammed();
  std::string pod = At(Host(cluster_.b2), 8080), frontend = Cluster::Frontend(narrow, family());
  Client client(cluster_.client);
  client.Must({"socket " + Kind("udp"), "query " + frontend + " x", "connect " + pod});
  EXPECT_EQ(client.Must({"getpeername"}).address(), pod);
  EXPECT_EQ(client.Must({"send x", "recvfrom"}).from(), pod);
}

// Other programs' sockets pay nothing and see nothing.
TEST_P(SocketTest, WhatIsNoServicePassesUntouched) {
  std::string pod = At(Host(cluster_.b2), 8080);
  Client client(cluster_.client);
  EXPECT_EQ(client.Must({"socket " + Kind("udp"), "query " + pod + " x"}).from(), pod);
  // Another port of a ClusterIP is nobody's: no answer, and no refusal of ours.
  std::string other_port = Cluster::Frontend(cluster_.web, family(), 81);
  client.Must({"timeout 100", "socket " + Kind("tcp")});
  EXPECT_TRUE(client.Do("connect " + other_port).timed_out());
}

// Item 17: two Services share a backend. The second one takes another backend, so
// that each answer shows the address that was asked.
TEST_P(SocketTest, TwoServicesWithOneBackendInCommon) {
  Service narrow = Cluster::Make("narrow", 24, {cluster_.on1(cluster_.b1)});
  cluster_.Apply(narrow);
  cluster_.agent->AwaitProgrammed();
  std::string shared = Cluster::Frontend(narrow, family());
  Client client(cluster_.client);
  for (int i = 0; i < 12; ++i) {
    client.Must(
        {"socket " + Kind("udp"), "sendto " + shared + " narrow", "sendto " + Web() + " wide"});
    std::map<std::string, std::string> seen;
    for (int answers = 0; answers < 2; ++answers) {
      StepResult answer = client.Must({"recvfrom"});
      seen[answer.from()] = answer.name() + answer.echo();
    }
    EXPECT_EQ(seen, (std::map<std::string, std::string>{{shared, "b1narrow"}, {Web(), "b2wide"}}));
  }
  EXPECT_EQ(ReadReason(cluster_.node1.pin_path(), WAGGLE_REASON_UDP_REPLY_AMBIGUOUS), 0u);
}

// Item 17, where there is no other backend, or the pod is asked directly as well:
// one after the other each answer shows the address asked, and it is counted.
TEST_P(SocketTest, OneBackendByTwoAddressesInTurn) {
  Service narrow = Cluster::Make("narrow", 24, {cluster_.on1(cluster_.b1)});
  Service also = Cluster::Make("also", 25, {cluster_.on1(cluster_.b1)});
  cluster_.Apply(narrow);
  cluster_.Apply(also);
  cluster_.agent->AwaitProgrammed();
  const std::string asked[] = {Cluster::Frontend(narrow, family()),
                               Cluster::Frontend(also, family()), At(Host(cluster_.b1), 8080)};
  Client client(cluster_.client);
  client.Must({"socket " + Kind("udp")});
  for (int round = 0; round < 3; ++round) {
    for (const std::string& address : asked) {
      EXPECT_EQ(client.Must({"query " + address + " x"}).from(), address);
    }
  }
  EXPECT_GT(ReadReason(cluster_.node1.pin_path(), WAGGLE_REASON_UDP_REPLY_AMBIGUOUS), 0u);
}

TEST_P(SocketTest, AnUnconnectedFlowStaysWithItsBackendWhileThatIsInTheList) {
  Client client(cluster_.client);
  std::string first = client.Must({"socket " + Kind("udp"), "query " + Web() + " x"}).name();
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(client.Must({"query " + Web() + " x"}).name(), first);
  }
  // Others come: it stays.
  Service more = cluster_.web;
  more.endpoints.push_back(cluster_.on1(cluster_.node1));
  Server host = ServeAll(cluster_.node1);
  cluster_.Apply(more);
  cluster_.agent->AwaitProgrammed();
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(client.Must({"query " + Web() + " x"}).name(), first);
  }
  // It leaves: the very next query goes elsewhere.
  Service less = cluster_.web;
  less.endpoints = {first == "b1" ? cluster_.on2(cluster_.b2) : cluster_.on1(cluster_.b1)};
  cluster_.Apply(less);
  cluster_.agent->AwaitProgrammed();
  StepResult moved = client.Must({"query " + Web() + " x"});
  EXPECT_EQ(moved.name(), first == "b1" ? "b2" : "b1");
  EXPECT_EQ(moved.from(), Web());
}

}  // namespace
}  // namespace waggle::lab
