#include "userspace/agent/health_checks.h"

#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <set>

namespace waggle::agent {
namespace {

net::Address Unspecified(net::Family family) {
  return *net::Address::Parse(family == net::Family::kIpv4 ? "0.0.0.0" : "::");
}

bool HasCheck(const k8s::Service* service) {
  return service != nullptr && service->health_check_port != 0 && !service->headless &&
         !service->external_name && !service->other_proxy && !service->cluster_ips.empty();
}

// The node's first address of a family; none: all of that family.
net::Address Primary(const config::AgentConfig& config, const k8s::Node* node, net::Family family) {
  if (config.bind_address && config.bind_address->family() == family) return *config.bind_address;
  if (node != nullptr) {
    for (const auto* addresses : {&node->internal_ips, &node->external_ips}) {
      for (const net::Address& address : *addresses) {
        if (address.family() == family) return address;
      }
    }
  }
  return Unspecified(family);
}

}  // namespace

health::ServiceCheck CheckOf(const ServiceInput& input) {
  const k8s::Service& service = *input.service;
  health::ServiceCheck check;
  check.service = {service.name.ns, service.name.name};
  for (const net::Address& address : service.cluster_ips)
    check.serves[health::Index(address.family())] = true;
  std::set<net::Address> ready;
  for (const auto& slice : input.slices) {
    // Endpoints without a port are nobody's.
    if (slice->ports.empty() || !check.serves[health::Index(slice->family)]) continue;
    for (const k8s::Endpoint& endpoint : slice->endpoints) {
      const bool local = !input.node.name.empty() && endpoint.node_name == input.node.name;
      if (local && endpoint.ready && endpoint.address.family() == slice->family) {
        ready.insert(endpoint.address);
      }
    }
  }
  for (const net::Address& address : ready)
    ++check.local[health::Index(address.family())];
  return check;
}

bool HealthChecks::Concerns(const ServiceName& name, const Store& store) const {
  return checks_.contains(name) || HasCheck(store.FindService(name));
}

void HealthChecks::Update(const ServiceName& name, const Store& store, bool in_force) {
  const k8s::Service* service = store.FindService(name);
  if (!HasCheck(service)) {
    if (checks_.erase(name) > 0) changed_ = true;
    return;
  }
  std::pair<uint16_t, health::ServiceCheck> check = {service->health_check_port,
                                                     CheckOf(*store.Find(name))};
  check.second.in_force = in_force;
  auto& known = checks_[name];
  if (known == check) return;
  known = std::move(check);
  changed_ = true;
}

std::optional<health::ServiceChecks> HealthChecks::TakeChanged() {
  if (!std::exchange(changed_, false)) return std::nullopt;
  health::ServiceChecks all;
  for (const auto& [name, check] : checks_)
    all.insert(check);
  return all;
}

std::vector<net::Address> HealthCheckAddresses(const config::AgentConfig& config,
                                               const k8s::Node* node,
                                               const std::vector<net::Address>& local) {
  const config::NodePortAddresses& where = config.node_port_addresses;
  std::vector<net::Address> addresses;
  for (const net::Family family : health::kFamilies) {
    if (where.primary) {
      addresses.push_back(Primary(config, node, family));
      continue;
    }
    bool of_family = false;
    for (const net::Prefix& range : where.ranges) {
      if (range.family() != family) continue;
      of_family = true;
      if (range.length == 0) addresses.push_back(Unspecified(family));
      for (const net::Address& address : local) {
        if (range.Contains(address)) addresses.push_back(address);
      }
    }
    // Ranges of one family say nothing about the other.
    if (!of_family) addresses.push_back(Unspecified(family));
  }
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  // Nothing else can be bound beside all of a family.
  for (const net::Family family : health::kFamilies) {
    const net::Address all = Unspecified(family);
    if (std::find(addresses.begin(), addresses.end(), all) == addresses.end()) continue;
    std::erase_if(addresses, [&](const net::Address& address) {
      return address.family() == family && address != all;
    });
  }
  return addresses;
}

std::vector<net::Address> LocalAddresses() {
  std::vector<net::Address> addresses;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return addresses;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owned(list, freeifaddrs);
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr) continue;
    std::array<uint8_t, 16> bytes{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (each->ifa_addr->sa_family == AF_INET) {
      sockaddr_in in{};
      std::memcpy(&in, each->ifa_addr, sizeof(in));
      std::memcpy(bytes.data() + 12, &in.sin_addr, 4);
    } else if (each->ifa_addr->sa_family == AF_INET6) {
      sockaddr_in6 in{};
      std::memcpy(&in, each->ifa_addr, sizeof(in));
      std::memcpy(bytes.data(), &in.sin6_addr, 16);
    } else {
      continue;
    }
    // A link-local address is nobody's without its device.
    const bool link_local = bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
    if (!link_local) addresses.emplace_back(bytes);
  }
  return addresses;
}

}  // namespace waggle::agent
