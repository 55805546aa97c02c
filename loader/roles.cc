#include "loader/roles.h"

#include <fnmatch.h>
#include <net/if_arp.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace waggle::loader {
namespace {

template <size_t N>
bool IsAnyOf(const std::array<std::string_view, N>& kinds, std::string_view kind) {
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

// Packets of pods travel inside packets of this node.
constexpr std::array<std::string_view, 19> kTunnels = {
    "vxlan",     "geneve",  "gre", "gretap", "erspan", "ip6gre", "ip6gretap",
    "ip6erspan", "ipip",    "sit", "ip6tnl", "vti",    "vti6",   "xfrm",
    "wireguard", "bareudp", "gtp", "amt",    "ovpn"};

// Leads nowhere, to no IP network, or where somebody else's forwarding decides.
constexpr std::array<std::string_view, 9> kNowhere = {
    "dummy", "ifb", "nlmon", "vsockmon", "vrf", "vcan", "vxcan", "can", "openvswitch"};

// A virtual machine's cable.
constexpr std::array<std::string_view, 2> kMachines = {"macvtap", "ipvtap"};

// A port of one of these is only a part of it.
constexpr std::array<std::string_view, 3> kAggregates = {"bond", "team", "hsr"};

bool Matches(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
}

struct Verdict {
  waggle_role role;
  std::string reason;
};

// Empty: nothing says that it leads to other nodes.
std::string UplinkMark(const RouteMarks& marks) {
  if (marks.default_route) return "the default route leaves by it";
  if (!marks.network.empty()) return absl::StrCat("it has the address ", marks.network);
  if (marks.gateway_route && !marks.host_route) return "routes with a gateway leave by it";
  return "";
}

// veth and netkit.
Verdict JudgePair(const Device& device) {
  const bool here = device.peer_netns < 0;
  const std::string what =
      here ? absl::StrCat(device.kind, ", its peer is in this network namespace")
           : absl::StrCat(device.kind, ", its peer is in network namespace ", device.peer_netns);
  const bool port = device.port_kind == "bridge" || device.port_kind == "openvswitch";
  const std::string mark = port ? "" : UplinkMark(device.marks);
  if (!mark.empty()) return {WAGGLE_ROLE_UPLINK, absl::StrCat(what, ", but ", mark)};
  return {here ? WAGGLE_ROLE_NONE : WAGGLE_ROLE_POD, what};
}

Verdict JudgeTun(const Device& device) {
  if (!device.ethernet()) return {WAGGLE_ROLE_TUNNEL, "tun"};
  const bool port = device.port_kind == "bridge" || device.port_kind == "openvswitch";
  const std::string mark = port ? "" : UplinkMark(device.marks);
  if (!mark.empty()) return {WAGGLE_ROLE_TUNNEL, absl::StrCat("tap, and ", mark)};
  return {WAGGLE_ROLE_NONE, "tap without addresses and routes: a virtual machine's"};
}

Verdict Judge(const Device& device) {
  const std::string& kind = device.kind;
  if (IsAnyOf(kAggregates, device.port_kind)) {
    return {WAGGLE_ROLE_NONE, absl::StrCat("a port of a ", device.port_kind)};
  }
  if (kind == "veth" || kind == "netkit") return JudgePair(device);
  if (kind == "tun") return JudgeTun(device);
  if (kind == "bridge") return {WAGGLE_ROLE_BRIDGE, "no uplink is a port of it"};
  if (IsAnyOf(kTunnels, kind)) return {WAGGLE_ROLE_TUNNEL, kind};
  if (IsAnyOf(kNowhere, kind)) return {WAGGLE_ROLE_NONE, kind};
  if (IsAnyOf(kMachines, kind)) {
    return {WAGGLE_ROLE_NONE, absl::StrCat(kind, ": a virtual machine's")};
  }
  switch (device.hardware) {
    case ARPHRD_ETHER:
    case ARPHRD_NONE:
    case ARPHRD_PPP:
    case 519:  // ARPHRD_RAWIP, of modems
      return {WAGGLE_ROLE_UPLINK, kind.empty() ? "hardware" : kind};
    default:
      return {WAGGLE_ROLE_NONE, absl::StrCat("carries neither Ethernet frames nor bare IP packets "
                                             "(hardware type ",
                                             device.hardware, ")")};
  }
}

// An empty reason: the operator says nothing about it.
Verdict AskOperator(const Device& device, const RoleRules& rules) {
  if (device.loopback) return {WAGGLE_ROLE_NONE, "loopback"};
  if (Matches(rules.ignore, device.name)) return {WAGGLE_ROLE_NONE, "--ignore-devices names it"};
  if (Matches(rules.pods, device.name)) return {WAGGLE_ROLE_POD, "--pod-devices names it"};
  if (Matches(rules.uplinks, device.name)) {
    return {WAGGLE_ROLE_UPLINK, "--uplink-devices names it"};
  }
  return {WAGGLE_ROLE_NONE, ""};
}

waggle_device RowOf(const Device& device, waggle_role role, const DeviceMap& devices) {
  waggle_device row{};
  row.role = role;
  row.netns_id = role == WAGGLE_ROLE_POD ? device.peer_netns : -1;
  row.layer3 = device.ethernet() ? 0 : 1;
  const auto master = devices.find(device.master);
  if (master != devices.end() && master->second.kind == "bridge") {
    row.bridge = device.master;
    std::memcpy(row.bridge_mac, master->second.mac.data(), sizeof(row.bridge_mac));
  }
  return row;
}

}  // namespace

std::map<uint32_t, RoleDecision> AssignRoles(const DeviceMap& devices, const RoleRules& rules) {
  std::map<uint32_t, RoleDecision> decisions;
  for (const auto& [ifindex, device] : devices) {
    Verdict verdict = AskOperator(device, rules);
    if (verdict.reason.empty()) verdict = Judge(device);
    decisions[ifindex] = {verdict.role, std::move(verdict.reason), {}};
  }
  // A bridge is a way to local pods, but not one that the node's own network hangs on: there
  // the neighbours are other nodes and strangers.
  for (auto& [ifindex, decision] : decisions) {
    const Device& device = devices.at(ifindex);
    if (decision.role != WAGGLE_ROLE_BRIDGE) continue;
    if (device.marks.default_route) {
      decision = {WAGGLE_ROLE_UPLINK, "bridge, but the default route leaves by it", {}};
      continue;
    }
    for (const auto& [port_index, port] : devices) {
      if (port.master == ifindex && decisions[port_index].role == WAGGLE_ROLE_UPLINK) {
        decision = {WAGGLE_ROLE_UPLINK, absl::StrCat("bridge with the uplink ", port.name), {}};
        break;
      }
    }
  }
  for (auto& [ifindex, decision] : decisions) {
    if (decision.role == WAGGLE_ROLE_NONE) continue;
    decision.row = RowOf(devices.at(ifindex), decision.role, devices);
  }
  return decisions;
}

std::string_view RoleName(waggle_role role) {
  switch (role) {
    case WAGGLE_ROLE_POD:
      return "pod";
    case WAGGLE_ROLE_BRIDGE:
      return "bridge";
    case WAGGLE_ROLE_UPLINK:
      return "uplink";
    case WAGGLE_ROLE_TUNNEL:
      return "tunnel";
    case WAGGLE_ROLE_NONE:
      return "none";
  }
  return "unknown";
}

}  // namespace waggle::loader
