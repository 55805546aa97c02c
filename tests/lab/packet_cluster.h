// The cluster for scenarios of the packet path: agents on both nodes that can be started
// again with other flags, one Service for each backend, and what "works" means.
#ifndef WAGGLE_TESTS_LAB_PACKET_CLUSTER_H_
#define WAGGLE_TESTS_LAB_PACKET_CLUSTER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/lab/cluster.h"

namespace waggle::lab {

// Flags of the agent.
struct Way {
  std::string forwarding = "redirect";  // or "stack"
  std::string socket_lb = "off";        // or "host", "all"

  AgentOptions Options() const;
  std::string Name() const;  // "RedirectOff"
};
void PrintTo(const Way& way, std::ostream* out);

// Both forwardings, with no socket hook and with all of them.
std::vector<Way> AllWays();
// Both forwardings, without socket hooks: every packet is the packet path's.
std::vector<Way> PacketWays();

// A Service on ClusterIps(host): TCP and UDP port 80, and the echo on TCP port 7.
Service MakeWithEcho(const std::string& name, int host, std::vector<Endpoint> endpoints);

// A Cluster with two more Services: `near` (10.96.0.11: b1 on node1, where the client is)
// and `far` (10.96.0.12: b2 on node2).
class PacketCluster : public Cluster {
 public:
  explicit PacketCluster(Cni cni = Cni::kRouted, PodNetwork network = PodNetwork::kRoutes);

  Service near;
  Service far;
  std::unique_ptr<Agent> agent2;

  // Starts the agent of node1, or stops it and starts it with other flags.
  void Start(const Way& way);
  // The same on both nodes.
  void StartBoth(const Way& way);
  // Stops the agent of node1 and takes everything of its out of the kernel.
  void CleanUp();

  uint64_t Reason(waggle_reason reason) const { return ReadReason(node1.pin_path(), reason); }
};

// What each check says when it fails: the place and the circumstances.
// Every kind of traffic, `count` times each, all answered by `name` (empty: by whoever it
// is), from the address that was asked.
void ExpectServed(const Place& from, const Service& service, const std::string& name,
                  int count = 3);
// 3 MB there and back over TCP and datagrams of 9,000 bytes, compared; by families.
void ExpectBulk(const Place& from, const Service& service);
// The client's view and the backend's: getpeername() and recvfrom() say the Service, and
// the backend sees `source` (both families).
void ExpectAddresses(const Place& from, const Service& service, const Addresses& source);
// Every kind of traffic: no answer, and no error.
void ExpectSilence(const Place& from, const Service& service);

}  // namespace waggle::lab

#endif
