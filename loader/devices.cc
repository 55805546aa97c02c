#include "loader/devices.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "loader/netlink.h"

namespace waggle::loader {
namespace {

void ParseLinkInfo(const nlattr* info, Device* device) {
  ForEachAttribute(info, [&](const nlattr* attribute) {
    if (mnl_attr_get_type(attribute) == IFLA_INFO_KIND) device->kind = TextOf(attribute);
    if (mnl_attr_get_type(attribute) == IFLA_INFO_SLAVE_KIND) device->port_kind = TextOf(attribute);
  });
}

bool HasNativeXdp(const nlattr* xdp) {
  bool native = false;
  ForEachAttribute(xdp, [&](const nlattr* attribute) {
    switch (mnl_attr_get_type(attribute)) {
      case IFLA_XDP_ATTACHED:
        native |= mnl_attr_get_u8(attribute) == XDP_ATTACHED_DRV;
        break;
      case IFLA_XDP_DRV_PROG_ID:  // beside a generic one
        native |= NumberOf(attribute) != 0;
        break;
      default:
        break;
    }
  });
  return native;
}

// An address in a network that holds more than two: on such a network others are met, on a
// smaller one just the other end.
bool IsNetwork(int family, unsigned length) {
  return family == AF_INET ? length < 30 : length < 126;
}

unsigned FullLength(int family) {
  return family == AF_INET ? 32 : 128;
}

}  // namespace

bool Device::ethernet() const {
  return hardware == ARPHRD_ETHER;
}

std::vector<uint32_t> TakeDump(DeviceMap dump, bool whole, DeviceMap* devices) {
  std::vector<uint32_t> gone;
  for (auto& [ifindex, device] : *devices) {
    if (dump.contains(ifindex)) continue;
    if (whole) {
      gone.push_back(ifindex);
    } else {
      dump.emplace(ifindex, std::move(device));
    }
  }
  *devices = std::move(dump);
  return gone;
}

bool NeedMarks(const Device& device) {
  if (device.port_kind == "bridge" || device.port_kind == "openvswitch") return false;
  return device.kind == "veth" || device.kind == "netkit" || device.kind == "bridge" ||
         (device.kind == "tun" && device.ethernet());
}

bool ParseLink(const nlmsghdr* message, Device* device) {
  if (mnl_nlmsg_get_payload_len(message) < sizeof(ifinfomsg)) return false;
  const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
  // A port that leaves its bridge is an RTM_DELLINK of family AF_BRIDGE.
  if (info->ifi_family != AF_UNSPEC || info->ifi_index <= 0) return false;
  *device = {};
  device->ifindex = static_cast<uint32_t>(info->ifi_index);
  device->hardware = info->ifi_type;
  device->up = (info->ifi_flags & IFF_UP) != 0;
  device->loopback = (info->ifi_flags & IFF_LOOPBACK) != 0;
  ForEachAttribute(message, sizeof(ifinfomsg), [&](const nlattr* attribute) {
    switch (mnl_attr_get_type(attribute)) {
      case IFLA_IFNAME:
        device->name = TextOf(attribute);
        break;
      case IFLA_LINK:
        device->link = NumberOf(attribute);
        break;
      case IFLA_MASTER:
        device->master = NumberOf(attribute);
        break;
      case IFLA_LINK_NETNSID:
        device->peer_netns = static_cast<int32_t>(NumberOf(attribute));
        break;
      case IFLA_ADDRESS:
        if (mnl_attr_get_payload_len(attribute) == device->mac.size() && device->ethernet()) {
          std::memcpy(device->mac.data(), mnl_attr_get_payload(attribute), device->mac.size());
        }
        break;
      case IFLA_LINKINFO:
        ParseLinkInfo(attribute, device);
        break;
      case IFLA_XDP:
        device->native_xdp = HasNativeXdp(attribute);
        break;
      default:
        break;
    }
  });
  return true;
}

std::vector<Marked> ParseAddress(const nlmsghdr* message) {
  if (mnl_nlmsg_get_payload_len(message) < sizeof(ifaddrmsg)) return {};
  const auto* info = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(message));
  const int family = info->ifa_family;
  if (family != AF_INET && family != AF_INET6) return {};
  if (info->ifa_scope >= RT_SCOPE_LINK || !IsNetwork(family, info->ifa_prefixlen)) return {};
  const size_t size = family == AF_INET ? 4 : 16;
  const void* own = nullptr;
  ForEachAttribute(message, sizeof(ifaddrmsg), [&](const nlattr* attribute) {
    if (mnl_attr_get_payload_len(attribute) != size) return;
    // With a peer's address IFA_ADDRESS is that one, and IFA_LOCAL ours.
    const bool local = mnl_attr_get_type(attribute) == IFA_LOCAL;
    if (local || (!own && mnl_attr_get_type(attribute) == IFA_ADDRESS)) {
      own = mnl_attr_get_payload(attribute);
    }
  });
  char text[INET6_ADDRSTRLEN] = {};
  if (!own || !inet_ntop(family, own, text, sizeof(text))) return {};
  Marked marked{info->ifa_index, {}};
  marked.marks.network = absl::StrCat(text, "/", info->ifa_prefixlen);
  return {std::move(marked)};
}

