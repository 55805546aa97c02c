#include "userspace/net/prefix.h"

#include <array>
#include <charconv>
#include <cstddef>

namespace waggle::net {
namespace {

// IPv4 is held as ::ffff:a.b.c.d.
size_t BitsBefore(Family family) {
  return family == Family::kIpv4 ? 96 : 0;
}

Address Masked(const Address& address, size_t bits) {
  std::array<uint8_t, 16> bytes = address.bytes();
  for (size_t i = 0; i < bytes.size(); ++i) {
    const size_t kept = bits > i * 8 ? bits - i * 8 : 0;
    if (kept < 8) bytes[i] = static_cast<uint8_t>(bytes[i] & (0xff00U >> kept));
  }
  return Address(bytes);
}

}  // namespace

std::optional<Prefix> Prefix::Parse(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::string_view host = text.substr(0, slash);
  const auto address = Address::Parse(host);
  if (!address) return std::nullopt;
  const std::string_view digits = text.substr(slash + 1);
  unsigned length = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  const bool v4 = address->family() == Family::kIpv4;
  // "::ffff:10.0.0.0/104" counts its bits as IPv6 does.
  if (v4 && host.find(':') != std::string_view::npos) {
    if (length < 96) return std::nullopt;
    length -= 96;
  }
  if (length > (v4 ? 32U : 128U)) return std::nullopt;
  return Prefix{Masked(*address, BitsBefore(address->family()) + length),
                static_cast<uint8_t>(length)};
}

bool Prefix::Contains(const Address& other) const {
  return other.family() == family() && Masked(other, BitsBefore(family()) + length) == address;
}

std::string Prefix::ToString() const {
  return address.ToString() + "/" + std::to_string(length);
}

}  // namespace waggle::net
