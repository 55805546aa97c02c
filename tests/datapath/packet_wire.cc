#include "tests/datapath/packet_wire.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "tests/datapath/packet_fixture.h"

namespace waggle::packet {
namespace {

// struct virtio_net_hdr of linux/virtio_net.h, which is no C++ in the headers that we build
// with and lacks what is newer.
struct VnetHeader {
  uint8_t flags = 0;
  uint8_t gso_type = 0;
  uint16_t header_length = 0;
  uint16_t gso_size = 0;
  uint16_t csum_start = 0;
  uint16_t csum_offset = 0;
};
constexpr uint8_t kNeedsChecksum = 1;
constexpr uint8_t kGsoTcp4 = 1, kGsoTcp6 = 4, kGsoUdp = 5;
// linux/if_tun.h: TUN_F_USO4 and TUN_F_USO6.
constexpr unsigned kTunUdpSegments = 0x20 | 0x40;
constexpr int kPatienceMs = 10000;

void Must(bool ok, const char* what) {
  if (!ok) Fail(std::string(what) + ": " + std::strerror(errno));
}

size_t ChecksumAt(const View& view) {
  return view.protocol == kTcp ? 16 : 6;
}

VnetHeader HeaderFor(const Bytes& frame, const Offload& offload, size_t skipped) {
  VnetHeader header;
  if (!offload.partial) return header;
  const View view = *Parse(frame, true);
  header.flags = kNeedsChecksum;
  header.csum_start = static_cast<uint16_t>(view.l4 - skipped);
  header.csum_offset = static_cast<uint16_t>(ChecksumAt(view));
  if (offload.gso_size != 0) {
    const bool tcp = view.protocol == kTcp;
    header.gso_type = !tcp ? kGsoUdp : view.v6 ? kGsoTcp6 : kGsoTcp4;
    header.gso_size = static_cast<uint16_t>(offload.gso_size);
    header.header_length = static_cast<uint16_t>(
        view.l4 - skipped + (tcp ? static_cast<size_t>(frame[view.l4 + 12] >> 4) * 4 : 8));
  }
  return header;
}

}  // namespace

Bytes Unfinished(Bytes frame) {
  const View view = *Parse(frame);
  Put16(frame, view.l4 + ChecksumAt(view),
        Fold(PseudoSum(view.src, view.dst, view.protocol, view.end - view.l4)));
  return frame;
}

Bytes Finished(const Caught& caught) {
  Bytes frame = caught.frame;
  if (!caught.offload.partial) return frame;
  const size_t start = caught.offload.csum_start;
  const uint16_t sum = static_cast<uint16_t>(~Fold(Sum(frame, start, frame.size())));
  Put16(frame, start + caught.offload.csum_offset, sum == 0 ? 0xffff : sum);
  return frame;
}

Wire Wire::OnDevice(const std::string& device) {
  os::UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  Must(bool(fd), "AF_PACKET socket");
  const int yes = 1, room = 8 << 20;
  Must(setsockopt(fd.get(), SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof(yes)) == 0,
       "PACKET_VNET_HDR");
  Must(setsockopt(fd.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes)) == 0,
       "PACKET_IGNORE_OUTGOING");
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(if_nametoindex(device.c_str()));
  Must(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0,
       "bind to a device");
  return {std::move(fd), false};
}

Wire Wire::NewTun(const std::string& device) {
  os::UniqueFd fd(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  Must(bool(fd), "/dev/net/tun");
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  std::strncpy(request.ifr_name, device.c_str(), IFNAMSIZ - 1);
  Must(ioctl(fd.get(), TUNSETIFF, &request) == 0, "TUNSETIFF");
  // It takes what is unfinished, as it gives it.
  Must(ioctl(fd.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | kTunUdpSegments) == 0,
       "TUNSETOFFLOAD");
  Host::Get().Ip("link set " + device + " up\n");
  return {std::move(fd), true};
}

void Wire::Send(const Bytes& frame, const Offload& offload) const {
  const size_t skipped = tun_ ? kEthernetLength : 0;
  VnetHeader header = HeaderFor(frame, offload, skipped);
  iovec parts[2] = {{&header, sizeof(header)},
                    {const_cast<uint8_t*>(frame.data()) + skipped, frame.size() - skipped}};
  const auto length = static_cast<ssize_t>(sizeof(header) + frame.size() - skipped);
  Must(writev(fd_.get(), parts, 2) == length, "send a frame");
}

std::optional<Caught> Wire::Next(int timeout_ms) const {
  pollfd poller{fd_.get(), POLLIN, 0};
  if (poll(&poller, 1, timeout_ms) <= 0) return std::nullopt;
  Bytes bytes(1 << 17);
  const ssize_t length = read(fd_.get(), bytes.data(), bytes.size());
  Must(length >= static_cast<ssize_t>(sizeof(VnetHeader)), "read a frame");
  VnetHeader header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  Caught caught;
  caught.frame.assign(bytes.begin() + sizeof(header), bytes.begin() + length);
  size_t added = 0;
  const bool v6 = !caught.frame.empty() && caught.frame[0] >> 4 == 6;
  // A packet that came by a layer-3 device has no link header, wherever it is sent to.
  if (tun_ || (!Parse(caught.frame) && ParseIp(caught.frame, 0, v6, false))) {
    Bytes ethernet(kEthernetLength);
    Put16(ethernet, 12, v6 ? 0x86dd : 0x0800);
    caught.frame.insert(caught.frame.begin(), ethernet.begin(), ethernet.end());
    added = kEthernetLength;
  }
  caught.offload.partial = header.flags & kNeedsChecksum;
  caught.offload.gso_size = header.gso_type == 0 ? 0 : header.gso_size;
  caught.offload.csum_start = static_cast<uint16_t>(header.csum_start + added);
  caught.offload.csum_offset = header.csum_offset;
  return caught;
}

std::optional<Caught> Wire::Catch(const std::function<bool(const View&)>& wanted) const {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (std::chrono::steady_clock::now() < end) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    auto caught = Next(static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (!caught) return std::nullopt;
    const auto view = Parse(caught->frame);
    if (view && wanted(*view)) return caught;
  }
  return std::nullopt;
}

void Wire::Drain() const {
  while (Next(0)) {
  }
}

}  // namespace waggle::packet
