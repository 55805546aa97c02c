// Socket addresses as text and back, and errno by name: the words in which the
// lab's clients and servers report what the kernel told them.
#ifndef WAGGLE_TESTS_LAB_PEER_SOCKETS_H_
#define WAGGLE_TESTS_LAB_PEER_SOCKETS_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace waggle::lab {

// A socket address that the kernel can take or fill.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_storage);

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

// "10.0.0.1:80" or "[fd00::1]:80"; "[::ffff:10.0.0.1]:80" stays an IPv6 address.
std::optional<SocketAddress> ParseSocketAddress(std::string_view text);

// The inverse. v4-mapped addresses keep their IPv6 form, so that a test sees which
// family the kernel spoke.
std::string ToText(const SocketAddress& address);

// "ECONNREFUSED"; "0" for 0.
std::string ErrnoName(int error);

// Owns a file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.Release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) Reset(other.Release());
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { Reset(-1); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void Reset(int fd);

 private:
  int fd_ = -1;
};

// What a socket is: "tcp4", "tcp6", "udp4", "udp6", "mptcp4", "mptcp6".
struct SocketKind {
  int family = AF_INET;
  int type = SOCK_STREAM;
  int protocol = IPPROTO_TCP;
};
std::optional<SocketKind> ParseSocketKind(std::string_view text);

// Opens a close-on-exec socket; an invalid Fd leaves the reason in errno.
Fd OpenSocket(const SocketKind& kind);

// Bounds every later blocking call on the socket (connect, send, receive).
void SetTimeouts(int fd, std::chrono::milliseconds timeout);

}  // namespace waggle::lab

#endif
