// ICMP errors about translated packets, in both directions: who gets one must see the packet
// that he sent himself. TRAPS 11: path MTU discovery works through a Service.
#include "tests/datapath/packet_fixture.h"

namespace waggle::packet {
namespace {

struct Error {
  const char* name;
  uint8_t type, code;
  uint32_t rest;
};
const Error kErrors4[] = {{"network unreachable", 3, 0, 0},
                          {"port unreachable", 3, 3, 0},
                          {"fragmentation needed", 3, 4, 1400},
                          {"prohibited", 3, 13, 0},
                          {"time exceeded", 11, 0, 0},
                          {"reassembly time exceeded", 11, 1, 0},
                          {"parameter problem", 12, 0, 0x0a000000}};
const Error kErrors6[] = {
    {"no route", 1, 0, 0},  {"port unreachable", 1, 4, 0},         {"packet too big", 2, 0, 1400},
    {"hop limit", 3, 0, 0}, {"reassembly time exceeded", 3, 1, 0}, {"parameter problem", 4, 1, 40}};

class PacketIcmp : public PacketTest {
 protected:
  // An error about `about`, of whose IP packet `length` bytes are quoted.
  static Packet ErrorOf(const net::Address& from, const net::Address& to, const Error& error,
                        const Packet& about, size_t length = 10000) {
    const bool v6 = to.family() == net::Family::kIpv6;
    Packet packet;
    packet.protocol = v6 ? kIcmpv6 : kIcmp;
    packet.src = from;
    packet.dst = to;
    packet.icmp_type = error.type;
    packet.icmp_code = error.code;
    packet.icmp_rest = error.rest;
    packet.payload = Quote(Build(about), length);
    return packet;
  }
  static std::vector<Error> ErrorsOf(const Family& family) {
    if (family.v6) return {std::begin(kErrors6), std::end(kErrors6)};
    return {std::begin(kErrors4), std::end(kErrors4)};
  }
  static Error TooBig(const Family& family) { return family.v6 ? kErrors6[2] : kErrors4[2]; }
  // The flow of a client on pod1, half open.
  Talk Begin(const Family& family, uint8_t protocol, uint32_t forwarding,
             const net::Address& backend) {
    Start(forwarding);
    const Talk talk = AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {backend, 8080});
    Send(Program::kPodIn, host().pod1, Build(talk.Ask(kSyn)));
    return talk;
  }
};

// How the quoted packet looked.
struct Form {
  const char* name;
  void (*change)(Packet&);
  bool v4 = true, v6 = true, udp = true;
};
const Form kForms[] = {
    {"plain", [](Packet&) {}},
    {"odd payload", [](Packet& p) { p.payload = Filled(33); }},
    {"large payload", [](Packet& p) { p.payload = Filled(1000); }},
    {"no payload", [](Packet& p) { p.payload.clear(); }},
    {"a hop further", [](Packet& p) { p.ttl = 63; }},
    {"at its end", [](Packet& p) { p.ttl = 0; }},
    {"IPv4 options", [](Packet& p) { p.options = Bytes(16, 1); }, true, false},
    {"no UDP checksum", [](Packet& p) { p.no_checksum = true; }, true, false},
    {"TCP options", [](Packet& p) { p.tcp_options = Bytes(12, 1); }, true, true, false},
    {"extension headers",
     [](Packet& p) {
       p.extensions = {{.type = kHopByHop}, {.type = kDestination, .words = 3}};
     },
     false},
};

// About the client's packets, from the backend itself, from a router and from this host.
TEST_F(PacketIcmp, ToTheClient) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        for (const bool remote : {false, true}) {
          const Talk talk =
              Begin(family, protocol, forwarding, remote ? family.Pod(2, 5) : family.Pod(1, 12));
          const bool redirect = forwarding == WAGGLE_FORWARDING_REDIRECT;
          const struct {
            const char* name;
            net::Address from, becomes;
            Arrival arrival;
          } senders[] = {
              {"backend", talk.backend.address, talk.frontend.address,
               redirect ? (remote ? Arrival{Program::kNetIn, host().eth0}
                                  : Arrival{Program::kPodIn, host().pod2})
                        : Arrival{Program::kPodOut, host().pod1}},
              {"router", family.NodeNet(20), family.NodeNet(20),
               redirect && remote ? Arrival{Program::kNetIn, host().eth0}
                                  : Arrival{Program::kPodOut, host().pod1}},
              {"host", family.NodeNet(10), family.NodeNet(10), {Program::kPodOut, host().pod1}},
          };
          for (const auto& sender : senders) {
            for (const Error& error : ErrorsOf(family)) {
              for (const Form& form : kForms) {
                if (!(family.v6 ? form.v6 : form.v4) || (protocol == kUdp && !form.udp)) continue;
                SCOPED_TRACE(Kind(family, protocol, forwarding) + " by " + sender.name +
                             (remote ? " remote " : " ") + error.name + " about " + form.name);
                Packet asked = talk.Asked(), ask = talk.Ask();
                form.change(asked);
                form.change(ask);
                const int verdict =
                    sender.arrival.program == Program::kPodOut ? kUnspec : kRedirect;
                const Result got =
                    Expect(verdict, {WAGGLE_REASON_ICMP_TRANSLATED}, sender.arrival,
                           Build(ErrorOf(sender.from, talk.seen.address, error, asked)));
                EXPECT_EQ(
                    DifferenceToPod(Build(ErrorOf(sender.becomes, talk.client.address, error, ask)),
                                    got.bytes),
                    "");
                EXPECT_EQ(ChecksumFaults(got.bytes), "");
                if (HasFailure()) return;
              }
            }
          }
        }
      }
    }
  }
}

