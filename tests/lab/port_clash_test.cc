// Item 1: one source port, two addresses that the client's kernel tells apart, and one
// backend that cannot. Two Services with one backend, a Service and its pod directly, and
// ports that are used again.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/lab/packet_cluster.h"

namespace waggle::lab {
namespace {

using net::Family;

class PortClashTest : public testing::TestWithParam<std::string> {
 protected:
  PortClashTest() {
    cluster_.Apply(also_near_);
    cluster_.Apply(also_far_);
    cluster_.Start({GetParam(), "off"});
  }

  // Three ways to b1 and three to b2.
  std::vector<std::pair<std::string, std::string>> Targets(Family family) const {
    return {{Cluster::Frontend(cluster_.near, family), "b1"},
            {Cluster::Frontend(also_near_, family), "b1"},
            {At(cluster_.b1.addresses().Of(family), 8080), "b1"},
            {Cluster::Frontend(cluster_.far, family), "b2"},
            {Cluster::Frontend(also_far_, family), "b2"},
            {At(cluster_.b2.addresses().Of(family), 8080), "b2"}};
  }

  Argv Clash(int count, int open) const {
    // A server that keeps a port in TIME-WAIT costs a connection a second, Service or not.
    Argv argv = {"clash",  "--timeout-ms",    "5000", "--count", absl::StrCat(count),
                 "--open", absl::StrCat(open)};
    for (Family family : kBothFamilies) {
      for (const auto& [address, name] : Targets(family)) {
        argv.insert(argv.end(), {"--to", absl::StrCat(address, "=", name)});
      }
    }
    return argv;
  }

