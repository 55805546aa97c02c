// The kernel's content as values: what one Service has there, and what it shall
// have. ABI rows inside; slots and ids outside.
#ifndef WAGGLE_MAPS_TABLES_H_
#define WAGGLE_MAPS_TABLES_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "bpf/abi.h"
#include "maps/desired.h"

namespace waggle::maps {

// A frontend row without its slot and ids.
struct FrontendRow {
  waggle_frontend_key key{};
  uint8_t kind = 0;  // enum waggle_kind
};

inline bool SameKey(const waggle_frontend_key& left, const waggle_frontend_key& right) {
  return std::memcmp(&left, &right, sizeof(left)) == 0;
}

struct FrontendKeyHash {
  size_t operator()(const waggle_frontend_key& key) const {
    return waggle_frontend_tag(&key, 0, 0, 0);
  }
};
struct FrontendKeyEqual {
  bool operator()(const waggle_frontend_key& left, const waggle_frontend_key& right) const {
    return SameKey(left, right);
  }
};
template <typename Value>
using FrontendKeyMap =
    absl::flat_hash_map<waggle_frontend_key, Value, FrontendKeyHash, FrontendKeyEqual>;

// ---- Desired: made by compile(). base, slot and service_id are still zero.
struct ListRows {
  waggle_list list{};  // fate, policy, affinity_s, count
  std::vector<waggle_backend> backends;
  std::vector<FrontendRow> frontends;
};
struct PortRows {
  waggle_service service{};
  std::vector<ListRows> lists;
};
struct ServiceRows {
  ServiceName name;
  std::vector<PortRows> ports;
};

// ---- In force: only what the kernel acknowledged. Backends are not repeated here:
// they are read from the mmapped array, at [list.base, list.base + list.count).
struct ListState {
  uint32_t slot = 0;
  waggle_list list{};
  std::vector<FrontendRow> frontends;
};
struct PortState {
  uint32_t id = 0;
  std::string name;      // of the Service port; may be empty
  uint8_t protocol = 0;  // IANA number
  std::vector<ListState> lists;
};
struct ServiceState {
  std::vector<PortState> ports;
};

struct Tables {
  absl::flat_hash_map<ServiceName, ServiceState> services;
  // Rows that belong to nobody or contradict others: written by a crashed agent or a
  // stranger. Removed by the first full sync.
  std::vector<waggle_frontend_key> stray_frontends;
  std::vector<uint32_t> stray_services;
};

}  // namespace waggle::maps

#endif
