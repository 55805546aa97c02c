#include "loader/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "loader/features.h"

namespace waggle::loader {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(CgroupMounts, FindsEveryCgroup2AndNothingElse) {
  const std::string hybrid =
      "24 30 0:22 / /proc rw,nosuid - proc proc rw\n"
      "31 30 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
      "32 31 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n"
      "33 31 0:29 / /sys/fs/cgroup/unified rw,relatime shared:10 master:3 - cgroup2 cgroup2 rw\n";
  EXPECT_THAT(CgroupMounts(hybrid), ElementsAre("/sys/fs/cgroup/unified"));
  const std::string unified =
      "31 30 0:27 /../../.. /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
      "40 30 0:27 /a /run/my\\040group rw - cgroup2 none rw\n";
  EXPECT_THAT(CgroupMounts(unified), ElementsAre("/sys/fs/cgroup", "/run/my group"));
}

TEST(CgroupMounts, SurvivesDamagedText) {
  EXPECT_THAT(CgroupMounts(""), IsEmpty());
  EXPECT_THAT(CgroupMounts("\n\n - \n - cgroup2\nx - cgroup2 y\n1 2 3 4 - cgroup2\n"), IsEmpty());
  EXPECT_THAT(CgroupMounts("1 2 3 / /a\\04 rw - cgroup2"), ElementsAre("/a\\04"));
}

TEST(OpenCgroup, RefusesWhatIsNoCgroup) {
  const auto folder = OpenCgroup("/");
  EXPECT_EQ(folder.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(folder.status().message()), HasSubstr("not a cgroup v2 folder"));
  const auto missing = OpenCgroup("/no such folder");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("/no such folder"));
}

TEST(ProbeFeatures, UnknownNameIsRefusedByName) {
  const auto features = ProbeFeatures({"set_retval", "warp_drive"});
  EXPECT_EQ(features.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(features.status().message()), HasSubstr("warp_drive"));
}

}  // namespace
}  // namespace waggle::loader
