// The life of a flow: half open, established, closed, idle, moved, forgotten.
#include "tests/datapath/packet_flow_fixture.h"

namespace waggle::packet {
namespace {

// TRAPS 3: only what a client has shown to be there may stand where nothing is evicted.
TEST_F(PacketFlow, TcpStates) {
  struct {
    const char* name;
    std::vector<Step> steps;
    uint8_t state;
    bool established;
  } const cases[] = {
      {"SYN", {{kClient, kSyn}}, 0, false},
      {"SYN twice", {{kClient, kSyn}, {kClient, kSyn}}, 0, false},
      {"ACK before any answer", {{kClient, kSyn}, {kClient, kAck}}, 0, false},
      {"SYN-ACK", {{kClient, kSyn}, {kBackend, kSyn | kAck}}, kReplied, false},
      {"SYN again after the SYN-ACK",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kSyn}},
       kReplied,
       false},
      {"handshake",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck}},
       kReplied | kAssured,
       true},
      {"handshake, first ACK lost",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck | kPsh, 5}},
       kReplied | kAssured,
       true},
      {"SYN-ACK sent again",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kBackend, kSyn | kAck}, {kClient, kAck}},
       kReplied | kAssured,
       true},
      {"ACK of nothing",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck, 0}},
       kReplied,
       false},
      {"ACK of something long ago",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck, -1000}},
       kReplied,
       false},
      {"ACK of what nobody can have sent yet",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck, 1 << 30}},
       kReplied,
       false},
      {"no ACK", {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, 0}}, kReplied, false},
      {"refused by the backend", {{kClient, kSyn}, {kBackend, kRst | kAck}}, kReset, false},
      {"refused, and an ACK on its way",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kBackend, kRst}, {kClient, kAck}},
       kReplied | kReset,
       false},
      {"refused, and the client's data a while later",
       {{kClient, kSyn},
        {kBackend, kSyn | kAck},
        {kClient, kAck},
        {kBackend, kRst},
        {kClient, kAck, 1, 2}},
       kReplied | kAssured | kReset,
       false},
      {"reset by somebody whom the client does not believe",
       {{kClient, kSyn},
        {kBackend, kSyn | kAck},
        {kClient, kAck},
        {kBackend, kRst},
        {kClient, kAck},
        {kBackend, kAck},
        {kClient, kAck, 1, 2}},
       kReplied | kAssured,
       true},
      {"reset in the client's name",
       {{kClient, kSyn},
        {kBackend, kSyn | kAck},
        {kClient, kAck},
        {kClient, kRst},
        {kClient, kAck, 1, 2}},
       kReplied | kAssured,
       true},
      {"client's FIN",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck}, {kClient, kFin | kAck}},
       kReplied | kAssured | kClientFin,
       true},
      {"client's FIN, again and again",
       {{kClient, kSyn},
        {kBackend, kSyn | kAck},
        {kClient, kAck},
        {kClient, kFin | kAck},
        {kClient, kFin | kAck},
        {kBackend, kAck}},
       kReplied | kAssured | kClientFin,
       true},
      {"backend's FIN",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck}, {kBackend, kFin | kAck}},
       kReplied | kAssured | kServerFin,
       true},
      {"both FINs, the client's first",
       {{kClient, kSyn},
        {kBackend, kSyn | kAck},
        {kClient, kAck},
        {kClient, kFin | kAck},
        {kBackend, kFin | kAck},
        {kClient, kAck}},
       kReplied | kAssured | kClientFin | kServerFin,
       true},
      {"both FINs, the backend's first",
       {{kClient, kSyn},
        {kBackend, kSyn | kAck},
        {kClient, kAck},
        {kBackend, kFin | kAck},
        {kClient, kFin | kAck},
        {kBackend, kAck}},
       kReplied | kAssured | kClientFin | kServerFin,
       true},
      {"client's RST",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck}, {kClient, kRst}},
       kReplied | kAssured | kReset,
       false},
      {"backend's RST",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck}, {kBackend, kRst}},
       kReplied | kAssured | kReset,
       false},
      {"both FINs, each acknowledged",
       {{kClient, kSyn},
        {kBackend, kSyn | kAck},
        {kClient, kAck},
        {kClient, kFin | kAck},
        {kBackend, kFin | kAck, kAll},
        {kClient, kAck, kAll}},
       kReplied | kAssured | kClientFin | kServerFin | kAckedFin,
       true},
      {"both FINs at once, each acknowledged",
       {{kClient, kSyn},
        {kBackend, kSyn | kAck},
        {kClient, kAck},
        {kClient, kFin | kAck},
        {kBackend, kFin | kAck},
        {kClient, kAck, kAll},
        {kBackend, kAck, kAll}},
       kReplied | kAssured | kClientFin | kServerFin | kAckedFin,
       true},
      {"all in one: SYN, SYN-ACK, FIN",
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kFin | kAck}},
       kReplied | kAssured | kClientFin,
       true},
  };
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const auto& c : cases) {
        SCOPED_TRACE(Kind(family, kTcp, forwarding) + " " + c.name);
        Start(forwarding);
        const Talk talk = AddPodTalk(family, kTcp);
        for (const Step& step : c.steps) {
          Packet packet = step.client ? talk.Ask(step.flags) : talk.Answer(step.flags);
          if (step.flags & kAck) {
            packet.ack = (step.client ? Talk::kServerIsn : Talk::kClientIsn) +
                         static_cast<uint32_t>(step.ack);
          }
          if (step.after != 0) Age(step.after);
          // Also what is refused and closed is translated.
          const Result got = step.client ? FromClient(packet) : FromBackend(packet);
          EXPECT_EQ(Parse(got.bytes)->src,
                    step.client ? talk.client.address : talk.frontend.address);
        }
        EXPECT_EQ(StateOf(talk), c.state);
        EXPECT_EQ(Established(talk.Forward()), c.established);
        EXPECT_EQ(Established(talk.Reply()), c.established);
      }
    }
  }
}

