// Frames byte for byte, and what is wrong with one: the plain reference that the programs at
// tc are compared with. Nothing here is shared with bpf/.
#ifndef WAGGLE_TESTS_DATAPATH_PACKET_BUILDER_H_
#define WAGGLE_TESTS_DATAPATH_PACKET_BUILDER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "userspace/net/address.h"

namespace waggle::packet {

using Bytes = std::vector<uint8_t>;
using Mac = std::array<uint8_t, 6>;

inline constexpr size_t kEthernetLength = 14;
inline constexpr uint8_t kIcmp = 1, kTcp = 6, kUdp = 17, kIcmpv6 = 58;
inline constexpr uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44, kNoNext = 59,
                         kDestination = 60;
inline constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16, kUrg = 32;

// An IPv6 extension header. Every kind has the length that `words` says, but for fragment
// headers, which always have eight bytes.
struct Extension {
  uint8_t type = kDestination;
  uint8_t words = 0;          // eight-byte units beyond the first
  uint8_t segments_left = 0;  // kRouting
  uint16_t offset = 0;        // kFragment: in eight-byte units
  bool more = false;          // kFragment
  uint32_t id = 0;            // kFragment
};

// One packet as a value. Addresses decide the family. What a field means for the family or
// protocol that is not chosen is ignored.
struct Packet {
  Mac dst_mac{2, 0, 0, 0, 0, 2};
  Mac src_mac{2, 0, 0, 0, 0, 1};
  std::vector<uint16_t> tags;  // VLAN tags in the frame, outermost first; two: 802.1ad, 802.1Q
  net::Address src, dst;
  uint8_t ttl = 64;
  uint8_t tos = 0;
  // IPv4.
  Bytes options;  // a multiple of four bytes, at most 40
  bool df = true;
  bool more = false;
  uint16_t offset = 0;  // of a fragment, in eight-byte units
  uint16_t id = 0x1234;
  // IPv6.
  std::vector<Extension> extensions;

  uint8_t protocol = kTcp;
  uint16_t src_port = 0, dst_port = 0;
  // TCP.
  uint8_t flags = kSyn;
  uint32_t seq = 1000, ack = 0;
  uint16_t window = 64240;
  Bytes tcp_options;  // a multiple of four bytes, at most 40
  // UDP over IPv4: 'no checksum', which stands as zero.
  bool no_checksum = false;
  // ICMP and ICMPv6; the message is `payload`.
  uint8_t icmp_type = 0, icmp_code = 0;
  uint32_t icmp_rest = 0;  // bytes 4 to 7

  Bytes payload;
  bool headless = false;  // no layer-4 header at all: `payload` follows the IP header
  Bytes padding;          // behind the IP packet
};

// The frame, with the right lengths and checksums. Aborts on a value that no frame can hold.
Bytes Build(const Packet& packet);

// The same datagram in fragments of at most `size` bytes of IP payload each (a multiple of
// eight). IPv6 gets a fragment header behind its other extension headers.
std::vector<Bytes> BuildFragments(const Packet& packet, size_t size, uint32_t id);

// The layer-3 part of a frame, cut to `length` bytes: what an ICMP error quotes.
Bytes Quote(const Bytes& frame, size_t length);

// Where things are in a frame.
struct View {
  size_t l3 = 0;   // offset of the IP header
  size_t l4 = 0;   // offset of what follows the IP header and its extension headers
  size_t end = 0;  // offset behind the IP packet, as its header says; may lie behind the frame
  bool v6 = false;
  uint8_t tags = 0;
  uint8_t protocol = 0;
  net::Address src, dst;
  bool fragment = false;        // first or later; an atomic IPv6 fragment is none
  bool later_fragment = false;  // has no layer-4 header
  uint32_t fragment_id = 0;     // as it stands in the packet, zero-extended
  bool df = false;              // may not be fragmented on its way: IPv4 DF, every IPv6 packet
  uint8_t ttl = 0;
  uint8_t extensions = 0;  // IPv6

  size_t length() const { return end - l3; }
};

// Nothing: not IP, or a header that is cut off or that no receiver takes. An IPv6 routing
// header with segments left counts as such: the destination is not the one that it seems; so
// do v4-mapped addresses, which stand for IPv4. `super`: it will be cut into segments, and
// says no length when it is longer than a packet can be.
std::optional<View> Parse(const Bytes& frame, bool super = false);
// The same for a packet without a link header from `l3` on; `quoted`: its end may be missing,
// and its length, if it was a super-packet.
std::optional<View> ParseIp(const Bytes& frame, size_t l3, bool v6, bool quoted,
                            bool super = false);

// Big-endian fields.
uint16_t Get16(const Bytes& bytes, size_t at);
uint32_t Get32(const Bytes& bytes, size_t at);
void Put16(Bytes& bytes, size_t at, uint16_t value);
void Put32(Bytes& bytes, size_t at, uint32_t value);
net::Address GetAddress(const Bytes& bytes, size_t at, bool v6);
void PutAddress(Bytes& bytes, size_t at, const net::Address& address);

// The internet checksum of [from, to) on top of `sum`, not complemented.
uint32_t Sum(const Bytes& bytes, size_t from, size_t to, uint32_t sum = 0);
uint16_t Fold(uint32_t sum);
// Of the pseudo header.
uint32_t PseudoSum(const net::Address& src, const net::Address& dst, uint8_t protocol,
                   size_t length);
// Sets the checksums of the IP and the layer-4 header, where the whole datagram is there.
void FixChecksums(Bytes& frame);

// What is wrong with the checksums of a frame and of the packet that it quotes; empty: nothing.
// A checksum over bytes that a fragment or a quotation does not hold is not looked at.
std::string ChecksumFaults(const Bytes& frame);

// One line for people, and the bytes.
std::string Describe(const Bytes& frame);
std::string Hex(const Bytes& frame);
// The same frame on its way back: with its MACs exchanged.
Bytes Turned(Bytes frame);
// Empty: the same. Else where two frames differ, with both.
std::string Difference(const Bytes& expected, const Bytes& got);
// The same but for the MAC that the frame goes to: straight to a pod it is the pod's.
std::string DifferenceToPod(Bytes expected, const Bytes& got);

net::Address Address(std::string_view text);  // aborts on what is no address
Bytes Text(std::string_view text);
Bytes Filled(size_t length, uint8_t first = 0);  // first, first + 1, …

}  // namespace waggle::packet

#endif
