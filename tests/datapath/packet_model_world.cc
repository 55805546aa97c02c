// What the model knows whatever packet comes: routes, lifetimes, flows that have ended.
#include <algorithm>

#include "tests/datapath/packet_model.h"

namespace waggle::packet {
namespace {

constexpr uint8_t kBothFins = WAGGLE_STATE_CLIENT_FIN | WAGGLE_STATE_SERVER_FIN;
constexpr uint64_t kSecond = 1'000'000'000;

// conntrack's defaults, once more and not from the header that the programs read.
uint64_t LifetimeNs(uint8_t protocol, uint8_t state) {
  if (protocol == kUdp) return (state & WAGGLE_STATE_ASSURED ? 120 : 30) * kSecond;
  // Who was there is not over because somebody said so.
  const bool assured = state & WAGGLE_STATE_ASSURED;
  if (state & WAGGLE_STATE_RESET && !assured) return 10 * kSecond;
  if (state & kBothFins) return 120 * kSecond;
  if (assured) return 5 * 24 * 3600 * kSecond;
  return (state & WAGGLE_STATE_REPLIED ? 60 : 120) * kSecond;
}

bool HasPrefix(const net::Address& address, const Route& route) {
  for (int bit = 0; bit < route.length; ++bit) {
    const auto byte = static_cast<size_t>(bit / 8);
    const int mask = 0x80 >> (bit % 8);
    if ((address.bytes()[byte] & mask) != (route.prefix.bytes()[byte] & mask)) return false;
  }
  return true;
}

// No route of a table leads there.
bool IsLinkLocalOrMulticast(const net::Address& address) {
  if (address.family() == net::Family::kIpv4) return (address.bytes()[12] & 0xf0) == 0xe0;
  return address.bytes()[0] == 0xff ||
         (address.bytes()[0] == 0xfe && (address.bytes()[1] & 0xc0) == 0x80);
}

}  // namespace

bool IsClosed(uint8_t state) {
  return (state & kBothFins) == kBothFins || state & WAGGLE_STATE_RESET;
}

void Model::End(const Tuple& tuple) {
  ended.push_back(tuple);
  if (ended.size() <= kEndedFlows) return;
  const auto oldest = entries.find(ended.front());
  ended.pop_front();
  if (oldest == entries.end()) return;
  const auto partner = entries.find(Partner(oldest->first, oldest->second));
  if (partner == entries.end()) return;
  if (!IsClosed(oldest->second.state | partner->second.state)) return;
  entries.erase(oldest);
  entries.erase(partner);
}

bool Model::IsOver(const Tuple& tuple, const Flow& flow) const {
  uint64_t idle_ns = flow.idle_ns;
  uint8_t state = flow.state;
  const auto partner = entries.find(Partner(tuple, flow));
  if (partner != entries.end()) {
    idle_ns = std::min(idle_ns, partner->second.idle_ns);
    state |= partner->second.state;
  }
  return idle_ns > LifetimeNs(tuple.protocol, state);
}

Flow* Model::Find(const Tuple& tuple) {
  const auto found = entries.find(tuple);
  if (found == entries.end()) return nullptr;
  if (!IsOver(tuple, found->second)) return &found->second;
  const Tuple partner = Partner(tuple, found->second);
  entries.erase(found);
  entries.erase(partner);
  return nullptr;
}

const Route* Model::RouteTo(const net::Address& dst) const {
  if (IsLinkLocalOrMulticast(dst)) return nullptr;
  const Route* best = nullptr;
  for (const Route& route : routes) {
    if (HasPrefix(dst, route) && (!best || route.length > best->length)) best = &route;
  }
  return best;
}

Way Model::WayTo(const net::Address& dst) const {
  const Route* route = RouteTo(dst);
  if (!route || route->local || route->device == 0) return {};
  const auto device = devices.find(route->device);
  if (device == devices.end()) return {};
  switch (device->second.role) {
    case WAGGLE_ROLE_POD:
      // A tap has no other side in a pod's namespace.
      if (device->second.netns_id < 0) return {};
      return {WAGGLE_WAY_PEER, route->device, route->mtu};
    case WAGGLE_ROLE_BRIDGE:
    case WAGGLE_ROLE_TUNNEL:
      return {WAGGLE_WAY_NEIGH, route->device, route->mtu};
    case WAGGLE_ROLE_UPLINK: {
      // Where strangers are reached, a CNI may have to hide the pod's address.
      const bool v4 = dst.family() == net::Family::kIpv4;
      const Route* strangers = RouteTo(Address(v4 ? "192.0.2.1" : "2001:db8::1"));
      if (!route->gateway) return {};
      if (strangers && strangers->device == route->device && strangers->gateway == route->gateway)
        return {};
      return {WAGGLE_WAY_NEIGH, route->device, route->mtu};
    }
    default:
      return {};
  }
}

}  // namespace waggle::packet
