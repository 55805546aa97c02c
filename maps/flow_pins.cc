#include "maps/flow_pins.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "maps/hash_walk.h"
#include "maps/pins.h"

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
  absl::Status read = ReadHash<uint32_t, waggle_service>(
      services->get(), "services", [&](uint32_t id, const waggle_service& row) {
        pins.services_[id] = {{FixedText(row.ns), FixedText(row.name)}, FixedText(row.port_name)};
      });
  if (!read.ok()) return read;
  return pins;
}

}  // namespace waggle::maps
