#include "tests/lab/peer/flood.h"

#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include "tests/lab/peer/sockets.h"

namespace waggle::lab {
namespace {

constexpr size_t kBatch = 256;
constexpr char kText[] = "flood\n";  // of a datagram

// One's complement sum of 16-bit words, as they stand in memory.
uint64_t Sum(const void* data, size_t size, uint64_t sum) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  for (; size > 1; size -= 2, bytes += 2) {
    uint16_t word;
    std::memcpy(&word, bytes, 2);
    sum += word;
  }
  return size ? sum + *bytes : sum;
}

uint16_t Fold(uint64_t sum) {
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

// Room for the longer of all headers and a datagram's text.
using Packet = std::array<uint8_t, sizeof(ip6_hdr) + sizeof(tcphdr) + sizeof(kText)>;

// A packet with everything but its source; then with source after source.
class Mold {
 public:
  Mold(const FloodOptions& options, const SocketAddress& to, const SocketAddress& from)
      : udp_(options.udp), v6_(to.family() == AF_INET6) {
    network_ = v6_ ? sizeof(ip6_hdr) : sizeof(iphdr);
    const size_t transport = udp_ ? sizeof(udphdr) + sizeof(kText) - 1 : sizeof(tcphdr);
    size_ = network_ + transport;
    const uint8_t protocol = udp_ ? IPPROTO_UDP : IPPROTO_TCP;
    if (v6_) {
      ip6_hdr header{};
      header.ip6_vfc = 6 << 4;
      header.ip6_plen = htons(static_cast<uint16_t>(transport));
      header.ip6_nxt = protocol;
      header.ip6_hlim = 64;
      header.ip6_dst = reinterpret_cast<const sockaddr_in6*>(to.get())->sin6_addr;
      std::memcpy(packet_.data(), &header, sizeof(header));
      std::memcpy(source_.data(), &reinterpret_cast<const sockaddr_in6*>(from.get())->sin6_addr,
                  16);
      port_be_ = reinterpret_cast<const sockaddr_in6*>(to.get())->sin6_port;
    } else {
      iphdr header{};
      header.version = 4;
      header.ihl = 5;
      header.ttl = 64;
      header.protocol = protocol;
      header.daddr = reinterpret_cast<const sockaddr_in*>(to.get())->sin_addr.s_addr;
      std::memcpy(packet_.data(), &header, sizeof(header));
      std::memcpy(source_.data() + 12, &reinterpret_cast<const sockaddr_in*>(from.get())->sin_addr,
                  4);
      port_be_ = reinterpret_cast<const sockaddr_in*>(to.get())->sin_port;
    }
    if (udp_) {
      udphdr header{};
      header.uh_dport = port_be_;
      header.uh_ulen = htons(static_cast<uint16_t>(transport));
      std::memcpy(packet_.data() + network_, &header, sizeof(header));
      std::memcpy(packet_.data() + network_ + sizeof(header), kText, sizeof(kText) - 1);
    } else {
      tcphdr header{};
      header.th_dport = port_be_;
      header.th_off = sizeof(header) / 4;
      header.th_win = htons(64240);
      header.th_flags = options.flags == "syn" ? TH_SYN : options.flags == "rst" ? TH_RST : TH_ACK;
      std::memcpy(packet_.data() + network_, &header, sizeof(header));
    }
    // The pseudo header, but for the source.
    const uint16_t lengths[2] = {htons(static_cast<uint16_t>(transport)), htons(protocol)};
    sum_ = Sum(lengths, sizeof(lengths), 0);
    sum_ = v6_ ? Sum(packet_.data() + offsetof(ip6_hdr, ip6_dst), 16, sum_)
               : Sum(packet_.data() + offsetof(iphdr, daddr), 4, sum_);
    sum_ = Sum(packet_.data() + network_, transport, sum_);
  }

  size_t size() const { return size_; }

  // The packet of a port and of the address so many behind the first one. `seed` makes the
  // sequence numbers differ.
  void Cast(uint32_t address, uint16_t port, uint32_t seed, Packet& to) const {
    to = packet_;
    std::array<uint8_t, 16> source = source_;
    uint32_t low;
    std::memcpy(&low, &source[12], 4);
    low = htonl(ntohl(low) + address);
    std::memcpy(&source[12], &low, 4);
    const size_t at = v6_ ? offsetof(ip6_hdr, ip6_src) : offsetof(iphdr, saddr);
    std::memcpy(&to[at], v6_ ? source.data() : &source[12], v6_ ? 16 : 4);
    const uint16_t port_be = htons(port);
    std::memcpy(&to[network_], &port_be, 2);
    uint64_t sum = Sum(&port_be, 2, Sum(&to[at], v6_ ? 16 : 4, sum_));
    if (!udp_) {
      std::memcpy(&to[network_ + offsetof(tcphdr, th_seq)], &seed, 4);
      sum = Sum(&seed, 4, sum);
    }
    const uint16_t checksum = Fold(sum);
    const size_t field = udp_ ? offsetof(udphdr, uh_sum) : offsetof(tcphdr, th_sum);
    std::memcpy(&to[network_ + field], &checksum, 2);
  }

 private:
  bool udp_;
  bool v6_;
  size_t network_ = 0;
  size_t size_ = 0;
  uint64_t sum_ = 0;
  uint16_t port_be_ = 0;
  Packet packet_{};
  std::array<uint8_t, 16> source_{};
};

}  // namespace

int Flood(const FloodOptions& options) {
  const std::optional<SocketAddress> to = ParseSocketAddress(options.to);
  const std::optional<SocketAddress> from =
      ParseSocketAddress(options.from.find(':') == std::string::npos ? options.from + ":0"
                                                                     : "[" + options.from + "]:0");
  const bool known = options.flags == "syn" || options.flags == "ack" || options.flags == "rst";
  if (!to || !from || to->family() != from->family() || !known ||
      options.first_port > options.last_port) {
    std::fprintf(stderr, "flood: cannot read the options\n");
    return 2;
  }
  // IPPROTO_RAW: we write the network header.
  const Fd fd(socket(to->family(), SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!fd.valid()) {
    std::fprintf(stderr, "flood: raw socket: %s\n", std::strerror(errno));
    return 1;
  }
  SocketAddress where = *to;  // a raw socket takes no port
  if (to->family() == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(where.get())->sin6_port = 0;
  } else {
    reinterpret_cast<sockaddr_in*>(where.get())->sin_port = 0;
  }

  const Mold mold(options, *to, *from);
  std::vector<Packet> packets(kBatch);
  std::vector<iovec> vectors(kBatch);
  std::vector<mmsghdr> messages(kBatch);
  for (size_t i = 0; i < kBatch; ++i) {
    vectors[i] = {packets[i].data(), mold.size()};
    messages[i].msg_hdr = {where.get(), where.length, &vectors[i], 1, nullptr, 0, 0};
  }
  const uint32_t ports = uint32_t{options.last_port} - options.first_port + 1;
  const auto begin = std::chrono::steady_clock::now();
  uint64_t sent = 0;
  while (sent < options.count) {
    const auto batch = static_cast<size_t>(std::min<uint64_t>(kBatch, options.count - sent));
    for (size_t i = 0; i < batch; ++i) {
      const uint64_t number = sent + i;
      mold.Cast(static_cast<uint32_t>(number / ports),
                static_cast<uint16_t>(options.first_port + number % ports),
                static_cast<uint32_t>(number * 2654435761U), packets[i]);
    }
    const int done = sendmmsg(fd.get(), messages.data(), static_cast<unsigned>(batch), 0);
    if (done > 0) {
      sent += static_cast<uint64_t>(done);
    } else if (errno == ENOBUFS || errno == EAGAIN) {
      std::this_thread::yield();
    } else if (errno != EINTR) {
      std::fprintf(stderr, "flood: after %llu packets: %s\n", static_cast<unsigned long long>(sent),
                   std::strerror(errno));
      return 1;
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("{\"sent\":%llu,\"seconds\":%.3f}\n", static_cast<unsigned long long>(sent),
              took.count());
  return 0;
}

}  // namespace waggle::lab
