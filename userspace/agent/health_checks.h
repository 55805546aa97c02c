// Which Services have a port for health checks, and how many of their endpoints are here. Also
// where these ports are opened.
#ifndef WAGGLE_USERSPACE_AGENT_HEALTH_CHECKS_H_
#define WAGGLE_USERSPACE_AGENT_HEALTH_CHECKS_H_

#include <optional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "k8s-watch/types.h"
#include "userspace/agent/store.h"
#include "userspace/config/agent_config.h"
#include "userspace/health/board.h"

namespace waggle::agent {

// What a load balancer is told of this Service, but for in_force; the port is
// service.health_check_port. Pure.
health::ServiceCheck CheckOf(const ServiceInput& input);

class HealthChecks {
 public:
  // True when Update() has something to do for this Service. Next to nothing for most.
  bool Concerns(const ServiceName& name, const Store& store) const;
  // The Service may have changed, appeared or gone. `in_force`: as in ServiceCheck.
  void Update(const ServiceName& name, const Store& store, bool in_force);

  // All of them, if they are not what they were at the last call. Of two Services with one port
  // (no apiserver allows that) the first by name has it.
  std::optional<health::ServiceChecks> TakeChanged();

 private:
  absl::btree_map<ServiceName, std::pair<uint16_t, health::ServiceCheck>> checks_;
  bool changed_ = false;
};

// The addresses where the ports are opened, as kube-proxy does: by nodePortAddresses. The
// unspecified address of a family: all of them. `local`: those of this node's devices. Pure.
std::vector<net::Address> HealthCheckAddresses(const config::AgentConfig& config,
                                               const k8s::Node* node,
                                               const std::vector<net::Address>& local);

// The addresses of this network namespace's devices.
std::vector<net::Address> LocalAddresses();

}  // namespace waggle::agent

#endif
