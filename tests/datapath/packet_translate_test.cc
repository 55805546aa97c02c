// Translation of packets: select, rewrite, undo; whatever their headers look like.
#include "tests/datapath/packet_fixture.h"

namespace waggle::packet {
namespace {

class PacketTranslate : public PacketTest {
 protected:
  // How a packet looks beside what the conversation says of it.
  struct Form {
    const char* name;
    std::function<void(Packet&)> change;
    bool v4 = true, v6 = true, tcp = true, udp = true;
    bool tagged = false;  // the tag stands beside the frame
    uint32_t gso_size = 0;
  };

  // The packet has become that of the other side of the translation, and is right.
  void ExpectIs(const Packet& expected, const Result& got) {
    EXPECT_EQ(DifferenceToPod(Build(expected), got.bytes), "");
    EXPECT_EQ(ChecksumFaults(got.bytes), "") << Describe(got.bytes);
  }

  // The first packets of a conversation of pod1 with pod2, all in this form.
  void Converse(const Talk& talk, const Form& form) {
    const bool redirect = model_.forwarding == WAGGLE_FORWARDING_REDIRECT && !form.tagged &&
                          Formed(talk.Ask(), form).tags.empty();
    const int verdict = redirect ? kRedirect : kUnspec;
    const Arrival ask{Program::kPodIn, host().pod1, form.gso_size, form.tagged};
    const Arrival answer = redirect
                               ? Arrival{Program::kPodIn, host().pod2, form.gso_size, form.tagged}
                               : Arrival{Program::kPodOut, host().pod1, form.gso_size, form.tagged};
    for (const uint8_t flags : {kSyn, kAck, uint8_t{kAck | kPsh}, uint8_t{kAck | kUrg}}) {
      const Result asked = Send(ask, Build(Formed(talk.Ask(flags), form)));
      EXPECT_EQ(asked.verdict, verdict);
      EXPECT_EQ(asked.gso_segments != 0, form.gso_size != 0);
      ExpectIs(Formed(talk.Asked(flags), form), asked);
      const auto back = static_cast<uint8_t>(flags | kAck);
      const Result answered = Send(answer, Build(Formed(talk.Answer(back), form)));
      EXPECT_EQ(answered.verdict, verdict);
      ExpectIs(Formed(talk.Answered(back), form), answered);
      if (HasFailure()) return;
    }
    EXPECT_TRUE(Established(talk.Forward()));
    EXPECT_TRUE(Established(talk.Reply()));
  }

