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

// (hook, program descriptor); hooks by the names of kSockHooks.
using SockPrograms = std::vector<std::pair<std::string_view, int>>;

struct SockHook {
  std::string_view name;
  int attach_type;  // enum bpf_attach_type
};
// All hooks of the socket path, in order.
const std::vector<SockHook>& SockHooks();

// Makes the pinned links those of `programs` on `cgroup`: a living link gets its new
// program by an atomic update, a dead or foreign one is replaced after its successor is
// attached, one that is not wanted goes. Names the exclusive program that stands in the
// way where there is one.
absl::Status SyncSockLinks(std::string_view pin_path, const Cgroup& cgroup,
                           const SockPrograms& programs);

// Detaches the pinned link at `path` at once (dropping the last reference would do so
// some time later) and removes the pin. NotFound when there is none.
absl::Status RemoveLink(const std::string& path);

}  // namespace waggle::loader

#endif
