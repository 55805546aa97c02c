// What translation and refusal do to the bytes of a frame, in plain C++.
#ifndef WAGGLE_TESTS_DATAPATH_PACKET_EDIT_H_
#define WAGGLE_TESTS_DATAPATH_PACKET_EDIT_H_

#include "tests/datapath/packet_builder.h"

namespace waggle::packet {

// Changes addresses and ports in place, and the checksums by what changed (RFC 1624): a wrong
// one stays wrong. `icmp`: offset of the ICMP message that quotes the packet; 0: none does.
void Rewrite(Bytes& frame, const View& view, const net::Endpoint& src, const net::Endpoint& dst,
             size_t icmp = 0);

void DecrementTtl(Bytes& frame, const View& view);

// What a packet becomes when it is refused: an answer to its sender, from the address that it
// was sent to. `mtu`: for kTooBig.
enum class Refusal { kReset, kUnreachable, kTooBig };
Bytes RefusalOf(const Bytes& frame, const View& view, Refusal refusal, uint32_t mtu = 0);

// The answer to an IPv6 neighbour solicitation: `target` is at `mac`.
Bytes AdvertisementFor(const Bytes& frame, const View& view, const net::Address& target,
                       const Mac& mac);

// As the header says. It must be there.
size_t TcpHeaderLength(const Bytes& frame, const View& view);

}  // namespace waggle::packet

#endif
