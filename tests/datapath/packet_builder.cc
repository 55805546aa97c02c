#include "tests/datapath/packet_builder.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace waggle::packet {
namespace {

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "packet_builder: %s\n", what);
  std::abort();
}

void Append(Bytes& bytes, const Bytes& more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}
void Append(Bytes& bytes, const Mac& mac) {
  bytes.insert(bytes.end(), mac.begin(), mac.end());
}
void Append16(Bytes& bytes, uint16_t value) {
  bytes.push_back(static_cast<uint8_t>(value >> 8));
  bytes.push_back(static_cast<uint8_t>(value));
}
void Append32(Bytes& bytes, uint32_t value) {
  Append16(bytes, static_cast<uint16_t>(value >> 16));
  Append16(bytes, static_cast<uint16_t>(value));
}
void AppendAddress(Bytes& bytes, const net::Address& address) {
  const auto& all = address.bytes();
  const size_t skip = address.family() == net::Family::kIpv4 ? 12 : 0;
  bytes.insert(bytes.end(), all.begin() + static_cast<ptrdiff_t>(skip), all.end());
}

bool IsV6(const Packet& packet) {
  return packet.dst.family() == net::Family::kIpv6;
}

Bytes ExtensionBytes(const Extension& extension, uint8_t next) {
  Bytes bytes{next, 0};
  if (extension.type == kFragment) {
    Append16(bytes, static_cast<uint16_t>(extension.offset << 3 | (extension.more ? 1 : 0)));
    Append32(bytes, extension.id);
    return bytes;
  }
  bytes[1] = extension.words;
  if (extension.type == kRouting) {
    bytes.push_back(0);  // type 0
    bytes.push_back(extension.segments_left);
    bytes.resize(8 + 8 * extension.words);
    return bytes;
  }
  // One PadN option that fills the header.
  const size_t length = 8 + 8 * static_cast<size_t>(extension.words);
  while (bytes.size() < length) {
    const size_t pad = std::min<size_t>(length - bytes.size(), 257);
    if (pad == 1) {
      bytes.push_back(0);
      continue;
    }
    bytes.push_back(1);
    bytes.push_back(static_cast<uint8_t>(pad - 2));
    bytes.resize(bytes.size() + pad - 2);
  }
  return bytes;
}

Bytes Layer4(const Packet& packet) {
  if (packet.headless) return packet.payload;
  Bytes bytes;
  switch (packet.protocol) {
    case kTcp:
      Require(packet.tcp_options.size() <= 40 && packet.tcp_options.size() % 4 == 0,
              "TCP options of no possible length");
      Append16(bytes, packet.src_port);
      Append16(bytes, packet.dst_port);
      Append32(bytes, packet.seq);
      Append32(bytes, packet.ack);
      bytes.push_back(static_cast<uint8_t>((5 + packet.tcp_options.size() / 4) << 4));
      bytes.push_back(packet.flags);
      Append16(bytes, packet.window);
      Append32(bytes, 0);  // checksum and urgent pointer
      Append(bytes, packet.tcp_options);
      break;
    case kUdp:
      Append16(bytes, packet.src_port);
      Append16(bytes, packet.dst_port);
      Append16(bytes, static_cast<uint16_t>(8 + packet.payload.size()));
      Append16(bytes, 0);
      break;
    case kIcmp:
    case kIcmpv6:
      bytes.push_back(packet.icmp_type);
      bytes.push_back(packet.icmp_code);
      Append16(bytes, 0);
      Append32(bytes, packet.icmp_rest);
      break;
    default:
      break;
  }
  Append(bytes, packet.payload);
  return bytes;
}

// The offset of the checksum in a layer-4 header; 0: this protocol has none.
size_t ChecksumOffset(uint8_t protocol) {
  switch (protocol) {
    case kTcp:
      return 16;
    case kUdp:
      return 6;
    case kIcmp:
    case kIcmpv6:
      return 2;
    default:
      return 0;
  }
}

uint32_t StartSum(const View& view) {
  return view.protocol == kIcmp ? 0
                                : PseudoSum(view.src, view.dst, view.protocol, view.end - view.l4);
}

