#include "maps/flow_pins.h"

#include <arpa/inet.h>

#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "maps/kernel_map_store.h"
#include "maps/pins.h"
#include "maps/reader.h"

namespace waggle::maps {
namespace {

template <size_t kSize>
std::string FixedText(const char (&field)[kSize]) {
  return {field, strnlen(field, kSize)};
}

}  // namespace

absl::StatusOr<FlowPins> FlowPins::Open(std::string_view pin_path) {
  if (absl::Status status = CheckReadable(pin_path); !status.ok()) return status;
  FlowPins pins;
  for (const auto& [name, fd] :
       {std::pair{"flows", &pins.flows_}, std::pair{"half_open", &pins.half_open_}}) {
    absl::StatusOr<os::UniqueFd> opened = OpenPin(pin_path, name, Access::kReadOnly);
    if (absl::IsNotFound(opened.status())) {
      return absl::NotFoundError(absl::StrCat(
          "no map ", name, " is pinned in ", std::string(pin_path),
          ": the waggle that made these pins had no packet path; start `waggle agent`"));
    }
    if (!opened.ok()) return opened.status();
    *fd = *std::move(opened);
  }
  const absl::StatusOr<os::UniqueFd> services = OpenPin(pin_path, "services", Access::kReadOnly);
  if (!services.ok()) return services.status();
  const absl::StatusOr<os::UniqueFd> frontends = OpenPin(pin_path, "frontends", Access::kReadOnly);
  if (!frontends.ok()) return frontends.status();
  const absl::StatusOr<RawTables> raw = ReadHashes(frontends->get(), services->get());
  if (!raw.ok()) return raw.status();
  for (const auto& [id, row] : raw->services) {
    pins.services_[id] = {{FixedText(row.ns), FixedText(row.name)}, FixedText(row.port_name), {}};
  }
  for (const auto& [key, row] : raw->frontends) {
    const auto service = pins.services_.find(row.service_id);
    if (service == pins.services_.end()) continue;
    service->second.frontends.push_back(
        {net::Address(std::to_array(key.addr)), ntohs(key.port_be)});
  }
  return pins;
}

absl::StatusOr<FlowCounts> FlowPins::Read(uint64_t now_ns,
                                          const std::function<void(const Flow&)>& take) const {
  return ReadFlows({flows_.get(), half_open_.get()}, now_ns, [&](const Flow& read) {
    const auto service = services_.find(read.service_id);
    if (read.frontend_known || service == services_.end()) return take(read);
    Flow flow = read;
    int candidates = 0;
    for (const net::Endpoint& frontend : service->second.frontends) {
      if (frontend.address.family() != flow.client.address.family()) continue;
      if (candidates > 0 && frontend == flow.frontend) continue;  // of two scopes
      ++candidates;
      flow.frontend = frontend;
    }
    flow.frontend_known = candidates == 1;
    if (!flow.frontend_known) flow.frontend = flow.backend;
    take(flow);
  });
}

}  // namespace waggle::maps
