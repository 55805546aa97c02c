// Reading one manifest file, whatever stands at its path, without ever blocking.
#ifndef WAGGLE_K8S_WATCH_FILE_TEXT_H_
#define WAGGLE_K8S_WATCH_FILE_TEXT_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace waggle::k8s {

// What tells two versions of a file apart. ctime is part of it: rights may change, and
// mtime can be set back.
struct FileStamp {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size = 0;
  int64_t modified_ns = 0;
  int64_t changed_ns = 0;

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

// Follows symlinks. nullopt when there is nothing, or a link that leads nowhere.
std::optional<FileStamp> StampOf(const std::string& path);

// The content of a regular file of at most kMaxFileBytes; `*stamp` is its state before
// reading. NotFound, InvalidArgument (a directory, a pipe, too long) or what
// the kernel says, with a text that goes behind the path.
absl::StatusOr<std::string> ReadFileText(const std::string& path, FileStamp* stamp);

// Everything from a descriptor until its end. Waits for input for as long as it takes, but
// Cancelled at once when `stop_fd` (-1: none) becomes readable.
absl::StatusOr<std::string> ReadDescriptor(int fd, int stop_fd);

}  // namespace waggle::k8s

#endif
