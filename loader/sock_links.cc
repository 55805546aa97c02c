#include "loader/sock_links.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "maps/layout.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {
namespace {

std::string LinkFolder(std::string_view pin_path) {
  return maps::PinOf(pin_path, maps::kLinkFolder);
}

int AttachType(std::string_view hook) {
  for (const SockHook& known : SockHooks()) {
    if (known.name == hook) return known.attach_type;
  }
  return -1;
}

// The cgroup of a pinned link; 0 when the cgroup is gone or the link is of another kind.
uint64_t LinkedCgroup(int link_fd, int attach_type) {
  bpf_link_info info{};
  uint32_t length = sizeof(info);
  if (bpf_obj_get_info_by_fd(link_fd, &info, &length) != 0) return 0;
  if (info.type != BPF_LINK_TYPE_CGROUP) return 0;
  if (static_cast<int>(info.cgroup.attach_type) != attach_type) return 0;
  return info.cgroup.cgroup_id;
}

// Says which program keeps us out, here or in a parent: one that was attached without
// BPF_F_ALLOW_MULTI or BPF_F_ALLOW_OVERRIDE admits no other.
std::string FindExclusive(const Cgroup& cgroup, int attach_type) {
  std::string path = cgroup.path;
  while (path.size() > 1) {
    const absl::StatusOr<Cgroup> at = OpenCgroup(path);
    if (!at.ok()) break;
    std::array<uint32_t, 64> programs{};
    uint32_t flags = 0;
    auto count = static_cast<uint32_t>(programs.size());
    const int result = bpf_prog_query(at->fd.get(), static_cast<bpf_attach_type>(attach_type), 0,
                                      &flags, programs.data(), &count);
    if (result == 0 && count > 0 && (flags & BPF_F_ALLOW_MULTI) == 0) {
      std::string name = "unknown";
      const os::UniqueFd program(bpf_prog_get_fd_by_id(programs[0]));
      bpf_prog_info info{};
      uint32_t length = sizeof(info);
      if (program && bpf_obj_get_info_by_fd(program.get(), &info, &length) == 0) name = info.name;
      return absl::StrCat("program ", programs[0], " (", name, ") is attached to ", path,
                          " without BPF_F_ALLOW_MULTI and admits no other; detach it (bpftool "
                          "cgroup detach) or have its owner attach it with 'multi'");
    }
    path.resize(path.rfind('/'));
  }
  return "";
}

absl::Status MakeLink(const Cgroup& cgroup, std::string_view hook, int program,
                      const std::string& path) {
  const int type = AttachType(hook);
  const os::UniqueFd link(
      bpf_link_create(program, cgroup.fd.get(), static_cast<bpf_attach_type>(type), nullptr));
  if (!link) {
    const int error = errno;
    const std::string what = absl::StrCat("attach ", std::string(hook), " to cgroup ", cgroup.path);
    if (error == EPERM) {
      const std::string exclusive = FindExclusive(cgroup, type);
      if (!exclusive.empty()) {
        return absl::FailedPreconditionError(absl::StrCat(what, ": ", exclusive));
      }
    }
    return os::ErrnoStatus(error, what);
  }
  const std::string fresh = path + "_new";
  if (unlink(fresh.c_str()) != 0 && errno != ENOENT) {
    return os::ErrnoStatus(errno, absl::StrCat("remove ", fresh));
  }
  if (bpf_obj_pin(link.get(), fresh.c_str()) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("pin link at ", fresh));
  }
  // Whatever was pinned under the name is let go now that its successor works.
  if (rename(fresh.c_str(), path.c_str()) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("pin link at ", path));
  }
  return absl::OkStatus();
}

absl::Status SyncLink(const Cgroup& cgroup, std::string_view hook, int program,
                      const std::string& path) {
  const os::UniqueFd link(bpf_obj_get(path.c_str()));
  if (!link && errno != ENOENT) {
    return os::ErrnoStatus(errno, absl::StrCat("open pinned link ", path));
  }
  if (link && LinkedCgroup(link.get(), AttachType(hook)) == cgroup.id) {
    if (bpf_link_update(link.get(), program, nullptr) == 0) return absl::OkStatus();
    // ENOLINK: the cgroup went between the two calls; anything else is worth a new try too.
  }
  return MakeLink(cgroup, hook, program, path);
}

}  // namespace

const std::vector<SockHook>& SockHooks() {
  static const std::vector<SockHook> hooks = {
      {"connect4", BPF_CGROUP_INET4_CONNECT},
      {"connect6", BPF_CGROUP_INET6_CONNECT},
      {"getpeername4", BPF_CGROUP_INET4_GETPEERNAME},
      {"getpeername6", BPF_CGROUP_INET6_GETPEERNAME},
      {"recvmsg4", BPF_CGROUP_UDP4_RECVMSG},
      {"recvmsg6", BPF_CGROUP_UDP6_RECVMSG},
      {"sendmsg4", BPF_CGROUP_UDP4_SENDMSG},
      {"sendmsg6", BPF_CGROUP_UDP6_SENDMSG},
  };
  return hooks;
}

absl::Status SyncSockLinks(std::string_view pin_path, const Cgroup& cgroup,
                           const SockPrograms& programs) {
  const std::string folder = LinkFolder(pin_path);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return os::ErrnoStatus(errno, absl::StrCat("make folder ", folder));
  }
  // Replies are translated before requests are: recvmsg and getpeername go first, so
  // that no socket gets a backend whose answers it does not recognise.
  SockPrograms ordered = programs;
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto& left, const auto& right) {
    const auto late = [](std::string_view hook) {
      return hook.substr(0, 7) == "connect" || hook.substr(0, 7) == "sendmsg";
    };
    return late(left.first) < late(right.first);
  });
  for (const auto& [hook, program] : ordered) {
    absl::Status status =
        SyncLink(cgroup, hook, program, absl::StrCat(folder, "/", std::string(hook)));
    if (!status.ok()) return status;
  }
  for (const SockHook& hook : SockHooks()) {
    const bool wanted = std::any_of(programs.begin(), programs.end(), [&](const auto& program) {
      return program.first == hook.name;
    });
    if (wanted) continue;
    absl::Status status = RemoveLink(absl::StrCat(folder, "/", std::string(hook.name)));
    if (!status.ok() && !absl::IsNotFound(status)) return status;
  }
  return absl::OkStatus();
}

absl::Status RemoveLink(const std::string& path) {
  const os::UniqueFd link(bpf_obj_get(path.c_str()));
  // Fails on a link whose cgroup is gone and on what is no link: unlinking is all that is
  // left to do then.
  if (link) bpf_link_detach(link.get());
  if (unlink(path.c_str()) != 0) return os::ErrnoStatus(errno, absl::StrCat("remove ", path));
  return absl::OkStatus();
}

}  // namespace waggle::loader
