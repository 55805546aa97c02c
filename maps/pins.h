// Pinned maps: opening with every check, so that a stranger's file or another
// version's map is an error with a name and not undefined behaviour.
#ifndef WAGGLE_MAPS_PINS_H_
#define WAGGLE_MAPS_PINS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "userspace/os/unique_fd.h"

namespace waggle::maps {

enum class Access { kReadOnly, kReadWrite };

// FailedPrecondition when the folder (or its parent, if it does not exist yet) does not
// lie on a bpf file system; the text says how to mount one.
absl::Status CheckBpffs(std::string_view pin_path);

// The layout version that the pins were made with. NotFound: nothing is pinned.
absl::StatusOr<uint32_t> PinnedLayoutVersion(std::string_view pin_path);

// Opens one map of layout.h. NotFound: no such pin. FailedPrecondition: something else
// is pinned there (another kind of object or of map). PermissionDenied: no rights.
absl::StatusOr<os::UniqueFd> OpenPin(std::string_view pin_path, std::string_view name,
                                     Access access);

// Does a living agent hold the pins (loader/pin_lock.h)? Asks without locking anything.
absl::StatusOr<bool> PinsLocked(std::string_view pin_path);

// Says in the map `agent`, if it is pinned, that a new agent is starting: from now on
// nobody takes the last one's word for the new one's. The caller holds the lock.
absl::Status MarkStarting(std::string_view pin_path);

// max_entries of an open map.
absl::StatusOr<uint32_t> MapCapacity(int fd);

// CheckBpffs, version, and every pin that exists is of the right kind. OK when nothing
// is pinned at all.
absl::Status CheckPins(std::string_view pin_path);

}  // namespace waggle::maps

#endif
