// What a refusal of the kernel means.
#include "loader/features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>
#include <string>

namespace waggle::loader {
namespace {

using testing::HasSubstr;

TEST(ProbeVerdict, TellsMissingRightsFromAMissingKind) {
  struct {
    int error;
    absl::StatusCode code;
    const char* says;
  } const rows[] = {
      {0, absl::StatusCode::kOk, ""},
      {EPERM, absl::StatusCode::kPermissionDenied, "CAP_BPF"},
      {EACCES, absl::StatusCode::kPermissionDenied, "CAP_BPF"},
      {EINVAL, absl::StatusCode::kFailedPrecondition, "CONFIG_CGROUP_BPF"},
      {ENOSYS, absl::StatusCode::kFailedPrecondition, "4.17"},
      {ENOMEM, absl::StatusCode::kResourceExhausted, "load a BPF program"},
  };
  for (const auto& row : rows) {
    const absl::Status status = ProbeVerdict(row.error);
    EXPECT_EQ(status.code(), row.code) << row.error << " " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(row.says)) << row.error;
  }
}

TEST(PermissionHint, NamesTheLimitWhereItIsCharged) {
  struct {
    const char* release;
    uint64_t memlock;
    bool names;
  } const rows[] = {
      {"5.10.0-28-amd64", 65536, true}, {"4.19.0", 8u << 20, true},
      {"5.10.0", RLIM_INFINITY, false}, {"5.11.0", 65536, false},
      {"6.1.0-18-amd64", 65536, false}, {"5.4.0", 4ull << 30, false},
      {"something else", 65536, false},
  };
  for (const auto& row : rows) {
    const std::string hint = PermissionHint(row.release, row.memlock);
    EXPECT_THAT(hint, HasSubstr("CAP_BPF"));
    EXPECT_EQ(hint.find("RLIMIT_MEMLOCK") != std::string::npos, row.names) << row.release << hint;
  }
}

}  // namespace
}  // namespace waggle::loader
