// Programs that every machine has, as stand-ins for nft and iptables-restore.
#include "userspace/os/tool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace waggle::os {
namespace {

using testing::HasSubstr;

TEST(Tool, InputGoesInAndOutputComesOut) {
  // More than any pipe holds.
  const std::string much(5'000'000, 'x');
  const auto out = RunTool({"cat"}, much);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(*out, much);
  EXPECT_EQ(*RunTool({"sh", "-c", "wc -c"}, much), "5000000\n");
  EXPECT_EQ(*RunTool({"true"}), "");
}

TEST(Tool, FailuresAreNamedWithWhatItSaid) {
  const auto failed = RunTool({"sh", "-c", "echo half; echo oops >&2; exit 3"});
  EXPECT_TRUE(absl::IsInternal(failed.status()));
  EXPECT_EQ(failed.status().message(), "sh failed with status 3: oops");
  EXPECT_EQ(RunTool({"false"}).status().message(), "false failed with status 1");
  EXPECT_THAT(std::string(RunTool({"sh", "-c", "kill -9 $$"}).status().message()),
              HasSubstr("was killed by signal 9"));
}

TEST(Tool, WhatIsNotThereIsNotFound) {
  EXPECT_EQ(FindTool("no-such-tool-at-all"), "");
  EXPECT_TRUE(absl::IsNotFound(RunTool({"no-such-tool-at-all"}).status()));
  EXPECT_FALSE(RunTool({"/nowhere/tool"}).ok());
  EXPECT_NE(FindTool("sh"), "");
}

}  // namespace
}  // namespace waggle::os
