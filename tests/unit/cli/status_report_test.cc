// The status from values, compared with golden text that reads as a user sees it.
#include "userspace/cli/status_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

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

void AddDevice(StatusInput& input, uint32_t ifindex, const std::string& name, waggle_role role,
               std::vector<std::string> hooks, uint32_t bridge = 0) {
  waggle_device& device = input.view.devices[ifindex];
  device.role = role;
  device.bridge = bridge;
  device.netns_id = role == WAGGLE_ROLE_POD ? static_cast<int>(ifindex) - 10 : -1;
  device.layer3 = !hooks.empty() && hooks[0] == "net_l3";
  input.device_names[ifindex] = name;
  for (const std::string& hook : hooks) {
    const uint32_t program = hook == "pod_in" ? 50 : hook == "pod_out" ? 51 : 52;
    input.attachments.push_back({hook, "device " + std::to_string(ifindex) + " (" + name + ")",
                                 program, "aaaabbbbccccdddd", true});
  }
}

// Sorted by hook, as ListAttachments() gives them.
void SortAttachments(StatusInput& input) {
  std::stable_sort(input.attachments.begin(), input.attachments.end(),
                   [](const auto& left, const auto& right) { return left.hook < right.hook; });
}

// Redirect by tcx; six pods, a bridge, an uplink, two tunnels.
void AddPacketPath(StatusInput& input) {
  input.view.now_monotonic_ns = kNow;
  waggle_settings& settings = input.view.settings.emplace();
  settings.forwarding = WAGGLE_FORWARDING_REDIRECT;
  settings.forwarding_asked = WAGGLE_FORWARDING_AUTO;
  settings.tc_attach = WAGGLE_TC_TCX;
  settings.lost_flows_pass_until_ns = kNow - 1;
  Set(settings.forwarding_reason, "nobody else looks at the packets of pods");
  AddDevice(input, 2, "eth0", WAGGLE_ROLE_UPLINK, {"net_in"});
  AddDevice(input, 3, "cni0", WAGGLE_ROLE_BRIDGE, {});
  AddDevice(input, 4, "flannel.1", WAGGLE_ROLE_TUNNEL, {"net_in"});
  AddDevice(input, 5, "tun0", WAGGLE_ROLE_TUNNEL, {"net_l3"});
  for (uint32_t pod = 0; pod < 6; ++pod) {
    AddDevice(input, 10 + pod, "veth" + std::to_string(pod), WAGGLE_ROLE_POD, {"pod_in", "pod_out"},
              pod == 5 ? 0 : 3);
  }
  SortAttachments(input);
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
  agent.features = WAGGLE_FEATURE_SET_RETVAL | WAGGLE_FEATURE_MPTCP_SOCK |
                   WAGGLE_FEATURE_SKIP_NEIGH | WAGGLE_FEATURE_TCX | WAGGLE_FEATURE_COARSE_CLOCK;
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
  view.stats.resize(WAGGLE_REASON_COUNT);
  view.stats[WAGGLE_REASON_CONNECT_TRANSLATED] = 1234;
  view.stats[WAGGLE_REASON_DATAGRAM_TRANSLATED] = 567;
  view.stats[WAGGLE_REASON_NO_ENDPOINTS] = 3;
  view.stats[WAGGLE_REASON_FLOW_LEARNED] = 987;
  view.stats[WAGGLE_REASON_NO_SHORT_WAY] = 7;
  view.maps = {{"frontends", "--max-frontends", 2, 65536},
               {"lists", "--max-services", 2, 65536},
               {"backends", "--max-backends", 2, 262144},
               {"sock_state", "", 0, 0},
               {"flows", "--max-flows", 1974, 524288},
               {"half_open", "--max-half-open", 12, 131072},
               {"stats", "", WAGGLE_REASON_COUNT, WAGGLE_REASON_COUNT}};
  input.attachments = {{"connect4", "cgroup 1 (/sys/fs/cgroup)", 42, "0123456789abcdef", true},
                       {"connect6", "cgroup 1 (/sys/fs/cgroup)", 43, "fedcba9876543210", true}};
  AddPacketPath(input);
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
  // A pod's device lost a program, another one left without a word, and a reason was cut.
  std::erase_if(input.attachments, [](const loader::Attachment& attachment) {
    return attachment.target == "device 11 (veth1)" && attachment.hook == "pod_out";
  });
  input.device_names.erase(15);
  std::erase_if(input.attachments, [](const loader::Attachment& attachment) {
    return attachment.target == "device 15 (veth5)";
  });
  waggle_settings& settings = *input.view.settings;
  settings.tc_attach = WAGGLE_TC_CLSACT;
  settings.forwarding = WAGGLE_FORWARDING_STACK;
  settings.lost_flows_pass_until_ns = kNow + 552 * kSecond;
  std::memset(settings.forwarding_reason, 0, sizeof(settings.forwarding_reason));
  Set(settings.forwarding_reason,
      "table inet filter of nftables has rules at forward, which packets past the host's stack "
      "would not meet");
  input.native_xdp = {2, 10};  // a pod's, and an uplink's, where it does no harm
  input.view.stats[WAGGLE_REASON_FLOWS_FULL] = 40;
  input.view.stats[WAGGLE_REASON_NO_FREE_PORT] = 2;
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
  std::erase_if(input.attachments,
                [](const loader::Attachment& attachment) { return DeviceOf(attachment) == 0; });
  ExpectGolden(RenderStatusText(input, /*wide=*/false), "status-off.txt");
}

