// The cgroup whose processes are served.
#ifndef WAGGLE_LOADER_CGROUP_H_
#define WAGGLE_LOADER_CGROUP_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {

struct Cgroup {
  std::string path;
  uint64_t id = 0;  // the kernel's id: the inode number; the real root has 1
  os::UniqueFd fd;
};

// The cgroup v2 folder at `path`; FailedPrecondition when it is something else.
absl::StatusOr<Cgroup> OpenCgroup(std::string_view path);

// The real root of cgroup v2, wherever it is mounted. In a private cgroup namespace
// every mount shows a subtree as its root; programs attached there would miss all
// other processes, so that is FailedPrecondition, with what to do.
absl::StatusOr<Cgroup> FindRootCgroup();

// The mount points of cgroup v2 in the text of /proc/self/mountinfo, in order; escapes
// (\040 and so on) are resolved. Pure.
std::vector<std::string> CgroupMounts(std::string_view mountinfo);

}  // namespace waggle::loader

#endif
