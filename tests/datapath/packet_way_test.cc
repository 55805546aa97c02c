// Where packets leave: the short way past the host's stack, or the stack; and what comes back.
#include "tests/datapath/packet_fixture.h"

namespace waggle::packet {
namespace {

class PacketWay : public PacketTest {
 protected:
  void ExpectWay(const Tuple& tuple, uint8_t how, uint32_t device, uint32_t mtu) {
    const auto entry = Entry(tuple);
    ASSERT_TRUE(entry) << tuple.ToString();
    EXPECT_EQ(entry->way.how, how) << tuple.ToString();
    EXPECT_EQ(entry->way.device, device) << tuple.ToString();
    EXPECT_EQ(entry->way.mtu, mtu) << tuple.ToString();
    EXPECT_EQ((entry->flags & WAGGLE_FLOW_REDIRECT) != 0, how != WAGGLE_WAY_STACK);
  }
};

struct Backend {
  const char* name;
  net::Address (*address)(const Family&);
  uint8_t how;
  uint32_t Host::*device;  // where it is reached and answers from
  uint32_t mtu;
};

const Backend kBackends[] = {
    {"routed pod", [](const Family& f) { return f.Pod(1, 12); }, WAGGLE_WAY_PEER, &Host::pod2,
     1500},
    {"routed pod with a small device", [](const Family& f) { return f.Pod(1, 15); },
     WAGGLE_WAY_PEER, &Host::pod5, 1300},
    {"bridged pod", [](const Family& f) { return f.Bridged(14); }, WAGGLE_WAY_NEIGH, &Host::br0,
     1500},
    {"another node's pod", [](const Family& f) { return f.Pod(2, 5); }, WAGGLE_WAY_NEIGH,
     &Host::eth0, 1500},
    {"the same by a small route", [](const Family& f) { return f.Pod(4, 5); }, WAGGLE_WAY_NEIGH,
     &Host::eth0, 1400},
    {"pod behind a tunnel", [](const Family& f) { return f.Pod(3, 5); }, WAGGLE_WAY_NEIGH,
     &Host::vx0, 1450},
    {"this node", [](const Family& f) { return f.NodeNet(10); }, WAGGLE_WAY_STACK, &Host::pod2, 0},
    {"another node", [](const Family& f) { return f.NodeNet(20); }, WAGGLE_WAY_STACK, &Host::eth0,
     0},
    {"by the strangers' gateway", [](const Family& f) { return f.Pod(8, 5); }, WAGGLE_WAY_STACK,
     &Host::eth0, 0},
    {"by the default route", [](const Family& f) { return f.Stranger(); }, WAGGLE_WAY_STACK,
     &Host::eth0, 0},
    {"behind a device that is not covered", [](const Family& f) { return f.Pod(5, 5); },
     WAGGLE_WAY_STACK, &Host::eth0, 0},
    {"unreachable", [](const Family& f) { return f.Pod(6, 5); }, WAGGLE_WAY_STACK, &Host::eth0, 0},
};

// Both directions of a flow go the same way, for each place where a backend can be.
TEST_F(PacketWay, DependsOnWhereTheBackendIs) {
  for (const bool skip_neigh : {true, false}) {
    for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
      for (const Family& family : kFamilies) {
        for (const uint8_t protocol : {kTcp, kUdp}) {
          for (const bool bridged : {false, true}) {
            for (const Backend& backend : kBackends) {
              SCOPED_TRACE(Kind(family, protocol, forwarding) +
                           (bridged ? " from a bridged pod" : "") + " to " + backend.name +
                           (skip_neigh ? "" : " on an old kernel"));
              Start(forwarding, {.skip_neigh = skip_neigh});
              // An old kernel says no MTU when it does not know the neighbour.
              if (!skip_neigh) {
                for (Route& route : model_.routes)
                  route.mtu = 0;
              }
              const uint32_t client = bridged ? host().pod3 : host().pod1;
              const Talk talk = AddTalk(family, protocol,
                                        {bridged ? family.Bridged(13) : family.Pod(1, 11), 40000},
                                        {backend.address(family), 8080});
              const bool redirect = forwarding == WAGGLE_FORWARDING_REDIRECT;
              const uint8_t how = redirect ? backend.how : uint8_t{WAGGLE_WAY_STACK};
              const bool stack = how == WAGGLE_WAY_STACK;
              const uint32_t device = stack ? 0 : host().*backend.device;
              const uint32_t mtu = stack || !skip_neigh ? 0 : backend.mtu;
              std::vector<uint32_t> reasons = {WAGGLE_REASON_FLOW_TRANSLATED};
              if (redirect && stack) reasons.push_back(WAGGLE_REASON_NO_SHORT_WAY);

              Result got = Expect(stack ? kUnspec : kRedirect, reasons, {Program::kPodIn, client},
                                  Build(talk.Ask(kSyn)));
              Packet asked = talk.Asked(kSyn);
              if (how == WAGGLE_WAY_NEIGH) --asked.ttl;
              EXPECT_EQ(DifferenceToPod(Build(asked), got.bytes), "");
              ExpectWay(talk.Forward(), how, device, mtu);

              // The answer: where it arrives when the flow is redirected, and at egress of
              // the client's device when it is not.
              const Bytes answer = Build(talk.Answer(kSyn | kAck));
              const bool to_bridge = how == WAGGLE_WAY_NEIGH && device == host().br0;
              const uint32_t from = to_bridge ? host().pod4 : device;
              if (stack) {
                EXPECT_EQ(Expect(kUnspec, {}, {Program::kNetIn, host().eth0}, answer).bytes,
                          answer);
                got = Expect(kUnspec, {}, {Program::kPodOut, client}, answer);
              } else if (how == WAGGLE_WAY_PEER || to_bridge) {
                got = Expect(kRedirect, {}, {Program::kPodIn, from}, answer);
              } else {
                got = Expect(kRedirect, {}, {Program::kNetIn, from}, answer);
              }
              EXPECT_EQ(DifferenceToPod(Build(talk.Answered(kSyn | kAck)), got.bytes), "");
              if (!stack) {
                ExpectWay(talk.Reply(), WAGGLE_WAY_PEER, client, skip_neigh ? 1500 : 0);
              }

              // From then on a bridged backend is reached behind its port.
              got = Send(Program::kPodIn, client, Build(talk.Ask(kAck)));
              ExpectWay(talk.Forward(), to_bridge ? uint8_t{WAGGLE_WAY_PEER} : how,
                        to_bridge ? from : device, mtu);
              EXPECT_EQ(Established(talk.Forward()), true);
              if (HasFailure()) return;
            }
          }
        }
      }
    }
  }
}

// A pod that is its own backend: the source becomes the Service's address, and the packet goes
// back by redirect, in both forwardings.
TEST_F(PacketWay, HairpinGoesBackWithTheServiceAsSource) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        for (const bool bridged : {false, true}) {
          for (const bool tagged : {false, true}) {
            SCOPED_TRACE(Kind(family, protocol, forwarding) + (bridged ? " bridged" : "") +
                         (tagged ? " tagged" : ""));
            Start(forwarding);
            const net::Address pod = bridged ? family.Bridged(13) : family.Pod(1, 11);
            Talk talk = AddTalk(family, protocol, {pod, 40000}, {pod, 8080});
            talk.seen = {talk.frontend.address, 40000};
            const Arrival arrival{Program::kPodIn, bridged ? host().pod3 : host().pod1, 0, tagged};
            for (const uint8_t flags : {kSyn, kAck}) {
              Result got = Send(arrival, Build(talk.Ask(flags)));
              EXPECT_EQ(got.verdict, kRedirect);
              EXPECT_EQ(Difference(Turned(Build(talk.Asked(flags))), got.bytes), "");
              const auto back = static_cast<uint8_t>(flags | kAck);
              got = Send(arrival, Build(talk.Answer(back)));
              EXPECT_EQ(got.verdict, kRedirect);
              EXPECT_EQ(Difference(Turned(Build(talk.Answered(back))), got.bytes), "");
            }
            EXPECT_EQ(Entry(talk.Forward())->flags,
                      WAGGLE_FLOW_REWRITE | WAGGLE_FLOW_REDIRECT | WAGGLE_FLOW_HAIRPIN);
            EXPECT_TRUE(Established(talk.Reply()));
          }
        }
      }
    }
  }
}

