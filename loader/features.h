// What this kernel offers, found by trying.
#ifndef WAGGLE_LOADER_FEATURES_H_
#define WAGGLE_LOADER_FEATURES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace waggle::loader {

struct Features {
  bool set_retval = false;    // bpf_set_retval() in sock_addr programs (5.18)
  bool mptcp_sock = false;    // bpf_skc_to_mptcp_sock() in sock_addr programs (5.19)
  bool skip_neigh = false;    // bpf_fib_lookup() knows BPF_FIB_LOOKUP_SKIP_NEIGH (6.2)
  bool tcx = false;           // tcx links (6.6)
  bool coarse_clock = false;  // bpf_ktime_get_coarse_ns() (5.11)
};

// Names that --disable-feature takes.
std::vector<std::string_view> FeatureNames();

// Probes the kernel; features in `disabled` count as missing (for tests of fallbacks).
// InvalidArgument for an unknown name, PermissionDenied without the rights to load
// programs, FailedPrecondition where the kernel has no such programs.
absl::StatusOr<Features> ProbeFeatures(const std::vector<std::string>& disabled);

// What the errno of loading the smallest sock_addr program says; 0: OK. Pure.
absl::Status ProbeVerdict(int error);

// What EPERM from bpf() can mean here, as the end of a sentence: missing rights, and on
// kernels before 5.11, which charge maps to RLIMIT_MEMLOCK, that limit if it is small.
// `release` as uname -r says it, `memlock` in bytes (RLIM_INFINITY: none). Pure.
std::string PermissionHint(std::string_view release, uint64_t memlock);
// For this kernel and process.
std::string PermissionHint();

}  // namespace waggle::loader

#endif
