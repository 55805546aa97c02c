// The maps `flows` and `half_open` as values: what the packet path is translating, one Flow
// for the two entries that each has. Reads only; flow_collector.h removes.
#ifndef WAGGLE_MAPS_FLOW_TABLE_H_
#define WAGGLE_MAPS_FLOW_TABLE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bpf/abi.h"
#include "userspace/net/address.h"

namespace waggle::maps {

enum class FlowState : uint8_t {
  // TCP
  kSynSent,      // the client's SYN was seen
  kSynReceived,  // the backend answered, the client did not yet
  kEstablished,
  kClosing,  // one side has closed
  kClosed,   // both have, or one has reset
  // UDP
  kUnreplied,  // the backend never answered
  kReplied,    // it did
  kStream,     // and the client spoke again
};
// "syn-sent", "syn-recv", "established", "closing", "closed", "unreplied", "replied", "stream".
std::string_view FlowStateName(FlowState state);
// `bits`: enum waggle_flow_state of both entries together. Pure.
FlowState FlowStateOf(uint8_t protocol, uint8_t bits);

// How the client's packets go to the backend.
enum class FlowMode : uint8_t {
  kStack,  // the host's stack routes them
  kPeer,   // redirected into the pod
  kNeigh,  // redirected out of an uplink, tunnel or bridge
};
// "stack", "peer", "neigh".
std::string_view FlowModeName(FlowMode mode);

struct Flow {
  net::Protocol protocol = net::Protocol::kTcp;
  FlowState state = FlowState::kSynSent;
  FlowMode mode = FlowMode::kStack;
  bool established = false;  // stands in `flows`; else in `half_open`, where it can be evicted
  bool half = false;         // one of its two entries is missing
  bool socket = false;       // was translated at its socket
  bool hairpin = false;      // client and backend are one pod
  bool direct = false;       // no Service's: `frontend` is the backend itself
  net::Endpoint client;
  // What the client talks to. Of one that was translated at its socket the entries do not tell:
  // `frontend` is the backend then, unless somebody finds out (FlowPins).
  net::Endpoint frontend;
  bool frontend_known = true;
  net::Endpoint backend;  // who answers
  // Whom the backend sees in place of the client; set only where that is another one.
  std::optional<net::Endpoint> source;
  uint32_t service_id = 0;    // key into `services`; 0 with `direct`
  uint32_t device = 0;        // ifindex of the client's device
  uint32_t out_device = 0;    // ifindex that the client's packets are redirected to; 0: the stack
  uint64_t age_ns = 0;        // since its first packet
  uint64_t idle_ns = 0;       // since the last packet of either direction
  uint64_t remaining_ns = 0;  // until it is over if no packet comes; 0: it is
};

// One element of either map.
struct FlowEntry {
  waggle_flow_key key{};
  waggle_flow value{};
};

// Is this what a program wrote: a tag that fits, a known kind and protocol? Pure.
bool IsFlowEntry(const FlowEntry& entry);
// Are the two both directions of one flow? Pure.
bool ArePartners(const FlowEntry& left, const FlowEntry& right);
// The flow of one entry and its partner (null: it is missing). Both fit together, and
// IsFlowEntry(). `now_ns`: CLOCK_MONOTONIC. Pure.
Flow AssembleFlow(const FlowEntry& entry, const FlowEntry* partner, uint64_t now_ns);

// Nanoseconds since the last packet of either direction. A stamp from after `now_ns` (another
// CPU's) is 'just now'. Pure.
uint64_t FlowIdleNs(const FlowEntry& entry, const FlowEntry* partner, uint64_t now_ns);
// Have the programs forgotten it: idle for longer than its state allows? Pure.
bool FlowIsOver(const FlowEntry& entry, const FlowEntry* partner, uint64_t now_ns);

// CLOCK_MONOTONIC, as the programs stamp flows.
uint64_t MonotonicNs();

// Descriptors of the two maps, readable. Not owned.
struct FlowFds {
  int flows = -1;
  int half_open = -1;
};

// One entry by its key, as it is now; nullopt: it is not there.
absl::StatusOr<std::optional<FlowEntry>> ReadFlowEntry(int fd, const waggle_flow_key& key);

// The other direction's entry, and where it stands.
struct FoundPartner {
  FlowEntry entry;
  bool in_flows = false;  // else in `half_open`
};
// Looks into `flows` or `half_open` first, by `flows_first`, then into the other. nullopt:
// in neither, or what stands there is another flow's.
absl::StatusOr<std::optional<FoundPartner>> FindPartner(const FlowFds& fds, const FlowEntry& entry,
                                                        bool flows_first);

struct FlowCounts {
  uint64_t flows = 0;    // given to `take`
  uint64_t over = 0;     // idle for too long: the programs do not know them any more
  uint64_t damaged = 0;  // entries that no program wrote so
};
// Gives every living flow to `take`, in no order, in batches: memory does not grow with the
// maps. While programs go on, a flow that moves from one map to the other may be given twice.
absl::StatusOr<FlowCounts> ReadFlows(const FlowFds& fds, uint64_t now_ns,
                                     const std::function<void(const Flow&)>& take);

// Copies one `flows` (or `half_open`) into another of another size, pass by pass while programs
// go on: first with the old one, later with the new one.
class FlowTableCopy {
 public:
  // Not owned; both stay open.
  FlowTableCopy(int from_fd, int to_fd) : from_fd_(from_fd), to_fd_(to_fd) {}

  // Copies what fits of the flows that no pass before has seen, both entries or none. Those that
  // one has seen cost no system call; they may have left the new map since, and stay away. What
  // is in the new map stays as it is. ResourceExhausted: that one was full; says how many flows
  // were left out.
  absl::Status Pass();

 private:
  int from_fd_;
  int to_fd_;
  absl::flat_hash_set<uint64_t> seen_;  // hashes of keys
};

}  // namespace waggle::maps

#endif
