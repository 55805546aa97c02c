// The cluster that most scenarios need, and the kinds of traffic that they try.
#ifndef WAGGLE_TESTS_LAB_CLUSTER_H_
#define WAGGLE_TESTS_LAB_CLUSTER_H_

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/lab/agent.h"
#include "tests/lab/clients.h"
#include "tests/lab/lab.h"
#include "tests/lab/manifest.h"

namespace waggle::lab {

// Two wired nodes without pods.
class Nodes {
 public:
  explicit Nodes(Cni cni, PodNetwork network = PodNetwork::kRoutes);

  Lab lab;
  Node& node1;
  Node& node2;
};

// node1 with the pods `client` and `b1`, node2 with the pod `b2`; b1 and b2 answer on
// port 8080. Service `web` (ClusterIps(10), TCP and UDP port 80) has both. The agent
// of node1 is started by StartAgent().
class Cluster : public Nodes {
 public:
  explicit Cluster(Cni cni = Cni::kRouted, PodNetwork network = PodNetwork::kRoutes);

  Pod& client;
  Pod& b1;
  Pod& b2;
  Service web;
  std::optional<Server> server1;
  std::optional<Server> server2;
  std::unique_ptr<Agent> agent;

  // Writes the Service's manifest.
  void Apply(const Service& service) const;
  // Starts the agent of node1 and waits until it has programmed everything.
  void StartAgent(AgentOptions options = {});

  // "10.96.0.10:80" or "[fd00:96::10]:80".
  static std::string Frontend(const Service& service, net::Family family, uint16_t port = 80);
  // A Service on ClusterIps(host) with these endpoints.
  static Service Make(const std::string& name, int host, std::vector<Endpoint> endpoints);
  Endpoint on1(const Place& place) const { return EndpointOf(node1, place); }
  Endpoint on2(const Place& place) const { return EndpointOf(node2, place); }
};

inline constexpr net::Family kBothFamilies[] = {net::Family::kIpv4, net::Family::kIpv6};

// "tcp4", "udp6" and so on, as the client's step `socket` takes it.
std::string SocketKindOf(const std::string& protocol, net::Family family);
// "[::ffff:10.0.0.1]:80".
std::string Mapped(const std::string& v4_address, uint16_t port);
// Without the port.
std::string HostOf(const std::string& address_and_port);

std::string NameOf(Cni cni);             // "Routed"
std::string NameOf(PodNetwork network);  // "Routes", "Vxlan", "Tun"
std::string NameOf(net::Family family);  // "IPv4"

// One way to ask a Service: AskMany()'s mode and the family.
struct Traffic {
  net::Family family;
  std::string mode;

  bool tcp() const { return mode == "tcp"; }
  std::string Name() const;
  // What the client's call says when no answer comes: "connect: timeout" and the like.
  std::string Silence() const;
};
std::vector<Traffic> AllTraffic();
// Each way of wiring pods with each of joining nodes.
std::vector<std::tuple<Cni, PodNetwork>> EveryPodNetwork();
// For INSTANTIATE_TEST_SUITE_P.
std::string PodNetworkOf(const testing::TestParamInfo<std::tuple<Cni, PodNetwork>>& info);
std::string FamilyOf(const testing::TestParamInfo<net::Family>& info);
std::string TrafficOf(const testing::TestParamInfo<Traffic>& info);
void PrintTo(const Traffic& traffic, std::ostream* out);

}  // namespace waggle::lab

#endif
