// What is refused, and how: resets, ICMP errors, drops.
#include <sched.h>

#include <chrono>

#include "tests/datapath/packet_fixture.h"

namespace waggle::packet {
namespace {

class PacketRefusal : public PacketTest {
 protected:
  // A frontend without endpoints, and a client of it.
  Talk AddRefusing(const Family& family, uint8_t protocol, uint8_t fate = WAGGLE_FATE_REFUSE) {
    const net::Endpoint frontend{family.Service(1), 80};
    AddService({.frontend = frontend, .protocol = protocol, .fate = fate});
    const net::Endpoint client{family.Pod(1, 11), 40000};
    return {protocol, client, frontend, {}, client};
  }

  // What comes back to a sender by itself: the frame turned round.
  static Packet Turned(const Packet& packet) {
    Packet answer;
    answer.dst_mac = packet.src_mac;
    answer.src_mac = packet.dst_mac;
    answer.tags = packet.tags;
    answer.src = packet.dst;
    answer.dst = packet.src;
    return answer;
  }
  static Packet ResetTo(const Packet& packet, uint8_t flags, uint32_t seq, uint32_t ack) {
    Packet reset = Turned(packet);
    reset.tos = packet.tos;
    reset.id = packet.id;
    reset.df = packet.df;
    reset.options = Bytes(packet.options.size(), 1);
    reset.extensions = packet.extensions;
    reset.src_port = packet.dst_port;
    reset.dst_port = packet.src_port;
    reset.flags = flags;
    reset.seq = seq;
    reset.ack = ack;
    reset.window = 0;
    return reset;
  }
  // `mtu` 0: port unreachable; else fragmentation needed, packet too big.
  static Packet ErrorTo(const Packet& packet, uint32_t mtu) {
    const bool v6 = packet.dst.family() == net::Family::kIpv6;
    Packet error = Turned(packet);
    error.protocol = v6 ? kIcmpv6 : kIcmp;
    error.tos = v6 ? 0 : 0xc0;
    error.id = 0;
    error.df = false;
    error.icmp_type = v6 ? (mtu ? 2 : 1) : 3;
    error.icmp_code = mtu ? (v6 ? 0 : 4) : (v6 ? 4 : 3);
    error.icmp_rest = mtu;
    Packet quoted = packet;
    quoted.tags.clear();
    quoted.padding.clear();
    const Bytes frame = Build(quoted);
    error.payload = Quote(frame, Parse(frame)->l4 - 14 + (packet.protocol == kTcp ? 20 : 8));
    return error;
  }
};

struct Form {
  const char* name;
  void (*change)(Packet&);
  bool v4 = true, v6 = true;
};
const Form kForms[] = {
    {"plain", [](Packet&) {}},
    {"padding", [](Packet& p) { p.padding = Filled(30); }},
    {"IPv4 options", [](Packet& p) { p.options = Filled(12, 0x44); }, true, false},
    {"all IPv4 options", [](Packet& p) { p.options = Filled(40, 0x44); }, true, false},
    {"may be fragmented", [](Packet& p) { p.df = false; }, true, false},
    {"another class of service", [](Packet& p) { p.tos = 0x28; }},
    {"last hop", [](Packet& p) { p.ttl = 1; }},
    {"TCP options", [](Packet& p) { p.tcp_options = Bytes(20, 1); }},
    {"hop-by-hop",
     [](Packet& p) {
       p.extensions = {{.type = kHopByHop}, {.type = kDestination, .words = 2}};
     },
     false},
};

// RFC 9293, 3.5.2. Every SYN is answered so, and after the takeover each packet of a
// connection that nobody knows.
TEST_F(PacketRefusal, TcpGetsAReset) {
  struct {
    const char* name;
    uint8_t flags;
    uint32_t seq, ack;
    size_t payload;
    uint8_t expected;  // 0: dropped
    uint32_t expected_seq, expected_ack;
  } const cases[] = {
      {"SYN", kSyn, 1000, 0, 0, kRst | kAck, 0, 1001},
      {"SYN with data (fast open)", kSyn, 1000, 0, 300, kRst | kAck, 0, 1301},
      {"SYN at the end of numbers", kSyn, 0xffffffff, 0, 0, kRst | kAck, 0, 0},
      {"SYN and FIN", kSyn | kFin, 1000, 0, 3, kRst | kAck, 0, 1005},
      {"SYN and ECN", kSyn | 0x40 | 0x80, 1000, 0, 0, kRst | kAck, 0, 1001},
      {"SYN-ACK", kSyn | kAck, 1000, 777, 0, kRst, 777, 0},
      {"ACK", kAck, 1000, 777, 0, kRst, 777, 0},
      {"data", kAck | kPsh, 1000, 777, 99, kRst, 777, 0},
      {"FIN", kFin | kAck, 1000, 777, 0, kRst, 777, 0},
      {"FIN without ACK", kFin, 1000, 777, 0, kRst | kAck, 0, 1001},
      {"no flag at all", 0, 1000, 777, 5, kRst | kAck, 0, 1005},
      {"RST", kRst, 1000, 777, 0, 0, 0, 0},
      {"RST-ACK", kRst | kAck, 1000, 777, 0, 0, 0, 0},
      {"SYN and RST", kSyn | kRst, 1000, 777, 0, 0, 0, 0},
  };
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      Start(forwarding);
      SetLostFlowsPass(false);
      const Talk talk = AddRefusing(family, kTcp);
      for (const auto& c : cases) {
        for (const Form& form : kForms) {
          for (const std::vector<uint16_t>& tags : {std::vector<uint16_t>{}, {5}, {5, 6}}) {
            if (!(family.v6 ? form.v6 : form.v4)) continue;
            SCOPED_TRACE(Kind(family, kTcp, forwarding) + " " + c.name + " " + form.name + " " +
                         std::to_string(tags.size()) + " tags");
            Packet packet = talk.Ask(c.flags);
            packet.seq = c.seq;
            packet.ack = c.ack;
            packet.payload = Filled(c.payload);
            packet.tags = tags;
            form.change(packet);
            const bool syn = (c.flags & (kSyn | kAck)) == kSyn;
            // A reset is nobody's loss.
            std::vector<uint32_t> reasons;
            if (syn) reasons = {WAGGLE_REASON_PACKET_REFUSED};
            if (!syn && !(c.flags & kRst)) reasons = {WAGGLE_REASON_LOST_FLOW_REFUSED};
            const Result got =
                Expect(c.expected ? kRedirect : kShot, reasons,
                       {Program::kPodIn, host().pod1, 0, tags.size() == 1}, Build(packet));
            if (!c.expected) continue;
            const Packet expected = ResetTo(packet, c.expected, c.expected_seq, c.expected_ack);
            EXPECT_EQ(Difference(Build(expected), got.bytes), "");
            EXPECT_EQ(ChecksumFaults(got.bytes), "");
          }
        }
      }
    }
  }
}

