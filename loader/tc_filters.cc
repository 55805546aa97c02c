#include "loader/tc_filters.h"

#include <bpf/libbpf.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "loader/netlink.h"
#include "userspace/os/errno_status.h"

namespace waggle::loader {
namespace {

constexpr char kClsact[] = "clsact";

uint32_t ParentOf(TcHook hook) {
  return TC_H_MAKE(TC_H_CLSACT, hook == TcHook::kIngress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
}

bpf_tc_hook HookOf(uint32_t ifindex, TcHook hook) {
  bpf_tc_hook at{};
  at.sz = sizeof(at);
  at.ifindex = static_cast<int>(ifindex);
  at.attach_point = hook == TcHook::kIngress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
  return at;
}

TcFilter ParseFilter(const nlmsghdr* message) {
  const auto* info = static_cast<const tcmsg*>(mnl_nlmsg_get_payload(message));
  TcFilter filter;
  filter.handle = info->tcm_handle;
  filter.priority = TC_H_MAJ(info->tcm_info) >> 16;
  ForEachAttribute(message, sizeof(tcmsg), [&](const nlattr* attribute) {
    if (mnl_attr_get_type(attribute) == TCA_KIND) filter.kind = TextOf(attribute);
    if (mnl_attr_get_type(attribute) != TCA_OPTIONS || filter.kind != "bpf") return;
    ForEachAttribute(attribute, [&](const nlattr* option) {
      if (mnl_attr_get_type(option) == TCA_BPF_NAME) filter.name = TextOf(option);
      if (mnl_attr_get_type(option) == TCA_BPF_ID) filter.program_id = NumberOf(option);
    });
  });
  return filter;
}

std::string Name(uint32_t ifindex) {
  return absl::StrCat("device ", ifindex);
}

}  // namespace

bool IsOurs(const TcFilter& filter) {
  return filter.kind == "bpf" && filter.handle == kFilterHandle &&
         filter.priority == kFilterPriority && filter.name.starts_with("waggle_");
}

absl::StatusOr<std::vector<TcFilter>> ListFilters(uint32_t ifindex, TcHook hook) {
  absl::StatusOr<NetlinkQueries> queries = NetlinkQueries::Open(NETLINK_ROUTE);
  if (!queries.ok()) return queries.status();
  NetlinkRequest request(RTM_GETTFILTER, NLM_F_DUMP);
  auto* info = request.Put<tcmsg>();
  info->tcm_ifindex = static_cast<int>(ifindex);
  info->tcm_parent = ParentOf(hook);
  std::vector<TcFilter> filters;
  const absl::Status status = queries->Ask(request, [&](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWTFILTER ||
        mnl_nlmsg_get_payload_len(message) < sizeof(tcmsg)) {
      return;
    }
    TcFilter filter = ParseFilter(message);
    // Each priority is announced by a message of its own, without a filter.
    if (filter.handle != 0) filters.push_back(std::move(filter));
  });
  if (status.ok() || absl::IsUnavailable(status)) return filters;
  // No clsact, or no device.
  if (absl::IsNotFound(status) || absl::IsInvalidArgument(status)) return std::vector<TcFilter>{};
  return status;
}

absl::StatusOr<IngressQdiscs> ListIngressQdiscs() {
  absl::StatusOr<NetlinkQueries> queries = NetlinkQueries::Open(NETLINK_ROUTE);
  if (!queries.ok()) return queries.status();
  // A dump of all devices: a question about one is answered to all who watch.
  NetlinkRequest request(RTM_GETQDISC, NLM_F_DUMP);
  request.Put<tcmsg>();
  IngressQdiscs kinds;
  const absl::Status status = queries->Ask(request, [&](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWQDISC || mnl_nlmsg_get_payload_len(message) < sizeof(tcmsg)) {
      return;
    }
    const auto* info = static_cast<const tcmsg*>(mnl_nlmsg_get_payload(message));
    if (info->tcm_parent != TC_H_CLSACT) return;
    ForEachAttribute(message, sizeof(tcmsg), [&](const nlattr* attribute) {
      if (mnl_attr_get_type(attribute) != TCA_KIND) return;
      kinds[static_cast<uint32_t>(info->tcm_ifindex)] = TextOf(attribute);
    });
  });
  // Devices come and go under a dump; a line is there or not.
  if (!status.ok() && !absl::IsUnavailable(status)) return status;
  return kinds;
}

