// What a kernel without ctnetlink says of its connections.
#include "loader/other_proxy.h"

#include <gtest/gtest.h>

namespace waggle::loader {
namespace {

TEST(WithoutCtnetlink, NoConnectionsOnlyWhereTheKernelCountsNone) {
  EXPECT_TRUE(WithoutCtnetlink("").ok());
  EXPECT_TRUE(WithoutCtnetlink("0\n").ok());
  for (const char* count : {"1\n", "262144\n", "what\n"}) {
    const absl::Status status = WithoutCtnetlink(count);
    EXPECT_TRUE(absl::IsUnimplemented(status)) << count << status;
    EXPECT_NE(status.message().find("nf_conntrack_netlink"), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace waggle::loader
