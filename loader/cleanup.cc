#include "loader/cleanup.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "loader/pin_lock.h"
#include "loader/sock_links.h"
#include "maps/layout.h"
#include "maps/pins.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {
namespace {

absl::Status Remove(const std::string& path, std::vector<std::string>* removed) {
  if (unlink(path.c_str()) == 0) {
    removed->push_back(path);
  } else if (errno != ENOENT && errno != ENOTDIR) {
    return os::ErrnoStatus(errno, absl::StrCat("remove ", path));
  }
  return absl::OkStatus();
}

absl::Status RemoveFolder(const std::string& path, std::vector<std::string>* removed) {
  if (rmdir(path.c_str()) == 0) {
    removed->push_back(path);
  } else if (errno == ENOTEMPTY) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " holds something that is not Waggle's; it stays"));
  } else if (errno != ENOENT) {
    return os::ErrnoStatus(errno, absl::StrCat("remove ", path));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Cleanup(std::string_view pin_path, std::vector<std::string>* removed) {
  struct stat found {};
  const std::string root(pin_path);
  if (stat(root.c_str(), &found) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return os::ErrnoStatus(errno, absl::StrCat("pin path ", root));
  }
  if (absl::Status status = maps::CheckBpffs(pin_path); !status.ok()) return status;
  const absl::StatusOr<os::UniqueFd> lock = LockPins(pin_path);
  if (!lock.ok()) return lock.status();

  const std::string links = maps::PinOf(pin_path, maps::kLinkFolder);
  // Requests stop being translated before replies do.
  for (const bool requests : {true, false}) {
    for (const SockHook& hook : SockHooks()) {
      const bool is_request = hook.name[0] == 'c' || hook.name[0] == 's';
      if (is_request != requests) continue;
      for (const char* suffix : {"", "_new"}) {
        const std::string path = absl::StrCat(links, "/", std::string(hook.name), suffix);
        absl::Status status = RemoveLink(path);
        if (status.ok()) {
          removed->push_back(path);
        } else if (!absl::IsNotFound(status)) {
          return status;
        }
      }
    }
  }
  for (const maps::MapInfo& map : maps::kMaps) {
    for (const char* suffix : {"", "_new"}) {
      absl::Status status = Remove(maps::PinOf(pin_path, map.name) + suffix, removed);
      if (!status.ok()) return status;
    }
  }
  if (absl::Status status = RemoveFolder(links, removed); !status.ok()) return status;
  return RemoveFolder(root, removed);
}

}  // namespace waggle::loader