// About the backend's packets, from the client.
TEST_F(PacketIcmp, ToTheBackend) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        for (const bool remote : {false, true}) {
          const Talk talk =
              Begin(family, protocol, forwarding, remote ? family.Pod(2, 5) : family.Pod(1, 12));
          for (const Error& error : ErrorsOf(family)) {
            for (const Form& form : kForms) {
              if (!(family.v6 ? form.v6 : form.v4) || (protocol == kUdp && !form.udp)) continue;
              SCOPED_TRACE(Kind(family, protocol, forwarding) + (remote ? " remote " : " ") +
                           error.name + " about " + form.name);
              Packet answered = talk.Answered(), answer = talk.Answer();
              form.change(answered);
              form.change(answer);
              const Result got = Expect(
                  forwarding ? kRedirect : kUnspec, {WAGGLE_REASON_ICMP_TRANSLATED},
                  {Program::kPodIn, host().pod1},
                  Build(ErrorOf(talk.client.address, talk.frontend.address, error, answered)));
              Packet expected = ErrorOf(talk.seen.address, talk.backend.address, error, answer);
              if (forwarding && remote) --expected.ttl;
              EXPECT_EQ(Difference(Build(expected), got.bytes), "");
              EXPECT_EQ(ChecksumFaults(got.bytes), "");
              if (HasFailure()) return;
            }
          }
        }
      }
    }
  }
}

// Whatever length is quoted, from 8 bytes of the layer-4 header on: odd ends, half checksums.
TEST_F(PacketIcmp, EveryLengthOfQuote) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      const Talk talk = Begin(family, protocol, WAGGLE_FORWARDING_STACK, family.Pod(1, 12));
      const size_t ip = family.v6 ? 40 : 20;
      Packet asked = talk.Asked(), ask = talk.Ask();
      asked.payload = ask.payload = Filled(45);
      for (size_t length = ip; length <= ip + 70; ++length) {
        for (const size_t padding : {0, 9}) {
          SCOPED_TRACE(Kind(family, protocol) + " " + std::to_string(length));
          Packet error =
              ErrorOf(family.NodeNet(10), talk.seen.address, TooBig(family), asked, length);
          error.padding = Filled(padding, 0xa0);
          const Bytes frame = Build(error);
          const bool enough = length >= ip + 8;
          std::vector<uint32_t> reasons;
          if (enough) reasons.push_back(WAGGLE_REASON_ICMP_TRANSLATED);
          const Result got = Expect(kUnspec, reasons, {Program::kPodOut, host().pod1}, frame);
          Packet expected =
              ErrorOf(family.NodeNet(10), talk.client.address, TooBig(family), ask, length);
          expected.padding = error.padding;
          // Half a checksum is none.
          if (protocol == kTcp && length == ip + 17) expected.payload.back() = error.payload.back();
          EXPECT_EQ(Difference(enough ? Build(expected) : frame, got.bytes), "");
        }
      }
    }
  }
}

