#include "loader/attachment.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "loader/cgroup.h"
#include "loader/sock_links.h"
#include "maps/layout.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {
namespace {

// Only roots are found by their id without a walk over all cgroups.
std::string DescribeCgroup(uint64_t id) {
  std::ifstream file("/proc/self/mountinfo");
  std::stringstream text;
  text << file.rdbuf();
  for (const std::string& mount : CgroupMounts(text.str())) {
    const absl::StatusOr<Cgroup> cgroup = OpenCgroup(mount);
    if (cgroup.ok() && cgroup->id == id) return absl::StrCat("cgroup ", id, " (", mount, ")");
  }
  return absl::StrCat("cgroup ", id);
}

}  // namespace

absl::StatusOr<std::vector<Attachment>> ListAttachments(std::string_view pin_path) {
  std::vector<Attachment> attachments;
  for (const SockHook& hook : SockHooks()) {
    const std::string path =
        absl::StrCat(maps::PinOf(pin_path, maps::kLinkFolder), "/", std::string(hook.name));
    const os::UniqueFd link(bpf_obj_get(path.c_str()));
    if (!link) {
      if (errno == ENOENT) continue;
      return os::ErrnoStatus(errno, absl::StrCat("open pinned link ", path));
    }
    Attachment attachment;
    attachment.hook = std::string(hook.name);
    bpf_link_info info{};
    uint32_t length = sizeof(info);
    if (bpf_obj_get_info_by_fd(link.get(), &info, &length) != 0) {
      return os::ErrnoStatus(errno, absl::StrCat("ask link ", path));
    }
    attachment.program_id = info.prog_id;
    attachment.alive = info.type == BPF_LINK_TYPE_CGROUP && info.cgroup.cgroup_id != 0;
    attachment.target = attachment.alive ? DescribeCgroup(info.cgroup.cgroup_id) : "gone";
    const os::UniqueFd program(bpf_prog_get_fd_by_id(info.prog_id));
    bpf_prog_info program_info{};
    length = sizeof(program_info);
    if (program && bpf_obj_get_info_by_fd(program.get(), &program_info, &length) == 0) {
      for (const unsigned char byte : program_info.tag) {
        absl::StrAppend(&attachment.program_tag, absl::Hex(byte, absl::kZeroPad2));
      }
    }
    attachments.push_back(std::move(attachment));
  }
  std::sort(attachments.begin(), attachments.end(),
            [](const Attachment& left, const Attachment& right) { return left.hook < right.hook; });
  return attachments;
}

}  // namespace waggle::loader
