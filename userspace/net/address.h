// IP addresses, protocols and endpoints as values. A leaf: knows nothing of
// Kubernetes or of BPF.
#ifndef WAGGLE_USERSPACE_NET_ADDRESS_H_
#define WAGGLE_USERSPACE_NET_ADDRESS_H_

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace waggle::net {

enum class Family : uint8_t { kIpv4, kIpv6 };
// "IPv4" or "IPv6", as Kubernetes spells them.
std::string_view FamilyName(Family family);

// Values are the IANA protocol numbers.
enum class Protocol : uint8_t { kTcp = 6, kUdp = 17, kSctp = 132 };
// "TCP", "UDP" or "SCTP".
std::string_view ProtocolName(Protocol protocol);
std::optional<Protocol> ParseProtocol(std::string_view text);

// An IP address in network byte order; IPv4 is held as ::ffff:a.b.c.d, so that
// values are ordered and compared as the BPF maps order them.
class Address {
 public:
  // The unspecified IPv6 address.
  constexpr Address() = default;
  explicit constexpr Address(const std::array<uint8_t, 16>& network_order)
      : bytes_(network_order) {}

  // Accepts what Kubernetes accepts: dotted quads (leading zeros are decimal, as
  // in old API objects), RFC 4291 text; a v4-mapped IPv6 address is the IPv4 one.
  // No zone, no brackets, no surrounding space. nullopt for anything else.
  static std::optional<Address> Parse(std::string_view text);

  Family family() const;
  const std::array<uint8_t, 16>& bytes() const { return bytes_; }
  // Canonical text: dotted quad or RFC 5952.
  std::string ToString() const;

  friend auto operator<=>(const Address&, const Address&) = default;

 private:
  std::array<uint8_t, 16> bytes_{};
};

// An address and a port in host byte order.
struct Endpoint {
  Address address;
  uint16_t port = 0;

  // "10.0.0.1:80" or "[fd00::1]:80".
  std::string ToString() const;
  friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

}  // namespace waggle::net

#endif
