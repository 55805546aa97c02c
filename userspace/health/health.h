// What probes and load balancers are told, as kube-proxy would: status and body by the facts. Pure.
#ifndef WAGGLE_USERSPACE_HEALTH_HEALTH_H_
#define WAGGLE_USERSPACE_HEALTH_HEALTH_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "maps/desired.h"
#include "userspace/net/address.h"

namespace waggle::health {

using Duration = std::chrono::nanoseconds;
// Unix time.
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

// By net::Family.
template <typename T>
using ByFamily = std::array<T, 2>;
inline constexpr ByFamily<net::Family> kFamilies = {net::Family::kIpv4, net::Family::kIpv6};
constexpr size_t Index(net::Family family) {
  return static_cast<size_t>(family);
}

struct State {
  struct Family {
    // Age of the oldest change that came and is not in the kernel yet.
    std::optional<Duration> pending;
    // When the kernel last held all that had come; none before the first time.
    std::optional<WallTime> updated;
  };
  ByFamily<Family> families;
  Duration silent{0};  // since the main thread last said that it lives
  bool node_eligible = false;
  Duration sync_period = std::chrono::seconds(30);
  WallTime now;
};

// This node's Node object: false before it was seen, while it is being deleted, and while the
// autoscaler has marked it. What was seen last counts, also after its deletion.
struct NodeState {
  bool seen = false;
  bool deleting = false;
  bool to_be_deleted = false;

  bool eligible() const { return seen && !deleting && !to_be_deleted; }
  friend bool operator==(const NodeState&, const NodeState&) = default;
};

struct Answer {
  int status = 200;
  std::string body;
};

// No change has waited for more than twice the sync period, and the main thread has not been silent
// for so long. Lists that are still coming are no such changes.
bool ProxyHealthy(const State& state);

Answer Healthz(const State& state);
Answer Livez(const State& state);

// At the healthCheckNodePort of a Service: whether this node shall get its traffic.
Answer ServiceHealth(const ServiceName& service, uint32_t local_endpoints, bool proxy_healthy);

}  // namespace waggle::health

#endif
