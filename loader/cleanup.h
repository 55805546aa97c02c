// Leaving nothing behind.
#ifndef WAGGLE_LOADER_CLEANUP_H_
#define WAGGLE_LOADER_CLEANUP_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace waggle::loader {

// Detaches the programs, then removes the pins and the folders made for them; what was
// removed is added to `removed`, in order. Removes only what Waggle made: cgroup links
// by the names of hooks, maps by the kernel's name and type of ours. FailedPrecondition
// where it has filters that only the node's network namespace shows, and this is another;
// while an agent or another cleanup runs on these pins, and, naming it, when something
// of others stays; ours is gone then. A folder that is a mount point stays silently.
// Nothing there: OK, and `removed` stays as it is.
absl::Status Cleanup(std::string_view pin_path, std::vector<std::string>* removed);

}  // namespace waggle::loader

#endif