// A handshake whose numbers go round.
TEST_F(PacketFlow, NumbersGoRound) {
  for (const Family& family : kFamilies) {
    Start(WAGGLE_FORWARDING_STACK);
    const Talk talk = AddPodTalk(family, kTcp);
    Packet packet = talk.Ask(kSyn);
    packet.seq = 0xffffffff;
    FromClient(packet);
    Packet answer = talk.Answer(kSyn | kAck);
    answer.seq = 0xffffffff;
    answer.ack = 0;
    FromBackend(answer);
    packet.flags = kAck;
    packet.seq = 0;
    packet.ack = 0;
    FromClient(packet);
    EXPECT_TRUE(Established(talk.Forward())) << family.name;
  }
}

// The LRU evicts one entry at a time. Without the other one the client would never hear an answer.
TEST_F(PacketFlow, UdpWithoutItsAnswersBeginsAnew) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      SCOPED_TRACE(Kind(family, kUdp, forwarding));
      Start(forwarding);
      const Talk talk = AddPodTalk(family, kUdp);
      FromClient(talk.Ask());
      RemoveEntry(talk.Reply());
      model_.entries.erase(talk.Reply());
      Expect(forwarding ? kRedirect : kUnspec, {WAGGLE_REASON_UDP_FLOW_MOVED},
             {Program::kPodIn, host().pod1}, Build(talk.Ask()));
      EXPECT_EQ(DifferenceToPod(Build(talk.Answered()), FromBackend(talk.Answer()).bytes), "");
    }
  }
}

TEST_F(PacketFlow, UdpStates) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      SCOPED_TRACE(Kind(family, kUdp, forwarding));
      Start(forwarding);
      const Talk talk = AddPodTalk(family, kUdp);
      FromClient(talk.Ask());
      FromClient(talk.Ask());
      EXPECT_EQ(StateOf(talk), 0);
      FromBackend(talk.Answer());
      FromBackend(talk.Answer());
      EXPECT_EQ(StateOf(talk), kReplied);
      EXPECT_FALSE(Established(talk.Forward()));
      FromClient(talk.Ask());
      EXPECT_EQ(StateOf(talk), kReplied | kAssured);
      EXPECT_TRUE(Established(talk.Forward()));
      EXPECT_TRUE(Established(talk.Reply()));
    }
  }
}

