// Which network namespace this is. A leaf.
#ifndef WAGGLE_USERSPACE_OS_NETNS_COOKIE_H_
#define WAGGLE_USERSPACE_OS_NETNS_COOKIE_H_

#include <sys/socket.h>

#include <cstdint>

#include "userspace/os/unique_fd.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace waggle::os {

// The cookie of the calling thread's network namespace; 0 where the kernel cannot say (before
// 5.14).
inline uint64_t NetnsCookie() {
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  if (!fd || getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) != 0) return 0;
  return cookie;
}

}  // namespace waggle::os

#endif
