// The node's network devices, as rtnetlink tells of them.
#ifndef WAGGLE_LOADER_DEVICES_H_
#define WAGGLE_LOADER_DEVICES_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

struct nlmsghdr;

namespace waggle::loader {

// What addresses and routes say about where a device leads.
struct RouteMarks {
  bool default_route = false;  // a default route leaves by it
  bool gateway_route = false;  // a route with a gateway leaves by it
  bool host_route = false;     // a route to a single address, without a gateway, leaves by it
  std::string network;         // "192.168.50.11/24": an address in a network of more than two

  bool operator==(const RouteMarks&) const = default;
};

struct Device {
  uint32_t ifindex = 0;
  std::string name;
  std::string kind;       // IFLA_INFO_KIND: "veth", "vxlan", …; empty: hardware, as a rule
  std::string port_kind;  // "bridge", "bond", …: it is a port of such a device
  uint16_t hardware = 0;  // ARPHRD_…
  bool up = false;
  bool loopback = false;
  uint32_t link = 0;             // ifindex of its peer or lower device, where that one lives
  int32_t peer_netns = -1;       // id, as this namespace counts, of where `link` lives; -1: here
  uint32_t master = 0;           // ifindex of the device that it is a port of; 0: none
  std::array<uint8_t, 6> mac{};  // zero: it has no Ethernet address
  bool native_xdp = false;       // XDP in its driver: at tc no packet has a socket then
  RouteMarks marks;              // looked up for those that NeedMarks() only

  // Do frames begin with an Ethernet header?
  bool ethernet() const;
  bool operator==(const Device&) const = default;
};

// By ifindex.
using DeviceMap = std::map<uint32_t, Device>;

// Takes in what the kernel lists, and returns the devices that are gone. A list that is not
// `whole`, as devices came and went while it was read, says of nothing that it is gone. Pure.
std::vector<uint32_t> TakeDump(DeviceMap dump, bool whole, DeviceMap* devices);

// Does its kind leave open where it leads, so that addresses and routes must say?
bool NeedMarks(const Device& device);

// Marks that one message gives to a device.
struct Marked {
  uint32_t ifindex = 0;
  RouteMarks marks;
};

// The three below read one message, whose length fits; what the kernel would not write is
// passed over. Pure.

// RTM_NEWLINK and RTM_DELLINK. False: it says nothing about a device as such (a bridge's or
// an address family's view of one).
bool ParseLink(const nlmsghdr* message, Device* device);
// RTM_NEWADDR and RTM_DELADDR.
std::vector<Marked> ParseAddress(const nlmsghdr* message);
// RTM_NEWROUTE and RTM_DELROUTE: one for each next hop.
std::vector<Marked> ParseRoute(const nlmsghdr* message);

// Adds what `more` holds.
void AddMarks(const RouteMarks& more, RouteMarks* marks);

}  // namespace waggle::loader

#endif