// The packets of either direction keep both alive.
TEST_F(PacketFlow, EitherDirectionIsASignOfLife) {
  struct {
    const char* name;
    uint8_t protocol;
    std::vector<Step> steps;
    double seconds;
  } const cases[] = {
      {"established",
       kTcp,
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck}},
       5 * 24 * 3600},
      {"half closed",
       kTcp,
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck}, {kClient, kFin | kAck}},
       120},
      {"conversation", kUdp, {{kClient, 0}, {kBackend, 0}, {kClient, 0}}, 120},
  };
  for (const Family& family : kFamilies) {
    for (const auto& c : cases) {
      for (const bool by_client : {true, false}) {
        SCOPED_TRACE(std::string(family.name) + " " + c.name +
                     (by_client ? " client" : " backend"));
        Start(WAGGLE_FORWARDING_STACK);
        const Talk talk = AddPodTalk(family, c.protocol);
        for (const Step& step : c.steps)
          step.client ? FromClient(talk.Ask(step.flags)) : FromBackend(talk.Answer(step.flags));
        for (int i = 0; i < 3; ++i) {
          Age(c.seconds - 3);
          by_client ? FromClient(talk.Ask(kAck)) : FromBackend(talk.Answer(kAck));
        }
        Age(c.seconds - 3);
        // The other one.
        const Result got = by_client ? FromBackend(talk.Answer(kAck)) : FromClient(talk.Ask(kAck));
        EXPECT_EQ(Parse(got.bytes)->src, by_client ? talk.frontend.address : talk.client.address);
        EXPECT_TRUE(Entry(talk.Forward()));
        // Nobody.
        Age(c.seconds + 1);
        const Bytes answer = Build(talk.Answer(kAck));
        EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodOut, host().pod1}, answer).bytes, answer);
        EXPECT_FALSE(Entry(talk.Forward()));
        EXPECT_FALSE(Entry(talk.Reply()));
      }
    }
  }
}

// conntrack's lifetimes: a moment less, and a moment more.
TEST_F(PacketFlow, Lifetimes) {
  struct {
    const char* name;
    uint8_t protocol;
    std::vector<Step> steps;
    double seconds;
  } const cases[] = {
      {"SYN sent", kTcp, {{kClient, kSyn}}, 120},
      {"SYN answered", kTcp, {{kClient, kSyn}, {kBackend, kSyn | kAck}}, 60},
      {"established",
       kTcp,
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck}},
       5 * 24 * 3600},
      {"half closed by the client",
       kTcp,
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck}, {kClient, kFin | kAck}},
       120},
      {"half closed by the backend",
       kTcp,
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck}, {kBackend, kFin | kAck}},
       120},
      {"refused", kTcp, {{kClient, kSyn}, {kBackend, kRst | kAck}}, 10},
      {"given up", kTcp, {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kRst}}, 10},
      {"reset, which its ends may not believe: by the backend",
       kTcp,
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck}, {kBackend, kRst}},
       5 * 24 * 3600},
      {"reset, which its ends may not believe: by the client",
       kTcp,
       {{kClient, kSyn}, {kBackend, kSyn | kAck}, {kClient, kAck}, {kClient, kRst}},
       5 * 24 * 3600},
      {"datagram and answer", kUdp, {{kClient, 0}, {kBackend, 0}}, 30},
      {"conversation", kUdp, {{kClient, 0}, {kBackend, 0}, {kClient, 0}}, 120},
  };
  for (const Family& family : kFamilies) {
    for (const auto& c : cases) {
      for (const bool alive : {true, false}) {
        SCOPED_TRACE(std::string(family.name) + " " + c.name + (alive ? "" : ", too late"));
        Start(WAGGLE_FORWARDING_STACK);
        const Talk talk = AddPodTalk(family, c.protocol);
        for (const Step& step : c.steps)
          step.client ? FromClient(talk.Ask(step.flags)) : FromBackend(talk.Answer(step.flags));
        Age(alive ? c.seconds - 3 : c.seconds + 1);
        const Result got = FromBackend(talk.Answer(kAck));
        EXPECT_EQ(Parse(got.bytes)->src == talk.frontend.address, alive);
        EXPECT_EQ(Entry(talk.Reply()).has_value(), alive);
      }
    }
  }
}

