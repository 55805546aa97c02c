// Names, sizes and places of the pinned maps. The only file that knows them.
#ifndef WAGGLE_MAPS_LAYOUT_H_
#define WAGGLE_MAPS_LAYOUT_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace waggle::maps {

inline constexpr std::string_view kDefaultPinPath = "/sys/fs/bpf/waggle";

// Capacities in entries, as the flags --max-… set them.
struct Sizes {
  uint32_t frontends = 65536;   // frontends, all families and protocols
  uint32_t services = 65536;    // Service ports; also the number of slots in `lists`
  uint32_t backends = 262144;   // backends, counted once for each list that holds them
  uint32_t udp_flows = 131072;  // entries of udp_flows: two for each (socket, Service)
};

// Every map in order of creation; `flag` is the one that sets its size, or empty.
struct MapInfo {
  std::string_view name;
  std::string_view flag;
  uint32_t Sizes::*size;  // nullptr: fixed
};
inline constexpr std::array<MapInfo, 8> kMaps = {{
    {"frontends", "--max-frontends", &Sizes::frontends},
    {"lists", "--max-services", &Sizes::services},
    {"backends", "--max-backends", &Sizes::backends},
    {"services", "--max-services", &Sizes::services},
    {"sock_state", "", nullptr},
    {"udp_flows", "--max-udp-flows", &Sizes::udp_flows},
    {"stats", "", nullptr},
    {"agent", "", nullptr},
}};

// Links are pinned below this folder of the pin path.
inline constexpr std::string_view kLinkFolder = "links";

inline std::string PinOf(std::string_view pin_path, std::string_view name) {
  return std::string(pin_path) + "/" + std::string(name);
}

}  // namespace waggle::maps

#endif
