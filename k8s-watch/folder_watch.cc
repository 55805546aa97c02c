#include "k8s-watch/folder_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"

namespace waggle::k8s {
namespace {

constexpr uint32_t kFileEvents =
    IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;
constexpr uint32_t kFolderEvents =
    kFileEvents | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR;
constexpr uint32_t kParentEvents =
    IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR;

absl::Status InotifyError(int error) {
  const std::string text = absl::StrCat("cannot be watched: ", std::strerror(error));
  if (error == ENOSPC) {
    return absl::ResourceExhaustedError(text + " (raise fs.inotify.max_user_watches)");
  }
  if (error == EMFILE || error == ENFILE) {
    return absl::ResourceExhaustedError(text + " (raise fs.inotify.max_user_instances)");
  }
  if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(text);
  return absl::UnavailableError(text);
}

}  // namespace

absl::Status FolderWatch::Open() {
  fd_.Reset(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  return fd_ ? absl::OkStatus() : InotifyError(errno);
}

absl::Status FolderWatch::WatchFolder(const std::string& path) {
  if (!fd_) return absl::FailedPreconditionError("not open");
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error).lexically_normal();
  if (!error && absolute.has_filename()) {
    entry_ = absolute.filename();
    const int parent = inotify_add_watch(fd_.get(), absolute.parent_path().c_str(), kParentEvents);
    if (parent_ >= 0 && parent != parent_) inotify_rm_watch(fd_.get(), parent_);
    parent_ = parent;
  }
  const int folder = inotify_add_watch(fd_.get(), path.c_str(), kFolderEvents);
  const int add_error = errno;
  if (folder_ >= 0 && folder != folder_) inotify_rm_watch(fd_.get(), folder_);
  folder_ = folder;
  return folder < 0 ? InotifyError(add_error) : absl::OkStatus();
}

absl::Status FolderWatch::WatchTarget(const std::string& name, const std::string& path) {
  const int target = inotify_add_watch(fd_.get(), path.c_str(), kFileEvents | IN_MASK_ADD);
  const int add_error = errno;
  const auto found = targets_.find(target);
  if (found != targets_.end() && found->second.count(name) != 0) return absl::OkStatus();
  ForgetTarget(name);
  if (target < 0) return InotifyError(add_error);
  if (target != folder_ && target != parent_) targets_[target].insert(name);
  return absl::OkStatus();
}

void FolderWatch::ForgetTarget(const std::string& name) {
  for (auto next = targets_.begin(); next != targets_.end();) {
    const auto current = next++;
    if (current->second.erase(name) == 0 || !current->second.empty()) continue;
    inotify_rm_watch(fd_.get(), current->first);
    targets_.erase(current);
  }
}

FolderEvents FolderWatch::Read() {
  FolderEvents events;
  alignas(inotify_event) std::array<char, 16384> buffer;
  while (fd_) {
    const ssize_t got = read(fd_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    for (ssize_t at = 0; at < got;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
      Fold(*event, &events);
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
    }
  }
  return events;
}

void FolderWatch::Fold(const inotify_event& event, FolderEvents* events) {
  if ((event.mask & IN_Q_OVERFLOW) != 0) {
    events->lost = true;
    return;
  }
  // The kernel pads names with NULs.
  const std::string name = event.len == 0 ? "" : event.name;
  if (event.wd == folder_) {
    if ((event.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)) != 0) {
      events->root_changed = true;
      if ((event.mask & IN_IGNORED) != 0) folder_ = -1;
    } else if (name.empty()) {
      events->folder_changed = true;
    } else {
      FoldFile(name, event.mask, events);
    }
    return;
  }
  if (event.wd == parent_) {
    if ((event.mask & IN_IGNORED) != 0) parent_ = -1;
    if (name.empty() ? (event.mask & IN_ATTRIB) == 0 : name == entry_) events->root_changed = true;
    return;
  }
  const auto target = targets_.find(event.wd);
  if (target == targets_.end()) return;
  const std::set<std::string> names = target->second;
  if ((event.mask & IN_IGNORED) != 0) targets_.erase(target);
  for (const std::string& link : names)
    FoldFile(link, event.mask, events);
}

void FolderWatch::FoldFile(const std::string& name, uint32_t mask, FolderEvents* events) {
  if ((mask & IN_CLOSE_WRITE) != 0) {
    events->written.insert(name);
    events->created.erase(name);
    events->modified.erase(name);
    return;
  }
  if ((mask & IN_MODIFY) != 0) {
    events->modified.insert(name);
    return;
  }
  events->touched.insert(name);
  if ((mask & IN_ATTRIB) != 0) return;
  // Whatever was being written there is no longer what has this name.
  events->replaced.insert(name);
  events->created.erase(name);
  events->modified.erase(name);
  if ((mask & (IN_CREATE | IN_ISDIR)) == IN_CREATE) events->created.insert(name);
}

}  // namespace waggle::k8s