// A SYN with the number of the one before is sent again; with another it is a new connection,
// which may go to another backend. TRAPS: reused ports.
TEST_F(PacketFlow, AnotherFirstNumberIsAnotherConnection) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      SCOPED_TRACE(Kind(family, kTcp, forwarding));
      Start(forwarding);
      const Talk talk = AddPodTalk(family, kTcp);
      Establish(talk);
      Expect(forwarding ? kRedirect : kUnspec, {}, {Program::kPodIn, host().pod1},
             Build(talk.Ask(kSyn)));
      EXPECT_TRUE(Established(talk.Forward())) << "a SYN of before";

      const net::Endpoint other{family.Pod(1, 15), 8080};
      SetList(1, WAGGLE_FATE_FORWARD, {other});
      Packet syn = talk.Ask(kSyn);
      syn.seq = 77;
      Expect(forwarding ? kRedirect : kUnspec, {WAGGLE_REASON_FLOW_TRANSLATED},
             {Program::kPodIn, host().pod1}, Build(syn));
      EXPECT_FALSE(Entry(talk.Reply())) << "the old backend's answers are nobody's";
      EXPECT_EQ(Entry(talk.Forward())->isn, 77u);
      EXPECT_FALSE(Established(talk.Forward()));

      SetList(1, WAGGLE_FATE_REFUSE, {});
      syn.seq = 78;
      Expect(kRedirect, {WAGGLE_REASON_PACKET_REFUSED}, {Program::kPodIn, host().pod1}, Build(syn));
      EXPECT_FALSE(Entry(talk.Forward()));
    }
  }
}

// Half of a flow that was evicted is no flow.
TEST_F(PacketFlow, HalvesThatWereEvicted) {
  for (const Family& family : kFamilies) {
    SCOPED_TRACE(family.name);
    Start(WAGGLE_FORWARDING_REDIRECT);
    const Talk talk = AddPodTalk(family, kTcp);
    // The way back is gone: the SYN, sent again, makes it anew.
    FromClient(talk.Ask(kSyn));
    RemoveEntry(talk.Reply());
    thorough_ = false;
    EXPECT_EQ(FromClient(talk.Ask(kSyn)).verdict, kRedirect);
    thorough_ = true;
    ExpectSameTables();
    // The way there is gone: the same again.
    RemoveEntry(talk.Forward());
    thorough_ = false;
    EXPECT_EQ(FromClient(talk.Ask(kSyn)).verdict, kRedirect);
    thorough_ = true;
    ExpectSameTables();
    EXPECT_EQ(Entry(talk.Forward())->new_src_port_be, KeyOf(talk.Forward()).src_port_be)
        << "its own remains are in nobody's way";
  }
}

// TRAPS 2: an element that is reused under a reader is not believed.
TEST_F(PacketFlow, EntriesWhoseTagDoesNotFit) {
  struct {
    const char* name;
    void (*change)(waggle_flow&);
  } const changes[] = {
      {"tag", [](waggle_flow& f) { f.tag ^= 1; }},
      {"new source", [](waggle_flow& f) { f.new_src[15] ^= 1; }},
      {"new destination", [](waggle_flow& f) { f.new_dst[15] ^= 1; }},
      {"new source port", [](waggle_flow& f) { f.new_src_port_be ^= 1; }},
      {"new destination port", [](waggle_flow& f) { f.new_dst_port_be ^= 1; }},
      {"kind", [](waggle_flow& f) { f.kind ^= 3; }},
      {"flags", [](waggle_flow& f) { f.flags ^= WAGGLE_FLOW_REDIRECT; }},
      {"service", [](waggle_flow& f) { f.service_id ^= 1; }},
      {"slot", [](waggle_flow& f) { f.slot ^= 1; }},
      {"device", [](waggle_flow& f) { f.ifindex ^= 1; }},
  };
  for (const char* map : {"flows", "half_open"}) {
    for (const auto& c : changes) {
      SCOPED_TRACE(std::string(map) + " " + c.name);
      Start(WAGGLE_FORWARDING_REDIRECT);
      const Talk talk = AddPodTalk(kFamilies[0], kTcp);
      FromClient(talk.Ask(kSyn));
      FromBackend(talk.Answer(kSyn | kAck));
      if (map == std::string("flows")) FromClient(talk.Ask(kAck));
      waggle_flow forward = *Entry(talk.Forward()), reply = *Entry(talk.Reply());
      c.change(forward);
      c.change(reply);
      PutEntry(map, talk.Forward(), forward);
      PutEntry(map, talk.Reply(), reply);
      // As if there were none.
      model_.entries.clear();
      thorough_ = false;
      Expect(kUnspec, {WAGGLE_REASON_LOST_FLOW_PASSED}, {Program::kPodIn, host().pod1},
             Build(talk.Ask(kAck)));
      const Bytes answer = Build(talk.Answer(kAck));
      EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodIn, host().pod2}, answer).bytes, answer);
      EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodOut, host().pod1}, answer).bytes, answer);
      thorough_ = true;
    }
  }
}

