#include "userspace/cli/flow_filter.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace waggle::cli {
namespace {

absl::Status NoEndpoint(const std::string& text) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", text,
                   "' is no address or endpoint: expected 10.0.0.1, 10.0.0.1:80, "
                   "fd00::1 or [fd00::1]:80"));
}

std::optional<uint16_t> ParsePort(const std::string& text) {
  uint32_t port = 0;
  const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || !absl::SimpleAtoi(text, &port) || port == 0 || port > 65535) return std::nullopt;
  return static_cast<uint16_t>(port);
}

}  // namespace

bool EndpointFilter::Matches(const net::Endpoint& endpoint) const {
  return endpoint.address == address && (!port || endpoint.port == *port);
}

absl::StatusOr<EndpointFilter> ParseEndpointFilter(const std::string& text) {
  std::string address = text;
  std::string port;
  bool has_port = false;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string::npos) return NoEndpoint(text);
    address = text.substr(1, end - 1);
    const std::string rest = text.substr(end + 1);
    has_port = !rest.empty();
    if (has_port && rest[0] != ':') return NoEndpoint(text);
    if (has_port) port = rest.substr(1);
  } else if (const size_t colon = text.find(':');
             colon != std::string::npos && text.find(':', colon + 1) == std::string::npos) {
    // One colon: IPv4 and a port; more: an IPv6 address.
    address = text.substr(0, colon);
    port = text.substr(colon + 1);
    has_port = true;
  }
  const std::optional<net::Address> parsed = net::Address::Parse(address);
  if (!parsed) return NoEndpoint(text);
  EndpointFilter filter{*parsed, std::nullopt};
  if (!has_port) return filter;
  filter.port = ParsePort(port);
  if (!filter.port) return NoEndpoint(text);
  return filter;
}

absl::StatusOr<ServiceFilter> ParseServiceFilter(const std::string& text) {
  const size_t slash = text.find('/');
  ServiceFilter filter;
  if (slash != std::string::npos) filter.ns = text.substr(0, slash);
  filter.name = slash == std::string::npos ? text : text.substr(slash + 1);
  const bool complete = !filter.name.empty() && (slash == std::string::npos || !filter.ns.empty());
  if (!complete || filter.name.find('/') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is no Service: expected NAME or NAMESPACE/NAME"));
  }
  return filter;
}

bool FlowFilter::Matches(const maps::Flow& flow, const maps::ServicePorts& services) const {
  if (client && !client->Matches(flow.client)) return false;
  if (frontend && !(flow.frontend_known && frontend->Matches(flow.frontend))) return false;
  if (backend && !backend->Matches(flow.backend)) return false;
  if (!protocol.empty() && net::ProtocolName(flow.protocol) != protocol) return false;
  if (!state.empty() && maps::FlowStateName(flow.state) != state) return false;
  if (!mode.empty() && maps::FlowModeName(flow.mode) != mode) return false;
  if (ns.empty() && !service) return true;
  const auto found = flow.direct ? services.end() : services.find(flow.service_id);
  if (found == services.end()) return false;
  const ServiceName& name = found->second.name;
  if (!ns.empty() && name.ns != ns) return false;
  return !service ||
         (name.name == service->name && (service->ns.empty() || name.ns == service->ns));
}

const std::vector<std::string>& FlowStateNames() {
  static const auto* const names = [] {
    auto* all = new std::vector<std::string>;
    for (auto state = maps::FlowState::kSynSent; state <= maps::FlowState::kStream;
         state = static_cast<maps::FlowState>(static_cast<uint8_t>(state) + 1)) {
      all->emplace_back(maps::FlowStateName(state));
    }
    return all;
  }();
  return *names;
}

const std::vector<std::string>& FlowModeNames() {
  static const auto* const names =
      new std::vector<std::string>{std::string(maps::FlowModeName(maps::FlowMode::kStack)),
                                   std::string(maps::FlowModeName(maps::FlowMode::kPeer)),
                                   std::string(maps::FlowModeName(maps::FlowMode::kNeigh))};
  return *names;
}

}  // namespace waggle::cli
