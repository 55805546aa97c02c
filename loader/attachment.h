// What is attached where, as values: read from pinned links, with or without an agent.
#ifndef WAGGLE_LOADER_ATTACHMENT_H_
#define WAGGLE_LOADER_ATTACHMENT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace waggle::loader {

struct Attachment {
  std::string hook;    // "connect4", "sendmsg6", …
  std::string target;  // "cgroup 1 (/sys/fs/cgroup/unified)", or "gone" when it was removed
  uint32_t program_id = 0;
  std::string program_tag;  // as bpftool shows it
  bool alive = true;        // false: the target no longer exists
};

// Sorted by hook. Empty when nothing is pinned.
absl::StatusOr<std::vector<Attachment>> ListAttachments(std::string_view pin_path);

}  // namespace waggle::loader

#endif
