#include "tests/lab/cluster.h"

#include <ostream>

#include "absl/strings/str_cat.h"

namespace waggle::lab {

Nodes::Nodes(Cni cni, PodNetwork network) : node1(lab.AddNode(cni)), node2(lab.AddNode(cni)) {
  lab.Connect(network);
}

Cluster::Cluster(Cni cni, PodNetwork network)
    : Nodes(cni, network),
      client(node1.AddPod("client")),
      b1(node1.AddPod("b1")),
      b2(node2.AddPod("b2")),
      web(Make("web", 10, {EndpointOf(node1, b1), EndpointOf(node2, b2)})) {
  lab.Settle();
  server1.emplace(ServeAll(b1));
  server2.emplace(ServeAll(b2));
}

void Cluster::Apply(const Service& service) const {
  lab.WriteManifest(service.name + ".yaml", Render(service));
}

void Cluster::StartAgent(AgentOptions options) {
  agent = std::make_unique<Agent>(lab, node1, std::move(options));
  agent->AwaitReady();
  agent->AwaitProgrammed();
}

std::string Cluster::Frontend(const Service& service, net::Family family, uint16_t port) {
  return At(service.cluster_ips.Of(family), port);
}

Service Cluster::Make(const std::string& name, int host, std::vector<Endpoint> endpoints) {
  return {.name = name, .cluster_ips = ClusterIps(host), .endpoints = std::move(endpoints)};
}

std::string SocketKindOf(const std::string& protocol, net::Family family) {
  return protocol + (family == net::Family::kIpv4 ? "4" : "6");
}

std::string Mapped(const std::string& v4_address, uint16_t port) {
  return absl::StrCat("[::ffff:", v4_address, "]:", port);
}

std::string HostOf(const std::string& address_and_port) {
  std::string host = address_and_port.substr(0, address_and_port.rfind(':'));
  return host.starts_with("[") ? host.substr(1, host.size() - 2) : host;
}

std::string NameOf(Cni cni) {
  return cni == Cni::kRouted ? "Routed" : "Bridged";
}

std::string NameOf(PodNetwork network) {
  switch (network) {
    case PodNetwork::kRoutes:
      return "Routes";
    case PodNetwork::kVxlan:
      return "Vxlan";
    case PodNetwork::kTun:
      return "Tun";
  }
  return "";
}

std::string NameOf(net::Family family) {
  return family == net::Family::kIpv4 ? "IPv4" : "IPv6";
}

std::string Traffic::Silence() const {
  if (tcp()) return "connect: timeout";
  return mode == "udp-connected" ? "recv: timeout" : "recvfrom: timeout";
}

std::string Traffic::Name() const {
  std::string name = NameOf(family);
  if (mode == "tcp") return name + "Tcp";
  if (mode == "udp-new") return name + "Udp";
  return name + "UdpConnected";
}

std::vector<Traffic> AllTraffic() {
  std::vector<Traffic> all;
  for (net::Family family : kBothFamilies) {
    for (const char* mode : {"tcp", "udp-new", "udp-connected"})
      all.push_back({family, mode});
  }
  return all;
}

std::vector<std::tuple<Cni, PodNetwork>> EveryPodNetwork() {
  std::vector<std::tuple<Cni, PodNetwork>> all;
  for (Cni cni : {Cni::kRouted, Cni::kBridged}) {
    for (PodNetwork network : {PodNetwork::kRoutes, PodNetwork::kVxlan, PodNetwork::kTun}) {
      all.emplace_back(cni, network);
    }
  }
  return all;
}

std::string PodNetworkOf(const testing::TestParamInfo<std::tuple<Cni, PodNetwork>>& info) {
  return NameOf(std::get<0>(info.param)) + NameOf(std::get<1>(info.param));
}

std::string FamilyOf(const testing::TestParamInfo<net::Family>& info) {
  return NameOf(info.param);
}

std::string TrafficOf(const testing::TestParamInfo<Traffic>& info) {
  return info.param.Name();
}

void PrintTo(const Traffic& traffic, std::ostream* out) {
  *out << traffic.Name();
}

}  // namespace waggle::lab
