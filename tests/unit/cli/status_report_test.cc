// The status from values, compared with golden text that reads as a user sees it.
#include "userspace/cli/status_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/unit/cli/run.h"
#include "userspace/cli/status_facts.h"

namespace waggle::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kNow = 100'000 * kSecond;

template <size_t kSize>
void Set(char (&field)[kSize], const std::string& text) {
  ASSERT_LE(text.size(), kSize);
  std::memcpy(field, text.data(), text.size());
}

// A healthy node: two hours up, one Service.
StatusInput Healthy() {
  StatusInput input;
  input.pin_path = "/sys/fs/bpf/waggle";
  maps::KernelView& view = input.view;
  view.now_boottime_ns = kNow;
  view.locked = true;
  waggle_agent& agent = view.agent;
  agent.layout_version = 1;
  agent.pid = 4711;
  agent.state = WAGGLE_AGENT_READY;
  agent.socket_lb = WAGGLE_SOCKET_LB_ALL;
  agent.features = WAGGLE_FEATURE_SET_RETVAL | WAGGLE_FEATURE_MPTCP_SOCK;
  agent.started_ns = kNow - 7384 * kSecond;
  agent.ready_ns = agent.started_ns + 250'000'000;
  agent.heartbeat_ns = kNow - 400'000'000;
  agent.events = 12;
  agent.services_resolved = 9;
  agent.plans_applied = 8;
  agent.hash_inserts = 4;
  agent.hash_deletes = 1;
  agent.list_stores = 7;
  agent.backend_stores = 21;
  Set(agent.node, "node-1");
  Set(agent.version, "0.1.0");
  const auto at = [](const std::string& address, uint16_t port) {
    return net::Endpoint{*net::Address::Parse(address), port};
  };
  view.services = {{{"default", "web"},
                    {{"http",
                      net::Protocol::kTcp,
                      {{Fate::kForward,
                        Policy::kCluster,
                        0,
                        {{at("10.244.1.2", 8080)}, {at("10.244.1.3", 8080)}},
                        {{at("10.96.0.10", 80), FrontendKind::kClusterIp, Scope::kInternal}}},
                       {Fate::kRefuse,
                        Policy::kCluster,
                        0,
                        {},
                        {{at("fd00:96::10", 80), FrontendKind::kClusterIp, Scope::kInternal}}}}}}}};
  view.stats = {1234, 567, 560, 3, 0, 0, 0, 0, 0, 0, 0};
  view.maps = {{"frontends", "--max-frontends", 2, 65536},
               {"lists", "--max-services", 2, 65536},
               {"backends", "--max-backends", 2, 262144},
               {"sock_state", "", 0, 0},
               {"stats", "", 11, 11}};
  input.attachments = {{"connect4", "cgroup 1 (/sys/fs/cgroup)", 42, "0123456789abcdef", true},
                       {"connect6", "cgroup 1 (/sys/fs/cgroup)", 43, "fedcba9876543210", true}};
  return input;
}

TEST(StatusReport, OfAHealthyNode) {
  ExpectGolden(RenderStatusText(Healthy(), /*wide=*/false), "status-healthy.txt");
  ExpectGolden(RenderStatusText(Healthy(), /*wide=*/true), "status-healthy-wide.txt");
  ExpectGolden(RenderStatusJson(Healthy()), "status-healthy.json");
}

// The agent was killed, pods are not served, the kernel is old, the cgroup of one link is
// gone, maps are full and part of the input cannot be read.
TEST(StatusReport, OfANodeInTrouble) {
  StatusInput input = Healthy();
  input.view.locked = false;
  waggle_agent& agent = input.view.agent;
  agent.heartbeat_ns = kNow - 75 * kSecond;
  agent.socket_lb = WAGGLE_SOCKET_LB_HOST;
  agent.features = 0;
  agent.services_left_out = 3;
  agent.problems = 5;
  agent.sources_incomplete = 1;
  input.attachments[1].target = "gone";
  input.attachments[1].alive = false;
  input.view.problems = {{{"map", "", "frontends"},
                          "",
                          "10.96.0.99:80",
                          ProblemReason::kInvalid,
                          "names slot 70000 of 65536: the row is ignored"}};
  ExpectGolden(RenderStatusText(input, /*wide=*/false), "status-trouble.txt");
  ExpectGolden(RenderStatusJson(input), "status-trouble.json");
}

TEST(StatusReport, OfANodeWithSocketLbOff) {
  StatusInput input = Healthy();
  input.view.agent.state = WAGGLE_AGENT_STOPPED;
  input.view.agent.socket_lb = WAGGLE_SOCKET_LB_OFF;
  input.attachments.clear();
  ExpectGolden(RenderStatusText(input, /*wide=*/false), "status-off.txt");
}

TEST(StatusReport, NothingAttachedThoughAskedForSaysWhatToDo) {
  StatusInput input = Healthy();
  input.attachments.clear();
  EXPECT_THAT(RenderStatusText(input, false),
              HasSubstr("nothing: no connection is translated; start `waggle agent`"));
}

