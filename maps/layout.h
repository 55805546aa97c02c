// Names, sizes and places of the pinned maps. The only file that knows them.
#ifndef WAGGLE_MAPS_LAYOUT_H_
#define WAGGLE_MAPS_LAYOUT_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "bpf/abi.h"

namespace waggle::maps {

inline constexpr std::string_view kDefaultPinPath = "/sys/fs/bpf/waggle";

// Capacities in entries, as the flags --max-… set them.
struct Sizes {
  uint32_t frontends = 65536;   // frontends, all families and protocols
  uint32_t services = 65536;    // Service ports
  uint32_t backends = 262144;   // backends, counted once for each list that holds them
  uint32_t udp_flows = 131072;  // entries of udp_flows: two for each (socket, Service)
  uint32_t flows = 524288;      // entries of flows: two for each established flow
  uint32_t half_open = 131072;  // entries of half_open: two for each flow

  // A Service port has one list for each family and scope.
  uint32_t lists() const { return services * 4; }
};
// Each size is between 1 and this, so that lists() and byte counts do not overflow.
inline constexpr uint32_t kMaxSize = 1u << 26;

// Every map in order of creation; `flag` is the one that sets its size, or empty.
struct MapInfo {
  std::string_view name;
  std::string_view flag;
  uint32_t (*size)(const Sizes&);  // nullptr: fixed
};
inline constexpr std::array<MapInfo, 14> kMaps = {{
    {"frontends", "--max-frontends", [](const Sizes& sizes) { return sizes.frontends; }},
    {"lists", "--max-services", [](const Sizes& sizes) { return sizes.lists(); }},
    {"backends", "--max-backends", [](const Sizes& sizes) { return sizes.backends; }},
    {"services", "--max-services", [](const Sizes& sizes) { return sizes.services; }},
    {"sock_state", "", nullptr},
    {"udp_flows", "--max-udp-flows", [](const Sizes& sizes) { return sizes.udp_flows; }},
    {"flows", "--max-flows", [](const Sizes& sizes) { return sizes.flows; }},
    {"half_open", "--max-half-open", [](const Sizes& sizes) { return sizes.half_open; }},
    {"fragments", "", nullptr},
    {"devices", "", nullptr},
    {"settings", "", nullptr},
    {"icmp_budget", "", nullptr},
    // Grows with the list of reasons.
    {"stats", "", [](const Sizes&) { return uint32_t{WAGGLE_REASON_COUNT}; }},
    {"agent", "", nullptr},
}};

// Links are pinned below this folder of the pin path.
inline constexpr std::string_view kLinkFolder = "links";

inline std::string PinOf(std::string_view pin_path, std::string_view name) {
  return std::string(pin_path) + "/" + std::string(name);
}

}  // namespace waggle::maps

#endif