// Linux does not look at the MAC of what comes straight to a pod; gVisor does, and a bridge in the
// pod that has a machine on it. TRAPS 1.
TEST_F(PacketWay, StraightToAPodWithThePodsMac) {
  const Mac client_mac = {2, 0, 0, 9, 0, 1}, backend_mac = {2, 0, 0, 9, 0, 2};
  const auto from = [](const Packet& packet, const Mac& mac) {
    Bytes frame = Build(packet);
    std::copy(mac.begin(), mac.end(), frame.begin() + 6);
    return frame;
  };
  const auto to = [](const Result& result) {
    Mac mac;
    std::copy_n(result.bytes.begin(), 6, mac.begin());
    return mac;
  };
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      for (const bool bridged : {false, true}) {
        SCOPED_TRACE(Kind(family, protocol) + (bridged ? " bridged" : ""));
        Start(WAGGLE_FORWARDING_REDIRECT);
        const uint32_t client = bridged ? host().pod3 : host().pod1;
        const uint32_t backend = bridged ? host().pod4 : host().pod2;
        const Talk talk =
            AddTalk(family, protocol, {bridged ? family.Bridged(13) : family.Pod(1, 11), 40000},
                    {bridged ? family.Bridged(14) : family.Pod(1, 12), 8080});
        const auto ask = [&](uint8_t flags) {
          return Expect(kRedirect, {}, {Program::kPodIn, client},
                        from(talk.Ask(flags), client_mac));
        };
        const auto answer = [&](uint8_t flags) {
          return Expect(kRedirect, {}, {Program::kPodIn, backend},
                        from(talk.Answer(flags), backend_mac));
        };
        // Not known yet: the host's stack knows the neighbour, or asks.
        Result got = Send({Program::kPodIn, client}, from(talk.Ask(kSyn), client_mac));
        EXPECT_EQ(got.verdict, kRedirect);
        EXPECT_NE(to(got), backend_mac);
        EXPECT_EQ(to(answer(kSyn | kAck)), client_mac);
        EXPECT_EQ(to(ask(kAck)), backend_mac);
        EXPECT_EQ(to(answer(kAck)), client_mac);
        // Both are known to others by now.
        Talk next = talk;
        next.client.port = next.seen.port = 40001;
        got = Send({Program::kPodIn, client}, from(next.Ask(kSyn), client_mac));
        EXPECT_EQ(to(got) == backend_mac, !bridged);
      }
    }
  }
}

