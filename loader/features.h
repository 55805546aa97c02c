// What this kernel offers, found by trying.
#ifndef WAGGLE_LOADER_FEATURES_H_
#define WAGGLE_LOADER_FEATURES_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace waggle::loader {

struct Features {
  bool set_retval = false;  // bpf_set_retval() in sock_addr programs (5.18)
  bool mptcp_sock = false;  // bpf_skc_to_mptcp_sock() in sock_addr programs (5.19)
};

// Names that --disable-feature takes.
std::vector<std::string_view> FeatureNames();

// Probes the kernel; features in `disabled` count as missing (for tests of fallbacks).
// InvalidArgument for an unknown name, PermissionDenied without the rights to load
// programs.
absl::StatusOr<Features> ProbeFeatures(const std::vector<std::string>& disabled);

}  // namespace waggle::loader

#endif
