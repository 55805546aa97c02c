// What the kernel says about BPF links, the kinds among them that libbpf 1.1 and Debian 12's
// headers do not know yet.
#ifndef WAGGLE_LOADER_LINK_INFO_H_
#define WAGGLE_LOADER_LINK_INFO_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace waggle::loader {

enum class LinkKind : uint8_t { kCgroup, kTcx, kOther };

struct LinkInfo {
  LinkKind kind = LinkKind::kOther;
  uint32_t id = 0;
  uint32_t program_id = 0;
  uint32_t attach_type = 0;  // enum bpf_attach_type, or kTcxIngress, kTcxEgress
  uint64_t cgroup_id = 0;    // kCgroup; 0: the cgroup is gone
  uint32_t ifindex = 0;      // kTcx: in the namespace where the device is now; 0: it is gone
};

// FailedPrecondition when `fd` is no link.
absl::StatusOr<LinkInfo> AskLink(int fd);

inline constexpr uint32_t kTcxIngress = 46;
inline constexpr uint32_t kTcxEgress = 47;

// Ids of the links at a device of this network namespace, in the order in which they run (0
// for a program without a link). NotFound: no such device.
absl::StatusOr<std::vector<uint32_t>> TcxLinksOf(uint32_t ifindex, uint32_t attach_type);

// The kernel's tag of a program as bpftool shows it; empty where it may not be asked.
std::string ProgramTag(uint32_t program_id);
// Empty where it may not be asked.
std::string ProgramName(uint32_t program_id);

// Detaches the pinned link at `path` at once (dropping the last reference would do so some
// time later) and removes the pin. NotFound when there is none. FailedPrecondition when it is
// no link of this kind: it stays.
absl::Status RemoveLink(const std::string& path, LinkKind kind);

}  // namespace waggle::loader

#endif
