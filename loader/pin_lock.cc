#include "loader/pin_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "userspace/os/errno_status.h"

namespace waggle::loader {
namespace {

// Each try loses only to another cleanup that ended in between.
constexpr int kTries = 10;

absl::Status MakeFolders(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      return os::ErrnoStatus(errno, absl::StrCat("make folder ", part));
    }
    if (slash == std::string::npos) return absl::OkStatus();
  }
}

// Is the open folder still the one at the path? A cleanup that had it removes it, and
// the next comer makes another.
bool IsAt(int fd, const std::string& path) {
  struct stat held {};
  struct stat named {};
  return fstat(fd, &held) == 0 && stat(path.c_str(), &named) == 0 && held.st_dev == named.st_dev &&
         held.st_ino == named.st_ino;
}

}  // namespace

absl::StatusOr<bool> TryLockPins(int fd, std::string_view pin_path, const FirstDeed& first) {
  const std::string path(pin_path);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return os::ErrnoStatus(errno, absl::StrCat("lock ", path));
    if (!IsAt(fd, path)) return false;
    return absl::FailedPreconditionError(
        absl::StrCat("another waggle (agent or cleanup) uses the pins in ", path,
                     "; stop it, or give another --pin-path"));
  }
  if (!IsAt(fd, path)) return false;
  if (first) {
    if (absl::Status status = first(); !status.ok()) return status;
  }
  // A second lock that others can ask about without taking one themselves.
  struct flock sign {};
  sign.l_type = F_RDLCK;
  sign.l_whence = SEEK_SET;
  if (fcntl(fd, F_OFD_SETLK, &sign) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("lock ", path));
  }
  return true;
}

absl::StatusOr<os::UniqueFd> LockPins(std::string_view pin_path, const FirstDeed& first) {
  const std::string path(pin_path);
  for (int tries = 0; tries < kTries; ++tries) {
    if (absl::Status status = MakeFolders(path); !status.ok()) return status;
    os::UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd && errno == ENOENT) continue;
    if (!fd) return os::ErrnoStatus(errno, absl::StrCat("pin path ", path));
    const absl::StatusOr<bool> locked = TryLockPins(fd.get(), path, first);
    if (!locked.ok()) return locked.status();
    if (*locked) return fd;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the folder ", path, " comes and goes: another waggle cleanup removes it"));
}

}  // namespace waggle::loader
