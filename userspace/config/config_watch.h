// Notices that a configuration file is no longer what was read. For one thread.
#ifndef WAGGLE_USERSPACE_CONFIG_CONFIG_WATCH_H_
#define WAGGLE_USERSPACE_CONFIG_CONFIG_WATCH_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "k8s-watch/folder_watch.h"

namespace waggle::config {

class ConfigWatch {
 public:
  // Watches first and reads then, so that no change is missed. What the file held is text().
  // ResourceExhausted when it was read, and cannot be watched.
  absl::Status Open(const std::string& path);

  const std::string& text() const { return text_; }
  // Readable when something may have changed; -1 before Open(), and where nothing is watched.
  int fd() const { return watch_.fd(); }
  // True when the file, or what stands at its path now, has another content, which text() is from
  // now on: written in place, renamed over, or reached by another symlink, as in a ConfigMap's
  // volume. False while a writer is not done, and while there is no file. Never blocks.
  bool Check();

 private:
  absl::Status WatchAgain();

  std::string path_;
  std::string folder_;
  std::string name_;
  std::string text_;
  bool writing_ = false;  // somebody has the file open and is not done
  k8s::FolderWatch watch_;
};

}  // namespace waggle::config

#endif