std::vector<Marked> ParseRoute(const nlmsghdr* message) {
  if (mnl_nlmsg_get_payload_len(message) < sizeof(rtmsg)) return {};
  const auto* info = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
  const int family = info->rtm_family;
  if ((family != AF_INET && family != AF_INET6) || info->rtm_type != RTN_UNICAST ||
      (info->rtm_flags & RTM_F_CLONED) != 0) {
    return {};
  }
  const bool is_default = info->rtm_dst_len == 0;
  const bool is_host = info->rtm_dst_len == FullLength(family);
  std::vector<Marked> hops;
  const auto add = [&](uint32_t ifindex, bool gateway) {
    if (ifindex == 0) return;
    Marked hop{ifindex, {}};
    hop.marks.default_route = is_default;
    hop.marks.gateway_route = gateway;
    hop.marks.host_route = is_host && !gateway;
    hops.push_back(std::move(hop));
  };
  uint32_t device = 0;
  bool gateway = false;
  uint32_t table = info->rtm_table;
  ForEachAttribute(message, sizeof(rtmsg), [&](const nlattr* attribute) {
    switch (mnl_attr_get_type(attribute)) {
      case RTA_TABLE:
        table = NumberOf(attribute);
        break;
      case RTA_OIF:
        device = NumberOf(attribute);
        break;
      case RTA_GATEWAY:
      case RTA_VIA:  // IPv4 by way of an IPv6 neighbour
        gateway = true;
        break;
      case RTA_MULTIPATH: {
        const auto* hop = static_cast<const rtnexthop*>(mnl_attr_get_payload(attribute));
        auto left = static_cast<int>(mnl_attr_get_payload_len(attribute));
        while (RTNH_OK(hop, left)) {
          bool hop_gateway = false;
          const auto* inner = reinterpret_cast<const nlattr*>(RTNH_DATA(hop));
          const auto* end = reinterpret_cast<const char*>(hop) + hop->rtnh_len;
          while (mnl_attr_ok(inner, static_cast<int>(end - reinterpret_cast<const char*>(inner)))) {
            const uint16_t type = mnl_attr_get_type(inner);
            hop_gateway |= type == RTA_GATEWAY || type == RTA_VIA;
            inner = mnl_attr_next(inner);
          }
          add(static_cast<uint32_t>(hop->rtnh_ifindex), hop_gateway);
          left -= static_cast<int>(RTNH_ALIGN(hop->rtnh_len));
          hop = RTNH_NEXT(hop);
        }
        break;
      }
      default:
        break;
    }
  });
  if (table == RT_TABLE_LOCAL) return {};
  add(device, gateway);
  return hops;
}

void AddMarks(const RouteMarks& more, RouteMarks* marks) {
  marks->default_route |= more.default_route;
  marks->gateway_route |= more.gateway_route;
  marks->host_route |= more.host_route;
  // The first by name: the same one, whatever the order of the messages.
  if (!more.network.empty() && (marks->network.empty() || more.network < marks->network)) {
    marks->network = more.network;
  }
}

}  // namespace waggle::loader