  static Packet Formed(Packet packet, const Form& form) {
    form.change(packet);
    return packet;
  }
};

Extension Header(uint8_t type, uint8_t words = 0) {
  return {.type = type, .words = words};
}

TEST_F(PacketTranslate, EveryForm) {
  const auto option = [](size_t length) {
    return [length](Packet& packet) { packet.options = Bytes(length, 1); };
  };
  const auto payload = [](size_t length) {
    return [length](Packet& packet) { packet.payload = Filled(length, 7); };
  };
  const auto extensions = [](std::vector<Extension> all) {
    return [all](Packet& packet) { packet.extensions = all; };
  };
  std::vector<Form> forms = {
      {"plain", [](Packet&) {}},
      {"no payload", payload(0)},
      {"one byte", payload(1)},
      {"two bytes", payload(2)},
      {"odd payload", payload(1201)},
      {"padding", [](Packet& packet) { packet.padding = Filled(18, 0x80); }},
      {"padding that looks like a packet",
       [](Packet& packet) { packet.padding = Bytes(1000, 0x45); }},
      {"may be fragmented", [](Packet& packet) { packet.df = false; }, true, false},
      {"another class of service", [](Packet& packet) { packet.tos = 0xb9; }},
      {"last hop", [](Packet& packet) { packet.ttl = 1; }},
      {"no hop", [](Packet& packet) { packet.ttl = 0; }},
      {"most hops", [](Packet& packet) { packet.ttl = 255; }},
      {"TCP options", [](Packet& packet) { packet.tcp_options = Bytes(12, 1); }, true, true, true,
       false},
      {"all TCP options", [](Packet& packet) { packet.tcp_options = Bytes(40, 1); }, true, true,
       true, false},
      {"no UDP checksum", [](Packet& packet) { packet.no_checksum = true; }, true, false, false},
      {"hop-by-hop", extensions({Header(kHopByHop)}), false},
      {"long hop-by-hop", extensions({Header(kHopByHop, 30)}), false},
      {"destination options", extensions({Header(kDestination, 2)}), false},
      {"end of a route", extensions({Header(kRouting, 2)}), false},
      {"atomic fragment", extensions({Header(kFragment)}), false},
      {"all kinds of extension headers",
       extensions({Header(kHopByHop), Header(kDestination), Header(kRouting, 4), Header(kFragment),
                   Header(kDestination, 1)}),
       false},
      {"six extension headers", extensions(std::vector<Extension>(6, Header(kDestination))), false},
      {"one tag in the frame", [](Packet& packet) { packet.tags = {5}; }},
      {"two tags in the frame",
       [](Packet& packet) {
         packet.tags = {0x2005, 6};
       }},
      {.name = "a tag beside the frame", .change = [](Packet&) {}, .tagged = true},
      {.name = "a tag beside the frame, another in it",
       .change = [](Packet& packet) { packet.tags = {7}; },
       .tagged = true},
      {.name = "a super-packet", .change = payload(3000), .gso_size = 1400},
  };
  for (size_t length = 4; length <= 40; length += 4)
    forms.push_back({"IPv4 options", option(length), true, false});
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        for (const Form& form : forms) {
          if (!(family.v6 ? form.v6 : form.v4) || !(protocol == kTcp ? form.tcp : form.udp)) {
            continue;
          }
          SCOPED_TRACE(Kind(family, protocol, forwarding) + " " + form.name);
          Start(forwarding);
          Converse(AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(1, 12), 8080}),
                   form);
        }
      }
    }
  }
}

// Bytes that no code of ours has made: a SYN of Linux to 10.96.0.1:80, and the same to
// 10.244.1.12:8080. The sums were made by hand: what the words lose the sums win.
TEST_F(PacketTranslate, BytesFromElsewhere) {
  AddTalk(kFamilies[0], kTcp, {}, {kFamilies[0].Pod(1, 12), 8080});
  const Bytes before = {
      0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00,  //
      0x45, 0x00, 0x00, 0x28, 0xbe, 0xef, 0x40, 0x00, 0x40, 0x06,                          //
      0x65, 0x74,                                                                          //
      0x0a, 0xf4, 0x01, 0x0b, 0x0a, 0x60, 0x00, 0x01,                                      //
      0x9c, 0x40, 0x00, 0x50, 0x00, 0x00, 0x03, 0xe8, 0x00, 0x00, 0x00, 0x00, 0x50, 0x02,  //
      0xfa, 0xf0,                                                                          //
      0x00, 0x00,                                                                          //
      0x00, 0x00};
  Bytes sent = before;
  // Header: 4500 + 0028 + beef + 4000 + 4006 + 0af4 + 010b + 0a60 + 0001 = 19a7d -> 9a7e.
  Put16(sent, 24, 0xffff - 0x9a7e);
  // Segment: addresses 0af4 + 010b + 0a60 + 0001, 0006, 0014, 9c40 + 0050 + 03e8 + 5002 + faf0
  // = 201e4 -> 01e6.
  Put16(sent, 50, 0xffff - 0x01e6);
  ASSERT_EQ(ChecksumFaults(sent), "");
  const Result got = Send(Program::kPodIn, host().pod1, sent);
  Bytes expected = sent;
  const uint8_t backend[] = {0x0a, 0xf4, 0x01, 0x0c};
  std::copy(std::begin(backend), std::end(backend), expected.begin() + 30);
  Put16(expected, 36, 8080);
  // 0a60 + 0001 became 0af4 + 010c: 019f more, 9a7e becomes 9c1d.
  Put16(expected, 24, 0xffff - 0x9c1d);
  // 0050 became 1f90: 1f40 more as well, 01e6 becomes 22c5.
  Put16(expected, 50, 0xffff - 0x22c5);
  EXPECT_EQ(Difference(expected, got.bytes), "");
}