// It is the pod's own affair: nobody else's word counts, and nobody else's packets get in.
TEST_F(PacketWay, HairpinsAreThePodsOwn) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        SCOPED_TRACE(Kind(family, protocol, forwarding));
        Start(forwarding);
        const net::Address pod = family.Pod(1, 11);
        Talk talk = AddTalk(family, protocol, {pod, 40000}, {pod, 8080});
        talk.seen = {talk.frontend.address, 40000};
        Send(Program::kPodIn, host().pod1, Build(talk.Ask(kSyn)));
        for (const Arrival& arrival : std::vector<Arrival>{{Program::kPodIn, host().pod5},
                                                           {Program::kPodIn, host().pod2},
                                                           {Program::kNetIn, host().eth0}}) {
          for (const uint8_t flags : {uint8_t{kSyn | kAck}, kRst}) {
            const Bytes answer = Build(talk.Answer(flags));
            EXPECT_EQ(Expect(kUnspec, {}, arrival, answer).bytes, answer);
          }
          const Bytes question = Build(talk.Ask(kAck));
          if (protocol == kTcp) {
            EXPECT_EQ(Expect(kUnspec, {}, arrival, question).bytes, question);
          }
        }
        EXPECT_EQ(Entry(talk.Reply())->state, 0);
        EXPECT_EQ(Entry(talk.Forward())->state, 0);
        EXPECT_EQ(Entry(talk.Forward())->ifindex, host().pod1);
      }
    }
  }
}

