#include "userspace/net/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

namespace waggle::net {
namespace {

constexpr std::array<uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// Four decimal numbers of at most three digits; leading zeros do not mean octal.
std::optional<std::array<uint8_t, 4>> ParseQuad(std::string_view text) {
  std::array<uint8_t, 4> quad{};
  size_t at = 0;
  for (size_t part = 0; part < quad.size(); ++part) {
    unsigned value = 0;
    size_t digits = 0;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9' && digits < 4) {
      value = value * 10 + static_cast<unsigned>(text[at] - '0');
      ++at;
      ++digits;
    }
    if (digits == 0 || digits > 3 || value > 255) return std::nullopt;
    quad[part] = static_cast<uint8_t>(value);
    if (part == 3) break;
    if (at >= text.size() || text[at] != '.') return std::nullopt;
    ++at;
  }
  if (at != text.size()) return std::nullopt;
  return quad;
}

}  // namespace

std::string_view FamilyName(Family family) {
  return family == Family::kIpv4 ? "IPv4" : "IPv6";
}

std::string_view ProtocolName(Protocol protocol) {
  switch (protocol) {
    case Protocol::kTcp:
      return "TCP";
    case Protocol::kUdp:
      return "UDP";
    case Protocol::kSctp:
      return "SCTP";
  }
  return "unknown";
}

std::optional<Protocol> ParseProtocol(std::string_view text) {
  for (Protocol protocol : {Protocol::kTcp, Protocol::kUdp, Protocol::kSctp}) {
    if (text == ProtocolName(protocol)) return protocol;
  }
  return std::nullopt;
}

std::optional<Address> Address::Parse(std::string_view text) {
  std::array<uint8_t, 16> bytes{};
  if (text.find(':') == std::string_view::npos) {
    const auto quad = ParseQuad(text);
    if (!quad) return std::nullopt;
    std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin());
    std::copy(quad->begin(), quad->end(), bytes.begin() + 12);
    return Address(bytes);
  }
  char buffer[INET6_ADDRSTRLEN];
  // An embedded NUL would cut the text short and let the rest go unread.
  if (text.size() >= sizeof(buffer) || text.find('\0') != std::string_view::npos) {
    return std::nullopt;
  }
  std::memcpy(buffer, text.data(), text.size());
  buffer[text.size()] = '\0';
  if (inet_pton(AF_INET6, buffer, bytes.data()) != 1) return std::nullopt;
  return Address(bytes);
}

Family Address::family() const {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes_.begin()) ? Family::kIpv4
                                                                                : Family::kIpv6;
}

std::string Address::ToString() const {
  char buffer[INET6_ADDRSTRLEN];
  const bool v4 = family() == Family::kIpv4;
  const void* source = v4 ? bytes_.data() + 12 : bytes_.data();
  return inet_ntop(v4 ? AF_INET : AF_INET6, source, buffer, sizeof(buffer));
}

std::string Endpoint::ToString() const {
  const std::string port_text = ":" + std::to_string(port);
  if (address.family() == Family::kIpv4) return address.ToString() + port_text;
  return "[" + address.ToString() + "]" + port_text;
}

}  // namespace waggle::net
