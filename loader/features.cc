#include "loader/features.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {
namespace {

// Room for all maps at their default sizes.
constexpr uint64_t kEnoughMemlock = 256ull << 20;

// The errno of loading `return 1`; 0: it can be loaded. libbpf's own probe does not
// tell missing rights from a missing kind of program.
int TryProgram() {
  bpf_insn code[2] = {};
  code[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
  code[0].dst_reg = BPF_REG_0;
  code[0].imm = 1;
  code[1].code = BPF_JMP | BPF_EXIT;
  bpf_prog_load_opts options{};
  options.sz = sizeof(options);
  options.expected_attach_type = BPF_CGROUP_INET4_CONNECT;
  const os::UniqueFd program(bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "waggle_probe",
                                           "Dual BSD/GPL", code, std::size(code), &options));
  return program ? 0 : errno;
}

// Only running a program shows which flags the helper knows: it looks at them before the
// family, and without a family it stops there.
bool TrySkipNeigh() {
  constexpr int kParameters = static_cast<int>(sizeof(bpf_fib_lookup));
  const auto instruction = [](int code, int to, int from, int offset, int value) {
    bpf_insn made{};
    made.code = static_cast<uint8_t>(code);
    made.dst_reg = static_cast<uint8_t>(to) & 0xf;
    made.src_reg = static_cast<uint8_t>(from) & 0xf;
    made.off = static_cast<int16_t>(offset);
    made.imm = value;
    return made;
  };
  const auto set = [&](int to, int value) {
    return instruction(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value);
  };
  std::vector<bpf_insn> code;
  for (int at = -kParameters; at < 0; at += 8) {
    code.push_back(instruction(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, at, 0));
  }
  code.push_back(instruction(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0));
  code.push_back(instruction(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -kParameters));
  code.push_back(set(BPF_REG_3, kParameters));
  code.push_back(set(BPF_REG_4, BPF_FIB_LOOKUP_SKIP_NEIGH));
  code.push_back(instruction(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_fib_lookup));
  code.push_back(instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
  const os::UniqueFd program(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "waggle_probe", "Dual BSD/GPL",
                                           code.data(), code.size(), nullptr));
  if (!program) return false;
  std::array<uint8_t, 64> frame{};
  bpf_test_run_opts run{};
  run.sz = sizeof(run);
  run.data_in = frame.data();
  run.data_size_in = static_cast<uint32_t>(frame.size());
  if (bpf_prog_test_run_opts(program.get(), &run) != 0) return false;
  return static_cast<int>(run.retval) == -EAFNOSUPPORT;
}

// Asks what is attached to the loopback device, which every namespace has, whether up or
// not. A kernel without tcx does not know the question.
bool TryTcx() {
  constexpr int kLoopback = 1;
  // BPF_TCX_INGRESS; Debian 12's headers are older than it.
  constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
  uint32_t count = 0;
  return bpf_prog_query(kLoopback, kTcxIngress, 0, nullptr, nullptr, &count) == 0 ||
         errno == ENODEV;
}

// CAP_PERFMON, or before Linux 5.8 and as root CAP_SYS_ADMIN.
bool MayFollowPointers() {
  __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &head, have) != 0) return true;  // the verifier will say it
  const auto has = [&](unsigned capability) {
    return (have[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0;
  };
  return has(CAP_PERFMON) || has(CAP_SYS_ADMIN);
}

}  // namespace

absl::Status ProbeVerdict(int error) {
  if (error == 0 && !MayFollowPointers()) {
    // The verifier would say something about an instruction.
    return absl::PermissionDeniedError(
        absl::StrCat("may not load BPF programs that follow pointers: ", PermissionHint()));
  }
  if (error == 0) return absl::OkStatus();
  if (error == EPERM || error == EACCES) {
    return absl::PermissionDeniedError(
        absl::StrCat("may not load BPF programs: ", PermissionHint()));
  }
  if (error == EINVAL || error == ENOSYS) {
    return absl::FailedPreconditionError(
        absl::StrCat("this kernel has no sock_addr programs (", std::strerror(error),
                     "): they need Linux 4.17 or later with CONFIG_BPF_SYSCALL and "
                     "CONFIG_CGROUP_BPF; waggle needs 5.10"));
  }
  return os::ErrnoStatus(error, "load a BPF program");
}

std::string PermissionHint(std::string_view release, uint64_t memlock) {
  std::string hint = "the agent needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (or root)";
  int major = 0;
  int minor = 0;
  const bool known = std::sscanf(std::string(release).c_str(), "%d.%d", &major, &minor) == 2;
  const bool charged = known && (major < 5 || (major == 5 && minor < 11));
  if (charged && memlock < kEnoughMemlock) {
    absl::StrAppend(&hint, ", and Linux before 5.11 charges maps to RLIMIT_MEMLOCK, which is ",
                    memlock, " bytes: raise it (LimitMEMLOCK=infinity, ulimit -l unlimited)");
  }
  return hint;
}

std::string PermissionHint() {
  utsname kernel{};
  rlimit memlock{RLIM_INFINITY, RLIM_INFINITY};
  uname(&kernel);
  getrlimit(RLIMIT_MEMLOCK, &memlock);
  return PermissionHint(kernel.release, memlock.rlim_cur);
}

std::vector<std::string_view> FeatureNames() {
  return {"set_retval", "mptcp_sock", "skip_neigh", "tcx", "coarse_clock"};
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

  if (absl::Status status = ProbeVerdict(TryProgram()); !status.ok()) return status;
  const auto has_helper = [&](std::string_view name, bpf_func_id helper,
                              bpf_prog_type type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR) {
    return !is_disabled(name) && libbpf_probe_bpf_helper(type, helper, nullptr) == 1;
  };
  Features features;
  features.set_retval = has_helper("set_retval", BPF_FUNC_set_retval);
  features.mptcp_sock = has_helper("mptcp_sock", BPF_FUNC_skc_to_mptcp_sock);
  features.skip_neigh = !is_disabled("skip_neigh") && TrySkipNeigh();
  features.coarse_clock =
      has_helper("coarse_clock", BPF_FUNC_ktime_get_coarse_ns, BPF_PROG_TYPE_SCHED_CLS);
  features.tcx = !is_disabled("tcx") && TryTcx();
  return features;
}

}  // namespace waggle::loader
