// What happens to the files of one folder, by inotify: names and kinds of change, without
// looking at the files themselves. For one thread.
#ifndef WAGGLE_K8S_WATCH_FOLDER_WATCH_H_
#define WAGGLE_K8S_WATCH_FOLDER_WATCH_H_

#include <map>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "userspace/os/unique_fd.h"

struct inotify_event;

namespace waggle::k8s {

struct FolderEvents {
  bool lost = false;               // the kernel dropped events: anything may have changed
  bool root_changed = false;       // another folder may stand at the path now, or none
  bool folder_changed = false;     // the folder's own rights
  std::set<std::string> touched;   // came, went, or changed in rights
  std::set<std::string> replaced;  // of these: it is another file now, or none
  std::set<std::string> created;   // of these: new, and no writer is done yet
  std::set<std::string> modified;  // the content changes, and no writer is done yet
  std::set<std::string> written;   // a writer is done: the content has changed
};

class FolderWatch {
 public:
  // ResourceExhausted names the sysctl to raise.
  absl::Status Open();
  // Readable when there are events; -1 before Open().
  int fd() const { return fd_.get(); }

  // Watches the folder that now stands at `path`, in place of any before, and the entry
  // above it through which it is reached. NotFound when there is none.
  absl::Status WatchFolder(const std::string& path);
  // Watches what the symlink `name` of the folder, at `path`, leads to.
  absl::Status WatchTarget(const std::string& name, const std::string& path);
  void ForgetTarget(const std::string& name);

  // All events up to now, in the order of time folded into what they add up to. Never blocks.
  FolderEvents Read();

 private:
  void Fold(const inotify_event& event, FolderEvents* events);
  static void FoldFile(const std::string& name, uint32_t mask, FolderEvents* events);

  os::UniqueFd fd_;
  int folder_ = -1;  // watch descriptors
  int parent_ = -1;
  std::string entry_;                             // the folder's name in its parent
  std::map<int, std::set<std::string>> targets_;  // links by the watch of their target
};

}  // namespace waggle::k8s

#endif