TEST_F(PacketRefusal, UdpGetsPortUnreachable) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      Start(forwarding);
      const Talk talk = AddRefusing(family, kUdp);
      for (const Form& form : kForms) {
        for (const size_t payload : {size_t{0}, size_t{1}, size_t{8}, size_t{1400}}) {
          for (const bool tagged : {false, true}) {
            for (const bool no_checksum : {false, true}) {
              if (!(family.v6 ? form.v6 : form.v4) || (family.v6 && no_checksum)) continue;
              SCOPED_TRACE(Kind(family, kUdp, forwarding) + " " + form.name + " " +
                           std::to_string(payload) + " bytes" + (tagged ? " tagged" : ""));
              Packet packet = talk.Ask();
              packet.payload = Filled(payload);
              packet.no_checksum = no_checksum;
              form.change(packet);
              const Result got = Expect(kRedirect, {WAGGLE_REASON_PACKET_REFUSED},
                                        {Program::kPodIn, host().pod1, 0, tagged}, Build(packet));
              EXPECT_EQ(Difference(Build(ErrorTo(packet, 0)), got.bytes), "");
              EXPECT_EQ(ChecksumFaults(got.bytes), "");
            }
          }
        }
      }
      FillIcmpBudget(WAGGLE_ICMP_BURST);
    }
  }
}

