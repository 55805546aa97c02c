#include "userspace/cli/wait.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace waggle::cli {
namespace {

// Short, so that scripts go on at once; growing, as a look reads all pins.
constexpr absl::Duration kFirstPause = absl::Milliseconds(20);
constexpr absl::Duration kLongestPause = absl::Milliseconds(500);

}  // namespace

Clock RealClock() {
  return {[] { return absl::Now(); }, [](absl::Duration pause) { absl::SleepFor(pause); }};
}

absl::Status WaitUntil(const std::function<absl::Status()>& check, absl::Duration timeout,
                       const Clock& clock) {
  const absl::Time deadline = clock.now() + timeout;
  absl::Duration pause = kFirstPause;
  while (true) {
    // Asked before the check: the last check happens at the deadline, not before it.
    const absl::Duration left = deadline - clock.now();
    const absl::Status status = check();
    if (status.ok() || absl::IsPermissionDenied(status)) return status;
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(
          absl::StrCat("not ready after ", absl::FormatDuration(timeout), ": ", status.message()));
    }
    clock.sleep(std::min(pause, left));
    pause = std::min(pause * 2, kLongestPause);
  }
}

absl::StatusOr<absl::Duration> ParseTimeout(const std::string& text) {
  absl::Duration timeout;
  if (!absl::ParseDuration(text, &timeout) || timeout < absl::ZeroDuration() ||
      timeout == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is no time-out: expected a duration such as 30s, 1m30s or 0"));
  }
  return timeout;
}

}  // namespace waggle::cli
