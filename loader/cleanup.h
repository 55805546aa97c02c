// Leaving nothing behind.
#ifndef WAGGLE_LOADER_CLEANUP_H_
#define WAGGLE_LOADER_CLEANUP_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace waggle::loader {

// Detaches the programs, then removes the pins and the folders made for them; what was
// removed is added to `removed`, in order. Removes only names that Waggle makes; what
// else lies in the folder stays, and the folder with it. FailedPrecondition while an
// agent runs on these pins. Nothing there: OK, and `removed` stays as it is.
absl::Status Cleanup(std::string_view pin_path, std::vector<std::string>* removed);

}  // namespace waggle::loader

#endif
