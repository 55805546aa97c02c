// Nodes and pods of network namespaces, wired as a cluster: the place where the
// scenarios run.
//
//   Lab lab;
//   Node& node = lab.AddNode(Cni::kRouted);
//   lab.Connect();                                  // eth0, default route, pod routes
//   Pod& pod = node.AddPod("client");
//   pod.Run({"ip", "address"});
//
// What cannot be built ends the test process with a message (Fail): a test on half
// a lab proves nothing, and the sandbox leaves nothing behind.
#ifndef WAGGLE_TESTS_LAB_LAB_H_
#define WAGGLE_TESTS_LAB_LAB_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/lab/process.h"
#include "userspace/net/address.h"

namespace waggle::lab {

// Prints the message and ends the test process.
[[noreturn]] void Fail(const std::string& message);

// Polls until `done` returns true; false at the deadline.
bool WaitFor(const std::function<bool()>& done, std::chrono::milliseconds patience = kPatience);

// "10.0.0.1:80" or "[fd00::1]:80".
std::string At(std::string_view address, uint16_t port);

// The IPv4 and the IPv6 address of one thing.
struct Addresses {
  std::string v4;
  std::string v6;

  const std::string& Of(net::Family family) const { return family == net::Family::kIpv4 ? v4 : v6; }
};

enum class Cni {
  kRouted,   // as Calico: a host route to each pod's veth
  kBridged,  // as flannel: pods on the bridge cni0, hairpin mode off
};

// How the packets of pods travel between nodes.
enum class PodNetwork {
  kRoutes,  // flannel host-gw, Calico BGP: routes by the other node's address
  kVxlan,   // flannel vxlan: Ethernet frames in UDP, devices flannel.1 and flannel-v6.1
  kTun,     // Calico IPIP: a device without Ethernet header, tunl0
};

class Lab;

// A network namespace with a cgroup. Removed with the Lab.
class Place {
 public:
  Place(std::string name, std::string cgroup);
  virtual ~Place() = default;
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  const std::string& name() const { return name_; }
  const std::string& cgroup() const { return cgroup_; }
  Surroundings surroundings() const { return {"/run/netns/" + name_, cgroup_, "", false, false}; }
  // The addresses by which others reach it.
  const Addresses& addresses() const { return addresses_; }

  RunResult Run(const Argv& argv) const { return RunProgram(surroundings(), argv); }
  // Lines for `ip -batch`; each must succeed.
  void Ip(const std::string& lines) const;
  // A file for `nft -f`; must succeed.
  void Nft(const std::string& rules) const;
  // "net.ipv4.ip_forward"; must succeed.
  void Sysctl(std::string_view key, std::string_view value) const;
  // 0 (off), 1 (strict) or 2 (loose), for every device that it has now and will have.
  void SetRpFilter(int mode) const;
  // Segmentation, merging and checksums of a device, by the device or by software.
  void SetOffloads(const std::string& device, bool on) const;

 protected:
  // A second view of a place that exists.
  Place(const Place& other, std::string cgroup);
  void set_addresses(Addresses addresses) { addresses_ = std::move(addresses); }

 private:
  std::string name_;
  std::string cgroup_;
  Addresses addresses_;
};

class Pod;

// What runs in a pod's network and is not in the node's cgroup: no socket hook sees it.
class Outsider : public Place {
 public:
  explicit Outsider(const Pod& pod);
};

// What has a network stack of its own behind a pod, which masquerades it (as a virtual
// machine does, or another container runtime): no hook sees its sockets, and at the node
// its packets belong to no socket.
class Machine : public Place {
 public:
  Machine(const std::string& name, const Pod& pod);
};

class Pod : public Place {
 public:
  Pod(const std::string& name, const std::string& cgroup, Addresses addresses,
      std::string host_device);
  // The host's side of its veth.
  const std::string& host_device() const { return host_device_; }

 private:
  std::string host_device_;
};

class Node : public Place {
 public:
  Node(Lab& lab, int number, Cni cni, const std::string& cgroup, std::string pin_path);

  int number() const { return number_; }
  Cni cni() const { return cni_; }
  // For the agent: where it pins. Does not exist until the agent makes it.
  const std::string& pin_path() const { return pin_path_; }
  // 10.244.<number>.0/24 and fd00:244:<number>::/64.
  Addresses pod_cidrs() const;

  // A device on one of the lab's networks, with addresses as "10.0.2.15/24". The
  // last one added gives the node its addresses.
  void AddNic(const std::string& device, const std::string& network, const Addresses& with_length);
  void AddDefaultRoute(const Addresses& gateways) const;
  // Names are unique in the lab, at most 11 characters.
  Pod& AddPod(const std::string& name);
  // Packets of its pods to what is no pod leave with the node's address from now on, as
  // CNIs have it that tunnel.
  void MasqueradePods() const;
  // MTU of both ends of its veth, of pods to come. At first what fits the pod network.
  void set_pod_mtu(int mtu) { pod_mtu_ = mtu; }

 private:
  void AttachRouted(const Pod& pod);
  void AttachBridged(const Pod& pod);

  Lab& lab_;
  int number_;
  Cni cni_;
  std::string pin_path_;
  int pod_mtu_ = 1500;
  std::vector<std::unique_ptr<Pod>> pods_;
};

class Lab {
 public:
  Lab();
  ~Lab();
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  // node1, node2, …
  Node& AddNode(Cni cni);
  // A switch that every node can be wired to. `gateways` ("10.0.2.2/24") answers
  // ARP and ND there and forwards nothing.
  void AddNetwork(const std::string& network, const Addresses& gateways);
  // The usual wiring of all nodes so far: eth0 on network "cluster"
  // (192.168.50.<10 + number>, fd00:50::<10 + number>), default routes, and a way from
  // each node to the others' pods. All nodes route their pods alike. Nodes with tunnels
  // masquerade.
  void Connect(PodNetwork network = PodNetwork::kRoutes);
  // Routes from each node to the others' pods by the addresses that they have now.
  void RoutePods();
  // Waits until no link is still coming up. Before the first packet.
  void Settle() const;

  Node& node(int number) { return *nodes_.at(static_cast<size_t>(number - 1)); }

  // A folder that agents can watch.
  const std::string& manifests() const { return manifests_; }
  // An empty folder beside it.
  const std::string& scratch() const { return scratch_; }
  // Written aside and renamed into place.
  void WriteManifest(const std::string& file, const std::string& text) const;
  void RemoveManifest(const std::string& file) const;

  // For Node: the switches' namespace.
  const Place& fabric() const { return *fabric_; }

 private:
  void TunnelByVxlan();
  void TunnelByTun();

  std::string name_;
  std::string cgroup_;
  std::string pins_;
  std::string manifests_;
  std::string scratch_;
  std::unique_ptr<Place> fabric_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<Process> carriers_;  // of PodNetwork::kTun
};

}  // namespace waggle::lab

#endif