// What has no room for its answer is dropped, and counted.
TEST_F(PacketRefusal, ErrorsThatCannotBeBuilt) {
  for (const Family& family : kFamilies) {
    SCOPED_TRACE(family.name);
    Start(WAGGLE_FORWARDING_REDIRECT);
    const Talk talk = AddRefusing(family, kUdp);
    Packet packet = talk.Ask();
    packet.tags = {5};  // in the frame: the kernel makes no room behind it
    Expect(kShot, {WAGGLE_REASON_PACKET_REFUSED, WAGGLE_REASON_REPLY_NOT_BUILT},
           {Program::kPodIn, host().pod1}, Build(packet));
    if (!family.v6) continue;
    packet = talk.Ask();
    packet.extensions = {{.type = kDestination, .words = 9}};  // 40 + 80 + 8: as much as is quoted
    Expect(kRedirect, {WAGGLE_REASON_PACKET_REFUSED}, {Program::kPodIn, host().pod1},
           Build(packet));
    packet.extensions[0].words = 10;
    Expect(kShot, {WAGGLE_REASON_PACKET_REFUSED, WAGGLE_REASON_REPLY_NOT_BUILT},
           {Program::kPodIn, host().pod1}, Build(packet));
  }
}

// RFC 1122, 3.2.2: of a fragmented datagram the first fragment is answered. A reset is never
// a fragment.
TEST_F(PacketRefusal, Fragments) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SCOPED_TRACE(Kind(family, protocol));
      Start(WAGGLE_FORWARDING_STACK);
      SetLostFlowsPass(false);
      const Talk talk = AddRefusing(family, protocol);
      for (const uint8_t flags : {kSyn, kAck}) {
        Packet packet = talk.Ask(flags);
        packet.payload = Filled(100);
        uint32_t id = 700u + flags;
        bool first = true;
        for (const Bytes& fragment : BuildFragments(packet, 48, id)) {
          const Result got = Send(Program::kPodIn, host().pod1, fragment);
          EXPECT_EQ(got.verdict, first && protocol == kUdp ? kRedirect : kShot);
          if (got.verdict == kRedirect) {
            EXPECT_EQ(ChecksumFaults(got.bytes), "");
            EXPECT_FALSE(Parse(got.bytes)->fragment);
          }
          first = false;
        }
      }
    }
  }
}

// internetTrafficPolicy: Local without a local endpoint.
TEST_F(PacketRefusal, LocalPolicyDrops) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SCOPED_TRACE(Kind(family, protocol));
      Start(WAGGLE_FORWARDING_REDIRECT);
      const Talk talk = AddRefusing(family, protocol, WAGGLE_FATE_DROP);
      Expect(kShot, {WAGGLE_REASON_PACKET_NO_LOCAL}, {Program::kPodIn, host().pod1},
             Build(talk.Ask(kSyn)));
    }
  }
}

// A list that is not in force: the frontend is none.
TEST_F(PacketRefusal, ListsThatAreNotInForce) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SCOPED_TRACE(Kind(family, protocol));
      Start(WAGGLE_FORWARDING_REDIRECT);
      Talk talk = AddRefusing(family, protocol, WAGGLE_FATE_NONE);
      const Bytes packet = Build(talk.Ask(kSyn));
      EXPECT_EQ(
          Expect(kUnspec, {WAGGLE_REASON_DANGLING_SLOT}, {Program::kPodIn, host().pod1}, packet)
              .bytes,
          packet);
    }
  }
}

// TRAPS 18: right after the takeover such packets are kube-proxy's, later nobody's.
TEST_F(PacketRefusal, LostFlowsPassForATime) {
  for (const Family& family : kFamilies) {
    for (const uint8_t fate : {WAGGLE_FATE_FORWARD, WAGGLE_FATE_REFUSE, WAGGLE_FATE_DROP}) {
      SCOPED_TRACE(std::string(family.name) + " fate " + std::to_string(fate));
      Start(WAGGLE_FORWARDING_REDIRECT);
      const net::Endpoint frontend{family.Service(1), 80};
      std::vector<net::Endpoint> backends;
      if (fate == WAGGLE_FATE_FORWARD) backends.push_back({family.Pod(1, 12), 8080});
      AddService({.frontend = frontend, .fate = fate, .backends = backends});
      const net::Endpoint client{family.Pod(1, 11), 40000};
      const Talk talk{kTcp, client, frontend, {}, client};
      const Arrival arrival{Program::kPodIn, host().pod1};
      for (const uint8_t flags :
           {uint8_t{kAck}, uint8_t{kAck | kFin}, uint8_t{kSyn | kAck}, kRst, uint8_t{0}}) {
        SCOPED_TRACE("flags " + std::to_string(flags));
        const Bytes packet = Build(talk.Ask(flags));
        for (const uint64_t until : {uint64_t{0}, ~uint64_t{0} / 2}) {
          model_.lost_flows_pass = true;
          SetLostFlowsPassUntil(until);
          EXPECT_EQ(Expect(kUnspec, {WAGGLE_REASON_LOST_FLOW_PASSED}, arrival, packet).bytes,
                    packet);
        }
        model_.lost_flows_pass = false;
        SetLostFlowsPassUntil(1);
        std::vector<uint32_t> reasons;
        if (!(flags & kRst)) reasons = {WAGGLE_REASON_LOST_FLOW_REFUSED};
        Expect(flags & kRst ? kShot : kRedirect, reasons, arrival, packet);
      }
    }
  }
}

