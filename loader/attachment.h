// What is attached where, as values: read from the pins, with or without an agent.
#ifndef WAGGLE_LOADER_ATTACHMENT_H_
#define WAGGLE_LOADER_ATTACHMENT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace waggle::loader {

struct Attachment {
  std::string
      hook;  // "connect4", "sendmsg6", …; at devices "pod_in", "pod_out", "net_in", "net_l3"
  // "cgroup 1 (/sys/fs/cgroup/unified)", "device 12 (veth1)", or "gone" when it was removed.
  std::string target;
  uint32_t program_id = 0;
  std::string program_tag;  // as bpftool shows it
  bool alive = true;        // false: the target no longer exists
};

// Sorted by hook, then by device. Empty when nothing is pinned. Devices are those of the calling
// thread's network namespace, which should be the node's.
absl::StatusOr<std::vector<Attachment>> ListAttachments(std::string_view pin_path);

}  // namespace waggle::loader

#endif
