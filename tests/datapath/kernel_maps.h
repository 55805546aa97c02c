// Waggle's maps in a test's own BPF object: sized, unpinned, and as the store takes them.
#ifndef WAGGLE_TESTS_DATAPATH_KERNEL_MAPS_H_
#define WAGGLE_TESTS_DATAPATH_KERNEL_MAPS_H_

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "maps/kernel_map_store.h"
#include "maps/layout.h"

namespace waggle::maps {

// Before the object is loaded.
inline void SetSizes(bpf_object* object, const Sizes& sizes) {
  for (const MapInfo& info : kMaps) {
    if (!info.size) continue;
    bpf_map* map = bpf_object__find_map_by_name(object, std::string(info.name).c_str());
    if (!map || bpf_map__set_max_entries(map, info.size(sizes)) != 0) std::abort();
  }
}

// The descriptors stay the object's.
inline int FdOf(const bpf_object* object, const char* name) {
  return bpf_object__find_map_fd_by_name(object, name);
}

inline absl::StatusOr<std::unique_ptr<KernelMapStore>> StoreOf(const bpf_object* object) {
  const auto copy = [&](const char* name) {
    return os::UniqueFd(fcntl(FdOf(object, name), F_DUPFD_CLOEXEC, 0));
  };
  return KernelMapStore::Create(
      {copy("frontends"), copy("lists"), copy("backends"), copy("services"), copy("agent")});
}

// The counter of one reason, summed over CPUs.
inline uint64_t StatOf(const bpf_object* object, uint32_t reason) {
  std::vector<uint64_t> values(static_cast<size_t>(libbpf_num_possible_cpus()));
  if (bpf_map_lookup_elem(FdOf(object, "stats"), &reason, values.data()) != 0) std::abort();
  uint64_t sum = 0;
  for (const uint64_t value : values)
    sum += value;
  return sum;
}

}  // namespace waggle::maps

#endif
