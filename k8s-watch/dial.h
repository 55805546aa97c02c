// A TCP connection to a host: by name or address, given up when it takes too long or when
// somebody wants to stop, and with the options by which a dead peer is noticed.
#ifndef WAGGLE_K8S_WATCH_DIAL_H_
#define WAGGLE_K8S_WATCH_DIAL_H_

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "userspace/os/unique_fd.h"

namespace waggle::k8s {

using Deadline = std::chrono::steady_clock::time_point;

// A silent peer is asked after so many seconds, and then each kKeepAliveEvery; one that
// neither answers nor takes what is sent to it is given up after kDeadAfter.
inline constexpr int kKeepAliveAfterS = 10;
inline constexpr int kKeepAliveEveryS = 5;
inline constexpr int kDeadAfterS = 20;

// Waits until `fd` is ready for `events` (poll(2)), at most until `deadline`. Cancelled as
// soon as `stop_fd` is readable; DeadlineExceeded.
absl::Status WaitFor(int fd, short events, int stop_fd, Deadline deadline);

// Tries all addresses of `host`. The descriptor does not block. Unavailable says what the
// system said, about the last address; Cancelled when `stop_fd` became readable.
absl::StatusOr<os::UniqueFd> Dial(const std::string& host, uint16_t port, int stop_fd,
                                  Deadline deadline);

}  // namespace waggle::k8s

#endif
