// Flows and the names of their Services from pins alone, with or without an agent.
#ifndef WAGGLE_MAPS_FLOW_PINS_H_
#define WAGGLE_MAPS_FLOW_PINS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "maps/desired.h"
#include "maps/flow_table.h"
#include "userspace/os/unique_fd.h"

namespace waggle::maps {

// One row of `services`. Anybody with the rights can have written it.
struct ServicePort {
  ServiceName name;
  std::string port_name;                 // may be empty
  std::vector<net::Endpoint> frontends;  // in no order
};
using ServicePorts = absl::flat_hash_map<uint32_t, ServicePort>;

class FlowPins {
 public:
  // Errors as those of ReadPins(). NotFound also: an older version made the pins, which had
  // no packet path.
  static absl::StatusOr<FlowPins> Open(std::string_view pin_path);

  // By service id. A Service that is gone may have left flows behind.
  const ServicePorts& services() const { return services_; }
  // As ReadFlows(). The frontend of a flow that was translated at its socket is known where its
  // Service has only one of that family.
  absl::StatusOr<FlowCounts> Read(uint64_t now_ns,
                                  const std::function<void(const Flow&)>& take) const;

 private:
  os::UniqueFd flows_;
  os::UniqueFd half_open_;
  ServicePorts services_;
};

}  // namespace waggle::maps

#endif