// A super-packet of more than 64 KiB says no length, and so says who quotes it.
TEST_F(PacketIcmp, QuotesOfSuperPackets) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SCOPED_TRACE(Kind(family, protocol));
      const Talk talk = Begin(family, protocol, WAGGLE_FORWARDING_STACK, family.Pod(1, 12));
      const auto lengthless = [&](Packet error) {
        const size_t at = family.v6 ? 4 : 2;
        Put16(error.payload, at, 0);
        return error;
      };
      const Packet error =
          lengthless(ErrorOf(family.NodeNet(10), talk.seen.address, TooBig(family), talk.Asked()));
      const Result got = Expect(kUnspec, {WAGGLE_REASON_ICMP_TRANSLATED},
                                {Program::kPodOut, host().pod1}, Build(error));
      const View view = *Parse(got.bytes);
      EXPECT_EQ(view.dst, talk.client.address);
      EXPECT_EQ(GetAddress(got.bytes, view.l4 + 8 + (family.v6 ? 24 : 16), family.v6),
                talk.frontend.address);
    }
  }
}

// RFC 4884: more behind the quotation; and errors in other clothes.
TEST_F(PacketIcmp, OuterForms) {
  const struct {
    const char* name;
    void (*change)(Packet&);
    bool v4 = true, v6 = true;
  } forms[] = {
      {"something behind", [](Packet& p) { p.payload.resize(p.payload.size() + 31, 0x77); }},
      {"IPv4 options", [](Packet& p) { p.options = Bytes(8, 1); }, true, false},
      {"extension headers", [](Packet& p) { p.extensions = {{.type = kDestination}}; }, false},
      {"a tag", [](Packet& p) { p.tags = {9}; }},
      {"two tags",
       [](Packet& p) {
         p.tags = {9, 10};
       }},
      {"padding", [](Packet& p) { p.padding = Filled(20); }},
  };
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      const Talk talk = Begin(family, protocol, WAGGLE_FORWARDING_STACK, family.Pod(1, 12));
      for (const auto& form : forms) {
        if (!(family.v6 ? form.v6 : form.v4)) continue;
        SCOPED_TRACE(Kind(family, protocol) + " " + form.name);
        Packet error =
            ErrorOf(talk.backend.address, talk.seen.address, TooBig(family), talk.Asked());
        Packet expected =
            ErrorOf(talk.frontend.address, talk.client.address, TooBig(family), talk.Ask());
        form.change(error);
        form.change(expected);
        const Result got = Expect(kUnspec, {WAGGLE_REASON_ICMP_TRANSLATED},
                                  {Program::kPodOut, host().pod1}, Build(error));
        EXPECT_EQ(Difference(Build(expected), got.bytes), "");
      }
    }
  }
}

