// TRAPS 1: two connections of one client that would look alike to the backend.
#include <arpa/inet.h>

#include "tests/datapath/packet_fixture.h"

namespace waggle::packet {
namespace {

class PacketClash : public PacketTest {
 protected:
  // A conversation of pod1 with pod2 through a Service of its own.
  Talk AddPodTalk(const Family& family, uint8_t protocol, int service) {
    return AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(1, 12), 8080},
                   service);
  }
  // The same ends without a Service.
  static Talk DirectOf(const Talk& talk) {
    Talk direct = talk;
    direct.frontend = talk.backend;
    return direct;
  }
  // The client has a socket for it, as a real one would.
  void Open(const Talk& talk) {
    if (talk.protocol == kTcp) OpenSocket(host().pod1, talk.client, talk.frontend);
  }
  Result FromClient(const Packet& packet) {
    return Send(Program::kPodIn, host().pod1, Build(packet));
  }
  // The answer arrives where it is undone.
  Result FromBackend(const Talk& talk, const Packet& packet) {
    const auto entry = Entry(talk.Reply());
    const bool redirect = entry && entry->flags & WAGGLE_FLOW_REDIRECT;
    return Send(redirect ? Program::kPodIn : Program::kPodOut, redirect ? host().pod2 : host().pod1,
                Build(packet));
  }
  // The newcomer has got a port of its own.
  void ExpectAside(Talk& talk) {
    const auto entry = Entry(talk.Forward());
    ASSERT_TRUE(entry);
    const waggle_flow_key reply = KeyOf(talk.Reply());
    EXPECT_NE(entry->new_src_port_be, reply.dst_port_be);
    talk.seen.port = ntohs(entry->new_src_port_be);
    EXPECT_GE(talk.seen.port, 61000);
  }
  // Both go on, and both get their own answers.
  void ExpectApart(const Talk& one, const Talk& other) {
    for (const Talk* talk : {&one, &other, &one}) {
      for (const uint8_t flags : {uint8_t{kSyn | kAck}, uint8_t{kAck | kPsh}}) {
        const Result answered = FromBackend(*talk, talk->Answer(flags));
        EXPECT_EQ(DifferenceToPod(Build(talk->Answered(flags)), answered.bytes), "");
        const Result asked = FromClient(talk->Ask());
        EXPECT_EQ(DifferenceToPod(Build(talk->Asked()), asked.bytes), "");
      }
    }
  }
};

TEST_F(PacketClash, TwoServicesWithOneBackend) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        SCOPED_TRACE(Kind(family, protocol, forwarding));
        Start(forwarding);
        const Talk first = AddPodTalk(family, protocol, 1);
        Talk second = AddPodTalk(family, protocol, 2);
        Open(first);
        FromClient(first.Ask(kSyn));
        Open(second);
        Expect(forwarding ? kRedirect : kUnspec,
               {WAGGLE_REASON_FLOW_TRANSLATED, WAGGLE_REASON_PORT_CHANGED},
               {Program::kPodIn, host().pod1}, Build(second.Ask(kSyn)));
        ExpectAside(second);
        ExpectApart(first, second);
        // And a third one.
        Talk third = AddPodTalk(family, protocol, 3);
        Open(third);
        FromClient(third.Ask(kSyn));
        ExpectAside(third);
        ExpectApart(second, third);
      }
    }
  }
}

// UDP: each datagram, whichever way it goes.
TEST_F(PacketClash, ServiceThenDirect) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        SCOPED_TRACE(Kind(family, protocol, forwarding));
        Start(forwarding);
        const Talk service = AddPodTalk(family, protocol, 1);
        Talk direct = DirectOf(service);
        Open(service);
        FromClient(service.Ask(kSyn));
        Open(direct);
        // By the stack, where all of its packets went that came before.
        Expect(kUnspec, {WAGGLE_REASON_PORT_CHANGED}, {Program::kPodIn, host().pod1},
               Build(direct.Ask(kSyn)));
        ExpectAside(direct);
        EXPECT_EQ(Entry(direct.Forward())->flags, WAGGLE_FLOW_REWRITE | WAGGLE_FLOW_DIRECT);
        EXPECT_EQ(Entry(direct.Forward())->service_id, 0u);
        ExpectApart(service, direct);
      }
    }
  }
}

