// Pinned maps: opening with every check, so that a stranger's file or another
// version's map is an error with a name and not undefined behaviour.
#ifndef WAGGLE_MAPS_PINS_H_
#define WAGGLE_MAPS_PINS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bpf/abi.h"
#include "userspace/os/unique_fd.h"

namespace waggle::maps {

enum class Access { kReadOnly, kReadWrite };

// FailedPrecondition when the folder (or its parent, if it does not exist yet) does not
// lie on a bpf file system; the text says how to mount one.
absl::Status CheckBpffs(std::string_view pin_path);

// The layout version that the pins were made with. NotFound: nothing is pinned.
absl::StatusOr<uint32_t> PinnedLayoutVersion(std::string_view pin_path);

// For readers: OK when pins of this layout are there. NotFound: nothing is pinned (says what
// to start). FailedPrecondition: another layout version, or no bpffs.
absl::Status CheckReadable(std::string_view pin_path);

// Opens one map of layout.h. NotFound: no such pin. FailedPrecondition: something else
// is pinned there (another kind of object or of map). PermissionDenied: no rights.
absl::StatusOr<os::UniqueFd> OpenPin(std::string_view pin_path, std::string_view name,
                                     Access access);

// Does a living agent hold the pins (loader/pin_lock.h)? Asks without locking anything.
absl::StatusOr<bool> PinsLocked(std::string_view pin_path);

// Sets the state in the map `agent`, if it is pinned. A new agent says that it is starting
// as soon as it holds the lock: nobody shall take the last one's word for its own. One
// that fails to start says that it stopped. The caller holds the lock.
absl::Status MarkAgent(std::string_view pin_path, waggle_agent_state state);

// The four maps that hold the Services: of one generation, kept or made together.
inline constexpr std::array<std::string_view, 4> kContentMaps = {"frontends", "lists", "backends",
                                                                 "services"};
// Their kernel ids, in that order; 0: not known, or not pinned.
using ContentIds = std::array<uint32_t, kContentMaps.size()>;

// waggle_agent.content_ids of an open map `agent`. Writing comes after the new maps are
// pinned aside and before the first of them gets its name.
absl::StatusOr<ContentIds> ReadContentIds(int agent_fd);
absl::Status WriteContentIds(int agent_fd, const ContentIds& ids);

enum class Content {
  kNone,   // nothing is pinned
  kWhole,  // of one generation
  kMixed,  // a change of size was cut short: what the rows point at cannot be trusted
};
// `recorded`: what the map `agent` says; nullopt: it is not pinned. Pure.
Content JudgeContent(const ContentIds& pinned, const std::optional<ContentIds>& recorded);

// Removes the map pin at `path` if it is Waggle's map `name`, of whatever size and
// layout. NotFound: no such pin. FailedPrecondition: somebody else's; it stays.
absl::Status RemoveMapPin(const std::string& path, std::string_view name);

// The kernel's id of an open map.
absl::StatusOr<uint32_t> MapId(int fd);

// max_entries of an open map.
absl::StatusOr<uint32_t> MapCapacity(int fd);

// CheckBpffs, version, and every pin that exists is of the right kind. OK when nothing
// is pinned at all.
absl::Status CheckPins(std::string_view pin_path);

}  // namespace waggle::maps

#endif
