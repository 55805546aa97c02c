// The end of a flow.
#include "tests/datapath/packet_flow_fixture.h"

namespace waggle::packet {
namespace {

// What has ended leaves when 128 others have ended after it on its CPU; until then its last
// packets find it. It has not ended while a FIN is not acknowledged, which may be lost behind us
// with the data before it. What has the same ends by then stays.
TEST_F(PacketFlow, EndedFlowsLeave) {
  struct {
    const char* name;
    std::vector<Step> steps;  // after the handshake
    bool again;               // a new connection with the same ends
    bool stays;
  } const cases[] = {
      {"the client closes first",
       {{kClient, kFin | kAck}, {kBackend, kFin | kAck, kAll}, {kClient, kAck, kAll}},
       false,
       false},
      {"the backend closes first",
       {{kBackend, kFin | kAck}, {kClient, kFin | kAck, kAll}, {kBackend, kAck, kAll}},
       false,
       false},
      {"half closed, and data",
       {{kClient, kFin | kAck},
        {kBackend, kAck, kAll},
        {kBackend, kPsh | kAck, kAll},
        {kBackend, kFin | kAck, kAll},
        {kClient, kAck, kAll}},
       false,
       false},
      {"at once",
       {{kClient, kFin | kAck},
        {kBackend, kFin | kAck},
        {kClient, kAck, kAll},
        {kBackend, kAck, kAll}},
       false,
       false},
      {"the client's FIN is not acknowledged",
       {{kClient, kFin | kAck}, {kBackend, kFin | kAck, 1}, {kClient, kAck, kAll}},
       false,
       true},
      {"the backend's FIN is not acknowledged",
       {{kClient, kFin | kAck}, {kBackend, kFin | kAck, kAll}, {kClient, kAck, 1}},
       false,
       true},
      {"begun anew",
       {{kClient, kFin | kAck}, {kBackend, kFin | kAck, kAll}, {kClient, kAck, kAll}},
       true,
       true},
  };
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const auto& c : cases) {
        SCOPED_TRACE(Kind(family, kTcp, forwarding) + " " + c.name);
        Start(forwarding);
        thorough_ = false;
        const Talk talk = AddPodTalk(family, kTcp);
        const auto go = [&](const Talk& it, const std::vector<Step>& steps) {
          Establish(it);
          for (const Step& step : steps) {
            Packet packet = step.client ? it.Ask(step.flags) : it.Answer(step.flags);
            packet.ack = (step.client ? Talk::kServerIsn : Talk::kClientIsn) +
                         static_cast<uint32_t>(step.ack);
            step.client ? FromClient(packet) : FromBackend(packet);
          }
        };
        go(talk, c.steps);
        if (c.again) go(talk, {});
        Talk other = talk;
        for (int i = 0; i < 128; ++i) {
          EXPECT_TRUE(Entry(talk.Forward()) && Entry(talk.Reply())) << i;
          other.client.port = other.seen.port = static_cast<uint16_t>(41000 + i);
          go(other, cases[0].steps);
        }
        EXPECT_EQ(Entry(talk.Forward()).has_value(), c.stays);
        EXPECT_EQ(Entry(talk.Reply()).has_value(), c.stays);
        EXPECT_TRUE(Entry(other.Forward()) && Entry(other.Reply()));
        thorough_ = true;
      }
    }
  }
}

}  // namespace
}  // namespace waggle::packet
