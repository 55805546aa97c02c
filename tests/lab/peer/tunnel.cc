#include "tests/lab/peer/tunnel.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>

#include "tests/lab/peer/sockets.h"

namespace waggle::lab {
namespace {

constexpr size_t kMaxPacket = 65536;
constexpr int kBufferBytes = 8 << 20;  // a window of TCP must not be lost here

struct Route {
  int family = AF_INET;
  unsigned char prefix[16] = {};
  unsigned bits = 0;
  SocketAddress to;
};

std::optional<Route> ParseRoute(const std::string& text) {
  size_t slash = text.find('/'), equals = text.find('=');
  if (slash == std::string::npos || equals == std::string::npos || equals < slash) {
    return std::nullopt;
  }
  Route route;
  std::string prefix = text.substr(0, slash);
  route.family = prefix.find(':') == std::string::npos ? AF_INET : AF_INET6;
  route.bits = static_cast<unsigned>(std::strtoul(text.c_str() + slash + 1, nullptr, 10));
  std::optional<SocketAddress> to = ParseSocketAddress(text.substr(equals + 1));
  if (inet_pton(route.family, prefix.c_str(), route.prefix) != 1 || !to) return std::nullopt;
  route.to = *to;
  return route;
}

bool Covers(const Route& route, const unsigned char* address) {
  unsigned whole = route.bits / 8, rest = route.bits % 8;
  if (std::memcmp(route.prefix, address, whole) != 0) return false;
  return rest == 0 || (route.prefix[whole] ^ address[whole]) >> (8 - rest) == 0;
}

const Route* Find(const std::vector<Route>& routes, const char* packet, size_t length) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(packet);
  int version = length < 20 ? 0 : bytes[0] >> 4;
  if (version != 4 && (version != 6 || length < 40)) return nullptr;
  int family = version == 4 ? AF_INET : AF_INET6;
  const unsigned char* destination = bytes + (version == 4 ? 16 : 24);
  for (const Route& route : routes) {
    if (route.family == family && Covers(route, destination)) return &route;
  }
  return nullptr;
}

Fd OpenTun(const std::string& device) {
  Fd fd(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) return fd;
  ifreq request{};
  std::strncpy(request.ifr_name, device.c_str(), IFNAMSIZ - 1);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (ioctl(fd.get(), TUNSETIFF, &request) != 0) {
    int error = errno;
    fd.Reset(-1);
    errno = error;
  }
  return fd;
}

Fd OpenUdp(const SocketAddress& local) {
  Fd fd = OpenSocket({local.family(), SOCK_DGRAM | SOCK_NONBLOCK, 0});
  if (!fd.valid()) return fd;
  for (int option : {SO_RCVBUFFORCE, SO_SNDBUFFORCE}) {
    setsockopt(fd.get(), SOL_SOCKET, option, &kBufferBytes, sizeof(kBufferBytes));
  }
  if (bind(fd.get(), local.get(), local.length) != 0) {
    int error = errno;
    fd.Reset(-1);
    errno = error;
  }
  return fd;
}

int Fails(const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", what.c_str(), ErrnoName(errno).c_str());
  return 1;
}

}  // namespace

int Tunnel(const TunnelOptions& options) {
  std::vector<Route> routes;
  for (const std::string& text : options.to) {
    std::optional<Route> route = ParseRoute(text);
    if (!route) {
      std::fprintf(stderr, "not PREFIX/LENGTH=ADDRESS:PORT: %s\n", text.c_str());
      return 2;
    }
    routes.push_back(*route);
  }
  std::optional<SocketAddress> local = ParseSocketAddress(options.local);
  if (!local) {
    std::fprintf(stderr, "not an address and port: %s\n", options.local.c_str());
    return 2;
  }
  Fd tun = OpenTun(options.device);
  if (!tun.valid()) return Fails(options.device);
  Fd udp = OpenUdp(*local);
  if (!udp.valid()) return Fails(options.local);
  std::puts("ready");
  std::fflush(stdout);

  char packet[kMaxPacket];
  pollfd waiting[] = {{tun.get(), POLLIN, 0}, {udp.get(), POLLIN, 0}};
  while (true) {
    if (poll(waiting, 2, -1) < 0 && errno != EINTR) return Fails("poll");
    ssize_t n;
    // A send or write that fails loses the packet, as networks do.
    while ((n = read(tun.get(), packet, sizeof(packet))) > 0) {
      auto length = static_cast<size_t>(n);
      if (const Route* route = Find(routes, packet, length)) {
        sendto(udp.get(), packet, length, 0, route->to.get(), route->to.length);
      }
    }
    while ((n = recv(udp.get(), packet, sizeof(packet), 0)) > 0) {
      [[maybe_unused]] ssize_t written = write(tun.get(), packet, static_cast<size_t>(n));
    }
  }
}

}  // namespace waggle::lab
