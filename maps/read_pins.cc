// ReadPins(): all of it from a folder of pins.

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "maps/device_table.h"
#include "maps/flow_table.h"
#include "maps/kernel_map_store.h"
#include "maps/layout.h"
#include "maps/pins.h"
#include "maps/reader.h"
#include "userspace/os/errno_status.h"

namespace waggle::maps {
namespace {

// Pins made before there was a packet path lack them.
constexpr std::string_view kPacketPathMaps[] = {"flows",   "half_open", "fragments",
                                                "devices", "settings",  "icmp_budget"};
// Hashes of which only the number of entries is shown.
constexpr std::string_view kCounted[] = {"udp_flows", "flows", "half_open", "fragments"};

bool IsPacketPathMap(std::string_view name) {
  return std::find(std::begin(kPacketPathMaps), std::end(kPacketPathMaps), name) !=
         std::end(kPacketPathMaps);
}

uint64_t BoottimeNs() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

absl::StatusOr<std::vector<uint64_t>> ReadStats(int fd) {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 1) return os::ErrnoStatus(-cpus, "count CPUs");
  std::vector<uint64_t> sums(WAGGLE_REASON_COUNT);
  std::vector<uint64_t> values(static_cast<size_t>(cpus));
  for (uint32_t reason = 0; reason < WAGGLE_REASON_COUNT; ++reason) {
    if (bpf_map_lookup_elem(fd, &reason, values.data()) != 0) {
      if (errno == ENOENT) break;  // made by a version with fewer reasons
      return os::ErrnoStatus(errno, "read map stats");
    }
    for (const uint64_t value : values)
      sums[reason] += value;
  }
  return sums;
}

// All pinned maps, opened to be read.
class OpenMaps {
 public:
  static absl::StatusOr<OpenMaps> Open(std::string_view pin_path) {
    if (absl::Status status = CheckReadable(pin_path); !status.ok()) return status;
    OpenMaps open;
    for (size_t i = 0; i < kMaps.size(); ++i) {
      // A descriptor that was opened read-only cannot be mmapped, not even for reading.
      const bool mapped = kMaps[i].name == "lists" || kMaps[i].name == "backends";
      absl::StatusOr<os::UniqueFd> fd =
          OpenPin(pin_path, kMaps[i].name, mapped ? Access::kReadWrite : Access::kReadOnly);
      if (absl::IsNotFound(fd.status()) && IsPacketPathMap(kMaps[i].name)) continue;
      if (!fd.ok()) return fd.status();
      const absl::StatusOr<uint32_t> capacity = MapCapacity(fd->get());
      if (!capacity.ok()) return capacity.status();
      open.fds_[i] = *std::move(fd);
      open.usage.push_back({std::string(kMaps[i].name), std::string(kMaps[i].flag), 0, *capacity});
    }
    return open;
  }

  // -1: not pinned.
  int fd_of(std::string_view name) const {
    for (size_t i = 0; i < kMaps.size(); ++i) {
      if (kMaps[i].name == name) return fds_[i].get();
    }
    return -1;
  }

  // In the order of kMaps; nothing is counted yet.
  std::vector<MapUsage> usage;

 private:
  std::array<os::UniqueFd, kMaps.size()> fds_;
};

absl::StatusOr<waggle_agent> ReadAgentRow(int fd) {
  const uint32_t zero = 0;
  waggle_agent row{};
  if (bpf_map_lookup_elem(fd, &zero, &row) != 0) return os::ErrnoStatus(errno, "read map agent");
  row.node[WAGGLE_NODE_LEN - 1] = '\0';
  row.version[WAGGLE_VERSION_LEN - 1] = '\0';
  return row;
}

bool IsCounted(std::string_view name) {
  return std::find(std::begin(kCounted), std::end(kCounted), name) != std::end(kCounted);
}

}  // namespace

absl::StatusOr<KernelCounters> ReadCounters(std::string_view pin_path, bool walk) {
  absl::StatusOr<OpenMaps> open = OpenMaps::Open(pin_path);
  if (!open.ok()) return open.status();
  KernelCounters counters;
  const absl::StatusOr<waggle_agent> agent = ReadAgentRow(open->fd_of("agent"));
  if (!agent.ok()) return agent.status();
  counters.agent = *agent;
  counters.now_boottime_ns = BoottimeNs();
  absl::StatusOr<std::vector<uint64_t>> stats = ReadStats(open->fd_of("stats"));
  if (!stats.ok()) return stats.status();
  counters.stats = *std::move(stats);
  if (const int fd = open->fd_of("devices"); fd >= 0) {
    absl::StatusOr<Devices> devices = ReadDevices(fd);
    if (!devices.ok()) return devices.status();
    counters.devices = *std::move(devices);
  }
  counters.maps = std::move(open->usage);
  for (MapUsage& usage : counters.maps) {
    if (usage.name == "devices") usage.used = counters.devices.size();
    if (!walk || !IsCounted(usage.name)) continue;
    const absl::StatusOr<uint64_t> entries = CountEntries(open->fd_of(usage.name));
    if (!entries.ok()) return entries.status();
    usage.used = *entries;
  }
  return counters;
}