// As the kernel limits its own errors. Resets are not: they are no louder than what they
// answer.
TEST_F(PacketRefusal, ErrorsAreRateLimited) {
  for (const uint64_t tokens : {uint64_t{5}, uint64_t{WAGGLE_ICMP_BURST}}) {
    Start(WAGGLE_FORWARDING_STACK);
    const Talk udp = AddRefusing(kFamilies[0], kUdp);
    const Bytes packet = Build(udp.Ask());
    const auto start = std::chrono::steady_clock::now();
    // Long ago: no more than a burst is saved up.
    FillIcmpBudget(tokens, tokens == 5 ? 0 : 3'600'000'000'000);
    constexpr uint64_t kPackets = 5000;
    const auto reasons = datapath().Reasons();
    uint64_t sent = 0;
    for (uint64_t i = 0; i < kPackets; ++i)
      sent += datapath().Run({Program::kPodIn, host().pod1}, packet).verdict == kRedirect;
    const auto ms = static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                              std::chrono::steady_clock::now() - start)
                                              .count());
    EXPECT_GE(sent, tokens);
    constexpr uint64_t kTickMs = 10;  // of the clock that the programs read
    EXPECT_LE(sent, tokens + (ms + kTickMs + 1) * WAGGLE_ICMP_PER_S / 1000);
    EXPECT_LT(sent, kPackets);
    auto expected = reasons;
    expected[WAGGLE_REASON_PACKET_REFUSED] += kPackets;
    expected[WAGGLE_REASON_ICMP_RATE_LIMITED] += kPackets - sent;
    EXPECT_EQ(datapath().Reasons(), expected);

    const Talk tcp = AddRefusing(kFamilies[0], kTcp);
    for (int i = 0; i < 10; ++i)
      Expect(kRedirect, {WAGGLE_REASON_PACKET_REFUSED}, {Program::kPodIn, host().pod1},
             Build(tcp.Ask(kSyn)));
  }
}

// The path is asked for its MTU where the stack does not do it: TRAPS 11.
TEST_F(PacketRefusal, TooBigForTheWay) {
  struct {
    const char* name;
    net::Address (*backend)(const Family&);
    uint32_t mtu;
  } const ways[] = {
      {"pod with a small device", [](const Family& f) { return f.Pod(1, 15); }, 1300},
      {"small route", [](const Family& f) { return f.Pod(4, 5); }, 1400},
      {"tunnel", [](const Family& f) { return f.Pod(3, 5); }, 1450},
      {"plain route", [](const Family& f) { return f.Pod(2, 5); }, 1500},
  };
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      for (const auto& way : ways) {
        for (const bool df : {true, false}) {
          for (const size_t options : {0, 12}) {
            if (family.v6 && (!df || options)) continue;
            Start(WAGGLE_FORWARDING_REDIRECT);
            const Talk talk =
                AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {way.backend(family), 8080});
            Send(Program::kPodIn, host().pod1, Build(talk.Ask(kSyn)));
            const size_t headers =
                (family.v6 ? 40u : 20u) + options + (protocol == kTcp ? 20u : 8u);
            for (const size_t size : {way.mtu - 1u, way.mtu + 0u, way.mtu + 1u, 2000u}) {
              SCOPED_TRACE(Kind(family, protocol) + " " + way.name + (df ? " DF " : " ") +
                           std::to_string(size));
              Packet packet = talk.Ask();
              packet.df = df;
              packet.options = Bytes(options, 1);
              packet.payload = Filled(size - headers);
              packet.padding = Filled(10);  // counts for nothing
              const bool fits = size <= way.mtu;
              std::vector<uint32_t> reasons;
              if (!fits && df) reasons.push_back(WAGGLE_REASON_PACKET_TOO_BIG);
              const Result got = Expect(fits || df ? kRedirect : kUnspec, reasons,
                                        {Program::kPodIn, host().pod1}, Build(packet));
              Packet expected = talk.Asked();
              expected.df = df;
              expected.options = packet.options;
              expected.payload = packet.payload;
              expected.padding = packet.padding;
              if (fits && way.mtu != 1300) --expected.ttl;
              if (!fits && df) expected = ErrorTo(packet, way.mtu);
              EXPECT_EQ(DifferenceToPod(Build(expected), got.bytes), "");
              EXPECT_EQ(ChecksumFaults(got.bytes), "");
            }
          }
        }
      }
    }
  }
}