// The sums that are special: 0 stands for 'none' in UDP, and 0xffff for 0.
TEST_F(PacketTranslate, ChecksumsThatComeOutAsZero) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SCOPED_TRACE(Kind(family, protocol));
      Start(WAGGLE_FORWARDING_STACK);
      const Talk talk =
          AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(1, 12), 8080});
      const auto sum_of = [](const Bytes& frame) {
        const View view = *Parse(frame);
        return Get16(frame, view.l4 + (view.protocol == kTcp ? 16 : 6));
      };
      const uint16_t zero = protocol == kTcp ? 0 : 0xffff;
      // Every sum before, and so every sum after.
      int before = 0, after = 0;
      thorough_ = false;
      for (uint32_t word = 0; word <= 0xffff; ++word) {
        const auto with_word = [&](Packet packet) {
          packet.payload = {static_cast<uint8_t>(word >> 8), static_cast<uint8_t>(word)};
          return Build(packet);
        };
        const Bytes sent = with_word(talk.Ask(kSyn));
        const Bytes expected = with_word(talk.Asked(kSyn));
        before += sum_of(sent) == zero;
        after += sum_of(expected) == zero;
        if (sum_of(sent) != zero && sum_of(expected) != zero && word % 64 != 0) continue;
        EXPECT_EQ(Difference(expected, Send(Program::kPodIn, host().pod1, sent).bytes), "");
      }
      EXPECT_GE(before, 1);
      EXPECT_GE(after, 1);
      thorough_ = true;
      ExpectSameTables();
    }
  }
}

// A checksum that is wrong stays wrong: the receiver has to see it.
TEST_F(PacketTranslate, WrongChecksumsStayWrong) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SCOPED_TRACE(Kind(family, protocol));
      Start(WAGGLE_FORWARDING_STACK);
      const Talk talk =
          AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(1, 12), 8080});
      Bytes frame = Build(talk.Ask(kSyn));
      const size_t at = Parse(frame)->l4 + (protocol == kTcp ? 16 : 6);
      Put16(frame, at, static_cast<uint16_t>(Get16(frame, at) ^ 0x0101));
      EXPECT_EQ(ChecksumFaults(Send(Program::kPodIn, host().pod1, frame).bytes), "layer 4; ");
      if (family.v6) continue;
      frame = Build(talk.Ask(kSyn));
      frame[24] ^= 1;
      EXPECT_EQ(ChecksumFaults(Send(Program::kPodIn, host().pod1, frame).bytes), "IPv4 header; ");
    }
  }
}

