#include "loader/attachment.h"

#include <bpf/bpf.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "loader/cgroup.h"
#include "loader/link_info.h"
#include "loader/net_links.h"
#include "loader/sock_links.h"
#include "loader/tc_filters.h"
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

// "waggle_pod_in", or as a filter's name "waggle_pod_in:[42]", is "pod_in".
std::string HookOfProgram(absl::string_view name) {
  absl::ConsumePrefix(&name, "waggle_");
  return std::string(name.substr(0, name.find(':')));
}

// Where the kernel may not be asked for names.
std::string HookOfDirection(TcHook hook) {
  return hook == TcHook::kIngress ? "in" : "out";
}

std::string DescribeDevice(uint32_t ifindex) {
  char name[IF_NAMESIZE] = {};
  if (!if_indextoname(ifindex, name)) return absl::StrCat("device ", ifindex);
  return absl::StrCat("device ", ifindex, " (", name, ")");
}

void SetProgram(uint32_t program_id, Attachment* attachment) {
  attachment->program_id = program_id;
  attachment->program_tag = ProgramTag(program_id);
}

absl::StatusOr<std::vector<Attachment>> SocketAttachments(std::string_view pin_path) {
  std::vector<Attachment> attachments;
  for (const SockHook& hook : SockHooks()) {
    const std::string path =
        absl::StrCat(maps::PinOf(pin_path, maps::kLinkFolder), "/", std::string(hook.name));
    const os::UniqueFd link(bpf_obj_get(path.c_str()));
    if (!link) {
      if (errno == ENOENT) continue;
      return os::ErrnoStatus(errno, absl::StrCat("open pinned link ", path));
    }
    const absl::StatusOr<LinkInfo> info = AskLink(link.get());
    if (!info.ok()) return absl::Status(info.status().code(), absl::StrCat(path, " is no link"));
    Attachment attachment;
    attachment.hook = std::string(hook.name);
    attachment.alive = info->kind == LinkKind::kCgroup && info->cgroup_id != 0;
    attachment.target = attachment.alive ? DescribeCgroup(info->cgroup_id) : "gone";
    SetProgram(info->program_id, &attachment);
    attachments.push_back(std::move(attachment));
  }
  return attachments;
}

// By the pinned link; nullopt when it went meanwhile.
absl::StatusOr<std::optional<Attachment>> LinkAttachment(const NetPin& pin) {
  const os::UniqueFd link(bpf_obj_get(pin.path.c_str()));
  if (!link && errno == ENOENT) return std::nullopt;
  if (!link) return os::ErrnoStatus(errno, absl::StrCat("open pinned link ", pin.path));
  const absl::StatusOr<LinkInfo> info = AskLink(link.get());
  if (!info.ok()) return absl::Status(info.status().code(), absl::StrCat(pin.path, " is no link"));
  Attachment attachment;
  attachment.hook = HookOfProgram(ProgramName(info->program_id));
  if (attachment.hook.empty()) attachment.hook = HookOfDirection(pin.hook);
  const auto here = TcxLinksOf(info->ifindex, info->attach_type);
  attachment.alive = info->kind == LinkKind::kTcx && info->ifindex != 0 && here.ok() &&
                     std::find(here->begin(), here->end(), info->id) != here->end();
  attachment.target = attachment.alive ? DescribeDevice(info->ifindex) : "gone";
  SetProgram(info->program_id, &attachment);
  return attachment;
}

absl::Status AddFilters(uint32_t ifindex, std::vector<Attachment>* attachments) {
  for (const TcHook hook : {TcHook::kIngress, TcHook::kEgress}) {
    const absl::StatusOr<std::vector<TcFilter>> filters = ListFilters(ifindex, hook);
    if (!filters.ok()) return filters.status();
    for (const TcFilter& filter : *filters) {
      if (!IsOurs(filter)) continue;
      Attachment attachment;
      attachment.hook = HookOfProgram(filter.name);
      attachment.target = DescribeDevice(ifindex);
      SetProgram(filter.program_id, &attachment);
      attachments->push_back(std::move(attachment));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Attachment>> ListAttachments(std::string_view pin_path) {
  absl::StatusOr<std::vector<Attachment>> attachments = SocketAttachments(pin_path);
  if (!attachments.ok()) return attachments.status();
  const absl::StatusOr<std::vector<NetPin>> pins = ListNetPins(pin_path);
  if (!pins.ok()) return pins.status();
  for (const NetPin& pin : *pins) {
    if (pin.kind == NetPin::Kind::kClsact) {
      absl::Status status = AddFilters(pin.ifindex, &*attachments);
      if (!status.ok()) return status;
      continue;
    }
    absl::StatusOr<std::optional<Attachment>> attachment = LinkAttachment(pin);
    if (!attachment.ok()) return attachment.status();
    if (*attachment) attachments->push_back(**std::move(attachment));
  }
  // Devices are in order already.
  std::stable_sort(
      attachments->begin(), attachments->end(),
      [](const Attachment& left, const Attachment& right) { return left.hook < right.hook; });
  return attachments;
}

}  // namespace waggle::loader
