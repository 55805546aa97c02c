// Which flows a command line asks for. Pure.
#ifndef WAGGLE_USERSPACE_CLI_FLOW_FILTER_H_
#define WAGGLE_USERSPACE_CLI_FLOW_FILTER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "maps/flow_pins.h"
#include "maps/flow_table.h"
#include "userspace/net/address.h"

namespace waggle::cli {

// "10.0.0.1", "10.0.0.1:80", "fd00::1", "[fd00::1]", "[fd00::1]:80".
struct EndpointFilter {
  net::Address address;
  std::optional<uint16_t> port;  // any by default

  bool Matches(const net::Endpoint& endpoint) const;
};
absl::StatusOr<EndpointFilter> ParseEndpointFilter(const std::string& text);

// "web" or "default/web".
struct ServiceFilter {
  std::string ns;  // empty: any
  std::string name;
};
absl::StatusOr<ServiceFilter> ParseServiceFilter(const std::string& text);

// What is not given matches everything.
struct FlowFilter {
  std::string ns;  // of the Service
  std::optional<ServiceFilter> service;
  std::optional<EndpointFilter> client;
  std::optional<EndpointFilter> frontend;
  std::optional<EndpointFilter> backend;
  std::string protocol;  // "TCP" or "UDP"
  std::string state;     // as FlowStateName()
  std::string mode;      // as FlowModeName()

  // `services`: by id; a flow of none of them, or of no Service, has no namespace and no name.
  bool Matches(const maps::Flow& flow, const maps::ServicePorts& services) const;
};

// All there are, for help and completion.
const std::vector<std::string>& FlowStateNames();
const std::vector<std::string>& FlowModeNames();

}  // namespace waggle::cli

#endif
