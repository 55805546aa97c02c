#include "userspace/os/file_limit.h"

#include <sys/resource.h>

#include <cerrno>

#include "userspace/os/errno_status.h"

namespace waggle::os {

absl::Status RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return ErrnoStatus(errno, "getrlimit");
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return ErrnoStatus(errno, "setrlimit");
  return absl::OkStatus();
}

}  // namespace waggle::os
