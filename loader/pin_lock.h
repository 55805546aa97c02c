// One agent for each pin path.
#ifndef WAGGLE_LOADER_PIN_LOCK_H_
#define WAGGLE_LOADER_PIN_LOCK_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {

// Makes the folder if it is missing and locks it for this process (flock: gone with
// the process, however it ends). FailedPrecondition when another process has it.
absl::StatusOr<os::UniqueFd> LockPins(std::string_view pin_path);

}  // namespace waggle::loader

#endif