absl::StatusOr<KernelView> ReadPins(std::string_view pin_path) {
  absl::StatusOr<OpenMaps> open = OpenMaps::Open(pin_path);
  if (!open.ok()) return open.status();
  KernelView view;
  view.maps = std::move(open->usage);
  const auto fd_of = [&open](std::string_view name) { return open->fd_of(name); };
  const auto usage_of = [&](std::string_view name) -> MapUsage& {
    for (MapUsage& usage : view.maps) {
      if (usage.name == name) return usage;
    }
    return view.maps.back();
  };

  // Before the row: an agent says that it is starting before others can see its lock, so that a
  // locked row is never the last one's.
  const absl::StatusOr<bool> locked = PinsLocked(pin_path);
  if (!locked.ok()) return locked.status();
  view.locked = *locked;

  const absl::StatusOr<waggle_agent> agent = ReadAgentRow(fd_of("agent"));
  if (!agent.ok()) return agent.status();
  view.agent = *agent;
  view.now_boottime_ns = BoottimeNs();
  view.now_monotonic_ns = MonotonicNs();

  absl::StatusOr<std::vector<uint64_t>> stats = ReadStats(fd_of("stats"));
  if (!stats.ok()) return stats.status();
  view.stats = *std::move(stats);

  absl::StatusOr<ArrayMapping> lists =
      ArrayMapping::Map(fd_of("lists"), sizeof(waggle_list), /*writable=*/false, "lists");
  if (!lists.ok()) return lists.status();
  absl::StatusOr<ArrayMapping> backends =
      ArrayMapping::Map(fd_of("backends"), sizeof(waggle_backend), /*writable=*/false, "backends");
  if (!backends.ok()) return backends.status();
  const ArrayView arrays{static_cast<const waggle_list*>(lists->data()), lists->entries(),
                         static_cast<const waggle_backend*>(backends->data()), backends->entries()};
  // A live agent may change a Service between two reads, which looks like damage; real
  // damage is still there at the third look.
  absl::StatusOr<RawTables> raw;
  CheckedTables checked;
  for (int attempt = 0; attempt < 3; ++attempt) {
    raw = ReadHashes(fd_of("frontends"), fd_of("services"));
    if (!raw.ok()) return raw.status();
    checked = CheckTables(*raw, arrays);
    if (checked.problems.empty()) break;
  }
  view.services = Decompile(checked.tables, arrays);
  view.problems = std::move(checked.problems);

  usage_of("frontends").used = raw->frontends.size();
  usage_of("services").used = raw->services.size();
  for (const auto& [name, service] : checked.tables.services) {
    for (const PortState& port : service.ports) {
      usage_of("lists").used += port.lists.size();
      for (const ListState& list : port.lists)
        usage_of("backends").used += list.list.count;
    }
  }
  if (const int fd = fd_of("settings"); fd >= 0) {
    const absl::StatusOr<waggle_settings> settings = ReadSettings(fd);
    if (!settings.ok()) return settings.status();
    view.settings = *settings;
  }
  if (const int fd = fd_of("devices"); fd >= 0) {
    absl::StatusOr<Devices> devices = ReadDevices(fd);
    if (!devices.ok()) return devices.status();
    view.devices = *std::move(devices);
  }
  for (MapUsage& usage : view.maps) {
    if (IsCounted(usage.name)) {
      const absl::StatusOr<uint64_t> entries = CountEntries(fd_of(usage.name));
      if (!entries.ok()) return entries.status();
      usage.used = *entries;
    }
    if (usage.name == "devices") usage.used = view.devices.size();
    // Arrays with a meaning for each row.
    if (usage.name == "stats" || usage.name == "agent" || usage.name == "settings" ||
        usage.name == "icmp_budget") {
      usage.used = usage.max;
    }
  }
  return view;
}

}  // namespace waggle::maps
