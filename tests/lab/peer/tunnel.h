// A tunnel without Ethernet header between the lab's nodes, as Calico's IPIP is: the
// kernel's end is a tun device, and this program carries its packets to the other nodes
// in UDP datagrams. (Kernels for tests need not have ipip devices.)
#ifndef WAGGLE_TESTS_LAB_PEER_TUNNEL_H_
#define WAGGLE_TESTS_LAB_PEER_TUNNEL_H_

#include <string>
#include <vector>

namespace waggle::lab {

struct TunnelOptions {
  std::string device;           // a tun device that exists in this network namespace
  std::string local;            // this end: "192.168.50.11:4789"
  std::vector<std::string> to;  // what goes where: "10.244.2.0/24=192.168.50.12:4789"
};

// Prints "ready" once both ends are open, then carries until killed. Returns the exit
// status; what went wrong is on stderr.
int Tunnel(const TunnelOptions& options);

}  // namespace waggle::lab

#endif
