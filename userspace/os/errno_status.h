// errno → absl::Status with the words of the kernel. A leaf.
#ifndef WAGGLE_USERSPACE_OS_ERRNO_STATUS_H_
#define WAGGLE_USERSPACE_OS_ERRNO_STATUS_H_

#include <string_view>

#include "absl/status/status.h"

namespace waggle::os {

// "<what>: Permission denied"; `error` is a positive errno.
inline absl::Status ErrnoStatus(int error, std::string_view what) {
  return absl::ErrnoToStatus(error, absl::string_view(what.data(), what.size()));
}

}  // namespace waggle::os

#endif
