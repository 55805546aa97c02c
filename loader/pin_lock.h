// One agent for each pin path.
#ifndef WAGGLE_LOADER_PIN_LOCK_H_
#define WAGGLE_LOADER_PIN_LOCK_H_

#include <functional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {

// Makes the folder if it is missing and locks it for this process (flock: gone with
// the process, however it ends). The folder that is locked is the one at the path, even
// while others remove and make it. FailedPrecondition when another process has it. `first`,
// if given, is done when the pins are this process's and before others can see that they
// are somebody's; when it fails, so does all.
using FirstDeed = std::function<absl::Status()>;
absl::StatusOr<os::UniqueFd> LockPins(std::string_view pin_path, const FirstDeed& first = {});

// One try of it, on the opened folder; false: the path leads to another one by now, or
// nowhere, and `fd` is to be closed.
absl::StatusOr<bool> TryLockPins(int fd, std::string_view pin_path, const FirstDeed& first = {});

}  // namespace waggle::loader

#endif
