#include "tests/datapath/packet_edit.h"

#include <algorithm>

namespace waggle::packet {
namespace {

// HC' = ~(~HC + ~m + m'), RFC 1624, over all 16-bit words that change.
class ChecksumUpdate {
 public:
  void Replace16(uint16_t from, uint16_t to) {
    sum_ += static_cast<uint16_t>(~from);
    sum_ += to;
    any_ |= from != to;
  }
  void Replace(const net::Address& from, const net::Address& to) {
    for (size_t i = 0; i < 16; i += 2) {
      Replace16(static_cast<uint16_t>(from.bytes()[i] << 8 | from.bytes()[i + 1]),
                static_cast<uint16_t>(to.bytes()[i] << 8 | to.bytes()[i + 1]));
    }
  }
  void ApplyAt(Bytes& frame, size_t at) const {
    if (!any_) return;
    uint64_t sum = sum_ + static_cast<uint16_t>(~Get16(frame, at));
    while (sum >> 16)
      sum = (sum & 0xffff) + (sum >> 16);
    Put16(frame, at, static_cast<uint16_t>(~sum));
  }

 private:
  uint64_t sum_ = 0;
  bool any_ = false;
};

void SwapMacs(const Bytes& frame, Bytes& answer) {
  std::copy_n(frame.begin() + 6, 6, answer.begin());
  std::copy_n(frame.begin(), 6, answer.begin() + 6);
}

// RFC 9293, 3.5.2. The headers of the refused packet turn round, so that what is in them stays:
// tags, IPv6 extension headers. IPv4 options become no-operations.
Bytes ResetOf(const Bytes& frame, const View& view) {
  Bytes answer(frame.begin(), frame.begin() + static_cast<ptrdiff_t>(view.l4));
  SwapMacs(frame, answer);
  const size_t addresses = view.l3 + (view.v6 ? 8 : 12);
  PutAddress(answer, addresses, view.dst);
  PutAddress(answer, addresses + (view.v6 ? 16 : 4), view.src);
  const size_t length = view.l4 + 20 - view.l3;
  if (view.v6) {
    Put16(answer, view.l3 + 4, static_cast<uint16_t>(length - 40));
    answer[view.l3 + 7] = 64;
  } else {
    Put16(answer, view.l3 + 2, static_cast<uint16_t>(length));
    answer[view.l3 + 8] = 64;
    std::fill(answer.begin() + static_cast<ptrdiff_t>(view.l3) + 20, answer.end(), uint8_t{1});
    ChecksumUpdate update;
    for (size_t at = view.l3; at < view.l4; at += 2) {
      if (at != view.l3 + 10) update.Replace16(Get16(frame, at), Get16(answer, at));
    }
    update.ApplyAt(answer, view.l3 + 10);
  }
  const size_t l4 = view.l4;
  answer.resize(l4 + 20);
  Put16(answer, l4, Get16(frame, l4 + 2));
  Put16(answer, l4 + 2, Get16(frame, l4));
  const uint8_t flags = frame[l4 + 13];
  answer[l4 + 12] = 5 << 4;
  if (flags & kAck) {
    answer[l4 + 13] = kRst;
    Put32(answer, l4 + 4, Get32(frame, l4 + 8));
  } else {
    const size_t payload = view.end - l4 - TcpHeaderLength(frame, view);
    answer[l4 + 13] = kRst | kAck;
    Put32(answer, l4 + 8,
          Get32(frame, l4 + 4) + static_cast<uint32_t>(payload) + (flags & kSyn ? 1 : 0) +
              (flags & kFin ? 1 : 0));
  }
  const uint32_t pseudo = PseudoSum(view.dst, view.src, kTcp, 20);
  Put16(answer, l4 + 16, static_cast<uint16_t>(~Fold(Sum(answer, l4, l4 + 20, pseudo))));
  return answer;
}

}  // namespace

size_t TcpHeaderLength(const Bytes& frame, const View& view) {
  return static_cast<size_t>(frame[view.l4 + 12] >> 4) * 4;
}

void Rewrite(Bytes& frame, const View& view, const net::Endpoint& src, const net::Endpoint& dst,
             size_t icmp) {
  const Bytes before = frame;
  ChecksumUpdate addresses;
  addresses.Replace(view.src, src.address);
  addresses.Replace(view.dst, dst.address);
  const size_t at = view.v6 ? view.l3 + 8 : view.l3 + 12;
  PutAddress(frame, at, src.address);
  PutAddress(frame, at + (view.v6 ? 16 : 4), dst.address);
  if (!view.v6) addresses.ApplyAt(frame, view.l3 + 10);
  if (!view.later_fragment && (view.protocol == kTcp || view.protocol == kUdp)) {
    ChecksumUpdate all = addresses;
    all.Replace16(Get16(frame, view.l4), src.port);
    all.Replace16(Get16(frame, view.l4 + 2), dst.port);
    Put16(frame, view.l4, src.port);
    Put16(frame, view.l4 + 2, dst.port);
    const size_t checksum = view.l4 + (view.protocol == kTcp ? 16 : 6);
    const bool there = checksum + 2 <= std::min(view.end, frame.size());
    const bool none = there && view.protocol == kUdp && Get16(frame, checksum) == 0;
    if (there && !none) {
      all.ApplyAt(frame, checksum);
      if (view.protocol == kUdp && Get16(frame, checksum) == 0) Put16(frame, checksum, 0xffff);
    }
  } else if (view.protocol == kIcmpv6) {
    addresses.ApplyAt(frame, view.l4 + 2);
  }
  if (icmp == 0) return;
  // The message changed by whatever was changed inside of it.
  ChecksumUpdate message;
  for (size_t i = icmp; i < frame.size(); i += 2) {
    const bool pair = i + 1 < frame.size();
    message.Replace16(static_cast<uint16_t>(before[i] << 8 | (pair ? before[i + 1] : 0)),
                      static_cast<uint16_t>(frame[i] << 8 | (pair ? frame[i + 1] : 0)));
  }
  message.ApplyAt(frame, icmp + 2);
}

Bytes RefusalOf(const Bytes& frame, const View& view, Refusal refusal, uint32_t mtu) {
  if (refusal == Refusal::kReset) return ResetOf(frame, view);
  Packet answer;
  answer.src = view.dst;
  answer.dst = view.src;
  answer.id = 0;
  answer.df = false;
  answer.tos = view.v6 ? 0 : 0xc0;  // internetwork control
  answer.protocol = view.v6 ? kIcmpv6 : kIcmp;
  if (refusal == Refusal::kUnreachable) {
    answer.icmp_type = view.v6 ? 1 : 3;
    answer.icmp_code = view.v6 ? 4 : 3;
  } else {
    answer.icmp_type = view.v6 ? 2 : 3;
    answer.icmp_code = view.v6 ? 0 : 4;
    answer.icmp_rest = mtu;
  }
  // The headers, as far as a sender needs them to know its packet.
  const size_t end = view.l4 + (view.protocol == kTcp ? 20 : 8);
  answer.payload.assign(frame.begin() + static_cast<ptrdiff_t>(view.l3),
                        frame.begin() + static_cast<ptrdiff_t>(end));
  Bytes built = Build(answer);
  SwapMacs(frame, built);
  return built;
}

Bytes AdvertisementFor(const Bytes& frame, const View& view, const net::Address& target,
                       const Mac& mac) {
  Packet answer;
  std::copy_n(frame.begin() + 6, 6, answer.dst_mac.begin());
  answer.src_mac = mac;
  answer.src = target;
  answer.dst = view.src;
  answer.ttl = 255;
  answer.protocol = kIcmpv6;
  answer.icmp_type = 136;
  answer.icmp_rest = 0x60000000;  // solicited, override
  answer.payload = Bytes(target.bytes().begin(), target.bytes().end());
  answer.payload.push_back(2);  // the target's link-layer address
  answer.payload.push_back(1);
  for (const uint8_t byte : mac)
    answer.payload.push_back(byte);
  Bytes built = Build(answer);
  // Traffic class and flow label are the question's.
  std::copy_n(frame.begin() + static_cast<ptrdiff_t>(view.l3), 4, built.begin() + kEthernetLength);
  return built;
}

void DecrementTtl(Bytes& frame, const View& view) {
  if (view.v6) {
    --frame[view.l3 + 7];
    return;
  }
  ChecksumUpdate update;
  const uint16_t before = Get16(frame, view.l3 + 8);
  --frame[view.l3 + 8];
  update.Replace16(before, Get16(frame, view.l3 + 8));
  update.ApplyAt(frame, view.l3 + 10);
}

}  // namespace waggle::packet
