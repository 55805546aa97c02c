// Waiting for a condition with a deadline, with the clock injected.
#ifndef WAGGLE_USERSPACE_CLI_WAIT_H_
#define WAGGLE_USERSPACE_CLI_WAIT_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace waggle::cli {

struct Clock {
  std::function<absl::Time()> now;
  std::function<void(absl::Duration)> sleep;
};
Clock RealClock();

// Calls `check` until it returns OK; at least once, and once more at the deadline.
// PermissionDenied is returned at once, as waiting does not help. DeadlineExceeded with
// the last reason when the time is over.
absl::Status WaitUntil(const std::function<absl::Status()>& check, absl::Duration timeout,
                       const Clock& clock);

// "30s", "1m30s", "500ms", "0": not negative, not infinite.
absl::StatusOr<absl::Duration> ParseTimeout(const std::string& text);

}  // namespace waggle::cli

#endif