// Writes the right checksum into a whole datagram.
void FixLayer4(Bytes& frame, const View& view) {
  const size_t at = ChecksumOffset(view.protocol);
  if (at == 0 || view.fragment || view.l4 + at + 2 > view.end || view.end > frame.size()) return;
  Put16(frame, view.l4 + at, 0);
  uint16_t checksum = static_cast<uint16_t>(~Fold(Sum(frame, view.l4, view.end, StartSum(view))));
  if (checksum == 0 && view.protocol == kUdp) checksum = 0xffff;
  Put16(frame, view.l4 + at, checksum);
}

bool IsError(const View& view, uint8_t type) {
  if (view.protocol == kIcmp)
    return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
  return view.protocol == kIcmpv6 && type < 128;
}

std::string Faults(const Bytes& frame, const View& view, const std::string& where) {
  std::string faults;
  if (!view.v6) {
    const size_t length = static_cast<size_t>(frame[view.l3] & 15) * 4;
    if (Fold(Sum(frame, view.l3, view.l3 + length)) != 0xffff) faults += where + "IPv4 header; ";
  }
  const size_t at = ChecksumOffset(view.protocol);
  if (at == 0 || view.fragment || view.l4 + at + 2 > view.end || view.end > frame.size()) {
    return faults;
  }
  const bool none = view.protocol == kUdp && Get16(frame, view.l4 + at) == 0;
  if (none && view.v6) faults += where + "UDP without checksum over IPv6; ";
  if (!none && Fold(Sum(frame, view.l4, view.end, StartSum(view))) != 0xffff) {
    faults += where + "layer 4; ";
  }
  return faults;
}

void PutPacketHead(Bytes& frame, const Packet& packet) {
  Append(frame, packet.dst_mac);
  Append(frame, packet.src_mac);
  for (size_t i = 0; i < packet.tags.size(); ++i) {
    Append16(frame, i + 1 < packet.tags.size() ? 0x88a8 : 0x8100);
    Append16(frame, packet.tags[i]);
  }
  Append16(frame, IsV6(packet) ? 0x86dd : 0x0800);
}

Bytes BuildWith(const Packet& packet, const Bytes& layer4) {
  Require(packet.src.family() == packet.dst.family(), "addresses of two families");
  Bytes frame;
  PutPacketHead(frame, packet);
  if (!IsV6(packet)) {
    Require(packet.options.size() <= 40 && packet.options.size() % 4 == 0,
            "IPv4 options of no possible length");
    const size_t l3 = frame.size();
    frame.push_back(static_cast<uint8_t>(0x40 | (5 + packet.options.size() / 4)));
    frame.push_back(packet.tos);
    const size_t total = 20 + packet.options.size() + layer4.size();
    Require(total <= 0xffff, "an IPv4 packet of more than 65535 bytes");
    Append16(frame, static_cast<uint16_t>(total));
    Append16(frame, packet.id);
    Append16(frame, static_cast<uint16_t>((packet.df ? 0x4000 : 0) | (packet.more ? 0x2000 : 0) |
                                          packet.offset));
    frame.push_back(packet.ttl);
    frame.push_back(packet.protocol);
    Append16(frame, 0);
    AppendAddress(frame, packet.src);
    AppendAddress(frame, packet.dst);
    Append(frame, packet.options);
    Put16(frame, l3 + 10, static_cast<uint16_t>(~Fold(Sum(frame, l3, frame.size()))));
  } else {
    Bytes extensions;
    for (size_t i = 0; i < packet.extensions.size(); ++i) {
      const bool last = i + 1 == packet.extensions.size();
      Append(extensions, ExtensionBytes(packet.extensions[i],
                                        last ? packet.protocol : packet.extensions[i + 1].type));
    }
    Append32(frame, 0x60000000u | static_cast<uint32_t>(packet.tos) << 20);
    Require(extensions.size() + layer4.size() <= 0xffff,
            "an IPv6 payload of more than 65535 bytes");
    Append16(frame, static_cast<uint16_t>(extensions.size() + layer4.size()));
    frame.push_back(packet.extensions.empty() ? packet.protocol : packet.extensions[0].type);
    frame.push_back(packet.ttl);
    AppendAddress(frame, packet.src);
    AppendAddress(frame, packet.dst);
    Append(frame, extensions);
  }
  Append(frame, layer4);
  return frame;
}

}  // namespace