// What is not ours leaves as it came, whatever stands in the tables.
TEST_F(PacketTranslate, OtherPacketsAreLeftAlone) {
  struct {
    const char* name;
    void (*change)(Packet&);
    bool v4 = true, v6 = true;
  } const cases[] = {
      {"another address", [](Packet& p) { p.dst = p.src; }},
      {"another port", [](Packet& p) { p.dst_port = 81; }},
      {"SCTP", [](Packet& p) { p.protocol = 132; }},
      {"ESP", [](Packet& p) { p.protocol = 50; }},
      {"authenticated", [](Packet& p) { p.protocol = 51; }},
      {"nothing follows", [](Packet& p) { p.protocol = kNoNext; }},
      {"the other family's ICMP",
       [](Packet& p) {
         p.protocol = p.dst.family() == net::Family::kIpv4 ? kIcmpv6 : kIcmp;
         p.icmp_type = 3;
       }},
      {"echo request",
       [](Packet& p) {
         const bool v4 = p.dst.family() == net::Family::kIpv4;
         p.protocol = v4 ? kIcmp : kIcmpv6;
         p.icmp_type = v4 ? 8 : 128;
       }},
      {"three tags",
       [](Packet& p) {
         p.tags = {1, 2, 3};
       }},
      {"a route that goes on",
       [](Packet& p) { p.extensions = {{.type = kRouting, .words = 2, .segments_left = 1}}; },
       false},
      {"seven extension headers", [](Packet& p) { p.extensions.assign(7, Header(kDestination)); },
       false},
      {"TCP header cut off",
       [](Packet& p) {
         p.headless = true;
         p.protocol = kTcp;
         p.payload = Bytes(19, 0x50);
       }},
      {"UDP header cut off",
       [](Packet& p) {
         p.headless = true;
         p.protocol = kUdp;
         p.payload = Bytes(7, 0x50);
       }},
  };
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        Start(forwarding);
        const Talk talk =
            AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(1, 12), 8080});
        Send(Program::kPodIn, host().pod1, Build(talk.Ask(kSyn)));
        for (const auto& c : cases) {
          if (!(family.v6 ? c.v6 : c.v4)) continue;
          SCOPED_TRACE(Kind(family, protocol, forwarding) + " " + c.name);
          for (const Packet& packet : {talk.Ask(kSyn), talk.Answer(kSyn | kAck)}) {
            Packet changed = packet;
            c.change(changed);
            const Bytes frame = Build(changed);
            for (const Program program : {Program::kPodIn, Program::kPodOut, Program::kNetIn}) {
              const Result got = Expect(kUnspec, {}, {program, host().pod1}, frame);
              EXPECT_EQ(DifferenceToPod(frame, got.bytes), "");
            }
          }
        }
      }
    }
  }
}

void PutMapped(Bytes& frame, size_t at, const net::Address& address) {
  std::copy(address.bytes().begin(), address.bytes().end(),
            frame.begin() + static_cast<ptrdiff_t>(at));
}

// Other kinds of frames, and headers that no receiver takes.
TEST_F(PacketTranslate, BrokenAndStrangeFramesAreLeftAlone) {
  for (const Family& family : kFamilies) {
    Start(WAGGLE_FORWARDING_REDIRECT);
    // A Service of IPv4, in either case.
    AddTalk(kFamilies[0], kTcp, {}, {kFamilies[0].Pod(1, 12), 8080}, family.v6 ? 1 : 2);
    const Talk talk = AddTalk(family, kTcp, {family.Pod(1, 11), 40000}, {family.Pod(1, 12), 8080});
    const Bytes good = Build(talk.Ask(kSyn));
    const auto with = [&](size_t at, uint8_t value) {
      Bytes frame = good;
      frame.at(at) = value;
      return frame;
    };
    std::vector<std::pair<const char*, Bytes>> frames = {
        {"ARP", with(13, 0x06)},
        {"LLDP", with(12, 0x88)},
        {"length instead of a type", with(12, 0x00)},
        {"the other version", with(14, family.v6 ? 0x45 : 0x60)},
        {"no version", with(14, 0x05)},
        {"longer than the frame", with(family.v6 ? 19 : 17, 0xff)},
        {"the other family's ethertype", family.v6 ? with(12, 0x08) : with(12, 0x86)},
        {"TCP header of 16 bytes", with(Parse(good)->l4 + 12, 0x40)},
        {"TCP header longer than the packet", with(Parse(good)->l4 + 12, 0x60)},
    };
    if (family.v6) {
      for (const size_t at : {22u, 38u}) {
        Bytes mapped = good;
        PutMapped(mapped, at, at == 22 ? kFamilies[0].Pod(1, 11) : kFamilies[0].Service(1));
        frames.push_back({"v4-mapped address", mapped});
      }
      Bytes mapped = good;
      PutMapped(mapped, 22, kFamilies[0].Pod(1, 11));
      PutMapped(mapped, 38, kFamilies[0].Service(1));
      frames.push_back({"two v4-mapped addresses", mapped});
    } else {
      frames.push_back({"IPv4 header of 16 bytes", with(14, 0x44)});
      frames.push_back({"IPv4 header longer than the packet", with(14, 0x4f)});
      frames.push_back({"total length shorter than the header", with(17, 19)});
    }
    for (const auto& [name, frame] : frames) {
      SCOPED_TRACE(std::string(family.name) + " " + name);
      const Result got = Expect(kUnspec, {}, {Program::kPodIn, host().pod1}, frame);
      EXPECT_EQ(DifferenceToPod(frame, got.bytes), "");
    }
  }
}