TEST(StatusReport, SurvivesWhatAStrangerWroteIntoThePins) {
  StatusInput input = Healthy();
  waggle_agent& agent = input.view.agent;
  std::memset(agent.node, '\x1b', sizeof(agent.node));  // no NUL at the end
  std::memset(agent.version, '\xff', sizeof(agent.version));
  agent.state = 77;
  agent.socket_lb = 99;
  agent.started_ns = ~uint64_t{0};
  agent.ready_ns = ~uint64_t{0};
  agent.heartbeat_ns = ~uint64_t{0};
  input.view.stats = {1};  // fewer counters than there are reasons
  const std::string text = RenderStatusText(input, /*wide=*/true);
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, HasSubstr("Socket LB:  unknown"));
  EXPECT_THAT(text, HasSubstr("no agent has run on these pins"));
  const auto json = nlohmann::json::parse(RenderStatusJson(input));
  EXPECT_EQ(json["agent"]["alive"], false);
  EXPECT_EQ(json["agent"]["uptimeSeconds"], 0.0);
  EXPECT_EQ(json["counters"].size(), static_cast<size_t>(WAGGLE_REASON_COUNT));
  EXPECT_EQ(json["counters"][0]["count"], 1);
  EXPECT_EQ(json["counters"][1]["count"], 0);
}

struct HealthCase {
  const char* what;
  uint32_t state;
  bool locked;               // a process holds the pins
  int64_t heartbeat_age_ms;  // negative: in the future
  const char* expected;
  bool alive;
  bool ready;

  friend void PrintTo(const HealthCase& row, std::ostream* out) { *out << row.what; }
};

class Health : public testing::TestWithParam<HealthCase> {};

TEST_P(Health, FollowsStateLockAndHeartbeat) {
  const HealthCase& row = GetParam();
  waggle_agent agent{};
  agent.state = row.state;
  agent.started_ns = kNow - 60 * kSecond;
  agent.heartbeat_ns =
      static_cast<uint64_t>(static_cast<int64_t>(kNow) - row.heartbeat_age_ms * 1'000'000);
  const AgentHealth health = HealthOf(agent, row.locked, kNow);
  EXPECT_EQ(health.state, row.expected);
  EXPECT_EQ(health.alive, row.alive);
  EXPECT_EQ(health.ready, row.ready);
  EXPECT_EQ(health.uptime_ns, row.alive ? 60 * kSecond : 0);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Health,
    testing::Values(
        HealthCase{"ready", WAGGLE_AGENT_READY, true, 900, "ready", true, true},
        HealthCase{"five seconds", WAGGLE_AGENT_READY, true, 5000, "ready", true, true},
        HealthCase{"over five", WAGGLE_AGENT_READY, true, 5001, "hung", true, false},
        HealthCase{"killed just now", WAGGLE_AGENT_READY, false, 100, "killed", false, false},
        HealthCase{"starting", WAGGLE_AGENT_STARTING, true, 100, "starting", true, false},
        HealthCase{"starts slowly", WAGGLE_AGENT_STARTING, true, 60'000, "starting", true, false},
        HealthCase{"died while starting", WAGGLE_AGENT_STARTING, false, 100, "killed", false,
                   false},
        HealthCase{"stopped just now", WAGGLE_AGENT_STOPPED, false, 100, "stopped", false, false},
        HealthCase{"about to end", WAGGLE_AGENT_STOPPED, true, 100, "stopped", false, false},
        HealthCase{"written between two looks at the clock", WAGGLE_AGENT_READY, true, -20, "ready",
                   true, true},
        HealthCase{"from another boot", WAGGLE_AGENT_READY, false, -3'600'000, "killed", false,
                   false},
        HealthCase{"nobody yet", WAGGLE_AGENT_NONE, false, 100, "none", false, false}));

TEST(Health, WithoutAnyHeartbeatIsNotReady) {
  waggle_agent agent{};
  agent.state = WAGGLE_AGENT_READY;
  EXPECT_FALSE(HealthOf(agent, true, 3 * kSecond).ready) << "three seconds after boot";
}

TEST(DurationText, HasTheTwoLargestUnits) {
  EXPECT_EQ(DurationText(0), "0.0s");
  EXPECT_EQ(DurationText(1'990'000'000), "1.9s");
  EXPECT_EQ(DurationText(59 * kSecond), "59.0s");
  EXPECT_EQ(DurationText(60 * kSecond), "1m0s");
  EXPECT_EQ(DurationText(3599 * kSecond), "59m59s");
  EXPECT_EQ(DurationText(3600 * kSecond), "1h0m");
  EXPECT_EQ(DurationText(86399 * kSecond), "23h59m");
  EXPECT_EQ(DurationText(273600 * kSecond), "3d4h");
}

TEST(Reasons, AreThoseOfTheDatapath) {
  ASSERT_EQ(Reasons().size(), static_cast<size_t>(WAGGLE_REASON_COUNT));
  EXPECT_EQ(Reasons()[WAGGLE_REASON_NO_ENDPOINTS].label, "no-endpoints");
  EXPECT_EQ(Reasons()[WAGGLE_REASON_NO_ENDPOINTS].effect, "refused");
}

}  // namespace
}  // namespace waggle::cli