// Nor does one who speaks in the client's name from elsewhere end what is the client's, though
// behind his device there is no such socket.
TEST_F(PacketClash, ServiceThenDirectInTheClientsName) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      SCOPED_TRACE(Kind(family, kTcp, forwarding));
      Start(forwarding);
      const Talk service = AddPodTalk(family, kTcp, 1);
      FromClient(service.Ask(kSyn));
      for (const Tuple& tuple : {service.Forward(), service.Reply()}) {
        waggle_flow flow = *Entry(tuple);
        flow.flags |= WAGGLE_FLOW_OWNED;
        const waggle_flow_key key = KeyOf(tuple);
        flow.tag = waggle_flow_tag(&key, &flow);
        PutEntry("half_open", tuple, flow);
        model_.entries.at(tuple).flags |= WAGGLE_FLOW_OWNED;
      }
      Expect(kUnspec, {WAGGLE_REASON_PORT_CHANGED}, {Program::kPodIn, host().pod5},
             Build(DirectOf(service).Ask(kSyn)));
      ASSERT_TRUE(Entry(service.Forward()) && Entry(service.Reply()));
      EXPECT_EQ(Entry(service.Reply())->ifindex, host().pod1);
    }
  }
}

// A direct connection over the bridge, out of conntrack's sight: so are its answers.
TEST_F(PacketClash, DirectStaysOnTheBridge) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        SCOPED_TRACE(Kind(family, protocol, forwarding));
        Start(forwarding);
        const Talk service =
            AddTalk(family, protocol, {family.Bridged(13), 40000}, {family.Bridged(14), 8080});
        Send(Program::kPodIn, host().pod3, Build(service.Ask(kSyn)));
        Talk direct = DirectOf(service);
        Send(Program::kPodIn, host().pod3, Build(direct.Ask(kSyn)));
        ASSERT_TRUE(Entry(direct.Forward()));
        direct.seen.port = ntohs(Entry(direct.Forward())->new_src_port_be);
        const Bytes answer = Build(direct.Answer(kSyn | kAck));
        EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodIn, host().pod4}, answer).bytes, answer);
        EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodOut, host().pod3}, answer).bytes,
                  Build(direct.Answered(kSyn | kAck)));
      }
    }
  }
}

// The client's own table of sockets knows the connection that no program has seen.
TEST_F(PacketClash, DirectThenService) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      SCOPED_TRACE(Kind(family, kTcp, forwarding));
      Start(forwarding);
      Talk service = AddPodTalk(family, kTcp, 1);
      const Talk direct = DirectOf(service);
      Open(direct);
      const Bytes untouched = Build(direct.Ask(kSyn));
      EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodIn, host().pod1}, untouched).bytes, untouched);
      Open(service);
      Expect(forwarding ? kRedirect : kUnspec,
             {WAGGLE_REASON_FLOW_TRANSLATED, WAGGLE_REASON_PORT_CHANGED},
             {Program::kPodIn, host().pod1}, Build(service.Ask(kSyn)));
      ExpectAside(service);
      // The direct one is still not ours.
      for (const uint8_t flags : {kSyn, uint8_t{kAck}}) {
        const Bytes more = Build(direct.Ask(flags));
        EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodIn, host().pod1}, more).bytes, more);
        const Bytes answer = Build(direct.Answer(static_cast<uint8_t>(flags | kAck)));
        EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodOut, host().pod1}, answer).bytes, answer);
      }
      const Result back = FromBackend(service, service.Answer(kSyn | kAck));
      EXPECT_EQ(DifferenceToPod(Build(service.Answered(kSyn | kAck)), back.bytes), "");
    }
  }
}

// UDP leaves no trace when it goes directly; as soon as the Service has a flow, the direct
// datagrams step aside.
TEST_F(PacketClash, DirectThenServiceUdp) {
  for (const Family& family : kFamilies) {
    SCOPED_TRACE(family.name);
    Start(WAGGLE_FORWARDING_REDIRECT);
    const Talk service = AddPodTalk(family, kUdp, 1);
    Talk direct = DirectOf(service);
    Expect(kUnspec, {}, {Program::kPodIn, host().pod1}, Build(direct.Ask()));
    FromClient(service.Ask());
    FromClient(direct.Ask());
    ExpectAside(direct);
    ExpectApart(service, direct);
  }
}

