// One way of attaching programs to devices is exchanged for the other: under traffic, with a device
// that will not have it, and by agents that die in the middle.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>

#include "absl/strings/str_cat.h"
#include "loader/tc_filters.h"
#include "tests/lab/cluster.h"
#include "tests/lab/programs_at.h"

namespace waggle::lab {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kTcx[] = "tcx";
constexpr char kClsact[] = "clsact";

// A filter of somebody else in the place of ours.
class Squatter {
 public:
  Squatter(const Place& place, const std::string& device)
      : place_(place), ifindex_(static_cast<int>(IndexOf(place, device))) {
    bpf_insn code[2] = {};
    code[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
    code[0].imm = TC_ACT_UNSPEC;
    code[1].code = BPF_JMP | BPF_EXIT;
    const Fd program(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "foreign", "GPL", code, 2, nullptr));
    bpf_tc_opts options = Options();
    options.prog_fd = program.get();
    const bpf_tc_hook hook = Hook();
    Inside inside(place);
    if (bpf_tc_attach(&hook, &options) != 0) Fail("cannot attach a filter");
  }
  void Remove() {
    bpf_tc_opts options = Options();
    const bpf_tc_hook hook = Hook();
    Inside inside(place_);
    if (bpf_tc_detach(&hook, &options) != 0) Fail("cannot remove a filter");
  }

 private:
  bpf_tc_hook Hook() const {
    bpf_tc_hook hook{};
    hook.sz = sizeof(hook);
    hook.ifindex = ifindex_;
    hook.attach_point = BPF_TC_EGRESS;
    return hook;
  }
  static bpf_tc_opts Options() {
    bpf_tc_opts options{};
    options.sz = sizeof(options);
    options.handle = loader::kFilterHandle;
    options.priority = loader::kFilterPriority;
    return options;
  }

  const Place& place_;
  int ifindex_;
};

// Only the packet path translates. More devices than pods, so that an exchange takes its time.
class ExchangeTest : public testing::Test {
 protected:
  static constexpr int kMore = 30;

  ExchangeTest() {
    cluster_.Apply(cluster_.web);
    std::string lines;
    for (int i = 0; i < kMore; ++i) {
      absl::StrAppend(&lines, "link add name more", i, " type veth peer name p", i, " netns ",
                      cluster_.client.name(), "\nlink set more", i, " up\n");
    }
    cluster_.node1.Ip(lines);
  }

  static AgentOptions Options(const std::string& way, const std::string& forwarding = "stack") {
    return {.flags = {"--socket-lb", "off", "--forwarding", forwarding, "--tc-attach", way}};
  }
  void Launch(const std::string& way) {
    cluster_.agent = std::make_unique<Agent>(cluster_.lab, cluster_.node1, Options(way));
  }
  void Start(const std::string& way) {
    Launch(way);
    cluster_.agent->AwaitReady();
    cluster_.agent->AwaitProgrammed();
  }
  const std::string& Pins() const { return cluster_.node1.pin_path(); }

  Programs At(const std::string& device) const {
    return ProgramsAt(cluster_.node1, IndexOf(cluster_.node1, device));
  }
  static Programs Uplink(const std::string& way) {
    return {{way == kTcx ? "waggle_net_in" : "filter waggle_net_in"}, {}};
  }
  static Programs OfPod(const std::string& way) {
    if (way == kTcx) return {{"waggle_pod_in"}, {"waggle_pod_out"}};
    return {{"filter waggle_pod_in"}, {"filter waggle_pod_out"}};
  }
  void ExpectAttached(const std::string& way) const {
    EXPECT_EQ(At("eth0"), Uplink(way));
    for (const Pod* pod : {&cluster_.client, &cluster_.b1})
      EXPECT_EQ(At(pod->host_device()), OfPod(way));
    for (int i = 0; i < kMore; ++i)
      EXPECT_EQ(At(absl::StrCat("more", i)), OfPod(way)) << i;
    EXPECT_FALSE(UnderWay());
  }
  bool UnderWay() const {
    std::error_code error;
    for (std::filesystem::directory_iterator at(Pins() + "/links", error), end; !error && at != end;
         at.increment(error)) {
      if (at->path().filename().string().starts_with("exchange_")) return true;
    }
    return false;
  }
  // An agent that exchanges what is there for `way`, held (SIGSTOP) while `there` is true.
  bool HoldAt(const std::string& way, const std::function<bool()>& there) {
    const uint64_t last = ReadAgent(Pins()).started_ns;
    Launch(way);
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      if (UnderWay() && there()) {
        kill(static_cast<pid_t>(ReadAgent(Pins()).pid), SIGSTOP);
        return UnderWay() && there();
      }
      const waggle_agent agent = ReadAgent(Pins());
      if (agent.started_ns != last && agent.state == WAGGLE_AGENT_READY) return false;
    }
    ADD_FAILURE() << "no exchange\n" << cluster_.agent->Log();
    return false;
  }
  // The machine has other work to do: the moment can be missed.
  void MustHoldAt(const std::string& from, const std::string& way,
                  const std::function<bool()>& there) {
    for (int i = 0; i < 30; ++i) {
      Start(from);
      cluster_.agent->Kill();
      if (HoldAt(way, there)) return;
      cluster_.agent->Kill();
    }
    Fail("an exchange is never in that state");
  }
  // Each packet meets our program once: never is silence, and twice is two flows.
  void ExpectServedOnce() const {
    const uint64_t flows = ReadReason(Pins(), WAGGLE_REASON_FLOW_TRANSLATED);
    uint64_t asked = 0;
    for (const Traffic& traffic : AllTraffic()) {
      const Tally tally = AskMany(cluster_.client, traffic.mode,
                                  Cluster::Frontend(cluster_.web, traffic.family), 5);
      EXPECT_TRUE(tally.AllOk()) << traffic.Name() << " " << tally;
      asked += tally.attempts;
    }
    EXPECT_LE(ReadReason(Pins(), WAGGLE_REASON_FLOW_TRANSLATED) - flows, asked);
    EXPECT_EQ(ReadReason(Pins(), WAGGLE_REASON_PORT_CHANGED), 0u);
    EXPECT_EQ(ReadReason(Pins(), WAGGLE_REASON_LOST_FLOW_REFUSED), 0u);
  }

