#include "loader/features.h"

#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "userspace/os/errno_status.h"

namespace waggle::loader {

std::vector<std::string_view> FeatureNames() {
  return {"set_retval", "mptcp_sock"};
}

absl::StatusOr<Features> ProbeFeatures(const std::vector<std::string>& disabled) {
  const std::vector<std::string_view> known = FeatureNames();
  for (const std::string& name : disabled) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return absl::InvalidArgumentError(absl::StrCat("unknown feature ", name));
    }
  }
  const auto is_disabled = [&](std::string_view name) {
    return std::find(disabled.begin(), disabled.end(), name) != disabled.end();
  };

  const int type = libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, nullptr);
  if (type == -EPERM || type == 0) {
    return absl::PermissionDeniedError(
        "may not load BPF programs: the agent needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON "
        "(or root), and a kernel of 5.10 or later");
  }
  if (type < 0) return os::ErrnoStatus(-type, "probe BPF programs");
  const auto has_helper = [&](std::string_view name, bpf_func_id helper) {
    return !is_disabled(name) &&
           libbpf_probe_bpf_helper(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, helper, nullptr) == 1;
  };
  Features features;
  features.set_retval = has_helper("set_retval", BPF_FUNC_set_retval);
  features.mptcp_sock = has_helper("mptcp_sock", BPF_FUNC_skc_to_mptcp_sock);
  return features;
}

}  // namespace waggle::loader
