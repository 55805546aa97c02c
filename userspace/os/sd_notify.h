// The readiness protocol of service managers (sd_notify(3)), without its library: one
// datagram. A leaf.
#ifndef WAGGLE_USERSPACE_OS_SD_NOTIFY_H_
#define WAGGLE_USERSPACE_OS_SD_NOTIFY_H_

#include <string_view>

#include "absl/status/status.h"

namespace waggle::os {

// Sends `state` ("READY=1") to the socket that NOTIFY_SOCKET names; OK when it names
// none.
absl::Status SdNotify(std::string_view state);

}  // namespace waggle::os

#endif