  Cluster cluster_;
};

// An agent that is killed in the middle leaves programs that work, and the next one makes an end
// of it, be it that it is told to go on or to go back.
struct Cut {
  const char* name;
  const char* from;
  const char* to;
  bool late;  // after the switch: the first device has the new way only
  const char* then;
};

class CutShortTest : public ExchangeTest, public testing::WithParamInterface<Cut> {};

INSTANTIATE_TEST_SUITE_P(, CutShortTest,
                         testing::Values(Cut{"ToClsact", kTcx, kClsact, false, kClsact},
                                         Cut{"ToClsactAndBack", kTcx, kClsact, false, kTcx},
                                         Cut{"ToClsactLate", kTcx, kClsact, true, kClsact},
                                         Cut{"ToClsactLateAndBack", kTcx, kClsact, true, kTcx},
                                         Cut{"ToTcx", kClsact, kTcx, false, kTcx},
                                         Cut{"ToTcxAndBack", kClsact, kTcx, false, kClsact},
                                         Cut{"ToTcxLate", kClsact, kTcx, true, kTcx},
                                         Cut{"ToTcxLateAndBack", kClsact, kTcx, true, kClsact}),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(CutShortTest, NothingIsLost) {
  const Cut& cut = GetParam();
  MustHoldAt(cut.from, cut.to, [&] { return !cut.late || At("eth0") == Uplink(cut.to); });
  ExpectServedOnce();
  cluster_.agent->Kill();
  EXPECT_TRUE(UnderWay());
  ExpectServedOnce();
  Start(cut.then);
  ExpectAttached(cut.then);
  ExpectServedOnce();
}

TEST_F(ExchangeTest, CleanupAfterAnAgentThatDiedInTheMiddle) {
  MustHoldAt(kTcx, kClsact, [] { return true; });
  cluster_.agent->Kill();
  const RunResult cleanup = Waggle(cluster_.node1, {"cleanup", "--pin-path", Pins()});
  EXPECT_TRUE(cleanup.ok()) << cleanup.ToString();
  EXPECT_FALSE(std::filesystem::exists(Pins()));
  EXPECT_EQ(At(cluster_.client.host_device()), Programs());
  EXPECT_THAT(cluster_.node1.Run({"tc", "qdisc", "show"}).out, Not(HasSubstr("clsact")));
}

// Somebody's filter in our place at one pod's device, from before or just in the middle, is that
// pod's trouble.
TEST_F(ExchangeTest, ADeviceThatCannotHaveAFilter) {
  const std::string device = cluster_.client.host_device();
  ASSERT_TRUE(cluster_.node1.Run({"tc", "qdisc", "add", "dev", device, "clsact"}).ok());
  for (const bool before : {true, false}) {
    SCOPED_TRACE(before ? "from before" : "in the middle");
    std::optional<Squatter> squatter;
    if (before) {
      Start(kTcx);
      cluster_.agent->Kill();
      squatter.emplace(cluster_.node1, device);
      Launch(kClsact);
    } else {
      const Programs stand_ins = {{"waggle_exchange"}, {"waggle_exchange"}};
      MustHoldAt(kTcx, kClsact, [&] { return At(device) == stand_ins; });
      squatter.emplace(cluster_.node1, device);
      kill(static_cast<pid_t>(ReadAgent(Pins()).pid), SIGCONT);
    }
    EXPECT_TRUE(WaitFor([&] { return At(cluster_.b1.host_device()) == OfPod(kClsact); }));
    EXPECT_TRUE(WaitFor([&] {
      return cluster_.agent->Log().find("where ours must stand") != std::string::npos;
    })) << cluster_.agent->Log();
    EXPECT_TRUE(cluster_.agent->running());
    EXPECT_EQ(At("eth0"), Uplink(kClsact));
    EXPECT_EQ(At(device), (Programs{{}, {"filter foreign"}}));
    squatter->Remove();
    EXPECT_TRUE(WaitFor([&] { return At(device) == OfPod(kClsact); })) << At(device);
    cluster_.agent->AwaitReady();
    ExpectAttached(kClsact);
    ExpectServedOnce();
    cluster_.agent->Kill();
  }
}

// Filters are seen from their own namespace only.
TEST_F(ExchangeTest, CleanupFromElsewhere) {
  const Argv cleanup = {"cleanup", "--pin-path", Pins()};
  Start(kClsact);
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  const RunResult refused = Waggle(cluster_.node2, cleanup);
  EXPECT_FALSE(refused.ok());
  EXPECT_THAT(refused.err, HasSubstr("network namespace"));
  EXPECT_THAT(refused.out, Not(HasSubstr("removed")));
  ExpectAttached(kClsact);
  RunResult done = Waggle(cluster_.node1, cleanup);
  EXPECT_TRUE(done.ok()) << done.ToString();
  EXPECT_EQ(At(cluster_.client.host_device()), Programs());
  EXPECT_FALSE(std::filesystem::exists(Pins()));
  // A link is found by its pin, wherever one is.
  Start(kTcx);
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  done = Waggle(cluster_.node2, cleanup);
  EXPECT_TRUE(done.ok()) << done.ToString();
  EXPECT_EQ(At(cluster_.client.host_device()), Programs());
}

// Open connections and new ones, of all kinds. The clsact is there before: while one is added or
// removed the kernel itself drops packets. In stack forwarding a packet can meet both programs.
class ExchangeTrafficTest : public ExchangeTest, public testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(, ExchangeTrafficTest, testing::Values("stack", "redirect"),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(ExchangeTrafficTest, EachPacketMeetsOneProgram) {
  Argv hold = {"hold", "--connections", "5", "--interval-ms", "5"};
  Argv to;
  for (net::Family family : kBothFamilies) {
    const std::string web = Cluster::Frontend(cluster_.web, family);
    hold.insert(hold.end(), {"--tcp", web, "--udp", web});
    to.insert(to.end(), {"--to", web});
  }
  for (const std::string& device :
       {std::string("eth0"), cluster_.client.host_device(), cluster_.b1.host_device()}) {
    ASSERT_TRUE(cluster_.node1.Run({"tc", "qdisc", "add", "dev", device, "clsact"}).ok());
  }
  cluster_.StartAgent(Options(kTcx, GetParam()));
  std::vector<Load> loads;
  loads.emplace_back(cluster_.client, hold);
  constexpr uint64_t kHeld = 2 * 2 * 5;
  for (const char* mode : {"tcp", "udp-new"}) {
    Argv rate = {"rate", "--mode", mode, "--per-second", "200"};
    rate.insert(rate.end(), to.begin(), to.end());
    loads.emplace_back(cluster_.client, rate);
  }
  uint64_t asked = 0;  // by `rate`
  for (const char* way : {kClsact, kTcx, kTcx, kClsact, kClsact, kTcx}) {
    SCOPED_TRACE(way);
    cluster_.agent->Kill();
    cluster_.agent =
        std::make_unique<Agent>(cluster_.lab, cluster_.node1, Options(way, GetParam()));
    cluster_.agent->AwaitReady();
    for (Load& load : loads) {
      uint64_t attempts = 0;
      EXPECT_TRUE(WaitFor([&] {
        Tally tally = load.Mark();
        EXPECT_EQ(tally.ok, tally.attempts) << tally;
        if (&load != &loads[0]) asked += tally.attempts;
        return (attempts += tally.attempts) >= 50;
      }));
    }
  }
  for (Load& load : loads) {
    const Tally tally = load.Stop();
    EXPECT_EQ(tally.ok, tally.attempts) << tally;
    if (&load != &loads[0]) asked += tally.attempts;
  }
  // Two programs would make two flows of each connection, the second with another port.
  EXPECT_LE(ReadReason(Pins(), WAGGLE_REASON_FLOW_TRANSLATED), asked + kHeld);
  for (const waggle_reason reason :
       {WAGGLE_REASON_PORT_CHANGED, WAGGLE_REASON_NO_FREE_PORT, WAGGLE_REASON_LOST_FLOW_PASSED,
        WAGGLE_REASON_LOST_FLOW_REFUSED}) {
    EXPECT_EQ(ReadReason(Pins(), reason), 0u) << reason;
  }
}

}  // namespace
}  // namespace waggle::lab