// Past the stack nobody else looks at who speaks: an answer counts only from where the
// questions go. What is no answer takes the stack, as it would without us.
TEST_F(PacketWay, AnswersFromElsewhereAreNotRedirected) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      struct {
        const char* name;
        net::Address backend;
        std::vector<Arrival> wrong;
      } const cases[] = {
          {"routed pod",
           family.Pod(1, 12),
           {{Program::kPodIn, host().pod5},
            {Program::kPodIn, host().pod3},
            {Program::kNetIn, host().eth0}}},
          {"bridged pod",
           family.Bridged(14),
           {{Program::kPodIn, host().pod2},
            {Program::kPodIn, host().pod5},
            {Program::kNetIn, host().eth0}}},
          {"another node's pod",
           family.Pod(2, 5),
           {{Program::kPodIn, host().pod2},
            {Program::kPodIn, host().pod3},
            // Of a VLAN on eth0: it comes again there.
            {Program::kNetIn, host().eth0, 0, true}}},
      };
      for (const auto& c : cases) {
        Start(WAGGLE_FORWARDING_REDIRECT);
        const Talk talk = AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {c.backend, 8080});
        Send(Program::kPodIn, host().pod1, Build(talk.Ask(kSyn)));
        for (const Arrival& arrival : c.wrong) {
          SCOPED_TRACE(Kind(family, protocol) + " " + c.name + " at " +
                       std::to_string(arrival.ifindex));
          const Bytes answer = Build(talk.Answer(kSyn | kAck));
          const Result got = Expect(kUnspec, {}, arrival, answer);
          Bytes expected = answer;
          if (arrival.ifindex == host().pod3) {
            std::copy_n(host().devices.at(host().pod3).bridge_mac, 6, expected.begin());
          }
          EXPECT_EQ(Difference(expected, got.bytes), "");
        }
        EXPECT_EQ(Entry(talk.Reply())->state, 0);
      }
    }
  }
}

// In stack forwarding an answer that a pod sends straight over the bridge is handed to the
// bridge itself, and is undone at egress of the client's device, never before.
TEST_F(PacketWay, AnswersOfStackFlowsTakeTheStack) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SCOPED_TRACE(Kind(family, protocol));
      Start(WAGGLE_FORWARDING_STACK);
      const Talk talk =
          AddTalk(family, protocol, {family.Bridged(13), 40000}, {family.Bridged(14), 8080});
      Send(Program::kPodIn, host().pod3, Build(talk.Ask(kSyn)));
      const Bytes answer = Build(talk.Answer(kSyn | kAck));
      Bytes lifted = answer;
      std::copy_n(host().devices.at(host().pod4).bridge_mac, 6, lifted.begin());
      EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodIn, host().pod4}, answer).bytes, lifted);
      EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodIn, host().pod2}, answer).bytes, answer);
      EXPECT_EQ(Expect(kUnspec, {}, {Program::kNetIn, host().eth0}, answer).bytes, answer);
      const Result got = Expect(kUnspec, {}, {Program::kPodOut, host().pod3}, answer);
      EXPECT_EQ(Difference(Build(talk.Answered(kSyn | kAck)), got.bytes), "");
    }
  }
}

// Whoever speaks from an address that is not routed to its device is looked at by the stack.
TEST_F(PacketWay, ForeignSourcesTakeTheStack) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      for (const net::Address& source : {family.Pod(1, 15), family.Pod(2, 9), family.Stranger(),
                                         family.NodeNet(10), family.Bridged(13)}) {
        SCOPED_TRACE(Kind(family, protocol) + " " + source.ToString());
        Start(WAGGLE_FORWARDING_REDIRECT);
        const Talk talk = AddTalk(family, protocol, {source, 40000}, {family.Pod(1, 12), 8080});
        const Result got =
            Expect(kUnspec, {WAGGLE_REASON_FLOW_TRANSLATED, WAGGLE_REASON_NO_SHORT_WAY},
                   {Program::kPodIn, host().pod1}, Build(talk.Ask(kSyn)));
        EXPECT_EQ(Difference(Build(talk.Asked(kSyn)), got.bytes), "");
      }
    }
  }
}

// A flow's packets that come by another device than its client's go by the stack, and neither
// end the flow nor replace it; when the client's device is gone the pod is another one, and so
// is the flow.
TEST_F(PacketWay, ClientsThatMove) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SCOPED_TRACE(Kind(family, protocol));
      Start(WAGGLE_FORWARDING_REDIRECT);
      const Talk talk =
          AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(1, 12), 8080});
      Send(Program::kPodIn, host().pod1, Build(talk.Ask(kSyn)));
      Result got = Expect(kUnspec, {}, {Program::kPodIn, host().pod5}, Build(talk.Ask(kSyn)));
      EXPECT_EQ(Difference(Build(talk.Asked(kSyn)), got.bytes), "");
      Send(Program::kPodIn, host().pod2, Build(talk.Answer(kSyn | kAck)));
      for (const uint8_t flags : {kSyn, kAck, uint8_t{kFin | kAck}, kRst}) {
        Packet packet = talk.Ask(flags);
        packet.seq += 77;
        Expect(kUnspec, {}, {Program::kPodIn, host().pod5}, Build(packet));
        EXPECT_EQ(Entry(talk.Forward())->state, 0);
        EXPECT_EQ(Entry(talk.Forward())->ifindex, host().pod1);
      }
      RemoveDevice(host().pod1);
      Expect(kUnspec, {WAGGLE_REASON_FLOW_TRANSLATED, WAGGLE_REASON_NO_SHORT_WAY},
             {Program::kPodIn, host().pod5}, Build(talk.Ask(kSyn)));
      EXPECT_EQ(Entry(talk.Forward())->ifindex, host().pod5);
    }
  }
}

