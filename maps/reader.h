// Pins → values, with or without an agent. Everything read is checked: pins can be
// edited by anybody with the rights, and a crashed agent can leave half a change.
#ifndef WAGGLE_MAPS_READER_H_
#define WAGGLE_MAPS_READER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "bpf/abi.h"
#include "maps/desired.h"
#include "maps/tables.h"
#include "userspace/status/problem.h"

namespace waggle::maps {

// What the arrays and hashes hold, unchecked.
struct RawTables {
  struct FrontendEntry {
    waggle_frontend_key key;
    waggle_frontend value;
  };
  struct ServiceEntry {
    uint32_t id;
    waggle_service value;
  };
  std::vector<FrontendEntry> frontends;
  std::vector<ServiceEntry> services;
};

// A window on the two mmapped arrays, or on a fake's. Not owned.
struct ArrayView {
  const waggle_list* lists = nullptr;
  uint32_t lists_size = 0;
  const waggle_backend* backends = nullptr;
  uint32_t backends_size = 0;
};

// Checks and groups. What contradicts itself (a slot or range outside of the map,
// shared or overlapping, a wrong tag, an unknown service id, a name without end) goes
// to the strays and is reported. Pure.
struct CheckedTables {
  Tables tables;
  std::vector<Problem> problems;
};
CheckedTables CheckTables(const RawTables& raw, const ArrayView& arrays);

// The kernel's content in the words of resolve(): sorted by name. Pure.
ResolvedService DecompileService(const ServiceName& name, const ServiceState& state,
                                 const ArrayView& arrays);
std::vector<ResolvedService> Decompile(const Tables& tables, const ArrayView& arrays);

struct MapUsage {
  std::string name;
  std::string flag;  // that sets the size; empty: fixed
  uint64_t used = 0;
  uint64_t max = 0;  // 0: unbounded (socket storage), `used` unknown then
};

// The map `devices`, by ifindex.
using Devices = std::map<uint32_t, waggle_device>;

// All that the CLI shows, from pins alone.
struct KernelView {
  std::vector<ResolvedService> services;
  std::vector<Problem> problems;
  waggle_agent agent{};
  bool locked = false;            // a living agent holds the pins
  uint64_t now_boottime_ns = 0;   // to compare with the times in `agent`
  uint64_t now_monotonic_ns = 0;  // and with those in `settings`
  std::vector<uint64_t> stats;    // summed over CPUs, by enum waggle_reason
  std::vector<MapUsage> maps;     // those that are pinned
  // Of the packet path; none in the pins of a version that had none.
  std::optional<waggle_settings> settings;  // its text ends in NUL
  Devices devices;
};

// Numbers alone, for who asks often: each read is a few system calls, but for the walks.
struct KernelCounters {
  waggle_agent agent{};
  uint64_t now_boottime_ns = 0;  // to compare with the times in `agent`
  std::vector<uint64_t> stats;   // summed over CPUs, by enum waggle_reason
  // Every pinned map with its capacity. `used` only of `devices`, and with `walk` of those whose
  // entries programs make; else 0.
  std::vector<MapUsage> maps;
  Devices devices;
};
// `walk`: count what can only be counted by a walk over a whole map. Errors as ReadPins().
absl::StatusOr<KernelCounters> ReadCounters(std::string_view pin_path, bool walk);

// Pins of an older version of the same layout may lack maps, and counters. NotFound:
// nothing is pinned there (says what to start). FailedPrecondition: another
// layout version, or no bpffs. PermissionDenied: no rights. Each names the path.
absl::StatusOr<KernelView> ReadPins(std::string_view pin_path);

}  // namespace waggle::maps

#endif
