#include "maps/flow_table.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <string>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "maps/hash_walk.h"
#include "maps/kernel_map_store.h"
#include "userspace/os/errno_status.h"

namespace waggle::maps {
namespace {

constexpr uint8_t kTcp = static_cast<uint8_t>(net::Protocol::kTcp);
constexpr uint8_t kUdp = static_cast<uint8_t>(net::Protocol::kUdp);
constexpr uint8_t kBothFins = WAGGLE_STATE_CLIENT_FIN | WAGGLE_STATE_SERVER_FIN;

net::Endpoint EndpointOf(const __u8 (&address)[16], __be16 port_be) {
  std::array<uint8_t, 16> bytes;
  std::copy(std::begin(address), std::end(address), bytes.begin());
  return {net::Address(bytes), ntohs(port_be)};
}

// Programs on other CPUs may have stamped after `now_ns` was read.
uint64_t Since(uint64_t then_ns, uint64_t now_ns) {
  return now_ns > then_ns ? now_ns - then_ns : 0;
}

uint8_t BitsOf(const FlowEntry& entry, const FlowEntry* partner) {
  return static_cast<uint8_t>(entry.value.state | (partner ? partner->value.state : 0));
}

uint64_t LifetimeNs(const FlowEntry& entry, const FlowEntry* partner) {
  return waggle_flow_lifetime_ns(entry.key.protocol, BitsOf(entry, partner));
}

FlowMode ModeOf(const waggle_flow& forward) {
  if ((forward.flags & WAGGLE_FLOW_REDIRECT) == 0) return FlowMode::kStack;
  if (forward.way.how == WAGGLE_WAY_PEER) return FlowMode::kPeer;
  return forward.way.how == WAGGLE_WAY_NEIGH ? FlowMode::kNeigh : FlowMode::kStack;
}

uint64_t HashOf(const waggle_flow_key& key) {
  return absl::HashOf(std::string_view(reinterpret_cast<const char*>(&key), sizeof(key)));
}

waggle_flow_key PartnerKey(const FlowEntry& entry) {
  waggle_flow_key key;
  waggle_flow_partner(&entry.key, &entry.value, &key);
  return key;
}

}  // namespace

std::string_view FlowStateName(FlowState state) {
  switch (state) {
    case FlowState::kSynSent:
      return "syn-sent";
    case FlowState::kSynReceived:
      return "syn-recv";
    case FlowState::kEstablished:
      return "established";
    case FlowState::kClosing:
      return "closing";
    case FlowState::kClosed:
      return "closed";
    case FlowState::kUnreplied:
      return "unreplied";
    case FlowState::kReplied:
      return "replied";
    case FlowState::kStream:
      return "stream";
  }
  return "unknown";
}

FlowState FlowStateOf(uint8_t protocol, uint8_t bits) {
  if (protocol != kTcp) {
    if (bits & WAGGLE_STATE_ASSURED) return FlowState::kStream;
    return bits & WAGGLE_STATE_REPLIED ? FlowState::kReplied : FlowState::kUnreplied;
  }
  if ((bits & WAGGLE_STATE_RESET) || (bits & kBothFins) == kBothFins) return FlowState::kClosed;
  if (bits & kBothFins) return FlowState::kClosing;
  if (bits & WAGGLE_STATE_ASSURED) return FlowState::kEstablished;
  return bits & WAGGLE_STATE_REPLIED ? FlowState::kSynReceived : FlowState::kSynSent;
}

std::string_view FlowModeName(FlowMode mode) {
  switch (mode) {
    case FlowMode::kStack:
      return "stack";
    case FlowMode::kPeer:
      return "peer";
    case FlowMode::kNeigh:
      return "neigh";
  }
  return "unknown";
}

bool IsFlowEntry(const FlowEntry& entry) {
  const auto& [key, value] = entry;
  return (key.protocol == kTcp || key.protocol == kUdp) &&
         (value.kind == WAGGLE_FLOW_FORWARD || value.kind == WAGGLE_FLOW_REPLY) &&
         value.tag == waggle_flow_tag(&key, &value);
}

bool ArePartners(const FlowEntry& left, const FlowEntry& right) {
  const waggle_flow_key to_right = PartnerKey(left);
  const waggle_flow_key to_left = PartnerKey(right);
  return IsFlowEntry(left) && IsFlowEntry(right) && left.value.kind != right.value.kind &&
         std::memcmp(&to_right, &right.key, sizeof(to_right)) == 0 &&
         std::memcmp(&to_left, &left.key, sizeof(to_left)) == 0;
}

Flow AssembleFlow(const FlowEntry& entry, const FlowEntry* partner, uint64_t now_ns) {
  const auto& [key, value] = entry;
  const bool forward = value.kind == WAGGLE_FLOW_FORWARD;
  Flow flow;
  flow.protocol = static_cast<net::Protocol>(key.protocol);
  flow.state = FlowStateOf(key.protocol, BitsOf(entry, partner));
  flow.half = partner == nullptr;
  flow.socket = (value.flags & WAGGLE_FLOW_SOCKET) != 0;
  flow.hairpin = (value.flags & WAGGLE_FLOW_HAIRPIN) != 0;
  flow.direct = (value.flags & WAGGLE_FLOW_DIRECT) != 0;
  // Either entry says it all.
  const net::Endpoint src = EndpointOf(key.src, key.src_port_be);
  const net::Endpoint dst = EndpointOf(key.dst, key.dst_port_be);
  const net::Endpoint new_src = EndpointOf(value.new_src, value.new_src_port_be);
  const net::Endpoint new_dst = EndpointOf(value.new_dst, value.new_dst_port_be);
  flow.client = forward ? src : new_dst;
  flow.frontend = forward ? dst : new_src;
  flow.frontend_known = !flow.socket;
  flow.backend = forward ? new_dst : src;
  const net::Endpoint source = forward ? new_src : dst;
  if (source != flow.client) flow.source = source;
  flow.service_id = value.service_id;
  flow.device = value.ifindex;
  const FlowEntry* there = forward ? &entry : partner;
  if (there) {
    flow.mode = ModeOf(there->value);
    if (flow.mode != FlowMode::kStack) flow.out_device = there->value.way.device;
  } else {
    flow.mode = ModeOf(value);  // both ways are the short one, or none is
  }
  flow.age_ns = Since(value.created_ns, now_ns);
  flow.idle_ns = FlowIdleNs(entry, partner, now_ns);
  const uint64_t lifetime = LifetimeNs(entry, partner);
  flow.remaining_ns = lifetime > flow.idle_ns ? lifetime - flow.idle_ns : 0;
  return flow;
}

uint64_t FlowIdleNs(const FlowEntry& entry, const FlowEntry* partner, uint64_t now_ns) {
  const uint64_t idle = Since(entry.value.last_ns, now_ns);
  return partner ? std::min(idle, Since(partner->value.last_ns, now_ns)) : idle;
}

bool FlowIsOver(const FlowEntry& entry, const FlowEntry* partner, uint64_t now_ns) {
  return FlowIdleNs(entry, partner, now_ns) > LifetimeNs(entry, partner);
}

uint64_t MonotonicNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

absl::StatusOr<std::optional<FlowEntry>> ReadFlowEntry(int fd, const waggle_flow_key& key) {
  FlowEntry entry{key, {}};
  if (bpf_map_lookup_elem(fd, &key, &entry.value) == 0) return entry;
  if (errno == ENOENT) return std::nullopt;
  return os::ErrnoStatus(errno, "look up a flow");
}

absl::StatusOr<std::optional<FoundPartner>> FindPartner(const FlowFds& fds, const FlowEntry& entry,
                                                        bool flows_first) {
  const waggle_flow_key key = PartnerKey(entry);
  for (const bool in_flows : {flows_first, !flows_first}) {
    const auto found = ReadFlowEntry(in_flows ? fds.flows : fds.half_open, key);
    if (!found.ok()) return found.status();
    if (*found && ArePartners(entry, **found)) return FoundPartner{**found, in_flows};
  }
  return std::nullopt;
}

absl::StatusOr<FlowCounts> ReadFlows(const FlowFds& fds, uint64_t now_ns,
                                     const std::function<void(const Flow&)>& take) {
  FlowCounts counts;
  // In the order in which flows move, so that none is missed that gets established meanwhile.
  for (const bool in_flows : {false, true}) {
    absl::Status looked_up;
    absl::Status read = ReadHash<waggle_flow_key, waggle_flow>(
        in_flows ? fds.flows : fds.half_open, in_flows ? "flows" : "half_open",
        [&](const waggle_flow_key& key, const waggle_flow& value) {
          const FlowEntry entry{key, value};
          if (!looked_up.ok()) return;
          if (!IsFlowEntry(entry)) {
            ++counts.damaged;
            return;
          }
          const auto partner = FindPartner(fds, entry, in_flows);
          if (!partner.ok()) {
            looked_up = partner.status();
            return;
          }
          // Its FORWARD entry stands for both.
          if (*partner && value.kind == WAGGLE_FLOW_REPLY) return;
          Flow flow = AssembleFlow(entry, *partner ? &(*partner)->entry : nullptr, now_ns);
          flow.established = in_flows;
          if (flow.remaining_ns == 0) {
            ++counts.over;
            return;
          }
          ++counts.flows;
          take(flow);
        });
    if (!read.ok()) return read;
    if (!looked_up.ok()) return looked_up;
  }
  return counts;
}

absl::Status FlowTableCopy::Pass() {
  uint64_t left_out = 0;
  absl::Status failed;
  // False: there is no room. `ours`: it was not there before.
  const auto put = [&](const FlowEntry& entry, bool* ours) {
    absl::Status status = PutElement(to_fd_, &entry.key, &entry.value, "of flows", BPF_NOEXIST);
    *ours = status.ok();
    if (status.ok() || absl::IsAlreadyExists(status)) return true;
    if (!absl::IsResourceExhausted(status)) failed.Update(status);
    return false;
  };
  absl::Status read = ReadHash<waggle_flow_key, waggle_flow>(
      from_fd_, "of flows", [&](const waggle_flow_key& key, const waggle_flow& value) {
        const FlowEntry entry{key, value};
        if (!failed.ok() || !IsFlowEntry(entry) || !seen_.insert(HashOf(key)).second) return;
        const auto partner = FindPartner({from_fd_, from_fd_}, entry, true);
        if (!partner.ok()) {
          failed = partner.status();
          return;
        }
        // Seen by an earlier pass, before this one was there.
        const bool both = *partner && seen_.insert(HashOf((*partner)->entry.key)).second;
        bool ours = false;
        bool partner_ours = false;
        if (!put(entry, &ours)) {
          ++left_out;
        } else if (both && !put((*partner)->entry, &partner_ours)) {
          ++left_out;
          if (ours) DeleteElement(to_fd_, &key, "of flows").IgnoreError();
        }
      });
  if (!read.ok()) return read;
  if (!failed.ok()) return failed;
  if (left_out > 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the new map is full: ", left_out, " flows were left out"));
  }
  return absl::OkStatus();
}

}  // namespace waggle::maps