// Who took a client's ends before it used them does not keep them.
TEST_F(PacketWay, ClientsWhoseEndsWereTaken) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        SCOPED_TRACE(Kind(family, protocol, forwarding));
        Start(forwarding);
        const Talk talk =
            AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(1, 12), 8080});
        Send(Program::kPodIn, host().pod5, Build(talk.Ask(kSyn)));
        EXPECT_EQ(Entry(talk.Forward())->ifindex, host().pod5);
        Expect(forwarding ? kRedirect : kUnspec, {WAGGLE_REASON_FLOW_TRANSLATED},
               {Program::kPodIn, host().pod1}, Build(talk.Ask(kSyn)));
        EXPECT_EQ(Entry(talk.Forward())->ifindex, host().pod1);
        // Not so the other way round.
        Send(Program::kPodIn, host().pod5, Build(talk.Ask(kSyn)));
        EXPECT_EQ(Entry(talk.Forward())->ifindex, host().pod1);
      }
    }
  }
}

// Routes are asked again when the answer is older than a second; the flow keeps its mode.
TEST_F(PacketWay, FollowsTheRoutes) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SCOPED_TRACE(Kind(family, protocol));
      Start(WAGGLE_FORWARDING_REDIRECT);
      const Talk talk =
          AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(2, 77), 8080});
      const net::Address to = talk.backend.address;
      const std::string prefix = to.ToString() + (family.v6 ? "/128" : "/32");
      const auto send = [&] { Send(Program::kPodIn, host().pod1, Build(talk.Ask(kSyn))); };
      send();
      ExpectWay(talk.Forward(), WAGGLE_WAY_NEIGH, host().eth0, 1500);
      host().Ip("route add " + prefix + " dev pod2\n");
      send();
      ExpectWay(talk.Forward(), WAGGLE_WAY_NEIGH, host().eth0, 1500);
      Age(1.5);
      model_.entries.at(talk.Forward()).way = {WAGGLE_WAY_PEER, host().pod2, 1500};
      send();
      ExpectWay(talk.Forward(), WAGGLE_WAY_PEER, host().pod2, 1500);
      host().Ip("route replace " + prefix + " dev other0\n");
      Age(1.5);
      // Not the stack for ever: it was redirected, and is again when there is a way.
      model_.entries.at(talk.Forward()).way = {};
      thorough_ = false;
      EXPECT_EQ(Send(Program::kPodIn, host().pod1, Build(talk.Ask(kSyn))).verdict, kUnspec);
      thorough_ = true;
      EXPECT_TRUE(Entry(talk.Forward())->flags & WAGGLE_FLOW_REDIRECT);
      host().Ip("route delete " + prefix + " dev other0\n");
      Age(1.5);
      model_.entries.at(talk.Forward()).way = {WAGGLE_WAY_NEIGH, host().eth0, 1500};
      send();
      ExpectWay(talk.Forward(), WAGGLE_WAY_NEIGH, host().eth0, 1500);
    }
  }
}

// A bridged backend that answered keeps its port when routes are asked again, until the port
// is no port any more.
TEST_F(PacketWay, TheBridgesPortIsKept) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SCOPED_TRACE(Kind(family, protocol));
      Start(WAGGLE_FORWARDING_REDIRECT);
      const Talk talk =
          AddTalk(family, protocol, {family.Bridged(13), 40000}, {family.Bridged(14), 8080});
      const auto send = [&] { Send(Program::kPodIn, host().pod3, Build(talk.Ask(kSyn))); };
      send();
      Send(Program::kPodIn, host().pod4, Build(talk.Answer(kSyn | kAck)));
      send();
      ExpectWay(talk.Forward(), WAGGLE_WAY_PEER, host().pod4, 1500);
      Age(1.5);
      send();
      ExpectWay(talk.Forward(), WAGGLE_WAY_PEER, host().pod4, 1500);
      RemoveDevice(host().pod4);
      Age(1.5);
      model_.entries.at(talk.Forward()).way = {WAGGLE_WAY_NEIGH, host().br0, 1500};
      send();
      ExpectWay(talk.Forward(), WAGGLE_WAY_NEIGH, host().br0, 1500);
    }
  }
}

