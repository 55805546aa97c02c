// How readily the kernel kills this process when memory runs out. A leaf.
#ifndef WAGGLE_USERSPACE_OS_OOM_SCORE_H_
#define WAGGLE_USERSPACE_OS_OOM_SCORE_H_

#include "absl/status/status.h"

namespace waggle::os {

// -1000 (never) to 1000. PermissionDenied where CAP_SYS_RESOURCE is missing for a lower value
// than the one in force.
absl::Status SetOomScoreAdj(int value);

}  // namespace waggle::os

#endif
