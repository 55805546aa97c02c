// Two entries to one Flow: what people see, and when it is over.
#include <gtest/gtest.h>

#include <cstring>
#include <ostream>
#include <string>

#include "maps/flow_table.h"
#include "tests/unit/maps/flow_testing.h"

namespace waggle::maps {
namespace {

constexpr uint64_t kNow = 1'000'000 * kSecondNs;

// All that can be seen of a flow, in a line.
std::string Show(const Flow& flow) {
  std::string text = std::string(net::ProtocolName(flow.protocol)) + " " + flow.client.ToString();
  if (flow.source) text += " as " + flow.source->ToString();
  text += " > " + flow.frontend.ToString() + " > " + flow.backend.ToString() + " ";
  text += std::string(FlowStateName(flow.state)) + " " + std::string(FlowModeName(flow.mode));
  if (flow.out_device != 0) text += " dev " + std::to_string(flow.out_device);
  if (!flow.frontend_known) text += " unknown frontend";
  if (flow.half) text += " half";
  if (flow.socket) text += " socket";
  if (flow.hairpin) text += " hairpin";
  if (flow.direct) text += " direct";
  text += " of " + std::to_string(flow.service_id) + " at " + std::to_string(flow.device);
  text += " idle " + std::to_string(flow.idle_ns / kSecondNs);
  text += " left " + std::to_string(flow.remaining_ns / kSecondNs);
  return text + " age " + std::to_string(flow.age_ns / kSecondNs);
}

struct Case {
  const char* what;
  FlowSpec spec;
  const char* shown;       // from both
  const char* by_forward;  // from one alone
  const char* by_reply;
  friend void PrintTo(const Case& row, std::ostream* out) { *out << row.what; }
};

FlowSpec Seen(uint64_t forward_ago, uint64_t reply_ago, FlowSpec spec) {
  spec.created_ns = kNow - 100 * kSecondNs;
  spec.forward_ns = kNow - forward_ago * kSecondNs;
  spec.reply_ns = reply_ago == 0 ? 0 : kNow - reply_ago * kSecondNs;
  return spec;
}

class Assemble : public testing::TestWithParam<Case> {};

TEST_P(Assemble, FromBothAndFromEither) {
  const Case& row = GetParam();
  const FlowPair pair = PairOf(row.spec);
  ASSERT_TRUE(IsFlowEntry(pair.forward));
  ASSERT_TRUE(IsFlowEntry(pair.reply));
  ASSERT_TRUE(ArePartners(pair.forward, pair.reply));
  ASSERT_TRUE(ArePartners(pair.reply, pair.forward));
  EXPECT_EQ(Show(AssembleFlow(pair.forward, &pair.reply, kNow)), row.shown);
  EXPECT_EQ(Show(AssembleFlow(pair.reply, &pair.forward, kNow)), row.shown);
  EXPECT_EQ(Show(AssembleFlow(pair.forward, nullptr, kNow)), row.by_forward);
  EXPECT_EQ(Show(AssembleFlow(pair.reply, nullptr, kNow)), row.by_reply);
}

const Case kCases[] = {
    {"a SYN by the stack", Seen(5, 0, {}),
     "TCP 10.244.1.5:40000 > 10.96.0.10:80 > 10.244.2.7:8080 syn-sent stack of 3 at 12 idle 5 left "
     "115 age 100",
     "TCP 10.244.1.5:40000 > 10.96.0.10:80 > 10.244.2.7:8080 syn-sent stack half of 3 at 12 idle 5 "
     "left 115 age 100",
     "TCP 10.244.1.5:40000 > 10.96.0.10:80 > 10.244.2.7:8080 syn-sent stack half of 3 at 12 idle "
     "1000000 left 0 age 100"},
    {"an established one past the stack, IPv6",
     Seen(7, 6,
          {.client = "[fd00:1::5]:40000",
           .frontend = "[fd00:96::a]:80",
           .backend = "[fd00:2::7]:8080",
           .flags = WAGGLE_FLOW_REWRITE | WAGGLE_FLOW_REDIRECT,
           .forward_state = WAGGLE_STATE_ASSURED,
           .reply_state = WAGGLE_STATE_REPLIED,
           .forward_way = {.device = 9, .mtu = 1450, .how = WAGGLE_WAY_NEIGH, .reserved = 0},
           .reply_way = {.device = 12, .mtu = 1500, .how = WAGGLE_WAY_PEER, .reserved = 0}}),
     "TCP [fd00:1::5]:40000 > [fd00:96::a]:80 > [fd00:2::7]:8080 established neigh dev 9 of 3 at "
     "12 "
     "idle 6 left 431994 age 100",
     "TCP [fd00:1::5]:40000 > [fd00:96::a]:80 > [fd00:2::7]:8080 established neigh dev 9 half of 3 "
     "at 12 idle 7 left 431993 age 100",
     "TCP [fd00:1::5]:40000 > [fd00:96::a]:80 > [fd00:2::7]:8080 syn-recv peer half of 3 at 12 "
     "idle "
     "6 left 54 age 100"},
    {"an old route of a flow that goes by the stack",
     Seen(1, 1, {.forward_way = {.device = 9, .mtu = 0, .how = WAGGLE_WAY_PEER, .reserved = 0}}),
     "TCP 10.244.1.5:40000 > 10.96.0.10:80 > 10.244.2.7:8080 syn-sent stack of 3 at 12 idle 1 left "
     "119 age 100",
     "TCP 10.244.1.5:40000 > 10.96.0.10:80 > 10.244.2.7:8080 syn-sent stack half of 3 at 12 idle 1 "
     "left 119 age 100",
     "TCP 10.244.1.5:40000 > 10.96.0.10:80 > 10.244.2.7:8080 syn-sent stack half of 3 at 12 idle 1 "
     "left 119 age 100"},
    {"another source port, one side has closed",
     Seen(20, 10,
          {.source = "10.244.1.5:61017",
           .forward_state = WAGGLE_STATE_ASSURED,
           .reply_state = WAGGLE_STATE_REPLIED | WAGGLE_STATE_SERVER_FIN}),
     "TCP 10.244.1.5:40000 as 10.244.1.5:61017 > 10.96.0.10:80 > 10.244.2.7:8080 closing stack of "
     "3 "
     "at 12 idle 10 left 110 age 100",
     "TCP 10.244.1.5:40000 as 10.244.1.5:61017 > 10.96.0.10:80 > 10.244.2.7:8080 established stack "
     "half of 3 at 12 idle 20 left 431980 age 100",
     "TCP 10.244.1.5:40000 as 10.244.1.5:61017 > 10.96.0.10:80 > 10.244.2.7:8080 closing stack "
     "half "
     "of 3 at 12 idle 10 left 110 age 100"},
    {"a hairpin over UDP",
     Seen(3, 2,
          {.backend = "10.244.1.5:53",
           .source = "10.96.0.10:40000",
           .protocol = net::Protocol::kUdp,
           .flags = WAGGLE_FLOW_REWRITE | WAGGLE_FLOW_REDIRECT | WAGGLE_FLOW_HAIRPIN,
           .forward_state = WAGGLE_STATE_ASSURED,
           .reply_state = WAGGLE_STATE_REPLIED,
           .forward_way = {.device = 12, .mtu = 1500, .how = WAGGLE_WAY_PEER, .reserved = 0},
           .reply_way = {.device = 12, .mtu = 1500, .how = WAGGLE_WAY_PEER, .reserved = 0}}),
     "UDP 10.244.1.5:40000 as 10.96.0.10:40000 > 10.96.0.10:80 > 10.244.1.5:53 stream peer dev 12 "
     "hairpin of 3 at 12 idle 2 left 118 age 100",
     "UDP 10.244.1.5:40000 as 10.96.0.10:40000 > 10.96.0.10:80 > 10.244.1.5:53 stream peer dev 12 "
     "half hairpin of 3 at 12 idle 3 left 117 age 100",
     "UDP 10.244.1.5:40000 as 10.96.0.10:40000 > 10.96.0.10:80 > 10.244.1.5:53 replied peer half "
     "hairpin of 3 at 12 idle 2 left 28 age 100"},
    {"a direct connection that had to give way",
     Seen(31, 31,
          {.frontend = "10.244.2.7:8080",
           .source = "10.244.1.5:61000",
           .flags = WAGGLE_FLOW_REWRITE | WAGGLE_FLOW_DIRECT,
           .service_id = 0}),
     "TCP 10.244.1.5:40000 as 10.244.1.5:61000 > 10.244.2.7:8080 > 10.244.2.7:8080 syn-sent stack "
     "direct of 0 at 12 idle 31 left 89 age 100",
     "TCP 10.244.1.5:40000 as 10.244.1.5:61000 > 10.244.2.7:8080 > 10.244.2.7:8080 syn-sent stack "
     "half direct of 0 at 12 idle 31 left 89 age 100",
     "TCP 10.244.1.5:40000 as 10.244.1.5:61000 > 10.244.2.7:8080 > 10.244.2.7:8080 syn-sent stack "
     "half direct of 0 at 12 idle 31 left 89 age 100"},
    {"one that its socket translated: nothing is rewritten, the frontend is not told",
     Seen(1, 1,
          {.frontend = "10.244.2.7:8080",
           .flags = WAGGLE_FLOW_SOCKET | WAGGLE_FLOW_REDIRECT,
           .forward_state = WAGGLE_STATE_RESET}),
     "TCP 10.244.1.5:40000 > 10.244.2.7:8080 > 10.244.2.7:8080 closed stack unknown frontend "
     "socket "
     "of 3 at 12 idle 1 left 9 age 100",
     "TCP 10.244.1.5:40000 > 10.244.2.7:8080 > 10.244.2.7:8080 closed stack unknown frontend half "
     "socket of 3 at 12 idle 1 left 9 age 100",
     "TCP 10.244.1.5:40000 > 10.244.2.7:8080 > 10.244.2.7:8080 syn-sent stack unknown frontend "
     "half "
     "socket of 3 at 12 idle 1 left 119 age 100"},
};
INSTANTIATE_TEST_SUITE_P(Table, Assemble, testing::ValuesIn(kCases));

struct StateCase {
  uint8_t protocol;
  uint8_t bits;
  const char* name;
};

TEST(FlowState, FollowsTheBits) {
  constexpr uint8_t kReplied = WAGGLE_STATE_REPLIED;
  constexpr uint8_t kAssured = WAGGLE_STATE_ASSURED;
  constexpr uint8_t kClientFin = WAGGLE_STATE_CLIENT_FIN;
  constexpr uint8_t kServerFin = WAGGLE_STATE_SERVER_FIN;
  constexpr uint8_t kReset = WAGGLE_STATE_RESET;
  const StateCase cases[] = {
      {6, 0, "syn-sent"},
      {6, kReplied, "syn-recv"},
      {6, kReplied | kAssured, "established"},
      {6, kAssured, "established"},  // learned in the middle
      {6, kReplied | kAssured | kClientFin, "closing"},
      {6, kReplied | kAssured | kServerFin, "closing"},
      {6, kReplied | kAssured | kClientFin | kServerFin, "closed"},
      {6, kReplied | kAssured | kReset, "closed"},
      {6, kReset, "closed"},
      {17, 0, "unreplied"},
      {17, kReplied, "replied"},
      {17, kReplied | kAssured, "stream"},
      {17, kAssured, "stream"},
  };
  for (const StateCase& row : cases) {
    EXPECT_EQ(FlowStateName(FlowStateOf(row.protocol, row.bits)), row.name)
        << int{row.protocol} << " " << int{row.bits};
  }
}

TEST(FlowEntry, AnyChangeOfWhatIsConstantIsDamage) {
  const FlowPair pair = PairOf({});
  const auto damaged = [&](auto change) {
    FlowEntry entry = pair.forward;
    change(entry);
    return !IsFlowEntry(entry);
  };
  EXPECT_TRUE(damaged([](FlowEntry& entry) { entry.key.src[15] ^= 1; }));
  EXPECT_TRUE(damaged([](FlowEntry& entry) { entry.key.dst_port_be ^= 1; }));
  EXPECT_TRUE(damaged([](FlowEntry& entry) { entry.value.new_dst[3] ^= 1; }));
  EXPECT_TRUE(damaged([](FlowEntry& entry) { entry.value.new_src_port_be ^= 1; }));
  EXPECT_TRUE(damaged([](FlowEntry& entry) { entry.value.kind = WAGGLE_FLOW_REPLY; }));
  EXPECT_TRUE(damaged([](FlowEntry& entry) { entry.value.service_id ^= 1; }));
  EXPECT_TRUE(damaged([](FlowEntry& entry) { entry.value.ifindex ^= 1; }));
  EXPECT_TRUE(damaged([](FlowEntry& entry) { entry.value.tag ^= 1; }));
  const auto unknown = [&](auto change) {
    return damaged([&](FlowEntry& entry) {
      change(entry);
      SetTag(entry);
    });
  };
  EXPECT_TRUE(unknown([](FlowEntry& entry) { entry.value.kind = 0; }));
  EXPECT_TRUE(unknown([](FlowEntry& entry) { entry.key.protocol = 132; }));
  // In place.
  EXPECT_FALSE(damaged([](FlowEntry& entry) {
    entry.value.last_ns = 1;
    entry.value.state = 31;
    entry.value.isn = 7;
    entry.value.place = 7;
    entry.value.routed_ns = 7;
    entry.value.way.device = 7;
  }));
}

TEST(FlowEntry, StrangersAreNoPartners) {
  const FlowPair pair = PairOf({});
  const FlowPair other = PairOf({.frontend = "10.96.0.11:80"});
  const FlowPair udp = PairOf({.protocol = net::Protocol::kUdp});
  // Another flow took the reply's key: same backend and client, another frontend.
  EXPECT_EQ(std::memcmp(&pair.reply.key, &other.reply.key, sizeof(pair.reply.key)), 0);
  EXPECT_FALSE(ArePartners(pair.forward, other.reply));
  EXPECT_FALSE(ArePartners(other.reply, pair.forward));
  EXPECT_FALSE(ArePartners(pair.forward, udp.reply));
  EXPECT_FALSE(ArePartners(pair.forward, pair.forward));
  FlowEntry damaged = pair.reply;
  damaged.value.tag ^= 1;
  EXPECT_FALSE(ArePartners(pair.forward, damaged));
}

struct OverCase {
  net::Protocol protocol;
  uint8_t forward_state;
  uint8_t reply_state;
  uint64_t lifetime_s;
};

// Over when the newer of both directions is older than the lifetime of both states.
TEST(FlowLifetime, IsThatOfTheNewerDirectionAndOfBothStates) {
  using net::Protocol;
  const OverCase cases[] = {
      {Protocol::kTcp, 0, 0, WAGGLE_TCP_SYN_SENT_S},
      {Protocol::kTcp, 0, WAGGLE_STATE_REPLIED, WAGGLE_TCP_SYN_RECV_S},
      {Protocol::kTcp, WAGGLE_STATE_ASSURED, WAGGLE_STATE_REPLIED, WAGGLE_TCP_ESTABLISHED_S},
      {Protocol::kTcp, WAGGLE_STATE_ASSURED, WAGGLE_STATE_SERVER_FIN, WAGGLE_TCP_FIN_S},
      {Protocol::kTcp, WAGGLE_STATE_ASSURED | WAGGLE_STATE_CLIENT_FIN, 0, WAGGLE_TCP_FIN_S},
      {Protocol::kTcp, 0, WAGGLE_STATE_RESET, WAGGLE_TCP_CLOSED_S},
      // Anybody may have sent it.
      {Protocol::kTcp, WAGGLE_STATE_ASSURED, WAGGLE_STATE_RESET, WAGGLE_TCP_ESTABLISHED_S},
      {Protocol::kUdp, 0, WAGGLE_STATE_REPLIED, WAGGLE_UDP_S},
      {Protocol::kUdp, WAGGLE_STATE_ASSURED, WAGGLE_STATE_REPLIED, WAGGLE_UDP_STREAM_S},
  };
  for (const OverCase& row : cases) {
    SCOPED_TRACE(std::to_string(row.lifetime_s));
    const uint64_t life = row.lifetime_s * kSecondNs;
    for (const bool forward_newer : {true, false}) {
      for (const int64_t past : {-1, 0, 1}) {
        const uint64_t newer = kNow - life - static_cast<uint64_t>(past);
        const FlowPair pair = PairOf({.protocol = row.protocol,
                                      .forward_state = row.forward_state,
                                      .reply_state = row.reply_state,
                                      .forward_ns = forward_newer ? newer : 1,
                                      .reply_ns = forward_newer ? 1 : newer});
        EXPECT_EQ(FlowIsOver(pair.forward, &pair.reply, kNow), past > 0);
        EXPECT_EQ(FlowIsOver(pair.reply, &pair.forward, kNow), past > 0);
      }
    }
  }
}

TEST(FlowLifetime, AStampOfAnotherCpuFromJustNowIsNoOverflow) {
  const FlowPair pair = PairOf({.created_ns = kNow + 5, .forward_ns = kNow + 7, .reply_ns = 1});
  EXPECT_FALSE(FlowIsOver(pair.forward, &pair.reply, kNow));
  const Flow flow = AssembleFlow(pair.forward, &pair.reply, kNow);
  EXPECT_EQ(flow.idle_ns, 0u);
  EXPECT_EQ(flow.age_ns, 0u);
  EXPECT_EQ(flow.remaining_ns, WAGGLE_TCP_SYN_SENT_S * kSecondNs);
}

}  // namespace
}  // namespace waggle::maps
