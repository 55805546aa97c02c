#include "k8s-watch/dial.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "userspace/net/address.h"
#include "userspace/os/errno_status.h"

namespace waggle::k8s {
namespace {

using std::chrono::steady_clock;

// One address of several must not use up all the time.
constexpr steady_clock::duration kOneAddress = std::chrono::seconds(5);

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

// What getaddrinfo() has found, or its error.
struct Lookup {
  std::string host;
  os::UniqueFd done;
  std::mutex mutex;  // of what follows
  int error = 0;
  std::vector<SocketAddress> addresses;
};

void Resolve(const std::string& host, int flags, Lookup* lookup) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  lookup->error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    if (each->ai_addrlen > sizeof(sockaddr_storage)) continue;
    SocketAddress address;
    std::memcpy(&address.storage, each->ai_addr, each->ai_addrlen);
    address.length = each->ai_addrlen;
    lookup->addresses.push_back(address);
  }
  if (found != nullptr) freeaddrinfo(found);
}

absl::StatusOr<std::vector<SocketAddress>> Addresses(const std::string& host, int stop_fd,
                                                     Deadline deadline) {
  auto lookup = std::make_shared<Lookup>();
  if (net::Address::Parse(host)) {
    Resolve(host, AI_NUMERICHOST, lookup.get());
  } else {
    // getaddrinfo() cannot be interrupted and may take half a minute: it has a thread of its own,
    // which is left alone when nobody waits any more.
    lookup->host = host;
    lookup->done.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!lookup->done) return os::ErrnoStatus(errno, "eventfd");
    const auto look_up = [lookup] {
      {
        const std::lock_guard lock(lookup->mutex);
        Resolve(lookup->host, AI_ADDRCONFIG, lookup.get());
      }
      const uint64_t one = 1;
      [[maybe_unused]] const ssize_t written = write(lookup->done.get(), &one, sizeof(one));
    };
    try {
      std::thread(look_up).detach();
    } catch (const std::system_error& error) {
      return absl::UnavailableError(
          absl::StrCat("no thread to resolve ", host, ": ", error.what()));
    }
    const absl::Status status = WaitFor(lookup->done.get(), POLLIN, stop_fd, deadline);
    if (absl::IsDeadlineExceeded(status)) {
      return absl::UnavailableError(absl::StrCat("the name ", host, " is not resolved in time"));
    }
    if (!status.ok()) return status;
  }
  const std::lock_guard lock(lookup->mutex);
  if (lookup->error != 0 || lookup->addresses.empty()) {
    return absl::UnavailableError(
        absl::StrCat("the name ", host, " cannot be resolved: ",
                     lookup->error == 0 ? "it has no address" : gai_strerror(lookup->error)));
  }
  return std::move(lookup->addresses);
}

void SetPort(uint16_t port, SocketAddress* address) {
  if (address->storage.ss_family == AF_INET) {
    reinterpret_cast<sockaddr_in*>(&address->storage)->sin_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in6*>(&address->storage)->sin6_port = htons(port);
  }
}

absl::Status SetOptions(int fd) {
  struct Option {
    int level;
    int name;
    int value;
  };
  for (const Option& option : {
           Option{SOL_SOCKET, SO_KEEPALIVE, 1},
           {IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveAfterS},
           {IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveEveryS},
           // With the user timeout in force the kernel counts time, not probes.
           {IPPROTO_TCP, TCP_KEEPCNT, 3},
           {IPPROTO_TCP, TCP_USER_TIMEOUT, kDeadAfterS * 1000},
           {IPPROTO_TCP, TCP_NODELAY, 1},
       }) {
    if (setsockopt(fd, option.level, option.name, &option.value, sizeof(option.value)) != 0) {
      return os::ErrnoStatus(errno, "setsockopt");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<os::UniqueFd> Connect(const SocketAddress& address, int stop_fd, Deadline deadline) {
  os::UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return absl::UnavailableError(absl::StrCat("socket: ", std::strerror(errno)));
  if (auto status = SetOptions(fd.get()); !status.ok()) return status;
  int error = 0;
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0) {
    error = errno;
    if (error == EINPROGRESS) {
      const absl::Status status = WaitFor(fd.get(), POLLOUT, stop_fd, deadline);
      if (absl::IsDeadlineExceeded(status)) {
        return absl::UnavailableError("connect: no answer from there");
      }
      if (!status.ok()) return status;
      socklen_t size = sizeof(error);
      if (getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    }
  }
  if (error != 0) return absl::UnavailableError(absl::StrCat("connect: ", std::strerror(error)));
  return fd;
}

}  // namespace

absl::Status WaitFor(int fd, short events, int stop_fd, Deadline deadline) {
  pollfd polls[2] = {{fd, events, 0}, {stop_fd, POLLIN, 0}};
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now()).count();
    const int timeout = static_cast<int>(std::clamp<int64_t>(left, 0, 3'600'000));
    const int ready = poll(polls, 2, timeout);
    if (ready < 0 && errno != EINTR) return os::ErrnoStatus(errno, "poll");
    if (ready < 0) continue;
    if (polls[1].revents != 0) return absl::CancelledError("stopped");
    if (polls[0].revents != 0) return absl::OkStatus();
    if (left <= 0) return absl::DeadlineExceededError("no answer in time");
  }
}

absl::StatusOr<os::UniqueFd> Dial(const std::string& host, uint16_t port, int stop_fd,
                                  Deadline deadline) {
  auto addresses = Addresses(host, stop_fd, deadline);
  if (!addresses.ok()) return addresses.status();
  absl::Status last;
  for (size_t i = 0; i < addresses->size(); ++i) {
    SocketAddress& address = (*addresses)[i];
    SetPort(port, &address);
    const Deadline now = steady_clock::now();
    const auto share = (deadline - now) / static_cast<int64_t>(addresses->size() - i);
    auto fd = Connect(address, stop_fd, now + std::min(share, kOneAddress));
    if (fd.ok() || absl::IsCancelled(fd.status())) return fd;
    last = fd.status();
  }
  return last;
}

}  // namespace waggle::k8s
