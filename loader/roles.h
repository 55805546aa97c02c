// What each device is to the packet path, decided from facts alone. Pure.
#ifndef WAGGLE_LOADER_ROLES_H_
#define WAGGLE_LOADER_ROLES_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/abi.h"
#include "loader/devices.h"

namespace waggle::loader {

// What the operator says: names or patterns of names (fnmatch). The first list that has the
// device decides; the loopback device is left alone in any case.
struct RoleRules {
  std::vector<std::string> ignore;
  std::vector<std::string> pods;
  std::vector<std::string> uplinks;
};

struct RoleDecision {
  waggle_role role = WAGGLE_ROLE_NONE;
  std::string reason;  // "veth, its peer is in network namespace 3"
  // Its row in the map `devices`; with NONE there is none.
  waggle_device row{};
};

// By ifindex, one for each device.
//
// A veth whose peer lives in another namespace is a pod's, or the uplink of a node that is a
// container itself. A port of a bridge is a pod's. Else it is an uplink if the default route
// leaves by it, if it has an address in a network of more than two, or if routes with
// gateways leave by it and none to a single address (a pod that is a router has both).
std::map<uint32_t, RoleDecision> AssignRoles(const DeviceMap& devices, const RoleRules& rules);

// "none", "pod", "bridge", "uplink", "tunnel"; "unknown" for what pins may hold besides.
std::string_view RoleName(waggle_role role);

}  // namespace waggle::loader

#endif
