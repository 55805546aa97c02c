// Item 11: devices of smaller MTU on the way to a backend. Whoever finds a packet too big
// says so, and the client's socket must understand it as said about the Service.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/lab/conditions.h"
#include "tests/lab/packet_cluster.h"

namespace waggle::lab {
namespace {

using net::Family;

constexpr int kTooBig = 1450;  // bytes of a datagram that fits 1500 in both families

// Where the way is narrow. The pods' own devices have 1500.
struct Narrow {
  std::string name;
  PodNetwork network;
  Addresses mtu;  // of the way, as text, by family
};
void PrintTo(const Narrow& narrow, std::ostream* out) {
  *out << narrow.name;
}

const Narrow kUplink{"Uplink", PodNetwork::kRoutes, {"1400", "1400"}};
const Narrow kVxlan{"Vxlan", PodNetwork::kVxlan, {"1450", "1430"}};
const Narrow kTun{"Tun", PodNetwork::kTun, {"1440", "1440"}};
const Narrow kFarRoute{"FarRoute", PodNetwork::kRoutes, {"1400", "1400"}};

// Makes a place forget what it learned about the ways to others.
void Forget(const Place& place) {
  for (const char* family : {"-4", "-6"}) {
    RunResult result = place.Run({"ip", family, "route", "flush", "cache"});
    if (!result.ok()) Fail(result.ToString());
  }
}

class MtuTest : public testing::TestWithParam<std::tuple<Cni, Narrow>> {
 protected:
  MtuTest() {
    // Pods that were made before have what fits; these have not.
    cluster_.node1.set_pod_mtu(1500);
    client_ = &cluster_.node1.AddPod("wide");
    cluster_.node2.set_pod_mtu(1500);
    server_pod_ = &cluster_.node2.AddPod("far-wide");
    if (narrow().name == "Uplink") {
      for (Node* node : {&cluster_.node1, &cluster_.node2})
        node->Ip("link set eth0 mtu 1400\n");
    }
    if (narrow().name == "FarRoute") {
      // The other node knows of something narrow behind the pod's route. (A device that takes
      // less than its peer would lose packets without a word.)
      const std::string device = std::get<0>(GetParam()) == Cni::kRouted
                                     ? server_pod_->host_device()
                                     : std::string("cni0");
      for (Family family : kBothFamilies) {
        cluster_.node2.Ip(absl::StrCat("route replace ", server_pod_->addresses().Of(family),
                                       " dev ", device, " mtu 1400\n"));
      }
    }
    cluster_.lab.Settle();
    server_.emplace(ServeAll(*server_pod_));
    wide_ = MakeWithEcho("wide", 71, {cluster_.on2(*server_pod_)});
    cluster_.Apply(wide_);
  }

  const Narrow& narrow() const { return std::get<1>(GetParam()); }
  int Mtu(Family family) const { return std::stoi(narrow().mtu.Of(family)); }

  // A datagram that is too big is lost, the socket is told, and knows better from then on.
  void ExpectTold(const Place& from, Family family) {
    SCOPED_TRACE(absl::StrCat("datagrams from ", from.name(), " by ", NameOf(family)));
    std::string to = Cluster::Frontend(wide_, family);
    Client client(from);
    client.Must({"socket " + SocketKindOf("udp", family), "dont-fragment", "connect " + to,
                 absl::StrCat("send-bytes ", kTooBig)});
    StepResult told = client.Do("recv");
    EXPECT_EQ(told.error(), "EMSGSIZE") << told;
    EXPECT_EQ(client.Must({"mtu"}).mtu(), Mtu(family));
    EXPECT_EQ(client.Do(absl::StrCat("send-bytes ", kTooBig)).error(), "EMSGSIZE");
    // Small enough for the answer, which is longer, to fit.
    EXPECT_EQ(client.Must({"ask-bytes 1200"}).name(), server_pod_->name());
  }

  void ExpectTransfer(const Place& from, Family family) {
    SCOPED_TRACE(absl::StrCat("3 MB from ", from.name(), " by ", NameOf(family)));
    Client client(from);
    client.Must({"socket " + SocketKindOf("tcp", family),
                 "connect " + Cluster::Frontend(wide_, family, kEchoPort), "recv",
                 "transfer 3000000"});
    int headers = family == Family::kIpv4 ? 40 : 60;
    EXPECT_LE(client.Must({"tcpinfo"}).mss(), Mtu(family) - headers);
  }