uint16_t Get16(const Bytes& bytes, size_t at) {
  return static_cast<uint16_t>(bytes.at(at) << 8 | bytes.at(at + 1));
}
uint32_t Get32(const Bytes& bytes, size_t at) {
  return static_cast<uint32_t>(Get16(bytes, at)) << 16 | Get16(bytes, at + 2);
}
void Put16(Bytes& bytes, size_t at, uint16_t value) {
  bytes.at(at) = static_cast<uint8_t>(value >> 8);
  bytes.at(at + 1) = static_cast<uint8_t>(value);
}
void Put32(Bytes& bytes, size_t at, uint32_t value) {
  Put16(bytes, at, static_cast<uint16_t>(value >> 16));
  Put16(bytes, at + 2, static_cast<uint16_t>(value));
}

net::Address GetAddress(const Bytes& bytes, size_t at, bool v6) {
  std::array<uint8_t, 16> all{};
  const size_t length = v6 ? 16 : 4;
  Require(at + length <= bytes.size(), "an address behind the frame");
  if (!v6) all[10] = all[11] = 0xff;
  std::memcpy(all.data() + 16 - length, bytes.data() + at, length);
  return net::Address(all);
}

void PutAddress(Bytes& bytes, size_t at, const net::Address& address) {
  const size_t length = address.family() == net::Family::kIpv4 ? 4 : 16;
  Require(at + length <= bytes.size(), "an address behind the frame");
  std::memcpy(bytes.data() + at, address.bytes().data() + 16 - length, length);
}

uint32_t Sum(const Bytes& bytes, size_t from, size_t to, uint32_t sum) {
  Require(to <= bytes.size(), "a sum behind the frame");
  uint64_t wide = sum;
  for (size_t at = from; at < to; ++at)
    wide += static_cast<uint64_t>(bytes[at]) << ((at - from) % 2 == 0 ? 8 : 0);
  while (wide >> 32)
    wide = (wide & 0xffffffff) + (wide >> 32);
  return static_cast<uint32_t>(wide);
}