// A client that is its own backend gets errors about both of its faces.
TEST_F(PacketIcmp, Hairpin) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        SCOPED_TRACE(Kind(family, protocol, forwarding));
        Talk talk = Begin(family, protocol, forwarding, family.Pod(1, 11));
        talk.seen.address = talk.frontend.address;
        const Arrival arrival{Program::kPodIn, host().pod1};
        // The pod as backend refuses what it got.
        Result got = Expect(
            kRedirect, {WAGGLE_REASON_ICMP_TRANSLATED}, arrival,
            Build(ErrorOf(talk.backend.address, talk.seen.address, TooBig(family), talk.Asked())));
        EXPECT_EQ(Difference(Turned(Build(ErrorOf(talk.frontend.address, talk.client.address,
                                                  TooBig(family), talk.Ask()))),
                             got.bytes),
                  "");
        // The pod as client refuses the answer.
        got = Expect(kRedirect, {WAGGLE_REASON_ICMP_TRANSLATED}, arrival,
                     Build(ErrorOf(talk.client.address, talk.frontend.address, TooBig(family),
                                   talk.Answered())));
        EXPECT_EQ(Difference(Turned(Build(ErrorOf(talk.seen.address, talk.backend.address,
                                                  TooBig(family), talk.Answer()))),
                             got.bytes),
                  "");
      }
    }
  }
}

// A direct connection that had to take another source port has errors of its own.
TEST_F(PacketIcmp, ConnectionsThatSteppedAside) {
  for (const Family& family : kFamilies) {
    SCOPED_TRACE(family.name);
    const Talk service = Begin(family, kUdp, WAGGLE_FORWARDING_REDIRECT, family.Pod(1, 12));
    Talk direct = service;
    direct.frontend = service.backend;
    Send(Program::kPodIn, host().pod1, Build(direct.Ask()));
    direct.seen.port = static_cast<uint16_t>(Entry(direct.Forward())->new_src_port_be << 8 |
                                             Entry(direct.Forward())->new_src_port_be >> 8);
    ASSERT_NE(direct.seen.port, direct.client.port);
    for (const Talk& talk : {service, direct}) {
      const Result got = Send(
          Program::kPodOut, host().pod1,
          Build(ErrorOf(talk.backend.address, talk.seen.address, TooBig(family), talk.Asked())));
      EXPECT_EQ(Difference(Build(ErrorOf(talk.frontend.address, talk.client.address, TooBig(family),
                                         talk.Ask())),
                           got.bytes),
                "");
    }
  }
}

// In stack forwarding the stack carries the error to where it is undone; a flow that is
// redirected has its errors undone where its answers are.
TEST_F(PacketIcmp, OnlyAtThePlaceWhereAnswersAreUndone) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        SCOPED_TRACE(Kind(family, protocol, forwarding));
        const Talk talk = Begin(family, protocol, forwarding, family.Pod(1, 12));
        const Bytes to_client =
            Build(ErrorOf(talk.backend.address, talk.seen.address, TooBig(family), talk.Asked()));
        const Bytes to_backend = Build(
            ErrorOf(talk.client.address, talk.frontend.address, TooBig(family), talk.Answered()));
        const auto left_alone = [&](const Arrival& arrival, const Bytes& frame) {
          EXPECT_EQ(Difference(frame, Expect(kUnspec, {}, arrival, frame).bytes), "");
        };
        if (forwarding == WAGGLE_FORWARDING_STACK) {
          left_alone({Program::kPodIn, host().pod2}, to_client);
          left_alone({Program::kNetIn, host().eth0}, to_client);
        }
        left_alone({Program::kPodOut, host().pod1}, to_backend);
        left_alone({Program::kNetIn, host().eth0}, to_backend);
      }
    }
  }
}

