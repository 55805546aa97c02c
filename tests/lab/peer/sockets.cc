#include "tests/lab/peer/sockets.h"

#include <arpa/inet.h>
#include <sys/time.h>
#include <unistd.h>

#include <charconv>
#include <cstring>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

namespace waggle::lab {

std::optional<SocketAddress> ParseSocketAddress(std::string_view text) {
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string host(text.substr(0, colon));
  std::string_view port_text = text.substr(colon + 1);
  uint16_t port = 0;
  auto [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (error != std::errc() || end != port_text.data() + port_text.size()) return std::nullopt;

  SocketAddress out;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    out.length = sizeof(*v6);
    if (inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &v6->sin6_addr) != 1) {
      return std::nullopt;
    }
    return out;
  }
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  v4->sin_family = AF_INET;
  v4->sin_port = htons(port);
  out.length = sizeof(*v4);
  if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) != 1) return std::nullopt;
  return out;
}

std::string ToText(const SocketAddress& address) {
  char host[INET6_ADDRSTRLEN] = "";
  if (address.family() == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address.storage);
    inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
    return std::string(host) + ":" + std::to_string(ntohs(v4->sin_port));
  }
  if (address.family() == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address.storage);
    inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
    return "[" + std::string(host) + "]:" + std::to_string(ntohs(v6->sin6_port));
  }
  return "family " + std::to_string(address.family());
}

std::string ErrnoName(int error) {
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : "errno " + std::to_string(error);
}

void Fd::Reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

std::optional<SocketKind> ParseSocketKind(std::string_view text) {
  if (text.size() < 4) return std::nullopt;
  SocketKind kind;
  switch (text.back()) {
    case '4':
      kind.family = AF_INET;
      break;
    case '6':
      kind.family = AF_INET6;
      break;
    default:
      return std::nullopt;
  }
  std::string_view protocol = text.substr(0, text.size() - 1);
  if (protocol == "tcp") return kind;
  if (protocol == "mptcp") {
    kind.protocol = IPPROTO_MPTCP;
    return kind;
  }
  if (protocol == "udp") {
    kind.type = SOCK_DGRAM;
    kind.protocol = IPPROTO_UDP;
    return kind;
  }
  return std::nullopt;
}

Fd OpenSocket(const SocketKind& kind) {
  return Fd(socket(kind.family, kind.type | SOCK_CLOEXEC, kind.protocol));
}

void SetTimeouts(int fd, std::chrono::milliseconds timeout) {
  timeval value{};
  value.tv_sec = timeout.count() / 1000;
  value.tv_usec = (timeout.count() % 1000) * 1000;
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof(value));
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof(value));
}

}  // namespace waggle::lab
