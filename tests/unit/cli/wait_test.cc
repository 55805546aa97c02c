#include "userspace/cli/wait.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace waggle::cli {
namespace {

using testing::HasSubstr;

// Time that passes only by sleeping.
struct FakeTime {
  absl::Time now = absl::UnixEpoch();
  absl::Duration longest;

  Clock clock() {
    return {[this] { return now; },
            [this](absl::Duration pause) {
              now += pause;
              longest = std::max(longest, pause);
            }};
  }
};

TEST(WaitUntil, ReturnsAtOnceWhenReady) {
  FakeTime time;
  EXPECT_TRUE(WaitUntil([] { return absl::OkStatus(); }, absl::ZeroDuration(), time.clock()).ok());
  EXPECT_EQ(time.now, absl::UnixEpoch());
}

TEST(WaitUntil, ChecksOnceWithATimeoutOfZero) {
  FakeTime time;
  int checks = 0;
  const absl::Status status = WaitUntil(
      [&] {
        ++checks;
        return absl::NotFoundError("nothing pinned");
      },
      absl::ZeroDuration(), time.clock());
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_EQ(checks, 1);
}

TEST(WaitUntil, NoticesSoonAndChecksOnceMoreAtTheDeadline) {
  FakeTime time;
  const absl::Time ready_at = absl::UnixEpoch() + absl::Seconds(30);
  const absl::Status status = WaitUntil(
      [&] { return time.now >= ready_at ? absl::OkStatus() : absl::UnavailableError("not yet"); },
      absl::Seconds(30), time.clock());
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_LE(time.longest, absl::Milliseconds(500));
}

TEST(WaitUntil, SaysWhyItGaveUpAndNoLaterThanAsked) {
  FakeTime time;
  const absl::Status status = WaitUntil([] { return absl::UnavailableError("agent killed: gone"); },
                                        absl::Seconds(90), time.clock());
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_EQ(std::string(status.message()), "not ready after 1m30s: agent killed: gone");
  EXPECT_EQ(time.now, absl::UnixEpoch() + absl::Seconds(90));
}

TEST(WaitUntil, DoesNotWaitForRights) {
  FakeTime time;
  const absl::Status status = WaitUntil([] { return absl::PermissionDeniedError("no rights"); },
                                        absl::Seconds(30), time.clock());
  EXPECT_TRUE(absl::IsPermissionDenied(status));
  EXPECT_EQ(time.now, absl::UnixEpoch());
}

TEST(ParseTimeout, TakesDurationsAndNothingElse) {
  EXPECT_EQ(*ParseTimeout("30s"), absl::Seconds(30));
  EXPECT_EQ(*ParseTimeout("1m30s"), absl::Seconds(90));
  EXPECT_EQ(*ParseTimeout("250ms"), absl::Milliseconds(250));
  EXPECT_EQ(*ParseTimeout("0"), absl::ZeroDuration());
  for (const char* text : {"", "30", "-1s", "inf", "soon", "1s2"}) {
    const auto parsed = ParseTimeout(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("expected a duration"));
  }
}

}  // namespace
}  // namespace waggle::cli