// Messages that are about nothing of ours, or that only seem to be.
TEST_F(PacketIcmp, OtherMessagesAreLeftAlone) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        const Talk talk = Begin(family, protocol, forwarding, family.Pod(1, 12));
        const Error error = TooBig(family);
        const auto about = [&](const std::function<void(Packet&)>& change) {
          Packet asked = talk.Asked();
          change(asked);
          return ErrorOf(talk.backend.address, asked.src, error, asked);
        };
        const auto changed = [&](const std::function<void(Packet&)>& change) {
          Packet message = about([](Packet&) {});
          change(message);
          return message;
        };
        const std::vector<std::pair<const char*, Packet>> messages = {
            {"another source port", about([](Packet& p) { p.src_port = 1; })},
            {"another destination port", about([](Packet& p) { p.dst_port = 1; })},
            {"another source", about([&](Packet& p) { p.src = family.Pod(1, 99); })},
            {"another destination", about([&](Packet& p) { p.dst = family.Pod(1, 99); })},
            {"another protocol",
             about([&](Packet& p) { p.protocol = p.protocol == kTcp ? kUdp : kTcp; })},
            {"SCTP", about([&](Packet& p) { p.protocol = 132; })},
            {"an echo", about([&](Packet& p) { p.protocol = family.v6 ? kIcmpv6 : kIcmp; })},
            {"nothing", changed([](Packet& p) { p.payload.clear(); })},
            {"a packet of the other version", changed([](Packet& p) { p.payload[0] ^= 0x20; })},
            {"echo reply", changed([&](Packet& p) { p.icmp_type = family.v6 ? 129 : 0; })},
            {"redirect", changed([&](Packet& p) { p.icmp_type = family.v6 ? 137 : 5; })},
            {"source quench or a neighbour's advertisement",
             changed([&](Packet& p) { p.icmp_type = family.v6 ? 136 : 4; })},
            // It goes to somebody who did not send what is quoted.
            {"to somebody else", changed([&](Packet& p) { p.dst = family.Pod(1, 15); })},
            {"in pieces", changed([&](Packet& p) {
               if (family.v6) {
                 p.extensions = {{.type = kFragment, .more = true, .id = 5}};
               } else {
                 p.more = true;
               }
             })},
        };
        for (const auto& [name, message] : messages) {
          SCOPED_TRACE(Kind(family, protocol, forwarding) + " " + name);
          const Bytes frame = Build(message);
          for (const Arrival& arrival :
               {Arrival{Program::kPodOut, host().pod1}, Arrival{Program::kPodIn, host().pod2},
                Arrival{Program::kNetIn, host().eth0}}) {
            EXPECT_EQ(Difference(frame, Expect(kUnspec, {}, arrival, frame).bytes), "");
          }
        }
        // Later fragments have no ports.
        Packet asked = talk.Asked();
        asked.payload = Filled(100);
        const std::vector<Bytes> fragments = BuildFragments(asked, 48, 3);
        for (size_t i = 0; i < fragments.size(); ++i) {
          SCOPED_TRACE(Kind(family, protocol, forwarding) + " fragment " + std::to_string(i));
          Packet message = about([](Packet&) {});
          message.payload = Quote(fragments[i], 1000);
          const Result got = Send(Program::kPodOut, host().pod1, Build(message));
          EXPECT_EQ(Parse(got.bytes)->src, i == 0 ? talk.frontend.address : talk.backend.address);
        }
      }
    }
  }
}

// A sum that is wrong stays wrong, on each level.
TEST_F(PacketIcmp, WrongChecksumsStayWrong) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SCOPED_TRACE(Kind(family, protocol));
      const Talk talk = Begin(family, protocol, WAGGLE_FORWARDING_STACK, family.Pod(1, 12));
      const Bytes good =
          Build(ErrorOf(talk.backend.address, talk.seen.address, TooBig(family), talk.Asked()));
      const View view = *Parse(good);
      const size_t quoted = view.l4 + 8, l4 = quoted + (family.v6 ? 40 : 20);
      const auto spoil = [&](size_t at) {
        Bytes frame = good;
        frame[at] ^= 1;
        FixChecksums(frame);  // that of the message
        return Send(Program::kPodOut, host().pod1, frame).bytes;
      };
      EXPECT_EQ(ChecksumFaults(spoil(l4 + (protocol == kTcp ? 16 : 6))), "quoted layer 4; ");
      if (!family.v6) {
        EXPECT_EQ(ChecksumFaults(spoil(quoted + 10)), "quoted IPv4 header; ");
      }
      Bytes frame = good;
      frame[view.l4 + 2] ^= 1;
      const Result got = Send(Program::kPodOut, host().pod1, frame);
      EXPECT_EQ(ChecksumFaults(got.bytes), "layer 4; ");
    }
  }
}

}  // namespace
}  // namespace waggle::packet
