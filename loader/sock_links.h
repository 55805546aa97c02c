// The links of the socket programs: adopted, updated, made, let go.
#ifndef WAGGLE_LOADER_SOCK_LINKS_H_
#define WAGGLE_LOADER_SOCK_LINKS_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "loader/cgroup.h"

namespace waggle::loader {

// (hook, program descriptor); hooks by the names of SockHooks().
using SockPrograms = std::vector<std::pair<std::string_view, int>>;

struct SockHook {
  std::string_view name;
  int attach_type;  // enum bpf_attach_type
};
// All hooks of the socket path. Programs are attached in this order and detached in its
// reverse: replies are translated before requests are and for longer, so that no socket
// gets a backend whose answers it does not recognise.
const std::vector<SockHook>& SockHooks();

// FailedPrecondition when an exclusive program, here or in a parent, or a pin that is no
// cgroup link stands in the way of any hook; names it. Changes nothing.
absl::Status CheckSockHooks(std::string_view pin_path, const Cgroup& cgroup);

// Makes the pinned links those of `programs` on `cgroup`: a living link gets its new
// program by an atomic update, a dead or foreign one is replaced after its successor is
// attached, one that is not wanted goes, and so does what a crash left. On an error no
// hook has a link that had none before.
absl::Status SyncSockLinks(std::string_view pin_path, const Cgroup& cgroup,
                           const SockPrograms& programs);

}  // namespace waggle::loader

#endif
