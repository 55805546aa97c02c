#include "tests/unit/maps/world.h"

#include <algorithm>
#include <set>

namespace waggle::maps {
namespace {

net::Protocol ProtocolOfPort(int port) {
  return port == 1 ? net::Protocol::kUdp : net::Protocol::kTcp;
}

}  // namespace

World::World(uint32_t seed) : random_(seed) {
  for (auto& names : port_names_) {
    for (int port = 0; port < kPorts; ++port)
      names[static_cast<size_t>(port)] = port;
  }
  for (auto& service : lists_) {
    for (auto& port : service) {
      for (List& list : port)
        Randomize(list);
    }
  }
  for (int key = 0; key < kKeys; ++key)
    Reassign(key);
}

// Keys 0-9 are TCP, the others UDP: a frontend never changes its protocol.
void World::Reassign(int key) {
  Place& place = places_[static_cast<size_t>(key)];
  place.service = random_.OneIn(4) ? -1 : static_cast<int>(random_.Below(kServices));
  place.port = key >= 10 ? 1 : (random_.OneIn(2) ? 0 : 2);
  place.list = static_cast<int>(random_.Below(kLists));
}

void World::Randomize(List& list) {
  list.fate = std::array{Fate::kForward, Fate::kForward, Fate::kForward, Fate::kRefuse,
                         Fate::kDrop}[random_.Below(5)];
  list.policy = random_.OneIn(4) ? Policy::kLocal : Policy::kCluster;
  list.affinity_s = random_.OneIn(4) ? 10800 : 0;
  std::set<Backend> backends;
  for (uint32_t i = 1 + random_.Below(4); i > 0; --i) {
    const std::string host = std::to_string(1 + random_.Below(6));
    Backend backend = random_.OneIn(3) ? BackendAt("[fd00::" + host + "]:8080")
                                       : BackendAt("10.244.0." + host + ":8080");
    backend.local = random_.OneIn(8);
    if (std::none_of(backends.begin(), backends.end(),
                     [&](const Backend& other) { return other.endpoint == backend.endpoint; })) {
      backends.insert(backend);
    }
  }
  list.backends.assign(backends.begin(), backends.end());
  if (list.fate != Fate::kForward) list.backends.clear();
}

void World::Change() {
  for (uint32_t changes = 1 + random_.Below(5); changes > 0; --changes) {
    const auto service = random_.Below(kServices);
    const auto port = random_.Below(kPorts);
    switch (random_.Below(8)) {
      case 0:
      case 1:
        Reassign(static_cast<int>(random_.Below(kKeys)));
        break;
      case 2:
      case 3:
      case 4:
        Randomize(lists_[service][port][random_.Below(kLists)]);
        break;
      case 5:  // the Service goes, or all that it has goes to another
        for (Place& place : places_) {
          if (place.service == static_cast<int>(service)) {
            place.service = port == 0 ? -1 : static_cast<int>((service + port) % kServices);
          }
        }
        break;
      case 6:
        std::swap(port_names_[service][port], port_names_[service][random_.Below(kPorts)]);
        if (random_.OneIn(3)) port_names_[service][port] = static_cast<int>(3 + random_.Below(90));
        break;
      default: {
        FrontendKind& kind = kinds_[random_.Below(kKeys)];
        kind =
            kind == FrontendKind::kClusterIp ? FrontendKind::kExternalIp : FrontendKind::kClusterIp;
      }
    }
  }
}

Frontend World::FrontendOf(int key) const {
  const std::string host = std::to_string(key % 7);
  Frontend frontend = ClusterIp(key % 2 ? "[fd00:96::" + host + "]:80" : "10.96.0." + host + ":80");
  frontend.endpoint.port = static_cast<uint16_t>(80 + key / 7);
  frontend.kind = kinds_[static_cast<size_t>(key)];
  return frontend;
}

std::map<ServiceName, ResolvedService> World::Services() const {
  std::map<ServiceName, ResolvedService> services;
  for (int s = 0; s < kServices; ++s) {
    ResolvedService service;
    service.name = {"ns", "service-" + std::to_string(s)};
    for (int p = 0; p < kPorts; ++p) {
      ResolvedPort port;
      // Names are unique within a Service, as the API demands.
      port.name = "p" + std::to_string(port_names_[static_cast<size_t>(s)][static_cast<size_t>(p)]);
      for (const ResolvedPort& other : service.ports) {
        if (other.name == port.name) port.name += "-again";
      }
      port.protocol = ProtocolOfPort(p);
      for (int l = 0; l < kLists; ++l) {
        const List& from = lists_[s][p][l];
        BackendList list{from.fate, from.policy, from.affinity_s, from.backends, {}};
        for (int key = 0; key < kKeys; ++key) {
          const Place& place = places_[static_cast<size_t>(key)];
          if (place.service == s && place.port == p && place.list == l) {
            list.frontends.push_back(FrontendOf(key));
          }
        }
        std::sort(list.frontends.begin(), list.frontends.end());
        if (!list.frontends.empty()) port.lists.push_back(std::move(list));
      }
      std::sort(port.lists.begin(), port.lists.end(),
                [](const BackendList& left, const BackendList& right) {
                  return left.frontends < right.frontends;
                });
      if (!port.lists.empty()) service.ports.push_back(std::move(port));
    }
    std::sort(service.ports.begin(), service.ports.end());
    services.emplace(service.name, std::move(service));
  }
  return services;
}

Standings StandingsOf(const std::map<ServiceName, ResolvedService>& services) {
  Standings standings;
  for (const auto& [name, service] : services) {
    for (const ResolvedPort& port : service.ports) {
      const std::string port_mark = port.lists[0].frontends[0].endpoint.ToString();
      for (const BackendList& list : port.lists) {
        Outcome outcome{static_cast<uint8_t>(list.fate), static_cast<uint8_t>(list.policy), {}};
        for (const Backend& backend : list.backends)
          outcome.backends.push_back(backend.endpoint);
        for (const Frontend& frontend : list.frontends) {
          standings.emplace(KeyOf(frontend, port.protocol),
                            Standing{name, port_mark, list.frontends[0].endpoint.ToString(),
                                     frontend.kind, outcome});
        }
      }
    }
  }
  return standings;
}

bool GapAllowed(const waggle_frontend_key& key, const Standings& before, const Standings& after) {
  const auto old_at = before.find(key);
  const auto new_at = after.find(key);
  if (old_at == before.end() || new_at == after.end()) return true;
  const Standing& old_one = old_at->second;
  const Standing& new_one = new_at->second;
  if (old_one.service != new_one.service || old_one.kind != new_one.kind) return true;
  // Frontends that were together and are not, or are together and were not.
  for (const auto& [other, old_other] : before) {
    const auto at = after.find(other);
    if (at == after.end()) continue;
    const Standing& new_other = at->second;
    if (old_other.service != old_one.service || new_other.service != new_one.service) continue;
    // Protocols are told apart, as a UDP and a TCP frontend of one address look alike.
    if (other.protocol != key.protocol) continue;
    if ((old_other.list == old_one.list) != (new_other.list == new_one.list)) return true;
    if ((old_other.port == old_one.port) != (new_other.port == new_one.port)) return true;
  }
  return false;
}

}  // namespace waggle::maps