// No packet path, fewer maps and counters.
TEST(StatusReport, OfPinsOfAnOlderVersion) {
  StatusInput input = Healthy();
  input.view.settings.reset();
  input.view.devices.clear();
  input.device_names.clear();
  std::erase_if(input.attachments,
                [](const loader::Attachment& attachment) { return DeviceOf(attachment) != 0; });
  std::erase_if(input.view.maps, [](const maps::MapUsage& usage) {
    return usage.name == "flows" || usage.name == "half_open";
  });
  input.view.stats.resize(11);
  ExpectGolden(RenderStatusText(input, /*wide=*/false), "status-older.txt");
  const auto json = nlohmann::json::parse(RenderStatusJson(input));
  EXPECT_EQ(json["packetPath"], nullptr);
  input.view.agent.socket_lb = WAGGLE_SOCKET_LB_OFF;
  input.attachments.clear();
  const std::string off = RenderStatusText(input, false);
  EXPECT_THAT(off, HasSubstr("nothing, as --socket-lb=off asks"));
  EXPECT_THAT(off, HasSubstr("off: no process is served"));
}

// A terminal of 80 columns shows all of it.
TEST(StatusReport, FitsIntoEightyColumns) {
  StatusInput input = Healthy();
  input.view.stats.assign(WAGGLE_REASON_COUNT, 123456789);
  input.view.agent.features = 0;
  input.native_xdp = {10, 11, 12, 13};
  input.view.settings->lost_flows_pass_until_ns = 0;
  for (const uint32_t mode : {WAGGLE_SOCKET_LB_ALL, WAGGLE_SOCKET_LB_HOST, WAGGLE_SOCKET_LB_OFF}) {
    for (const uint32_t state :
         {WAGGLE_AGENT_NONE, WAGGLE_AGENT_STARTING, WAGGLE_AGENT_READY, WAGGLE_AGENT_STOPPED}) {
      for (const bool locked : {false, true}) {
        input.view.agent.socket_lb = mode;
        input.view.agent.state = state;
        input.view.agent.sources_incomplete = 1;
        input.view.agent.problems = 9999;
        input.view.locked = locked;
        std::istringstream lines(RenderStatusText(input, false));
        for (std::string line; std::getline(lines, line);)
          EXPECT_LE(line.size(), 80u) << line;
      }
    }
  }
}