// Whoever holds the port and is gone holds it no longer: no socket, closed, or idle.
TEST_F(PacketClash, DeadOwnersGiveWay) {
  enum class Death { kReset, kClosed, kIdle };
  struct {
    const char* name;
    Death death;
    bool udp;
  } const cases[] = {
      {"reset", Death::kReset, false},
      {"closed", Death::kClosed, false},
      {"idle", Death::kIdle, true},
  };
  for (const Family& family : kFamilies) {
    for (const auto& c : cases) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        for (const bool direct : {false, true}) {
          if (protocol == kUdp && !c.udp) continue;
          SCOPED_TRACE(Kind(family, protocol) + " " + c.name + (direct ? " direct" : ""));
          Start(WAGGLE_FORWARDING_STACK);
          const Talk first = AddPodTalk(family, protocol, 1);
          const Talk second = direct ? DirectOf(first) : AddPodTalk(family, protocol, 2);
          Open(first);
          FromClient(first.Ask(kSyn));
          switch (c.death) {
            case Death::kReset:
              FromBackend(first, first.Answer(kRst | kAck));
              break;
            case Death::kClosed:
              FromClient(first.Ask(kFin | kAck));
              FromBackend(first, first.Answer(kFin | kAck));
              break;
            case Death::kIdle:
              Age(121);
              break;
          }
          const Bytes packet = Build(second.Ask(kSyn));
          std::vector<uint32_t> reasons;
          if (!direct) reasons.push_back(WAGGLE_REASON_FLOW_TRANSLATED);
          const Result got = Expect(kUnspec, reasons, {Program::kPodIn, host().pod1}, packet);
          EXPECT_EQ(Get16(got.bytes, Parse(got.bytes)->l4), second.client.port);
          EXPECT_FALSE(Entry(first.Forward())) << "both halves of the old one go";
          EXPECT_EQ(got.bytes == packet, direct);
        }
      }
    }
  }
}

// Where the client's sockets cannot be asked, an owner counts as alive.
TEST_F(PacketClash, ClientsThatCannotBeAsked) {
  for (const Family& family : kFamilies) {
    SCOPED_TRACE(family.name);
    Start(WAGGLE_FORWARDING_STACK);
    waggle_device device = host().devices.at(host().pod1);
    device.netns_id = -1;
    SetDevice(host().pod1, device);
    const Talk first = AddPodTalk(family, kTcp, 1);
    Talk second = AddPodTalk(family, kTcp, 2);
    FromClient(first.Ask(kSyn));
    FromClient(second.Ask(kSyn));
    ExpectAside(second);
    ExpectApart(first, second);
  }
}

// The client uses the spare ports itself, all of them: eight tries, then a drop that is
// counted. It will try again.
TEST_F(PacketClash, NoFreePort) {
  for (const Family& family : kFamilies) {
    SCOPED_TRACE(family.name);
    Start(WAGGLE_FORWARDING_STACK);
    const Talk first = AddPodTalk(family, kUdp, 1);
    Talk second = AddPodTalk(family, kUdp, 2);
    FromClient(first.Ask());
    const waggle_flow_key key = KeyOf(first.Reply());
    for (uint32_t port = WAGGLE_SPARE_PORT_FIRST; port <= WAGGLE_SPARE_PORT_LAST; ++port) {
      Tuple reply = first.Reply();
      reply.dst.port = static_cast<uint16_t>(port);
      waggle_flow flow = *Entry(first.Reply());
      const waggle_flow_key taken = KeyOf(reply);
      flow.tag = waggle_flow_tag(&taken, &flow);
      PutEntry("half_open", reply, flow);
      model_.entries[reply] = model_.entries.at(first.Reply());
    }
    Expect(kShot, {WAGGLE_REASON_NO_FREE_PORT}, {Program::kPodIn, host().pod1},
           Build(second.Ask()));
    EXPECT_FALSE(Entry(second.Forward()));
    // Directly, too.
    Expect(kShot, {WAGGLE_REASON_NO_FREE_PORT}, {Program::kPodIn, host().pod1},
           Build(DirectOf(first).Ask()));
    EXPECT_EQ(KeyOf(first.Reply()).dst_port_be, key.dst_port_be);
  }
}

// A hairpin flow has a source that no connection of the pod has.
TEST_F(PacketClash, HairpinClashesWithNobody) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SCOPED_TRACE(Kind(family, protocol));
      Start(WAGGLE_FORWARDING_REDIRECT);
      const net::Endpoint pod{family.Pod(1, 11), 40000}, backend{family.Pod(1, 11), 8080};
      Talk first = AddTalk(family, protocol, pod, backend, 1);
      Talk second = AddTalk(family, protocol, pod, backend, 2);
      first.seen.address = first.frontend.address;
      second.seen.address = second.frontend.address;
      Open(first);
      Open(second);
      Open(DirectOf(first));
      for (const Talk* talk : {&first, &second}) {
        const Result got = FromClient(talk->Ask(kSyn));
        EXPECT_EQ(Difference(Turned(Build(talk->Asked(kSyn))), got.bytes), "");
      }
    }
  }
}

}  // namespace
}  // namespace waggle::packet
