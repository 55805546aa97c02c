#include "loader/sock_links.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "loader/link_info.h"
#include "maps/layout.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {
namespace {

// A new pin waits under its name and this until it is renamed.
constexpr char kAside[] = "_new";

std::string LinkFolder(std::string_view pin_path) {
  return maps::PinOf(pin_path, maps::kLinkFolder);
}

std::string LinkAt(const std::string& folder, const SockHook& hook) {
  return absl::StrCat(folder, "/", std::string(hook.name));
}

absl::Status NotOurs(const std::string& path) {
  return absl::FailedPreconditionError(
      absl::StrCat(path, " is not a cgroup link; remove it, or give another --pin-path"));
}

// Says which program keeps us out: one at the cgroup itself that was attached without
// BPF_F_ALLOW_MULTI, or one in a parent without that and BPF_F_ALLOW_OVERRIDE. Empty:
// none that can be seen from here.
std::string FindExclusive(const Cgroup& cgroup, int attach_type) {
  std::error_code unresolved;
  std::string path = std::filesystem::canonical(cgroup.path, unresolved).string();
  if (unresolved) path = cgroup.path;
  uint32_t admits = BPF_F_ALLOW_MULTI;
  while (path.size() > 1) {
    const absl::StatusOr<Cgroup> at = OpenCgroup(path);
    if (!at.ok()) break;
    std::array<uint32_t, 64> programs{};
    uint32_t flags = 0;
    auto count = static_cast<uint32_t>(programs.size());
    const int result = bpf_prog_query(at->fd.get(), static_cast<bpf_attach_type>(attach_type), 0,
                                      &flags, programs.data(), &count);
    if (result == 0 && count > 0) {
      // The nearest one decides.
      if ((flags & admits) != 0) return "";
      std::string name = "unknown";
      const os::UniqueFd program(bpf_prog_get_fd_by_id(programs[0]));
      bpf_prog_info info{};
      uint32_t length = sizeof(info);
      if (program && bpf_obj_get_info_by_fd(program.get(), &info, &length) == 0) name = info.name;
      return absl::StrCat("program ", programs[0], " (", name, ") is attached to ", path,
                          " without BPF_F_ALLOW_MULTI and admits no other; detach it (bpftool "
                          "cgroup detach) or have its owner attach it with 'multi'");
    }
    admits = BPF_F_ALLOW_MULTI | BPF_F_ALLOW_OVERRIDE;
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) break;
    path.resize(slash);
  }
  return "";
}

absl::Status ExclusiveError(const Cgroup& cgroup, const SockHook& hook, std::string_view who) {
  return absl::FailedPreconditionError(absl::StrCat(
      "attach ", std::string(hook.name), " to cgroup ", cgroup.path, ": ", std::string(who)));
}

absl::Status MakeLink(const Cgroup& cgroup, const SockHook& hook, int program,
                      const std::string& path) {
  const os::UniqueFd link(bpf_link_create(program, cgroup.fd.get(),
                                          static_cast<bpf_attach_type>(hook.attach_type), nullptr));
  if (!link) {
    const int error = errno;
    if (error == EPERM) {
      const std::string exclusive = FindExclusive(cgroup, hook.attach_type);
      if (!exclusive.empty()) return ExclusiveError(cgroup, hook, exclusive);
    }
    return os::ErrnoStatus(
        error, absl::StrCat("attach ", std::string(hook.name), " to cgroup ", cgroup.path));
  }
  const std::string fresh = path + kAside;
  // A link that a crash left here has served until now.
  if (absl::Status status = RemoveLink(fresh, LinkKind::kCgroup);
      !status.ok() && !absl::IsNotFound(status)) {
    return status;
  }
  if (bpf_obj_pin(link.get(), fresh.c_str()) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("pin link at ", fresh));
  }
  // Whatever was pinned under the name is let go now that its successor works.
  if (rename(fresh.c_str(), path.c_str()) != 0) {
    absl::Status status = os::ErrnoStatus(errno, absl::StrCat("pin link at ", path));
    RemoveLink(fresh, LinkKind::kCgroup).IgnoreError();
    return status;
  }
  return absl::OkStatus();
}

// The pinned link of a hook as it was found.
struct Found {
  os::UniqueFd link;      // none: nothing was pinned
  bool reusable = false;  // it is attached to the cgroup that we want
};

