// Conversations of two pods, step by step.
#ifndef WAGGLE_TESTS_DATAPATH_PACKET_FLOW_FIXTURE_H_
#define WAGGLE_TESTS_DATAPATH_PACKET_FLOW_FIXTURE_H_

#include "tests/datapath/packet_fixture.h"

namespace waggle::packet {

class PacketFlow : public PacketTest {
 protected:
  // From pod1 to pod2.
  Talk AddPodTalk(const Family& family, uint8_t protocol) {
    return AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(1, 12), 8080});
  }
  Result FromClient(const Packet& packet) {
    return Send(Program::kPodIn, host().pod1, Build(packet));
  }
  // Where it is undone.
  Result FromBackend(const Packet& packet) {
    const bool redirect = model_.forwarding == WAGGLE_FORWARDING_REDIRECT;
    return Send(redirect ? Program::kPodIn : Program::kPodOut, redirect ? host().pod2 : host().pod1,
                Build(packet));
  }
  void Establish(const Talk& talk) {
    FromClient(talk.Ask(kSyn));
    FromBackend(talk.Answer(kSyn | kAck));
    FromClient(talk.Ask(kAck));
    EXPECT_TRUE(Established(talk.Forward()));
    EXPECT_TRUE(Established(talk.Reply()));
  }
  uint8_t StateOf(const Talk& talk) const {
    const auto forward = Entry(talk.Forward()), reply = Entry(talk.Reply());
    return static_cast<uint8_t>((forward ? forward->state : 0) | (reply ? reply->state : 0));
  }
};

struct Step {
  bool client;
  uint8_t flags;
  int32_t ack = 1;   // beyond the other side's first number
  double after = 0;  // seconds
};
// Acknowledges a FIN and the ten bytes before it, which Talk sends with all that is no SYN.
inline constexpr int32_t kAll = 1 + 10 + 1;
inline constexpr bool kClient = true, kBackend = false;
inline constexpr uint8_t kReplied = WAGGLE_STATE_REPLIED, kAssured = WAGGLE_STATE_ASSURED,
                         kClientFin = WAGGLE_STATE_CLIENT_FIN, kServerFin = WAGGLE_STATE_SERVER_FIN,
                         kReset = WAGGLE_STATE_RESET, kAckedFin = WAGGLE_STATE_ACKED_FIN;

}  // namespace waggle::packet

#endif
