#include "userspace/os/oom_score.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

namespace waggle::os {

absl::Status SetOomScoreAdj(int value) {
  constexpr char kPath[] = "/proc/self/oom_score_adj";
  const UniqueFd fd(open(kPath, O_WRONLY | O_CLOEXEC));
  const std::string text = std::to_string(value);
  if (!fd || write(fd.get(), text.data(), text.size()) < 0) return ErrnoStatus(errno, kPath);
  return absl::OkStatus();
}

}  // namespace waggle::os
