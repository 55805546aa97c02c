// What the programs at tc have to do with a packet, in plain words and values: written from
// the design, not from bpf/, and slow. State goes from packet to packet as in the kernel.
#ifndef WAGGLE_TESTS_DATAPATH_PACKET_MODEL_H_
#define WAGGLE_TESTS_DATAPATH_PACKET_MODEL_H_

#include <compare>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "bpf/abi.h"
#include "tests/datapath/packet_builder.h"
#include "userspace/net/address.h"

namespace waggle::packet {

enum class Program { kPodIn, kPodOut, kNetIn };
std::string_view ProgramName(Program program);

// What a program returns (linux/pkt_cls.h).
inline constexpr int kUnspec = -1, kShot = 2, kRedirect = 7;

// A flow as its packets show it.
struct Tuple {
  net::Endpoint src, dst;
  uint8_t protocol = kTcp;

  Tuple Reversed() const { return {dst, src, protocol}; }
  std::string ToString() const;
  friend auto operator<=>(const Tuple&, const Tuple&) = default;
};

// Where packets leave.
struct Way {
  uint8_t how = WAGGLE_WAY_STACK;  // enum waggle_way_how
  uint32_t device = 0;
  uint32_t mtu = 0;  // 0: not looked at
};

// The entry of one direction.
struct Flow {
  bool forward = false;
  bool established = false;  // stands in `flows`, not in `half_open`
  uint8_t flags = 0;         // enum waggle_flow_flag
  uint8_t state = 0;         // enum waggle_flow_state: what this direction has shown
  net::Endpoint new_src, new_dst;
  uint32_t service_id = 0;
  uint32_t slot = 0;
  uint32_t ifindex = 0;      // device of the client
  uint32_t answered_by = 0;  // device that the last answer came by
  // TCP: once seen; `closing`: what acknowledges the other side's FIN.
  std::optional<uint32_t> isn;
  bool closing = false;  // the other side sent its FIN
  Way way;               // with WAGGLE_FLOW_REDIRECT
  uint64_t idle_ns = 0;  // since this direction's last packet
};

// May another connection with the ends of a flow in this state begin? Of both entries.
bool IsClosed(uint8_t state);

struct List {
  uint8_t fate = WAGGLE_FATE_NONE;
  uint8_t policy = WAGGLE_POLICY_CLUSTER;
  std::vector<net::Endpoint> backends;
  uint32_t service_id = 0;
};

// Where the host's routes lead.
struct Route {
  net::Address prefix;
  int length = 0;       // of 128 bits: 96 more than IPv4 counts
  bool local = false;   // an address of the node
  uint32_t device = 0;  // 0: unreachable
  std::optional<net::Address> gateway = {};
  uint32_t mtu = 1500;
};

// What only a program could choose: a random backend, a random source port. Asked with the
// tuple of a new flow after the program ran.
struct Choice {
  net::Endpoint new_src, new_dst;
};
using Oracle = std::function<std::optional<Choice>(const Tuple&)>;
// Is there a socket, not a listening one, with these ends in the network namespace behind the
// device? nullopt: nobody can say. TCP only.
using SocketThere = std::function<std::optional<bool>(uint32_t ifindex, const Tuple&)>;

// How a packet comes to a program.
struct Arrival {
  Program program = Program::kPodIn;
  uint32_t ifindex = 0;
  uint32_t gso_size = 0;  // payload of each segment that it is cut into later; 0: one packet
  bool tagged = false;    // its VLAN tag stands beside the frame, as devices hand it over
};

struct Outcome {
  int verdict = kUnspec;
  Bytes bytes;
  std::map<uint32_t, uint64_t> reasons;  // enum waggle_reason -> times counted
  std::string fault;                     // a choice of the program that nothing allows
};

class Model {
 public:
  // ---- What the agent wrote, and what the host is.
  std::map<std::pair<net::Endpoint, uint8_t>, uint32_t> frontends;  // and protocol -> slot
  std::map<uint32_t, List> lists;
  std::map<uint32_t, waggle_device> devices;
  std::vector<Route> routes;
  uint32_t forwarding = WAGGLE_FORWARDING_STACK;
  bool lost_flows_pass = true;
  size_t max_established = 1u << 30;  // entries of `flows`
  bool icmp_allowed = true;           // the budget for errors is not used up
  SocketThere socket_there = [](uint32_t, const Tuple&) { return std::nullopt; };

  // ---- What the programs remember.
  std::map<Tuple, Flow> entries;
  std::deque<Tuple> ended;  // flows that both sides have closed, oldest first
  static constexpr size_t kEndedFlows = 128;
  // (source, destination, id, protocol) -> what the first one said
  struct Fragments {
    uint16_t src_port = 0, dst_port = 0;
    bool by_stack = false;  // the first one went by the stack
  };
  std::map<std::tuple<net::Address, net::Address, uint32_t, uint8_t>, Fragments> fragments;

  Outcome Run(const Arrival& arrival, const Bytes& frame, const Oracle& oracle);

  // (device, address) -> MAC: who sends by it; on bridges IPv6 clients, and what the host knows.
  std::map<std::pair<uint32_t, net::Address>, Mac> neighbors;

  // Both sides of the flow have closed: a few such stay, for what may still come.
  void End(const Tuple& tuple);
  // An entry that is in force; nullptr: none. One that is over is removed, with its partner.
  Flow* Find(const Tuple& tuple);
  // Has the flow of this entry been idle for too long?
  bool IsOver(const Tuple& tuple, const Flow& flow) const;
  // The key of the other direction's entry.
  static Tuple Partner(const Tuple& tuple, const Flow& flow) {
    return {flow.new_dst, flow.new_src, tuple.protocol};
  }
  // The way of new flows to this address, before it is asked whether packets are tagged.
  Way WayTo(const net::Address& dst) const;
  // Of the longest prefix; nullptr: none.
  const Route* RouteTo(const net::Address& dst) const;

 private:
  class Job;  // one packet on its way through a program
};

}  // namespace waggle::packet

#endif