// Hops are counted where a router would: not to a pod of this node. A packet at its end is
// left to the stack, which says so.
TEST_F(PacketWay, HopsAreCountedOnlyToOtherNodes) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      for (const bool remote : {false, true}) {
        Start(WAGGLE_FORWARDING_REDIRECT);
        const Talk talk = AddTalk(family, protocol, {family.Pod(1, 11), 40000},
                                  {remote ? family.Pod(2, 5) : family.Pod(1, 12), 8080});
        for (const int ttl : {64, 255, 2, 1, 0}) {
          SCOPED_TRACE(Kind(family, protocol) + (remote ? " remote " : " local ") +
                       std::to_string(ttl));
          Packet packet = talk.Ask(kSyn);
          packet.ttl = static_cast<uint8_t>(ttl);
          const Result got = Send(Program::kPodIn, host().pod1, Build(packet));
          Packet expected = talk.Asked(kSyn);
          const bool counted = remote && ttl > 1;
          expected.ttl = static_cast<uint8_t>(ttl - (counted ? 1 : 0));
          EXPECT_EQ(got.verdict, remote && ttl <= 1 ? kUnspec : kRedirect);
          EXPECT_EQ(DifferenceToPod(Build(expected), got.bytes), "");
        }
      }
    }
  }
}

// What was translated at its socket takes the short way, unchanged but for its hops.
TEST_F(PacketWay, FlowsOfTranslatedSockets) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      for (const bool remote : {false, true}) {
        SCOPED_TRACE(Kind(family, protocol) + (remote ? " remote" : ""));
        Start(WAGGLE_FORWARDING_REDIRECT);
        const net::Endpoint client{family.Pod(1, 11), 40000},
            backend{remote ? family.Pod(2, 5) : family.Pod(1, 12), 8080};
        const Talk talk{protocol, client, backend, backend, client};
        Flow forward;
        forward.forward = true;
        forward.flags = WAGGLE_FLOW_SOCKET | WAGGLE_FLOW_REDIRECT;
        forward.new_src = client;
        forward.new_dst = backend;
        forward.ifindex = host().pod1;
        forward.way = {remote ? uint8_t{WAGGLE_WAY_NEIGH} : uint8_t{WAGGLE_WAY_PEER},
                       remote ? host().eth0 : host().pod2, 1500};
        forward.isn = Talk::kClientIsn;
        Flow reply = forward;
        reply.forward = false;
        reply.isn.reset();
        std::swap(reply.new_src, reply.new_dst);
        reply.way = {WAGGLE_WAY_PEER, host().pod1, 1500};
        PutFlow(talk.Forward(), forward);
        PutFlow(talk.Reply(), reply);

        const Arrival answer =
            remote ? Arrival{Program::kNetIn, host().eth0} : Arrival{Program::kPodIn, host().pod2};
        for (const uint8_t flags : {kSyn, uint8_t{kAck}, uint8_t{kAck | kPsh}}) {
          const Result asked =
              Expect(kRedirect, {}, {Program::kPodIn, host().pod1}, Build(talk.Ask(flags)));
          Packet expected = talk.Ask(flags);
          if (remote) --expected.ttl;
          EXPECT_EQ(DifferenceToPod(Build(expected), asked.bytes), "");
          const Bytes back = Build(talk.Answer(static_cast<uint8_t>(flags | kAck)));
          EXPECT_EQ(Expect(kRedirect, {}, answer, back).bytes, back);
          EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodOut, host().pod1}, back).bytes, back);
        }
        EXPECT_TRUE(Established(talk.Forward()));
        // Answers from elsewhere, and from the bridge, are nobody's business.
        const Bytes foreign = Build(talk.Answer());
        EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodIn, host().pod5}, foreign).bytes, foreign);
        EXPECT_EQ(Expect(kUnspec, {}, {Program::kPodIn, host().pod3}, foreign).bytes, foreign);
      }
    }
  }
}

}  // namespace
}  // namespace waggle::packet