absl::StatusOr<Found> FindLink(const Cgroup& cgroup, const SockHook& hook,
                               const std::string& path) {
  Found found{os::UniqueFd(bpf_obj_get(path.c_str()))};
  if (!found.link) {
    if (errno == ENOENT) return found;
    return os::ErrnoStatus(errno, absl::StrCat("open pinned link ", path));
  }
  const absl::StatusOr<LinkInfo> info = AskLink(found.link.get());
  if (!info.ok() || info->kind != LinkKind::kCgroup) return NotOurs(path);
  found.reusable =
      static_cast<int>(info->attach_type) == hook.attach_type && info->cgroup_id == cgroup.id;
  return found;
}

const int* ProgramOf(const SockPrograms& programs, const SockHook& hook) {
  for (const auto& [name, program] : programs) {
    if (name == hook.name) return &program;
  }
  return nullptr;
}

absl::Status Attach(const std::string& folder, const Cgroup& cgroup, const SockPrograms& programs,
                    std::vector<std::string>* made) {
  for (const SockHook& hook : SockHooks()) {
    const int* program = ProgramOf(programs, hook);
    if (!program) continue;
    const std::string path = LinkAt(folder, hook);
    const absl::StatusOr<Found> found = FindLink(cgroup, hook, path);
    if (!found.ok()) return found.status();
    // Fails with ENOLINK when the cgroup went between the two calls; anything else is
    // worth a new try too.
    if (found->reusable && bpf_link_update(found->link.get(), *program, nullptr) == 0) continue;
    if (absl::Status status = MakeLink(cgroup, hook, *program, path); !status.ok()) return status;
    if (!found->link) made->push_back(path);
  }
  return absl::OkStatus();
}

}  // namespace

const std::vector<SockHook>& SockHooks() {
  static const std::vector<SockHook> hooks = {
      {"recvmsg4", BPF_CGROUP_UDP4_RECVMSG},
      {"recvmsg6", BPF_CGROUP_UDP6_RECVMSG},
      {"getpeername4", BPF_CGROUP_INET4_GETPEERNAME},
      {"getpeername6", BPF_CGROUP_INET6_GETPEERNAME},
      {"connect4", BPF_CGROUP_INET4_CONNECT},
      {"connect6", BPF_CGROUP_INET6_CONNECT},
      {"sendmsg4", BPF_CGROUP_UDP4_SENDMSG},
      {"sendmsg6", BPF_CGROUP_UDP6_SENDMSG},
  };
  return hooks;
}

absl::Status CheckSockHooks(std::string_view pin_path, const Cgroup& cgroup) {
  const std::string folder = LinkFolder(pin_path);
  for (const SockHook& hook : SockHooks()) {
    const absl::StatusOr<Found> found = FindLink(cgroup, hook, LinkAt(folder, hook));
    if (!found.ok()) return found.status();
    if (found->reusable) continue;
    const std::string exclusive = FindExclusive(cgroup, hook.attach_type);
    if (!exclusive.empty()) return ExclusiveError(cgroup, hook, exclusive);
  }
  return absl::OkStatus();
}

absl::Status SyncSockLinks(std::string_view pin_path, const Cgroup& cgroup,
                           const SockPrograms& programs) {
  const std::string folder = LinkFolder(pin_path);
  const bool made_folder = mkdir(folder.c_str(), 0700) == 0;
  if (!made_folder && errno != EEXIST) {
    return os::ErrnoStatus(errno, absl::StrCat("make folder ", folder));
  }
  std::vector<std::string> made;
  if (absl::Status status = Attach(folder, cgroup, programs, &made); !status.ok()) {
    for (auto path = made.rbegin(); path != made.rend(); ++path)
      RemoveLink(*path, LinkKind::kCgroup).IgnoreError();
    if (made_folder) rmdir(folder.c_str());
    return status;
  }
  for (auto hook = SockHooks().rbegin(); hook != SockHooks().rend(); ++hook) {
    const std::string path = LinkAt(folder, *hook);
    std::vector<std::string> unwanted = {path + kAside};
    if (!ProgramOf(programs, *hook)) unwanted.push_back(path);
    for (const std::string& pin : unwanted) {
      absl::Status status = RemoveLink(pin, LinkKind::kCgroup);
      // A stranger's pin is not in our way here.
      if (!status.ok() && !absl::IsNotFound(status) && !absl::IsFailedPrecondition(status)) {
        return status;
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace waggle::loader
