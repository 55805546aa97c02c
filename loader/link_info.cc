#include "loader/link_info.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {
namespace {

constexpr uint32_t kLinkTypeTcx = 11;

// BPF_PROG_QUERY as of Linux 6.6 (linux/bpf.h).
struct ProgQuery {
  uint32_t target_ifindex;
  uint32_t attach_type;
  uint32_t query_flags;
  uint32_t attach_flags;
  uint64_t prog_ids;
  uint32_t count;
  uint32_t pad;
  uint64_t prog_attach_flags;
  uint64_t link_ids;
  uint64_t link_attach_flags;
  uint64_t revision;
};
static_assert(sizeof(ProgQuery) == 64);

// The kernel's limit of programs at one hook (BPF_MPROG_MAX).
constexpr uint32_t kMaxPrograms = 64;

// Maps, programs and links answer the same call with other structures: their kind comes
// from the name of the descriptor.
bool IsLink(int fd) {
  std::error_code error;
  const std::string kind =
      std::filesystem::read_symlink(absl::StrCat("/proc/self/fd/", fd), error).string();
  return kind.starts_with("anon_inode:bpf") && kind.find("link") != std::string::npos;
}

bool AskProgram(uint32_t id, bpf_prog_info* info) {
  const os::UniqueFd program(bpf_prog_get_fd_by_id(id));
  uint32_t length = sizeof(*info);
  return program && bpf_obj_get_info_by_fd(program.get(), info, &length) == 0;
}

absl::Status NotThis(const std::string& path, LinkKind kind) {
  return absl::FailedPreconditionError(
      absl::StrCat(path, " is not a ", kind == LinkKind::kCgroup ? "cgroup" : "tcx",
                   " link; remove it, or give another --pin-path"));
}

}  // namespace

absl::StatusOr<LinkInfo> AskLink(int fd) {
  bpf_link_info info{};
  uint32_t length = sizeof(info);
  if (!IsLink(fd) || bpf_obj_get_info_by_fd(fd, &info, &length) != 0) {
    return absl::FailedPreconditionError("not a BPF link");
  }
  LinkInfo link;
  link.id = info.id;
  link.program_id = info.prog_id;
  if (info.type == BPF_LINK_TYPE_CGROUP) {
    link.kind = LinkKind::kCgroup;
    link.cgroup_id = info.cgroup.cgroup_id;
    link.attach_type = info.cgroup.attach_type;
  } else if (info.type == kLinkTypeTcx) {
    link.kind = LinkKind::kTcx;
    uint32_t fields[2];  // struct { __u32 ifindex; __u32 attach_type; } tcx
    std::memcpy(fields, &info.xdp, sizeof(fields));
    link.ifindex = fields[0];
    link.attach_type = fields[1];
  }
  return link;
}

absl::StatusOr<std::vector<uint32_t>> TcxLinksOf(uint32_t ifindex, uint32_t attach_type) {
  std::vector<uint32_t> programs(kMaxPrograms), links(kMaxPrograms);
  ProgQuery query{};
  query.target_ifindex = ifindex;
  query.attach_type = attach_type;
  query.prog_ids = reinterpret_cast<uintptr_t>(programs.data());
  query.link_ids = reinterpret_cast<uintptr_t>(links.data());
  query.count = kMaxPrograms;
  if (syscall(SYS_bpf, BPF_PROG_QUERY, &query, sizeof(query)) != 0) {
    if (errno == ENOENT) return std::vector<uint32_t>{};  // nothing is attached
    return os::ErrnoStatus(errno, absl::StrCat("ask for the programs of device ", ifindex));
  }
  links.resize(query.count);
  return links;
}

std::string ProgramTag(uint32_t program_id) {
  bpf_prog_info info{};
  std::string tag;
  if (!AskProgram(program_id, &info)) return tag;
  for (const unsigned char byte : info.tag)
    absl::StrAppend(&tag, absl::Hex(byte, absl::kZeroPad2));
  return tag;
}

std::string ProgramName(uint32_t program_id) {
  bpf_prog_info info{};
  return AskProgram(program_id, &info) ? info.name : "";
}

absl::Status RemoveLink(const std::string& path, LinkKind kind) {
  struct stat pin {};
  if (lstat(path.c_str(), &pin) != 0) return os::ErrnoStatus(errno, absl::StrCat("pin ", path));
  const os::UniqueFd link(bpf_obj_get(path.c_str()));
  if (!link && errno == EPERM) return os::ErrnoStatus(EPERM, absl::StrCat("open pin ", path));
  if (!link) return NotThis(path, kind);
  const absl::StatusOr<LinkInfo> info = AskLink(link.get());
  if (!info.ok() || info->kind != kind) return NotThis(path, kind);
  // Fails on a link whose target is gone: unlinking is all that is left to do then.
  bpf_link_detach(link.get());
  if (unlink(path.c_str()) != 0) return os::ErrnoStatus(errno, absl::StrCat("remove ", path));
  return absl::OkStatus();
}

}  // namespace waggle::loader