// 'Full' is said, and hurts nobody: the flow stays where a flood could evict it.
TEST_F(PacketFlow, EstablishedTableFull) {
  for (const uint8_t protocol : {kTcp, kUdp}) {
    SCOPED_TRACE(Kind(kFamilies[0], protocol));
    Start(WAGGLE_FORWARDING_STACK, {.flows = 3});
    const Talk first = AddPodTalk(kFamilies[0], protocol);
    Establish(first);
    Talk second = first;
    second.client.port = second.seen.port = 40001;
    FromClient(second.Ask(kSyn));
    FromBackend(second.Answer(kSyn | kAck));
    Expect(kUnspec, {WAGGLE_REASON_FLOWS_FULL}, {Program::kPodIn, host().pod1},
           Build(second.Ask(kAck)));
    EXPECT_FALSE(Established(second.Forward()));
    EXPECT_FALSE(Established(second.Reply()));
    EXPECT_EQ(StateOf(second), kReplied | kAssured);
    // It works, and is counted once.
    Expect(kUnspec, {}, {Program::kPodIn, host().pod1}, Build(second.Ask(kAck)));
    FromBackend(second.Answer(kAck));
    EXPECT_TRUE(Established(first.Forward())) << "nothing is evicted for it";
    // It asks again each second, until there is room.
    Age(1.5);
    Expect(kUnspec, {WAGGLE_REASON_FLOWS_FULL}, {Program::kPodIn, host().pod1},
           Build(second.Ask(kAck)));
    RemoveEntry(first.Forward());
    RemoveEntry(first.Reply());
    model_.entries.erase(first.Forward());
    model_.entries.erase(first.Reply());
    Expect(kUnspec, {}, {Program::kPodIn, host().pod1}, Build(second.Ask(kAck)));
    EXPECT_FALSE(Established(second.Forward()));
    Age(1.5);
    Expect(kUnspec, {}, {Program::kPodIn, host().pod1}, Build(second.Ask(kAck)));
    EXPECT_TRUE(Established(second.Forward()));
    EXPECT_TRUE(Established(second.Reply()));
  }
}

// A UDP flow whose backend left moves on with its next datagram; TCP stays.
TEST_F(PacketFlow, BackendsThatLeave) {
  const Family& f = kFamilies[0];
  const net::Endpoint other{f.Pod(1, 15), 8080}, same{f.Pod(1, 12), 8080};
  struct {
    const char* name;
    uint8_t fate;
    std::vector<net::Endpoint> backends;
    int udp_verdict;
    std::vector<uint32_t> udp_reasons;
  } const cases[] = {
      {"still there", WAGGLE_FATE_FORWARD, {same}, kUnspec, {}},
      {"still there, elsewhere in the list",
       WAGGLE_FATE_FORWARD,
       {{f.Pod(1, 2), 1}, {f.Pod(1, 3), 1}, same, other},
       kUnspec,
       {}},
      {"another one", WAGGLE_FATE_FORWARD, {other}, kUnspec, {WAGGLE_REASON_UDP_FLOW_MOVED}},
      {"another port of it",
       WAGGLE_FATE_FORWARD,
       {{f.Pod(1, 12), 8081}},
       kUnspec,
       {WAGGLE_REASON_UDP_FLOW_MOVED}},
      {"two others",
       WAGGLE_FATE_FORWARD,
       {other, {f.Pod(1, 12), 8081}},
       kUnspec,
       {WAGGLE_REASON_UDP_FLOW_MOVED}},
      {"nobody", WAGGLE_FATE_REFUSE, {}, kRedirect, {WAGGLE_REASON_PACKET_REFUSED}},
      {"an empty list", WAGGLE_FATE_FORWARD, {}, kRedirect, {WAGGLE_REASON_PACKET_REFUSED}},
      {"nobody on this node", WAGGLE_FATE_DROP, {}, kShot, {WAGGLE_REASON_PACKET_NO_LOCAL}},
      {"a list not in force", WAGGLE_FATE_NONE, {}, kUnspec, {WAGGLE_REASON_DANGLING_SLOT}},
  };
  for (const bool established : {false, true}) {
    for (const auto& c : cases) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        SCOPED_TRACE(Kind(f, protocol) + " " + c.name + (established ? " established" : ""));
        Start(WAGGLE_FORWARDING_STACK);
        const Talk talk = AddPodTalk(f, protocol);
        if (established) {
          Establish(talk);
        } else {
          FromClient(talk.Ask(kSyn));
        }
        SetList(1, c.fate, c.backends);
        if (protocol == kTcp) {
          const Packet next = talk.Ask(established ? kAck : kSyn);
          const Result got = Expect(kUnspec, {}, {Program::kPodIn, host().pod1}, Build(next));
          EXPECT_EQ(Parse(got.bytes)->dst, talk.backend.address);
        } else {
          Expect(c.udp_verdict, c.udp_reasons, {Program::kPodIn, host().pod1}, Build(talk.Ask()));
          EXPECT_EQ(Entry(talk.Reply()).has_value(), c.udp_reasons.empty());
        }
      }
    }
  }
}