  PacketCluster cluster_{std::get<0>(GetParam()), std::get<1>(GetParam()).network};
  Pod* client_ = nullptr;
  Pod* server_pod_ = nullptr;
  std::optional<Server> server_;
  Service wide_;
};

INSTANTIATE_TEST_SUITE_P(, MtuTest,
                         testing::Combine(testing::Values(Cni::kRouted, Cni::kBridged),
                                          testing::Values(kUplink, kVxlan, kTun, kFarRoute)),
                         [](const auto& param) {
                           return NameOf(std::get<0>(param.param)) + std::get<1>(param.param).name;
                         });

TEST_P(MtuTest, Item11TheSocketLearnsTheMtuOfTheWay) {
  for (const Way& way : AllWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    for (Family family : kBothFamilies) {
      Forget(*client_);
      ExpectTold(*client_, family);
    }
    uint64_t said = cluster_.Reason(WAGGLE_REASON_PACKET_TOO_BIG) +
                    cluster_.Reason(WAGGLE_REASON_ICMP_TRANSLATED);
    if (way.socket_lb == "off") {
      EXPECT_GE(said, 2u);
    }
  }
}

// A machine behind the pod learns it through the pod's own address translation.
TEST_P(MtuTest, Item11AMachineBehindThePodLearnsIt) {
  Machine machine("machine", *client_);
  cluster_.lab.Settle();
  for (const Way& way : PacketWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    for (Family family : kBothFamilies) {
      Forget(*client_);
      Forget(machine);
      ExpectTold(machine, family);
    }
  }
}

// Segmentation by whoever does it: with super-packets it is their segments that count.
TEST_P(MtuTest, Item11ThreeMegabytesGetThrough) {
  for (bool offloads : {true, false}) {
    client_->SetOffloads("eth0", offloads);
    server_pod_->SetOffloads("eth0", offloads);
    cluster_.node1.SetOffloads(client_->host_device(), offloads);
    for (const Way& way : AllWays()) {
      SCOPED_TRACE(way.Name() + (offloads ? " with offloads" : " without offloads"));
      cluster_.Start(way);
      for (Family family : kBothFamilies) {
        Forget(*client_);
        Forget(*server_pod_);
        ExpectTransfer(*client_, family);
      }
    }
  }
}

// What may be fragmented is, and arrives.
TEST_P(MtuTest, Item11DatagramsThatMayBeFragmented) {
  for (const Way& way : AllWays()) {
    SCOPED_TRACE(way.Name());
    cluster_.Start(way);
    Forget(*client_);
    Client client(*client_);
    for (int i = 0; i < 3; ++i) {
      client.Must({"socket udp4", "may-fragment",
                   "connect " + Cluster::Frontend(wide_, Family::kIpv4),
                   absl::StrCat("send-bytes ", kTooBig)});
      // The server's kernel may first have to learn that its answer is too long.
      if (!client.Do("timeout 300").ok() || client.Do("recv").ok()) continue;
      EXPECT_TRUE(client.Do("recv").timed_out());
    }
    EXPECT_EQ(client.Must({"timeout 2000", absl::StrCat("ask-bytes ", kTooBig)}).name(),
              server_pod_->name());
  }
}

// Past a policy of DROP, too: an error about a redirected flow takes its way, not the
// stack's.
TEST_P(MtuTest, Item11PastAFirewall) {
  DropForwarded(cluster_.node1, false);
  DropForwarded(cluster_.node2, true);
  for (const char* socket_lb : {"off", "all"}) {
    SCOPED_TRACE(socket_lb);
    cluster_.Start({"redirect", socket_lb});
    for (Family family : kBothFamilies) {
      Forget(*client_);
      Forget(*server_pod_);
      ExpectTold(*client_, family);
      ExpectTransfer(*client_, family);
    }
  }
}

// On one node: a backend whose device takes less. Past the stack it takes all.
class LocalMtuTest : public testing::TestWithParam<Cni> {};

INSTANTIATE_TEST_SUITE_P(, LocalMtuTest, testing::Values(Cni::kRouted, Cni::kBridged),
                         [](const auto& param) { return NameOf(param.param); });

TEST_P(LocalMtuTest, Item11ANarrowBackendOnTheSameNode) {
  PacketCluster cluster(GetParam());
  cluster.node1.Ip(absl::StrCat("link set ", cluster.b1.host_device(), " mtu 1400\n"));
  cluster.b1.Ip("link set eth0 mtu 1400\n");
  for (const Way& way : AllWays()) {
    // Straight over the bridge its ports lose what is too big without a word.
    if (GetParam() == Cni::kBridged && way.forwarding == "stack" && way.socket_lb == "all") {
      continue;
    }
    SCOPED_TRACE(way.Name());
    cluster.Start(way);
    for (Family family : kBothFamilies) {
      Forget(cluster.client);
      Client client(cluster.client);
      client.Must({"socket " + SocketKindOf("udp", family), "dont-fragment",
                   "connect " + Cluster::Frontend(cluster.near, family),
                   absl::StrCat("send-bytes ", kTooBig)});
      StepResult told = client.Do("recv");
      EXPECT_TRUE(told.ok() || told.error() == "EMSGSIZE") << told;
      EXPECT_EQ(client.Must({"ask-bytes 1200"}).name(), "b1");
    }
    ExpectBulk(cluster.client, cluster.near);
  }
}

}  // namespace
}  // namespace waggle::lab
