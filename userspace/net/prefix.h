// IP prefixes (CIDRs) as values. A leaf.
#ifndef WAGGLE_USERSPACE_NET_PREFIX_H_
#define WAGGLE_USERSPACE_NET_PREFIX_H_

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "userspace/net/address.h"

namespace waggle::net {

// The addresses that share `length` leading bits with `address`, whose other bits are 0.
struct Prefix {
  Address address;
  uint8_t length = 0;  // of the family: at most 32 for IPv4, 128 for IPv6

  // "10.0.0.0/8", "fd00::/64": an address as Address::Parse() takes it, and a length in plain
  // decimal. Bits behind the prefix are cleared, as Go does. nullopt for anything else.
  static std::optional<Prefix> Parse(std::string_view text);

  Family family() const { return address.family(); }
  bool Contains(const Address& other) const;
  std::string ToString() const;

  friend auto operator<=>(const Prefix&, const Prefix&) = default;
};

}  // namespace waggle::net

#endif