// The frontend itself is looked at once a second: it may be gone, or another Service's.
TEST_F(PacketFlow, FrontendsThatGo) {
  for (const Family& family : kFamilies) {
    SCOPED_TRACE(family.name);
    Start(WAGGLE_FORWARDING_STACK);
    const Talk talk = AddPodTalk(family, kUdp);
    FromClient(talk.Ask());
    RemoveFrontend(talk.frontend, kUdp);
    Age(1.5);
    const Bytes packet = Build(talk.Ask());
    EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodIn, host().pod1}, packet).bytes, packet);

    Start(WAGGLE_FORWARDING_STACK);
    const Talk before = AddPodTalk(family, kUdp);
    FromClient(before.Ask());
    RemoveFrontend(before.frontend, kUdp);
    AddService(
        {.frontend = before.frontend, .protocol = kUdp, .backends = {{family.Pod(1, 15), 1}}});
    Age(1.5);
    const Result got = Expect(kUnspec, {WAGGLE_REASON_UDP_FLOW_MOVED},
                              {Program::kPodIn, host().pod1}, Build(before.Ask()));
    EXPECT_EQ(Parse(got.bytes)->dst, family.Pod(1, 15));
  }
}

// The slot of a flow became another Service's.
TEST_F(PacketFlow, SlotsThatAreUsedAgain) {
  Start(WAGGLE_FORWARDING_STACK);
  const Talk talk = AddPodTalk(kFamilies[0], kUdp);
  FromClient(talk.Ask());
  RemoveFrontend(talk.frontend, kUdp);
  model_.lists[1].service_id = 4711;
  SetList(1, WAGGLE_FATE_FORWARD, {talk.backend});
  const Bytes packet = Build(talk.Ask());
  EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodIn, host().pod1}, packet).bytes, packet);
}

// Every backend is chosen, and each flow keeps its own.
TEST_F(PacketFlow, BackendsAreChosenAtRandomAndKept) {
  for (const uint8_t protocol : {kTcp, kUdp}) {
    Start(WAGGLE_FORWARDING_STACK);
    std::vector<net::Endpoint> backends;
    for (int i = 1; i <= 7; ++i)
      backends.push_back({kFamilies[0].Pod(2, i), static_cast<uint16_t>(8000 + i)});
    const net::Endpoint frontend{kFamilies[0].Service(1), 80};
    AddService({.frontend = frontend, .protocol = protocol, .backends = backends});
    std::map<net::Endpoint, int> chosen;
    thorough_ = false;
    for (uint16_t port = 0; port < 1400; ++port) {
      const net::Endpoint client{kFamilies[0].Pod(1, 11), static_cast<uint16_t>(20000 + port)};
      const Talk talk{protocol, client, frontend, {}, client};
      const Bytes first = FromClient(talk.Ask(kSyn)).bytes;
      const View view = *Parse(first);
      ++chosen[{view.dst, Get16(first, view.l4 + 2)}];
      EXPECT_EQ(FromClient(talk.Ask(kSyn)).bytes, first);
    }
    thorough_ = true;
    ExpectSameTables();
    for (const net::Endpoint& backend : backends) {
      // 200 each on average; a deviation of 100 is 7.6 sigma.
      EXPECT_NEAR(chosen[backend], 200, 100) << backend.ToString();
    }
  }
}

}  // namespace
}  // namespace waggle::packet
