// Agents of the packet path come and go, programs are replaced under it, tables change
// their sizes, and traffic does not notice.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "loader/attachment.h"
#include "maps/device_table.h"
#include "maps/flow_table.h"
#include "tests/lab/cluster.h"
#include "tests/lab/programs_at.h"

namespace waggle::lab {
namespace {

using net::Family;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A machine with other work to do is slow; failed is what never comes.
constexpr char kTimeoutMs[] = "8000";

struct Circumstances {
  Cni cni;
  const char* forwarding;
  const char* attach;

  std::string Name() const {
    return absl::StrCat(NameOf(cni), forwarding[0] == 's' ? "Stack" : "Redirect",
                        attach[0] == 't' ? "Tcx" : "Clsact");
  }
  const char* OtherForwarding() const { return forwarding[0] == 's' ? "redirect" : "stack"; }
  const char* OtherAttach() const { return attach[0] == 't' ? "clsact" : "tcx"; }
};

void PrintTo(const Circumstances& circumstances, std::ostream* out) {
  *out << circumstances.Name();
}

// Clients in two pods, one of which is a backend as well, that keep asking.
struct Crowd {
  bool held_udp = true;  // beside connections that are held
  std::vector<const char*> modes = {"tcp", "udp", "udp-new", "udp-connected"};
};

class PacketLifeTest : public testing::TestWithParam<Circumstances> {
 protected:
  PacketLifeTest() : cluster_(GetParam().cni) {
    // Backends here and on the other node; of the Service's own pods, one is a client.
    cluster_.Apply(cluster_.web);
  }

  struct Flags {
    std::string forwarding = GetParam().forwarding;
    std::string attach = GetParam().attach;
    std::string socket_lb = "off";
    Argv more = {};
  };
  Argv ArgvOf(const Flags& flags) const {
    Argv argv = {"--forwarding", flags.forwarding, "--tc-attach",
                 flags.attach,   "--socket-lb",    flags.socket_lb};
    argv.insert(argv.end(), flags.more.begin(), flags.more.end());
    return argv;
  }
  // The ten minutes after the first start in which a packet of no flow passes are over, as on
  // any node that has one: such a packet is refused.
  void Start(const Flags& flags) {
    cluster_.StartAgent({.flags = ArgvOf(flags)});
    const Fd map(bpf_obj_get((cluster_.node1.pin_path() + "/settings").c_str()));
    auto settings = maps::SettingsRow::Open(map.get());
    if (!settings.ok()) Fail("settings: " + settings.status().ToString());
    settings->SetLostFlowsPassUntil(1);
  }
  // Another agent has started and says that it is ready; the row of the last one does so
  // as well where that one was killed.
  void AwaitNext(uint64_t last_started_ns) const {
    EXPECT_TRUE(WaitFor([&] { return Said().started_ns != last_started_ns; }))
        << cluster_.agent->Log();
    cluster_.agent->AwaitReady();
    cluster_.agent->AwaitProgrammed();
  }
  // The agent ends, by a kill or in good order, and another one comes.
  void Replace(const Flags& flags, bool kill = false) {
    const uint64_t started_ns = Said().started_ns;
    if (kill) {
      cluster_.agent->Kill();
    } else {
      EXPECT_EQ(cluster_.agent->Stop(), 0);
    }
    cluster_.agent =
        std::make_unique<Agent>(cluster_.lab, cluster_.node1, AgentOptions{.flags = ArgvOf(flags)});
    AwaitNext(started_ns);
  }
  void StartAgain() {
    const uint64_t started_ns = Said().started_ns;
    cluster_.agent->Start();
    AwaitNext(started_ns);
  }
  waggle_agent Said() const { return ReadAgent(cluster_.node1.pin_path()); }