// Later fragments have no ports: they go where the first one went.
TEST_F(PacketTranslate, Fragments) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        SCOPED_TRACE(Kind(family, protocol, forwarding));
        Start(forwarding);
        const Talk talk =
            AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(1, 12), 8080});
        const bool redirect = forwarding == WAGGLE_FORWARDING_REDIRECT;
        const int verdict = redirect ? kRedirect : kUnspec;
        const auto in_pieces = [](Packet packet, uint32_t id) {
          packet.payload = Filled(3001);
          return BuildFragments(packet, 1200, id);
        };
        const auto expect = [&](const Arrival& arrival, const std::vector<Bytes>& sent,
                                const std::vector<Bytes>& expected) {
          ASSERT_EQ(sent.size(), expected.size());
          for (size_t i = 0; i < sent.size(); ++i) {
            const Result got =
                Expect(verdict,
                       Entry(talk.Forward()) ? std::vector<uint32_t>{}
                                             : std::vector<uint32_t>{WAGGLE_REASON_FLOW_TRANSLATED},
                       arrival, sent[i]);
            EXPECT_EQ(DifferenceToPod(expected[i], got.bytes), "");
          }
        };
        const Arrival ask{Program::kPodIn, host().pod1};
        const Arrival answer = redirect ? Arrival{Program::kPodIn, host().pod2}
                                        : Arrival{Program::kPodOut, host().pod1};
        expect(ask, in_pieces(talk.Ask(kSyn), 0x00abcdef), in_pieces(talk.Asked(kSyn), 0x00abcdef));
        expect(answer, in_pieces(talk.Answer(kSyn | kAck), 0x12345678),
               in_pieces(talk.Answered(kSyn | kAck), 0x12345678));
        // The same number from the other side, or of another datagram, is another one.
        expect(ask, in_pieces(talk.Ask(kAck), 0x12345678), in_pieces(talk.Asked(kAck), 0x12345678));

        // Without its first one nobody knows whose it is.
        for (const Arrival& arrival : {ask, answer}) {
          const std::vector<Bytes> lost = in_pieces(talk.Ask(), 99);
          // Counted where it might have been ours; other nodes send many that are not.
          std::vector<uint32_t> reasons;
          if (arrival.program == Program::kPodIn) reasons = {WAGGLE_REASON_FRAGMENT_UNKNOWN};
          for (size_t i = 1; i < lost.size(); ++i)
            EXPECT_EQ(Expect(kUnspec, reasons, arrival, lost[i]).bytes, lost[i]);
        }
        // Somebody else's are left alone.
        Packet other = talk.Ask();
        other.dst_port = 81;
        for (const Bytes& fragment : in_pieces(other, 100))
          EXPECT_EQ(Expect(kUnspec, {}, ask, fragment).bytes, fragment);
      }
    }
  }
}

// TRAPS 2, for the fragments' ports.
TEST_F(PacketTranslate, FragmentsWhoseTagDoesNotFit) {
  for (const Family& family : kFamilies) {
    SCOPED_TRACE(family.name);
    Start(WAGGLE_FORWARDING_STACK);
    const Talk talk = AddTalk(family, kUdp, {family.Pod(1, 11), 40000}, {family.Pod(1, 12), 8080});
    Packet packet = talk.Ask();
    packet.payload = Filled(100);
    const std::vector<Bytes> fragments = BuildFragments(packet, 48, 7);
    Send(Program::kPodIn, host().pod1, fragments[0]);
    SpoilFragments();
    model_.fragments.clear();
    EXPECT_EQ(Expect(kUnspec, {WAGGLE_REASON_FRAGMENT_UNKNOWN}, {Program::kPodIn, host().pod1},
                     fragments[1])
                  .bytes,
              fragments[1]);
  }
}

}  // namespace
}  // namespace waggle::packet