// Of a super-packet each segment has to fit.
TEST_F(PacketRefusal, SegmentsTooBigForTheWay) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      for (const uint32_t options : {0u, 12u}) {
        if (protocol == kUdp && options) continue;
        Start(WAGGLE_FORWARDING_REDIRECT);
        const Talk talk =
            AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(4, 5), 8080});
        Send(Program::kPodIn, host().pod1, Build(talk.Ask(kSyn)));
        const uint32_t headers = (family.v6 ? 40u : 20u) + (protocol == kTcp ? 20u : 8u) + options;
        for (const uint32_t size : {1399u, 1400u, 1401u}) {
          SCOPED_TRACE(Kind(family, protocol) + " segments of " + std::to_string(size));
          Packet packet = talk.Ask();
          packet.tcp_options = Bytes(options, 1);
          packet.payload = Filled(3000);
          const bool fits = size <= 1400;
          std::vector<uint32_t> reasons;
          if (!fits) reasons.push_back(WAGGLE_REASON_PACKET_TOO_BIG);
          const Result got = Expect(kRedirect, reasons,
                                    {Program::kPodIn, host().pod1, size - headers}, Build(packet));
          EXPECT_EQ(Parse(got.bytes)->protocol, fits ? protocol : family.v6 ? kIcmpv6 : kIcmp);
          EXPECT_EQ(got.gso_segments != 0, fits) << "an error is one packet";
        }
      }
    }
  }
}

// Answers to a client behind a small device are measured as well.
TEST_F(PacketRefusal, AnswersTooBigForTheClient) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      for (const bool bridged : {false, true}) {
        Start(WAGGLE_FORWARDING_REDIRECT);
        const Talk talk = AddTalk(family, protocol, {family.Pod(1, 15), 40000},
                                  {bridged ? family.Bridged(14) : family.Pod(1, 12), 8080});
        Send(Program::kPodIn, host().pod5, Build(talk.Ask(kSyn)));
        const uint32_t from = bridged ? host().pod4 : host().pod2;
        const size_t headers = (family.v6 ? 40u : 20u) + (protocol == kTcp ? 20u : 8u);
        for (const bool df : {true, false}) {
          for (const size_t size : {1300u, 1301u}) {
            if (family.v6 && !df) continue;
            SCOPED_TRACE(Kind(family, protocol) + (df ? " DF " : " ") + std::to_string(size) +
                         (bridged ? " bridged" : ""));
            Packet packet = talk.Answer();
            packet.df = df;
            packet.payload = Filled(size - headers);
            const bool fits = size <= 1300;
            std::vector<uint32_t> reasons;
            if (!fits && df) reasons.push_back(WAGGLE_REASON_PACKET_TOO_BIG);
            const Bytes frame = Build(packet);
            const Result got =
                Expect(fits || df ? kRedirect : kUnspec, reasons, {Program::kPodIn, from}, frame);
            Packet expected = fits ? talk.Answered() : packet;
            expected.df = df;
            expected.payload = packet.payload;
            if (!fits && df) expected = ErrorTo(packet, 1300);
            Bytes bytes = Build(expected);
            if (!fits && !df) {
              // The stack cuts it into pieces; undone where they leave for the client, as it
              // does not accept the Service's address on the backend's device (rp_filter).
              std::copy_n(bridged ? host().devices.at(from).bridge_mac : frame.data(), 6,
                          bytes.begin());
              Packet part = packet;
              for (const Bytes& piece : BuildFragments(part, 1280, 77)) {
                const Result out = Send(Program::kPodOut, host().pod5, piece);
                EXPECT_EQ(Parse(out.bytes)->src, talk.frontend.address);
              }
            }
            EXPECT_EQ(DifferenceToPod(bytes, got.bytes), "");
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace waggle::packet