  void Send(const Crowd& crowd = {}) {
    const std::string v4 = Cluster::Frontend(cluster_.web, Family::kIpv4);
    const std::string v6 = Cluster::Frontend(cluster_.web, Family::kIpv6);
    for (const Pod* pod : {&cluster_.client, &cluster_.b1}) {
      Argv hold = {"hold", "--tcp",         v4,   "--tcp",        v6,        "--connections",
                   "5",    "--interval-ms", "10", "--timeout-ms", kTimeoutMs};
      if (crowd.held_udp) hold.insert(hold.end(), {"--udp", v4, "--udp", v6});
      Add(*pod, "hold", hold);
      for (const char* mode : crowd.modes) {
        Add(*pod, mode,
            {"rate", "--mode", mode, "--to", v4, "--to", v6, "--per-second", "100", "--timeout-ms",
             kTimeoutMs});
      }
    }
    ExpectAllWell();
  }
  // Everybody has asked at least `count` times since the last call, and all went well.
  void ExpectAllWell(uint64_t count = 20) {
    for (auto& [name, load] : loads_) {
      uint64_t attempts = 0;
      const bool enough = WaitFor([&, &who = name, &asking = load] {
        const Tally tally = asking.Mark();
        EXPECT_EQ(tally.ok, tally.attempts) << who << " " << tally;
        return (attempts += tally.attempts) >= count;
      });
      EXPECT_TRUE(enough) << name;
    }
  }

  // Programs by hook and device, and which they are.
  std::map<std::string, uint32_t> Attached() const {
    std::map<std::string, uint32_t> programs;
    std::thread([&] {
      const Fd netns(open(("/run/netns/" + cluster_.node1.name()).c_str(), O_RDONLY | O_CLOEXEC));
      if (setns(netns.get(), CLONE_NEWNET) != 0) Fail("setns");
      const auto all = loader::ListAttachments(cluster_.node1.pin_path());
      if (!all.ok()) Fail("list attachments: " + all.status().ToString());
      for (const loader::Attachment& one : *all) {
        EXPECT_TRUE(one.alive) << one.hook << " " << one.target;
        programs[one.hook + " " + one.target] = one.program_id;
      }
    }).join();
    return programs;
  }
  std::vector<std::string> Places() const {
    std::vector<std::string> places;
    for (const auto& [place, program] : Attached())
      places.push_back(place);
    return places;
  }
  std::string Status() const {
    return Waggle(cluster_.node1, {"status", "--pin-path", cluster_.node1.pin_path()}).out;
  }
  uint64_t Reason(waggle_reason reason) const {
    return ReadReason(cluster_.node1.pin_path(), reason);
  }
  // Living flows whose client is the pod.
  uint64_t FlowsOf(const Pod& pod) const {
    const std::string& pins = cluster_.node1.pin_path();
    const Fd flows(bpf_obj_get((pins + "/flows").c_str()));
    const Fd half_open(bpf_obj_get((pins + "/half_open").c_str()));
    uint64_t count = 0;
    const auto read = maps::ReadFlows({flows.get(), half_open.get()}, maps::MonotonicNs(),
                                      [&](const maps::Flow& flow) {
                                        const std::string client = flow.client.address.ToString();
                                        if (client == pod.addresses().v4) ++count;
                                      });
    if (!read.ok()) Fail("read flows: " + read.status().ToString());
    return count;
  }
  // No packet went astray between two programs or two tables.
  void ExpectNothingLost() const {
    for (const waggle_reason reason :
         {WAGGLE_REASON_LOST_FLOW_REFUSED, WAGGLE_REASON_LOST_FLOW_PASSED,
          WAGGLE_REASON_HALF_OPEN_FULL, WAGGLE_REASON_FLOWS_FULL, WAGGLE_REASON_NO_FREE_PORT,
          WAGGLE_REASON_SETTINGS_MISSING, WAGGLE_REASON_REWRITE_FAILED}) {
      EXPECT_EQ(Reason(reason), 0u) << reason;
    }
  }

  Cluster cluster_;