uint16_t Fold(uint32_t sum) {
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

uint32_t PseudoSum(const net::Address& src, const net::Address& dst, uint8_t protocol,
                   size_t length) {
  Bytes pseudo;
  AppendAddress(pseudo, src);
  AppendAddress(pseudo, dst);
  Append32(pseudo, static_cast<uint32_t>(length));
  Append32(pseudo, protocol);
  return Sum(pseudo, 0, pseudo.size());
}

std::optional<View> ParseIp(const Bytes& frame, size_t l3, bool v6, bool quoted, bool super) {
  View view;
  view.l3 = l3;
  view.v6 = v6;
  const size_t available = frame.size();
  if (!v6) {
    if (l3 + 20 > available || frame[l3] >> 4 != 4) return std::nullopt;
    const size_t header = static_cast<size_t>(frame[l3] & 15) * 4;
    size_t total = Get16(frame, l3 + 2);
    if ((super || quoted) && total == 0) total = available - l3;
    if (header < 20 || total < header || l3 + header > available) return std::nullopt;
    view.end = l3 + total;
    view.l4 = l3 + header;
    const uint16_t fragment = Get16(frame, l3 + 6);
    view.df = fragment & 0x4000;
    view.fragment = fragment & 0x3fff;
    view.later_fragment = fragment & 0x1fff;
    view.fragment_id = Get16(frame, l3 + 4);
    view.ttl = frame[l3 + 8];
    view.protocol = frame[l3 + 9];
    view.src = GetAddress(frame, l3 + 12, false);
    view.dst = GetAddress(frame, l3 + 16, false);
  } else {
    if (l3 + 40 > available || frame[l3] >> 4 != 6) return std::nullopt;
    view.end = l3 + 40 + Get16(frame, l3 + 4);
    view.df = true;
    view.ttl = frame[l3 + 7];
    view.src = GetAddress(frame, l3 + 8, true);
    view.dst = GetAddress(frame, l3 + 24, true);
    if ((super || quoted) && view.end == l3 + 40) view.end = available;
    for (const net::Address& address : {view.src, view.dst}) {
      if (address.family() == net::Family::kIpv4) return std::nullopt;
    }
    view.l4 = l3 + 40;
    uint8_t next = frame[l3 + 6];
    while (!view.later_fragment &&
           (next == kHopByHop || next == kRouting || next == kFragment || next == kDestination)) {
      if (view.l4 + 8 > available || view.l4 + 8 > view.end) return std::nullopt;
      const size_t length = next == kFragment ? 8 : 8 + 8 * static_cast<size_t>(frame[view.l4 + 1]);
      if (view.l4 + length > available || view.l4 + length > view.end) return std::nullopt;
      if (next == kRouting && frame[view.l4 + 3] != 0) return std::nullopt;
      if (next == kFragment) {
        const uint16_t offset = Get16(frame, view.l4 + 2);
        view.fragment |= (offset & ~uint16_t{6}) != 0;  // who nests them knows why
        view.later_fragment = offset >> 3;
        view.fragment_id = Get32(frame, view.l4 + 4);
      }
      next = frame[view.l4];
      view.l4 += length;
      ++view.extensions;
    }
    view.protocol = next;
  }
  if (!quoted && view.end > available) return std::nullopt;
  return view;
}

std::optional<View> Parse(const Bytes& frame, bool super) {
  if (frame.size() < kEthernetLength) return std::nullopt;
  size_t at = 12;
  uint8_t tags = 0;
  uint16_t type = Get16(frame, at);
  while ((type == 0x8100 || type == 0x88a8) && tags < 2) {
    if (at + 6 > frame.size()) return std::nullopt;
    ++tags;
    at += 4;
    type = Get16(frame, at);
  }
  if (type != 0x0800 && type != 0x86dd) return std::nullopt;
  auto view = ParseIp(frame, at + 2, type == 0x86dd, false, super);
  if (view) view->tags = tags;
  return view;
}

void FixChecksums(Bytes& frame) {
  const auto view = Parse(frame);
  if (!view) return;
  if (!view->v6) {
    Put16(frame, view->l3 + 10, 0);
    const size_t length = static_cast<size_t>(frame[view->l3] & 15) * 4;
    Put16(frame, view->l3 + 10,
          static_cast<uint16_t>(~Fold(Sum(frame, view->l3, view->l3 + length))));
  }
  FixLayer4(frame, *view);
}

Bytes Build(const Packet& packet) {
  Bytes frame = BuildWith(packet, Layer4(packet));
  const auto view = Parse(frame);
  if (view && !packet.headless && !(packet.protocol == kUdp && packet.no_checksum)) {
    FixLayer4(frame, *view);
  }
  Append(frame, packet.padding);
  return frame;
}

std::vector<Bytes> BuildFragments(const Packet& packet, size_t size, uint32_t id) {
  Require(size > 0 && size % 8 == 0, "fragments are multiples of eight bytes");
  const Bytes whole = Build(packet);
  const auto view = Parse(whole);
  Require(view && !view->fragment, "not a packet that can be fragmented");
  std::vector<Bytes> fragments;
  for (size_t from = view->l4; from < view->end; from += size) {
    const size_t to = std::min(from + size, view->end);
    Packet part = packet;
    part.headless = true;
    part.padding.clear();
    part.payload.assign(whole.begin() + static_cast<ptrdiff_t>(from),
                        whole.begin() + static_cast<ptrdiff_t>(to));
    const auto offset = static_cast<uint16_t>((from - view->l4) / 8);
    const bool more = to < view->end;
    if (view->v6) {
      part.extensions.push_back({.type = kFragment, .offset = offset, .more = more, .id = id});
    } else {
      part.df = false;
      part.offset = offset;
      part.more = more;
      part.id = static_cast<uint16_t>(id);
    }
    fragments.push_back(Build(part));
  }
  return fragments;
}

Bytes Quote(const Bytes& frame, size_t length) {
  const auto view = Parse(frame);
  Require(view.has_value(), "nothing to quote");
  const size_t end = std::min(view->l3 + length, view->end);
  return {frame.begin() + static_cast<ptrdiff_t>(view->l3),
          frame.begin() + static_cast<ptrdiff_t>(end)};
}

std::string ChecksumFaults(const Bytes& frame) {
  const auto view = Parse(frame);
  if (!view) return "not an IP packet; ";
  std::string faults = Faults(frame, *view, "");
  const bool icmp = view->protocol == kIcmp || view->protocol == kIcmpv6;
  if (icmp && !view->fragment && view->l4 + 8 <= view->end && IsError(*view, frame[view->l4])) {
    if (const auto inner = ParseIp(frame, view->l4 + 8, view->v6, true)) {
      faults += Faults(frame, *inner, "quoted ");
    }
  }
  return faults;
}

std::string Hex(const Bytes& frame) {
  constexpr size_t kShown = 256;  // headers, and more than any test changes behind them
  std::string text;
  char byte[4];
  for (size_t i = 0; i < std::min(frame.size(), kShown); ++i) {
    std::snprintf(byte, sizeof(byte), "%02x", frame[i]);
    text += (i == 0 ? "" : i % 32 == 0 ? "\n" : i % 4 == 0 ? " " : "");
    text += byte;
  }
  return text + (frame.size() > kShown ? " …" : "");
}

std::string Describe(const Bytes& frame) {
  std::string text = std::to_string(frame.size()) + " bytes";
  const auto view = Parse(frame);
  if (!view) return text + ", not a whole IP packet";
  text += ", " + std::to_string(view->tags) + " tags, " + view->src.ToString() + " > " +
          view->dst.ToString() + " protocol " + std::to_string(view->protocol) + " length " +
          std::to_string(view->length()) + " ttl " + std::to_string(view->ttl);
  if (view->fragment) text += view->later_fragment ? ", later fragment" : ", first fragment";
  if (!view->later_fragment && view->l4 + 4 <= view->end) {
    if (view->protocol == kTcp || view->protocol == kUdp) {
      text += ", ports " + std::to_string(Get16(frame, view->l4)) + " > " +
              std::to_string(Get16(frame, view->l4 + 2));
    } else {
      text += ", type " + std::to_string(frame[view->l4]) + " code " +
              std::to_string(frame[view->l4 + 1]);
    }
  }
  if (view->protocol == kTcp && !view->later_fragment && view->l4 + 14 <= view->end) {
    text += ", flags " + std::to_string(frame[view->l4 + 13]) + " seq " +
            std::to_string(Get32(frame, view->l4 + 4)) + " ack " +
            std::to_string(Get32(frame, view->l4 + 8));
  }
  return text;
}

Bytes Turned(Bytes frame) {
  std::swap_ranges(frame.begin(), frame.begin() + 6, frame.begin() + 6);
  return frame;
}

std::string Difference(const Bytes& expected, const Bytes& got) {
  if (expected == got) return "";
  size_t at = 0;
  while (at < expected.size() && at < got.size() && expected[at] == got[at])
    ++at;
  return "first difference at byte " + std::to_string(at) + "\nexpected: " + Describe(expected) +
         "\n" + Hex(expected) + "\ngot: " + Describe(got) + "\n" + Hex(got);
}

std::string DifferenceToPod(Bytes expected, const Bytes& got) {
  if (expected.size() >= 6 && got.size() >= 6) std::copy_n(got.begin(), 6, expected.begin());
  return Difference(expected, got);
}

net::Address Address(std::string_view text) {
  const auto address = net::Address::Parse(text);
  Require(address.has_value(), "not an address");
  return *address;
}

Bytes Text(std::string_view text) {
  return {text.begin(), text.end()};
}

Bytes Filled(size_t length, uint8_t first) {
  Bytes bytes(length);
  for (size_t i = 0; i < length; ++i)
    bytes[i] = static_cast<uint8_t>(first + i);
  return bytes;
}

}  // namespace waggle::packet