struct ForwardingCase {
  uint32_t forwarding;
  uint32_t asked;
  uint32_t attach;
  const char* reason;
  uint64_t pass_until_ns;
  const char* shown;

  friend void PrintTo(const ForwardingCase& row, std::ostream* out) { *out << row.shown; }
};

class Forwarding : public testing::TestWithParam<ForwardingCase> {};

TEST_P(Forwarding, IsShownWithWhatWasAskedAndWhy) {
  const ForwardingCase& row = GetParam();
  StatusInput input = Healthy();
  waggle_settings& settings = *input.view.settings;
  settings = {};
  settings.forwarding = row.forwarding;
  settings.forwarding_asked = row.asked;
  settings.tc_attach = row.attach;
  settings.lost_flows_pass_until_ns = row.pass_until_ns;
  Set(settings.forwarding_reason, row.reason);
  const std::string text = RenderStatusText(input, false);
  const size_t from = text.find("Packets:");
  ASSERT_NE(from, std::string::npos);
  EXPECT_EQ(text.substr(from, text.find("Pins:") - from), row.shown);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Forwarding,
    testing::Values(
        ForwardingCase{WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_STACK, WAGGLE_TC_CLSACT, "", 1,
                       "Packets:    clsact: 6 pods, 1 bridge, 1 uplink, 2 tunnels\n"
                       "Forwarding: stack\n"},
        ForwardingCase{WAGGLE_FORWARDING_REDIRECT, WAGGLE_FORWARDING_AUTO, WAGGLE_TC_TCX, "why", 1,
                       "Packets:    tcx: 6 pods, 1 bridge, 1 uplink, 2 tunnels\n"
                       "Forwarding: redirect (asked for: auto): why\n"},
        ForwardingCase{WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT, WAGGLE_TC_TCX, "why", 0,
                       "Packets:    tcx: 6 pods, 1 bridge, 1 uplink, 2 tunnels\n"
                       "Forwarding: stack (asked for: redirect): why\n"
                       "Takeover:   TCP connections from before the start pass untouched\n"},
        ForwardingCase{WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_STACK, WAGGLE_TC_TCX, "",
                       kNow + 90 * kSecond,
                       "Packets:    tcx: 6 pods, 1 bridge, 1 uplink, 2 tunnels\n"
                       "Forwarding: stack\n"
                       "Takeover:   TCP connections from before the start pass untouched for "
                       "another\n            1m30s\n"},
        ForwardingCase{WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_STACK, WAGGLE_TC_NONE, "", 0,
                       "Packets:    no packet path: nothing is attached at devices\n"},
        ForwardingCase{WAGGLE_FORWARDING_AUTO, 77, 99, "\x1b[31m", 1,
                       "Packets:    unknown: 6 pods, 1 bridge, 1 uplink, 2 tunnels\n"
                       "Forwarding: unknown: \\x1b[31m\n"}));

TEST(StatusReport, NamesAFewPodsOneByOne) {
  StatusInput input = Healthy();
  for (const uint32_t ifindex : {12, 13}) {
    input.view.devices.erase(ifindex);
    std::erase_if(input.attachments, [ifindex](const loader::Attachment& attachment) {
      return DeviceOf(attachment) == ifindex;
    });
  }
  const std::string text = RenderStatusText(input, false);
  for (const char* name : {"veth0", "veth1", "veth4", "veth5"}) {
    EXPECT_THAT(text, HasSubstr(std::string("(") + name + ")"));
    EXPECT_THAT(text, HasSubstr(std::string("\n") + name + " "));
  }
  EXPECT_THAT(text, Not(HasSubstr("veth2")));
  EXPECT_THAT(text, Not(HasSubstr("-pods")));
}

