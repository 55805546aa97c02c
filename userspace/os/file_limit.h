// How many descriptors this process may have. A leaf.
#ifndef WAGGLE_USERSPACE_OS_FILE_LIMIT_H_
#define WAGGLE_USERSPACE_OS_FILE_LIMIT_H_

#include "absl/status/status.h"

namespace waggle::os {

// As many as its supervisor lets it have: the soft limit, which is 1024 on most systems for the
// sake of select(), becomes the hard one.
absl::Status RaiseFileLimit();

}  // namespace waggle::os

#endif