  PacketCluster cluster_;
  Service also_near_ = MakeWithEcho("also-near", 61, {cluster_.on1(cluster_.b1)});
  Service also_far_ = MakeWithEcho("also-far", 62, {cluster_.on2(cluster_.b2)});
};

INSTANTIATE_TEST_SUITE_P(, PortClashTest, testing::Values("stack", "redirect"),
                         [](const auto& param) { return param.param; });

// Each order of each pair, from one port, both open at the same time.
TEST_P(PortClashTest, Item1TheSecondConnectionGetsAnotherPortAndTheFirstLivesOn) {
  uint16_t port = 20000;
  for (const char* protocol : {"tcp", "udp"}) {
    for (Family family : kBothFamilies) {
      auto targets = Targets(family);
      for (size_t first = 0; first < targets.size(); ++first) {
        for (size_t second = 0; second < targets.size(); ++second) {
          if (first == second || targets[first].second != targets[second].second) continue;
          SCOPED_TRACE(
              absl::StrCat(protocol, " ", targets[first].first, " then ", targets[second].first));
          std::string source = At(cluster_.client.addresses().Of(family), ++port);
          Client one(cluster_.client), two(cluster_.client);
          std::string open = absl::StrCat("socket ", SocketKindOf(protocol, family), " reuse");
          one.Must({open, "bind " + source, "connect " + targets[first].first, "ask 1"});
          two.Must({open, "bind " + source, "connect " + targets[second].first, "ask 2"});
          for (int i = 0; i < 3; ++i) {
            StepResult answer = one.Must({absl::StrCat("ask first", i)});
            EXPECT_EQ(answer.echo(), absl::StrCat("first", i)) << answer;
            EXPECT_EQ(answer.name(), targets[first].second) << answer;
            answer = two.Must({absl::StrCat("ask second", i)});
            EXPECT_EQ(answer.echo(), absl::StrCat("second", i)) << answer;
            EXPECT_EQ(answer.name(), targets[second].second) << answer;
          }
        }
      }
    }
  }
  EXPECT_GT(cluster_.Reason(WAGGLE_REASON_PORT_CHANGED), 0u);
}

TEST_P(PortClashTest, Item1TwentyThousandConnectionsFromAThousandPorts) {
  cluster_.client.Sysctl("net.ipv4.ip_local_port_range", "32768 33767");
  // The client's kernel, too, may use a port again a second after it was closed.
  cluster_.client.Sysctl("net.ipv4.tcp_tw_reuse", "1");
  Load clash(cluster_.client, Clash(20000, 60));
  Tally tally = clash.Finish(std::chrono::seconds(50));
  EXPECT_TRUE(tally.AllOk()) << tally;
  EXPECT_EQ(tally.attempts, 20000u);
  EXPECT_GT(tally.shared, 2000u) << tally;
  EXPECT_GT(tally.changed, 500u) << tally;
  EXPECT_EQ(cluster_.Reason(WAGGLE_REASON_NO_FREE_PORT), 0u);
}

// A port that the server has in TIME-WAIT: what the client's kernel does to get past that
// (a reset, and the same SYN again) does not end the flow. The next connection from that
// port still has to step aside.
TEST_P(PortClashTest, Item1APortThatTheServerStillKeeps) {
  uint16_t port = 24000;
  for (Family family : kBothFamilies) {
    std::string direct = At(cluster_.b1.addresses().Of(family), 8080);
    std::string open = "socket " + SocketKindOf("tcp", family) + " reuse";
    for (int i = 0; i < 40; ++i) {
      std::string source = At(cluster_.client.addresses().Of(family), ++port);
      Client one(cluster_.client), two(cluster_.client);
      one.Must({open, "bind " + source, "connect " + direct, "ask bye"});
      EXPECT_EQ(one.Must({"recv"}).name(), "");  // the server closed first
      one.Must({"close", open, "bind " + source,
                "connect " + Cluster::Frontend(cluster_.near, family), "ask x"});
      two.Must({open, "bind " + source, "connect " + direct, "ask x"});
      EXPECT_EQ(one.Must({"ask one"}).echo(), "one") << source;
      EXPECT_EQ(two.Must({"ask two"}).echo(), "two") << source;
    }
  }
}

TEST_P(PortClashTest, Item1DatagramsFromFewPorts) {
  Argv argv = Clash(6000, 50);
  argv.insert(argv.end(), {"--udp", "--first-port", "21000", "--last-port", "21199"});
  Tally tally = Load(cluster_.client, argv).Finish(std::chrono::seconds(50));
  EXPECT_TRUE(tally.AllOk()) << tally;
  EXPECT_EQ(tally.attempts, 6000u);
  EXPECT_EQ(tally.shared, 5000u) << tally;  // all but the first of each six
  EXPECT_GT(tally.changed, 500u) << tally;
}

// Item 17, packets: one unconnected socket asks by all three addresses. Each answer comes
// from the address that was asked.
TEST_P(PortClashTest, Item17OneUnconnectedSocketByThreeAddresses) {
  for (Family family : kBothFamilies) {
    Client client(cluster_.client);
    client.Must({"socket " + SocketKindOf("udp", family)});
    for (int round = 0; round < 5; ++round) {
      for (const auto& [address, name] : Targets(family)) {
        StepResult answer = client.Must({absl::StrCat("query ", address, " x", round)});
        EXPECT_EQ(answer.from(), address) << answer;
        EXPECT_EQ(answer.name(), name) << answer;
        EXPECT_EQ(answer.echo(), absl::StrCat("x", round)) << answer;
      }
    }
  }
}

// Two clients on two pods never clash, with the same port to the same backend.
TEST_P(PortClashTest, OtherPodsPortsAreTheirOwn) {
  for (Family family : kBothFamilies) {
    uint64_t before = cluster_.Reason(WAGGLE_REASON_PORT_CHANGED);
    Client one(cluster_.client), two(cluster_.b1);
    for (auto& [client, pod] :
         {std::pair<Client*, Pod*>{&one, &cluster_.client}, {&two, &cluster_.b1}}) {
      std::string source = At(pod->addresses().Of(family), 23000);
      StepResult answer =
          client->Must({"socket " + SocketKindOf("tcp", family), "bind " + source,
                        "connect " + Cluster::Frontend(cluster_.far, family), "ask x"});
      EXPECT_EQ(answer.peer(), source) << answer;
    }
    EXPECT_EQ(cluster_.Reason(WAGGLE_REASON_PORT_CHANGED), before);
  }
}

}  // namespace
}  // namespace waggle::lab