TEST(StatusReport, CountsPodsWithNativeXdp) {
  StatusInput input = Healthy();
  EXPECT_THAT(RenderStatusText(input, false), Not(HasSubstr("Native XDP")));
  input.native_xdp = {10, 11};
  EXPECT_THAT(RenderStatusText(input, false), HasSubstr("Native XDP: veth0, veth1: packets come"));
  input.native_xdp = {10, 11, 12, 13, 14};
  EXPECT_THAT(RenderStatusText(input, false), HasSubstr("Native XDP: 5 pods: packets come"));
}

TEST(StatusReport, SaysThatSocketProgramsAreMissing) {
  StatusInput input = Healthy();
  std::erase_if(input.attachments,
                [](const loader::Attachment& attachment) { return DeviceOf(attachment) == 0; });
  EXPECT_THAT(RenderStatusText(input, false), HasSubstr("no program at sockets"));
  // A dead link at a device is none.
  input.attachments.push_back({"pod_in", "gone", 50, "", false});
  EXPECT_THAT(RenderStatusText(input, false), HasSubstr("no program at sockets"));
  input.attachments.push_back({"connect4", "gone", 52, "", false});
  EXPECT_THAT(RenderStatusText(input, false), Not(HasSubstr("no program at sockets")));
}

TEST(DevicesOf, TellsWhatIsAttachedAndWhatIsMissing) {
  StatusInput input = Healthy();
  // An attachment to a device that the map does not know, dead ones, and one without a name.
  input.attachments.push_back({"pod_in", "device 77 (old)", 50, "", true});
  input.attachments.push_back({"pod_out", "gone", 51, "", false});
  input.attachments.push_back({"pod_out", "device 78", 51, "", true});
  std::erase_if(input.attachments, [](const loader::Attachment& attachment) {
    return attachment.target == "device 5 (tun0)";
  });
  input.device_names.erase(2);
  std::map<uint32_t, std::string> shown;
  for (const DeviceFacts& facts :
       DevicesOf(input.view.devices, input.device_names, input.attachments)) {
    std::string text = facts.name + " " + facts.role;
    for (const std::string& hook : facts.programs)
      text += " +" + hook;
    for (const std::string& hook : facts.missing)
      text += " -" + hook;
    shown[facts.ifindex] = text;
  }
  EXPECT_EQ(shown.size(), 12u);
  EXPECT_EQ(shown[2], "eth0 uplink +net_in");
  EXPECT_EQ(shown[3], "cni0 bridge");
  EXPECT_EQ(shown[5], "tun0 tunnel -net_l3");
  EXPECT_EQ(shown[10], "veth0 pod +pod_in +pod_out");
  EXPECT_EQ(shown[77], "old unknown +pod_in");
  EXPECT_EQ(shown[78], " unknown +pod_out");
}

// As in a pod with CAP_BPF alone.
TEST(DevicesOf, KnowsItsHooksWhereNamesOfProgramsAreHidden) {
  StatusInput input = Healthy();
  const auto named = DevicesOf(input.view.devices, input.device_names, input.attachments);
  for (loader::Attachment& attachment : input.attachments) {
    if (DeviceOf(attachment) == 0) continue;
    attachment.hook = attachment.hook.ends_with("_out") ? "out" : "in";
  }
  const auto unnamed = DevicesOf(input.view.devices, input.device_names, input.attachments);
  ASSERT_EQ(unnamed.size(), named.size());
  for (size_t i = 0; i < named.size(); ++i) {
    EXPECT_EQ(unnamed[i].programs, named[i].programs) << named[i].name;
    EXPECT_EQ(unnamed[i].missing, named[i].missing) << named[i].name;
  }
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
  std::memset(&*input.view.settings, 0xff, sizeof(waggle_settings));
  std::memset(&input.view.devices[10], 0xff, sizeof(waggle_device));
  input.device_names[10] = "\x1b[2J evil";
  const std::string text = RenderStatusText(input, /*wide=*/true);
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, HasSubstr("Socket LB:  unknown"));
  EXPECT_THAT(text, HasSubstr("no agent has run on these pins"));
  EXPECT_THAT(text, HasSubstr("Forwarding: unknown"));
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
