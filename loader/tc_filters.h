// Programs as filters at a device's clsact queueing discipline: the way before tcx links
// (Linux 6.6). All of it for devices of this network namespace.
#ifndef WAGGLE_LOADER_TC_FILTERS_H_
#define WAGGLE_LOADER_TC_FILTERS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace waggle::loader {

enum class TcHook : uint8_t { kIngress, kEgress };

struct TcFilter {
  std::string kind;  // "bpf", "u32", …
  uint32_t handle = 0;
  uint32_t priority = 0;
  std::string name;  // of a bpf filter: "waggle_pod_in:[42]"
  uint32_t program_id = 0;
};

// Where ours stand. Filters run by priority; this one leaves room before it.
inline constexpr uint32_t kFilterPriority = 3;
inline constexpr uint32_t kFilterHandle = 0x57a661e;

// By handle, priority and name.
bool IsOurs(const TcFilter& filter);

// Every filter there, in the order in which they run; empty without a clsact, and without such
// a device.
absl::StatusOr<std::vector<TcFilter>> ListFilters(uint32_t ifindex, TcHook hook);

// The queueing disciplines at the ingress of devices, by ifindex: "clsact" or "ingress". The kernel
// tells of all devices or of none.
using IngressQdiscs = std::map<uint32_t, std::string>;
absl::StatusOr<IngressQdiscs> ListIngressQdiscs();

// `known`: what was asked a moment ago, so that many devices cost one question; asked anew where
// this device is not in it. `made`: it was not there before. FailedPrecondition where another one
// ("ingress", which has no egress) is in the way.
absl::Status EnsureClsact(uint32_t ifindex, IngressQdiscs* known, bool* made);

// Removes the clsact if no filter is left at it. FailedPrecondition: some is. NotFound: there
// is none, or no such device.
absl::Status RemoveEmptyClsact(uint32_t ifindex);

// Ours, if it is there. FailedPrecondition: somebody else's filter has our place.
absl::StatusOr<std::optional<TcFilter>> FindOurs(uint32_t ifindex, TcHook hook);
// Puts our filter there, or replaces its program atomically. NotFound: no such device.
// FailedPrecondition: somebody else's filter has our place.
absl::Status PutFilter(uint32_t ifindex, TcHook hook, int program_fd);
// NotFound: ours is not there.
absl::Status RemoveFilter(uint32_t ifindex, TcHook hook);

}  // namespace waggle::loader

#endif
