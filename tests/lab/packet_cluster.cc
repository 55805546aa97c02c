#include "tests/lab/packet_cluster.h"

#include <gtest/gtest.h>

#include <cctype>
#include <ostream>

#include "absl/strings/str_cat.h"

namespace waggle::lab {
namespace {

constexpr int kBulkBytes = 3'000'000;
constexpr int kBigDatagram = 9'000;

std::string Capitalised(std::string word) {
  word[0] = static_cast<char>(std::toupper(word[0]));
  return word;
}

std::string Where(const Place& from, const Service& service, net::Family family) {
  return absl::StrCat("from ", from.name(), " to ", service.name, " by ", NameOf(family));
}

void StartOne(std::unique_ptr<Agent>& agent, const Lab& lab, const Node& node, const Way& way) {
  if (agent != nullptr) agent->Stop();
  agent.reset();
  agent = std::make_unique<Agent>(lab, node, way.Options());
}

}  // namespace

AgentOptions Way::Options() const {
  return {.flags = {"--forwarding", forwarding, "--socket-lb", socket_lb}};
}

std::string Way::Name() const {
  return Capitalised(forwarding) + Capitalised(socket_lb);
}

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.Name();
}

std::vector<Way> AllWays() {
  return {{"stack", "off"}, {"redirect", "off"}, {"stack", "all"}, {"redirect", "all"}};
}

std::vector<Way> PacketWays() {
  return {{"stack", "off"}, {"redirect", "off"}};
}

Service MakeWithEcho(const std::string& name, int host, std::vector<Endpoint> endpoints) {
  Service service = Cluster::Make(name, host, std::move(endpoints));
  service.ports.push_back({"echo", "TCP", kEchoPort, kEchoPort});
  return service;
}

PacketCluster::PacketCluster(Cni cni, PodNetwork network)
    : Cluster(cni, network),
      near(MakeWithEcho("near", 11, {on1(b1)})),
      far(MakeWithEcho("far", 12, {on2(b2)})) {
  Apply(web);
  Apply(near);
  Apply(far);
}

void PacketCluster::Start(const Way& way) {
  StartOne(agent, lab, node1, way);
  agent->AwaitReady();
  agent->AwaitProgrammed();
}

void PacketCluster::StartBoth(const Way& way) {
  StartOne(agent2, lab, node2, way);
  Start(way);
  agent2->AwaitReady();
  agent2->AwaitProgrammed();
}

void PacketCluster::CleanUp() {
  agent->Stop();
  agent.reset();
  RunResult result = Waggle(node1, {"cleanup", "--pin-path", node1.pin_path()});
  if (!result.ok()) Fail("cleanup: " + result.ToString());
}

void ExpectServed(const Place& from, const Service& service, const std::string& name, int count) {
  for (const Traffic& traffic : AllTraffic()) {
    Tally tally = AskMany(from, traffic.mode, Cluster::Frontend(service, traffic.family), count);
    EXPECT_TRUE(tally.AllOk()) << Where(from, service, traffic.family) << " " << tally;
    if (name.empty()) continue;
    EXPECT_EQ(tally.names.count(name), 1u) << Where(from, service, traffic.family) << " " << tally;
    EXPECT_EQ(tally.names.size(), 1u) << Where(from, service, traffic.family) << " " << tally;
  }
}

void ExpectBulk(const Place& from, const Service& service) {
  for (net::Family family : kBothFamilies) {
    SCOPED_TRACE(Where(from, service, family));
    Client client(from);
    client.Must({"socket " + SocketKindOf("tcp", family),
                 "connect " + Cluster::Frontend(service, family, kEchoPort), "recv",
                 absl::StrCat("transfer ", kBulkBytes)});
    client.Must(
        {"socket " + SocketKindOf("udp", family), "connect " + Cluster::Frontend(service, family),
         absl::StrCat("ask-bytes ", kBigDatagram), "socket " + SocketKindOf("udp", family),
         absl::StrCat("query-bytes ", Cluster::Frontend(service, family), " ", kBigDatagram)});
  }
}

void ExpectAddresses(const Place& from, const Service& service, const Addresses& source) {
  for (net::Family family : kBothFamilies) {
    SCOPED_TRACE(Where(from, service, family));
    std::string frontend = Cluster::Frontend(service, family);
    Client client(from);
    for (const char* protocol : {"tcp", "udp"}) {
      StepResult answer =
          client.Must({"socket " + SocketKindOf(protocol, family), "connect " + frontend, "ask x"});
      EXPECT_EQ(HostOf(answer.peer()), source.Of(family)) << answer;
      EXPECT_EQ(client.Must({"getpeername"}).address(), frontend);
    }
    StepResult answer =
        client.Must({"socket " + SocketKindOf("udp", family), "query " + frontend + " x"});
    EXPECT_EQ(answer.from(), frontend) << answer;
    EXPECT_EQ(HostOf(answer.peer()), source.Of(family)) << answer;
  }
}

void ExpectSilence(const Place& from, const Service& service) {
  // All at once: each waits for its time-out.
  std::vector<Load> asking;
  for (const Traffic& traffic : AllTraffic()) {
    asking.emplace_back(from, Argv{"rate", "--mode", traffic.mode, "--to",
                                   Cluster::Frontend(service, traffic.family), "--count", "1",
                                   "--timeout-ms", "300"});
  }
  for (size_t i = 0; i < asking.size(); ++i) {
    const Traffic traffic = AllTraffic()[i];
    Tally tally = asking[i].Finish();
    EXPECT_EQ(tally.failures, (std::map<std::string, uint64_t>{{traffic.Silence(), 1}}))
        << Where(from, service, traffic.family) << " " << tally;
  }
}

}  // namespace waggle::lab