 private:
  void Add(const Place& place, const std::string& name, const Argv& argv) {
    loads_.emplace_back(absl::StrCat(place.name(), " ", name), Load(place, argv));
  }
  std::vector<std::pair<std::string, Load>> loads_;
};

INSTANTIATE_TEST_SUITE_P(, PacketLifeTest,
                         testing::Values(Circumstances{Cni::kRouted, "redirect", "tcx"},
                                         Circumstances{Cni::kRouted, "stack", "tcx"},
                                         Circumstances{Cni::kBridged, "redirect", "tcx"},
                                         Circumstances{Cni::kBridged, "stack", "tcx"},
                                         Circumstances{Cni::kRouted, "redirect", "clsact"},
                                         Circumstances{Cni::kBridged, "stack", "clsact"}),
                         [](const auto& param) { return param.param.Name(); });

TEST_P(PacketLifeTest, KilledAndBackWhileConnectionsGoOn) {
  Start({});
  Send();
  for (int round = 0; round < 2; ++round) {
    cluster_.agent->Kill();
    ExpectAllWell();
    StartAgain();
    ExpectAllWell();
  }
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  ExpectAllWell();
  StartAgain();
  ExpectAllWell();
  ExpectNothingLost();
}

// The programs are other ones afterwards, where the old ones were, and nowhere twice.
TEST_P(PacketLifeTest, UpgradedToAnotherProgram) {
  Start({.more = {"--disable-feature", "skip_neigh"}});
  Send();
  std::map<std::string, uint32_t> before = Attached();
  EXPECT_EQ(before.size(), 3u * 2 - 1);  // in and out of two pods, in by the uplink
  bool old = false;
  for (int round = 0; round < 4; ++round) {
    Flags flags;
    if (old) flags.more = {"--disable-feature", "skip_neigh"};
    Replace(flags, round % 2 == 1);
    const std::map<std::string, uint32_t> after = Attached();
    EXPECT_EQ(after.size(), before.size());
    for (const auto& [place, program] : after) {
      ASSERT_EQ(before.count(place), 1u) << place;
      EXPECT_NE(before[place], program) << place;
    }
    before = after;
    ExpectAllWell();
    old = !old;
  }
  ExpectNothingLost();
}

// Flows keep the way that they began by.
TEST_P(PacketLifeTest, TheOtherForwardingUnderOpenConnections) {
  Start({});
  Send();
  for (const char* forwarding : {GetParam().OtherForwarding(), GetParam().forwarding,
                                 GetParam().OtherForwarding(), "auto"}) {
    Replace({.forwarding = forwarding});
    if (forwarding != std::string("auto")) {
      EXPECT_THAT(Status(), HasSubstr(forwarding));
    }
    ExpectAllWell();
  }
  ExpectNothingLost();
}

// No datagrams: while the kernel makes or removes a clsact, the device sends nothing for some
// milliseconds, whoever asks for it.
TEST_P(PacketLifeTest, TheOtherKindOfAttachment) {
  Start({});
  Send({.held_udp = false, .modes = {"tcp"}});
  const std::vector<std::string> places = Places();
  for (const char* attach :
       {GetParam().OtherAttach(), GetParam().attach, GetParam().OtherAttach()}) {
    Replace({.attach = attach});
    EXPECT_EQ(Places(), places);
    ExpectAllWell();
  }
  ExpectNothingLost();
}

// All flows move into tables of other sizes: both grow, both shrink. (A flow that begins between
// the copy and the switch can be lost, docs/differences.md; those that are open never are.)
TEST_P(PacketLifeTest, TablesOfOtherSizes) {
  Start({.more = {"--max-flows", "4096", "--max-half-open", "4096"}});
  Send({.modes = {}});
  struct {
    const char* flows;
    const char* half_open;
  } const rows[] = {{"65536", "4096"}, {"65536", "65536"}, {"2048", "2048"}, {"16384", "1024"}};
  for (const auto& row : rows) {
    Replace({.more = {"--max-flows", row.flows, "--max-half-open", row.half_open}});
    ExpectAllWell();
  }
  // Those of Services as well, in one go.
  Replace({.more = {"--max-flows", "4096", "--max-frontends", "1000", "--max-backends", "1000",
                    "--max-services", "100"}},
          true);
  ExpectAllWell();
  ExpectNothingLost();
}

// What was translated packet by packet stays so when sockets are translated from now on,
// and the other way round.
TEST_P(PacketLifeTest, SocketHooksComeAndGo) {
  Start({});
  // Not by clients that ask for the other side's address while the hooks go: what was
  // translated a moment ago shows the backend.
  Send({.modes = {"udp-connected"}});
  for (const char* socket_lb : {"all", "host", "off", "all", "off"}) {
    Replace({.socket_lb = socket_lb});
    ExpectAllWell();
  }
  ExpectNothingLost();
}

// A pod that comes while the agent is away is served by the next one, which forgets the open
// connections of one that went, and nobody else's.
TEST_P(PacketLifeTest, PodsThatComeAndGoMeanwhile) {
  Start({});
  Pod& guest = cluster_.node1.AddPod("guest");
  cluster_.lab.Settle();
  Send();
  const std::string web = Cluster::Frontend(cluster_.web, Family::kIpv4);
  ASSERT_TRUE(WaitFor([&] { return AskMany(guest, "tcp", web, 1).AllOk(); }));
  Client open(guest);
  open.Must({"socket tcp4", "connect " + web, "ask a"});
  EXPECT_GE(FlowsOf(guest), 1u);
  cluster_.agent->Kill();
  cluster_.node1.Ip(absl::StrCat("link del ", guest.host_device(), "\n"));
  Pod& late = cluster_.node1.AddPod("late");
  cluster_.lab.Settle();
  ExpectAllWell();
  StartAgain();
  for (const Traffic& traffic : AllTraffic()) {
    const Tally tally =
        AskMany(late, traffic.mode, Cluster::Frontend(cluster_.web, traffic.family), 10);
    EXPECT_TRUE(tally.AllOk()) << traffic.Name() << " " << tally;
  }
  for (const std::string& place : Places())
    EXPECT_THAT(place, Not(HasSubstr("gone")));
  EXPECT_TRUE(WaitFor([&] { return FlowsOf(guest) == 0; })) << FlowsOf(guest);
  EXPECT_GE(FlowsOf(cluster_.client), 5u);
  ExpectAllWell();
  ExpectNothingLost();
}

// Whoever takes programs away, by whatever means: of some nobody tells.
TEST_P(PacketLifeTest, ProgramsThatAreTakenAwayComeBack) {
  Start({});
  const std::string links = cluster_.node1.pin_path() + "/links/";
  struct Taken {
    uint32_t ifindex;
    Programs programs;
  };
  std::vector<Taken> all;
  for (const Pod* pod : {&cluster_.client, &cluster_.b1}) {
    const uint32_t ifindex = IndexOf(cluster_.node1, pod->host_device());
    const Programs before = ProgramsAt(cluster_.node1, ifindex);
    const std::string link = absl::StrCat(links, "tc_", ifindex, "_in");
    if (GetParam().attach == std::string("clsact")) {
      const Argv del = {"tc", "filter", "del", "dev", pod->host_device(), "ingress"};
      EXPECT_TRUE(cluster_.node1.Run(del).ok());
    } else if (pod == &cluster_.client) {
      EXPECT_EQ(unlink(link.c_str()), 0);
    } else {
      const Fd fd(bpf_obj_get(link.c_str()));
      EXPECT_EQ(bpf_link_detach(fd.get()), 0);
    }
    all.push_back({ifindex, before});
  }
  for (const Taken& taken : all) {
    EXPECT_TRUE(WaitFor([&] { return ProgramsAt(cluster_.node1, taken.ifindex) == taken.programs; },
                        std::chrono::seconds(30)))
        << ProgramsAt(cluster_.node1, taken.ifindex);
  }
  Send();
}

// After the last agent nothing of ours is left at any device.
TEST_P(PacketLifeTest, CleanupLeavesNothing) {
  Start({});
  EXPECT_THAT(Attached(), Not(IsEmpty()));
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  EXPECT_THAT(Attached(), Not(IsEmpty()));
  const RunResult cleanup =
      Waggle(cluster_.node1, {"cleanup", "--pin-path", cluster_.node1.pin_path()});
  EXPECT_TRUE(cleanup.ok()) << cleanup.ToString();
  EXPECT_FALSE(std::filesystem::exists(cluster_.node1.pin_path()));
  EXPECT_THAT(cluster_.node1.Run({"bpftool", "net", "show"}).out, Not(HasSubstr("waggle")));
  // Neither is the discipline that only our filters needed.
  EXPECT_THAT(cluster_.node1.Run({"tc", "qdisc", "show"}).out, Not(HasSubstr("clsact")));
}

}  // namespace
}  // namespace waggle::lab