absl::Status EnsureClsact(uint32_t ifindex, IngressQdiscs* known, bool* made) {
  *made = false;
  bpf_tc_hook at = HookOf(ifindex, TcHook::kIngress);
  const int error = -bpf_tc_hook_create(&at);
  *made = error == 0;
  if (error == 0) {
    (*known)[ifindex] = kClsact;
    return absl::OkStatus();
  }
  if (error != EEXIST) return os::ErrnoStatus(error, absl::StrCat("add clsact to ", Name(ifindex)));
  // "Exists" is said of any queueing discipline in that place.
  if (!known->contains(ifindex)) {
    absl::StatusOr<IngressQdiscs> kinds = ListIngressQdiscs();
    if (!kinds.ok()) return kinds.status();
    *known = *std::move(kinds);
  }
  const std::string& kind = (*known)[ifindex];
  if (kind == kClsact) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(Name(ifindex), " has the queueing discipline '", kind,
                   "' where clsact must stand; whoever made it may use clsact in its place, which "
                   "does the same"));
}

absl::Status RemoveEmptyClsact(uint32_t ifindex) {
  absl::StatusOr<IngressQdiscs> kinds = ListIngressQdiscs();
  if (!kinds.ok()) return kinds.status();
  if ((*kinds)[ifindex] != kClsact) return absl::NotFoundError("no clsact");
  for (const TcHook hook : {TcHook::kIngress, TcHook::kEgress}) {
    const absl::StatusOr<std::vector<TcFilter>> filters = ListFilters(ifindex, hook);
    if (!filters.ok()) return filters.status();
    if (!filters->empty()) return absl::FailedPreconditionError("others use the clsact");
  }
  bpf_tc_hook at = HookOf(ifindex, TcHook::kIngress);
  at.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
  const int error = -bpf_tc_hook_destroy(&at);
  if (error != 0) return os::ErrnoStatus(error, absl::StrCat("remove clsact of ", Name(ifindex)));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<TcFilter>> FindOurs(uint32_t ifindex, TcHook hook) {
  const absl::StatusOr<std::vector<TcFilter>> filters = ListFilters(ifindex, hook);
  if (!filters.ok()) return filters.status();
  std::optional<TcFilter> ours;
  for (const TcFilter& filter : *filters) {
    if (filter.priority != kFilterPriority) continue;
    if (IsOurs(filter)) {
      ours = filter;
      continue;
    }
    if (filter.kind == "bpf" && filter.handle != kFilterHandle) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        Name(ifindex), " has a filter of kind ", filter.kind, " ", filter.name, " at priority ",
        kFilterPriority, ", where ours must stand; give that one another priority"));
  }
  return ours;
}

absl::Status PutFilter(uint32_t ifindex, TcHook hook, int program_fd) {
  const absl::StatusOr<std::optional<TcFilter>> ours = FindOurs(ifindex, hook);
  if (!ours.ok()) return ours.status();
  const bpf_tc_hook at = HookOf(ifindex, hook);
  bpf_tc_opts options{};
  options.sz = sizeof(options);
  options.prog_fd = program_fd;
  options.flags = BPF_TC_F_REPLACE;
  options.handle = kFilterHandle;
  options.priority = kFilterPriority;
  const int error = -bpf_tc_attach(&at, &options);
  if (error != 0)
    return os::ErrnoStatus(error, absl::StrCat("attach to clsact of ", Name(ifindex)));
  return absl::OkStatus();
}

absl::Status RemoveFilter(uint32_t ifindex, TcHook hook) {
  const absl::StatusOr<std::vector<TcFilter>> filters = ListFilters(ifindex, hook);
  if (!filters.ok()) return filters.status();
  if (std::none_of(filters->begin(), filters->end(), IsOurs)) {
    return absl::NotFoundError(absl::StrCat("no filter of ours at ", Name(ifindex)));
  }
  const bpf_tc_hook at = HookOf(ifindex, hook);
  bpf_tc_opts options{};
  options.sz = sizeof(options);
  options.handle = kFilterHandle;
  options.priority = kFilterPriority;
  const int error = -bpf_tc_detach(&at, &options);
  if (error != 0)
    return os::ErrnoStatus(error, absl::StrCat("detach from clsact of ", Name(ifindex)));
  return absl::OkStatus();
}

}  // namespace waggle::loader
