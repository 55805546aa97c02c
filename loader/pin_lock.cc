#include "loader/pin_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "userspace/os/errno_status.h"

namespace waggle::loader {

absl::StatusOr<os::UniqueFd> LockPins(std::string_view pin_path) {
  const std::string path(pin_path);
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      return os::ErrnoStatus(errno, absl::StrCat("make folder ", part));
    }
    if (slash == std::string::npos) break;
  }
  os::UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return os::ErrnoStatus(errno, absl::StrCat("pin path ", path));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return absl::FailedPreconditionError(absl::StrCat(
          "another waggle agent uses the pins in ", path, "; stop it, or give another --pin-path"));
    }
    return os::ErrnoStatus(errno, absl::StrCat("lock ", path));
  }
  // A second lock that others can ask about without taking one themselves.
  struct flock sign {};
  sign.l_type = F_RDLCK;
  sign.l_whence = SEEK_SET;
  if (fcntl(fd.get(), F_OFD_SETLK, &sign) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("lock ", path));
  }
  return fd;
}

}  // namespace waggle::loader
