// Devices come, change and go; the programs of the packet path are where they belong.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <ostream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "loader/link_info.h"
#include "tests/lab/cluster.h"
#include "tests/lab/programs_at.h"

namespace waggle::lab {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Clock = std::chrono::steady_clock;

bool Exists(const std::string& path) {
  return access(path.c_str(), F_OK) == 0;
}

// A program of somebody else that counts packets and leaves them to the next.
class Stranger {
 public:
  Stranger() : counter_(bpf_map_create(BPF_MAP_TYPE_ARRAY, "foreign", 4, 8, 1, nullptr)) {
    const auto code = [](uint8_t op, uint8_t dst, uint8_t src, int16_t offset, int32_t imm) {
      bpf_insn insn{};
      insn.code = op;
      insn.dst_reg = dst & 0xf;
      insn.src_reg = src & 0xf;
      insn.off = offset;
      insn.imm = imm;
      return insn;
    };
    const bpf_insn program[] = {
        code(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, -4, 0),
        code(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, counter_.get()),
        code(0, 0, 0, 0, 0),
        code(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0),
        code(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -4),
        code(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem),
        code(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 2, 0),
        code(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_1, 0, 0, 1),
        code(BPF_STX | BPF_ATOMIC | BPF_DW, BPF_REG_0, BPF_REG_1, 0, BPF_ADD),
        code(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, TC_ACT_UNSPEC),
        code(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    };
    program_ = Fd(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "foreign", "GPL", program,
                                std::size(program), nullptr));
    if (!program_.valid()) Fail("cannot load a program");
  }

  // At ingress of a device, as a tcx link that ends with this object.
  void Link(const Place& place, uint32_t ifindex) {
    Inside inside(place);
    link_ = Fd(bpf_link_create(program_.get(), static_cast<int>(ifindex),
                               static_cast<bpf_attach_type>(loader::kTcxIngress), nullptr));
    if (!link_.valid()) Fail("cannot attach a link");
  }
  // At ingress, as a filter that ends with the device. `make` with a clsact of its own.
  void Filter(const Place& place, uint32_t ifindex, bool make) {
    Inside inside(place);
    bpf_tc_hook hook{};
    hook.sz = sizeof(hook);
    hook.ifindex = static_cast<int>(ifindex);
    hook.attach_point = BPF_TC_INGRESS;
    if (make && bpf_tc_hook_create(&hook) != 0) Fail("cannot make a clsact");
    bpf_tc_opts options{};
    options.sz = sizeof(options);
    options.prog_fd = program_.get();
    options.handle = 1;
    options.priority = 1;
    if (bpf_tc_attach(&hook, &options) != 0) Fail("cannot attach a filter");
  }
  uint64_t packets() const {
    uint32_t key = 0;
    uint64_t value = 0;
    if (bpf_map_lookup_elem(counter_.get(), &key, &value) != 0) Fail("cannot read a map");
    return value;
  }

 private:
  Fd counter_;
  Fd program_{-1};
  Fd link_{-1};
};

// Node 1 with an agent; pods `a` (the first one) and `spare` (a namespace for more).
class DevicesTest : public testing::Test {
 protected:
  explicit DevicesTest(Cni cni = Cni::kRouted, Argv flags = {})
      : nodes_(cni), node_(nodes_.node1), flags_(std::move(flags)), a_(node_.AddPod("a")) {
    nodes_.lab.Settle();
    nodes_.lab.WriteManifest("none.yaml", Render(Cluster::Make("web", 10, {})));
  }

  void StartAgent(const Argv& more = {}) {
    AgentOptions options{.flags = flags_};
    options.flags.insert(options.flags.end(), more.begin(), more.end());
    agent_ = std::make_unique<Agent>(nodes_.lab, node_, options);
    agent_->AwaitReady();
  }

  std::optional<waggle_device> Row(uint32_t ifindex) const {
    Fd map(bpf_obj_get((node_.pin_path() + "/devices").c_str()));
    waggle_device row{};
    if (bpf_map_lookup_elem(map.get(), &ifindex, &row) != 0) return std::nullopt;
    return row;
  }
  uint32_t RoleOf(uint32_t ifindex) const {
    auto row = Row(ifindex);
    return row ? row->role : static_cast<uint32_t>(WAGGLE_ROLE_NONE);
  }
  uint32_t Index(const std::string& device) const { return IndexOf(node_, device); }
  Programs At(const std::string& device) const { return ProgramsAt(node_, Index(device)); }

  // Waits until the device has this role and these programs.
  void ExpectCovered(const std::string& device, waggle_role role, const Programs& programs) const {
    EXPECT_TRUE(WaitFor([&] { return RoleOf(Index(device)) == role && At(device) == programs; }))
        << device << " has role " << RoleOf(Index(device)) << " and " << At(device);
  }
  // A veth into the pod's namespace, up at once. `extra` as `ip link add … <extra> type veth`.
  void AddVeth(const std::string& device, const std::string& extra = "",
               const std::string& after = "up") const {
    node_.Ip(absl::StrCat("link add name ", device, " ", extra, " type veth peer name p", ++peers_,
                          " netns ", a_.name(), "\n", "link set ", device, " ", after, "\n"));
  }
  // Ids of the links at the device; none with filters.
  std::vector<uint32_t> LinkIds(const std::string& device) const {
    const uint32_t index = Index(device);
    Inside inside(node_);
    std::vector<uint32_t> ids;
    for (uint32_t hook : {loader::kTcxIngress, loader::kTcxEgress}) {
      auto links = loader::TcxLinksOf(index, hook);
      if (links.ok()) ids.insert(ids.end(), links->begin(), links->end());
    }
    return ids;
  }
  // Messages that the sockets of the namespace's rtnetlink have dropped.
  static uint64_t Drops(pid_t pid) {
    std::ifstream file(absl::StrCat("/proc/", pid, "/net/netlink"));
    std::string line;
    uint64_t drops = 0;
    std::getline(file, line);  // the head
    while (std::getline(file, line)) {
      // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
      std::istringstream fields(line);
      std::string field;
      for (int i = 0; i < 9; ++i)
        fields >> field;
      drops += std::stoull(field);
    }
    return drops;
  }
  void ExpectNothingLeft() const {
    RunResult cleanup = Waggle(node_, {"cleanup", "--pin-path", node_.pin_path()});
    EXPECT_TRUE(cleanup.ok()) << cleanup.ToString();
    EXPECT_FALSE(Exists(node_.pin_path()));
  }
  std::string Pin(const std::string& name) const { return node_.pin_path() + "/links/" + name; }

  Nodes nodes_;
  Node& node_;
  Argv flags_;
  Pod& a_;
  std::unique_ptr<Agent> agent_;
  mutable int peers_ = 0;
};

// What one way of attaching looks like.
struct Way {
  const char* name;
  const char* flag;
  const char* prefix;  // of a program's name

  Programs Pod() const {
    return {{absl::StrCat(prefix, "waggle_pod_in")}, {absl::StrCat(prefix, "waggle_pod_out")}};
  }
  Programs Net() const { return {{absl::StrCat(prefix, "waggle_net_in")}, {}}; }
  Programs Layer3() const { return {{absl::StrCat(prefix, "waggle_net_l3")}, {}}; }
};
constexpr Way kTcx = {"Tcx", "tcx", ""};
constexpr Way kClsact = {"Clsact", "clsact", "filter "};

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.name;
}

// The same promises by both ways of attaching.
class AttachTest : public DevicesTest, public testing::WithParamInterface<Way> {
 protected:
  explicit AttachTest(Cni cni = Cni::kRouted)
      : DevicesTest(cni, {"--tc-attach", GetParam().flag}), way_(GetParam()) {}

  Way way_;
};

INSTANTIATE_TEST_SUITE_P(, AttachTest, testing::Values(kTcx, kClsact),
                         [](const auto& param) { return param.param.name; });

TEST_P(AttachTest, WhatIsThereAtTheStart) {
  AddVeth("a-b_c.d+e0");
  node_.Ip(
      "link add vx1 type vxlan id 5 dstport 4789 local 192.168.50.11 dev eth0\n"
      "tuntap add dev tun7 mode tun\n"
      "tuntap add dev tap7 mode tap\n"
      "link add br9 type bridge\n"
      "link add mac9 link eth0 type macvlan\n"
      "link add va type veth peer name vb\n");
  StartAgent();
  ExpectCovered(a_.host_device(), WAGGLE_ROLE_POD, way_.Pod());
  ExpectCovered("a-b_c.d+e0", WAGGLE_ROLE_POD, way_.Pod());
  ExpectCovered("eth0", WAGGLE_ROLE_UPLINK, way_.Net());
  ExpectCovered("mac9", WAGGLE_ROLE_UPLINK, way_.Net());
  ExpectCovered("vx1", WAGGLE_ROLE_TUNNEL, way_.Net());
  ExpectCovered("tun7", WAGGLE_ROLE_TUNNEL, way_.Layer3());
  ExpectCovered("br9", WAGGLE_ROLE_BRIDGE, {});
  for (const char* device : {"lo", "tap7", "va", "vb"}) {
    EXPECT_EQ(At(device), Programs()) << device;
    EXPECT_EQ(RoleOf(Index(device)), WAGGLE_ROLE_NONE) << device;
  }
  EXPECT_EQ(Row(Index("tun7"))->layer3, 1);
  EXPECT_EQ(Row(Index("eth0"))->layer3, 0);
  // The socket of a pod is found by the id that the pod's namespace has here.
  RunResult ids = node_.Run({"ip", "netns", "list-id"});
  EXPECT_THAT(ids.out,
              HasSubstr(absl::StrCat("nsid ", Row(Index(a_.host_device()))->netns_id, " ")));

  RunResult status = Waggle(node_, {"status", "-o", "wide", "--pin-path", node_.pin_path()});
  for (const char* line : {"pod_in", "pod_out", "net_in", "net_l3"})
    EXPECT_THAT(status.out, HasSubstr(line));
  EXPECT_THAT(status.out, HasSubstr(absl::StrCat("device ", Index("tun7"), " (tun7)")));
  EXPECT_EQ(agent_->Stop(), 0);
  ExpectNothingLeft();
  for (const char* device : {"a-b_c.d+e0", "eth0", "mac9", "vx1", "tun7"})
    EXPECT_EQ(At(device), Programs()) << device;
  EXPECT_THAT(node_.Run({"tc", "qdisc", "show"}).out, Not(HasSubstr("clsact")));
}

// Within milliseconds. A loop that looks each second would need half a second.
TEST_P(AttachTest, WhatAppearsIsCoveredWithinMilliseconds) {
  StartAgent();
  std::vector<double> ms;
  for (int i = 0; i < 21; ++i) {
    std::string device = absl::StrCat("new", i);
    AddVeth(device);
    auto there = Clock::now();
    ExpectCovered(device, WAGGLE_ROLE_POD, way_.Pod());
    ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - there).count());
  }
  std::sort(ms.begin(), ms.end());
  RecordProperty("median_us", static_cast<int>(ms[10] * 1000));
  RecordProperty("slowest_us", static_cast<int>(ms.back() * 1000));
  EXPECT_LT(ms[10], 100);
}

TEST_P(AttachTest, WhatComesBackUnderTheSameNameOrIndex) {
  StartAgent();
  uint32_t index = 0;
  for (int round = 0; round < 5; ++round) {
    // The same name, another index; then both the same.
    for (const std::string& extra : {std::string(), std::string("index 4242")}) {
      AddVeth("back", extra);
      ExpectCovered("back", WAGGLE_ROLE_POD, way_.Pod());
      if (!extra.empty()) {
        EXPECT_EQ(Index("back"), 4242u);
      }
      index = Index("back");
      node_.Ip("link del back\n");
      if (round % 2 == 0) {
        EXPECT_TRUE(WaitFor([&] { return !Row(index); }));
      }
    }
  }
  // In one breath, for an agent that hears of it afterwards.
  kill(static_cast<pid_t>(ReadAgent(node_.pin_path()).pid), SIGSTOP);
  AddVeth("back", "index 4242");
  node_.Ip("link del back\n");
  AddVeth("other", "index 4242");
  kill(static_cast<pid_t>(ReadAgent(node_.pin_path()).pid), SIGCONT);
  ExpectCovered("other", WAGGLE_ROLE_POD, way_.Pod());
  node_.Ip("link del other\n");
  EXPECT_TRUE(WaitFor([&] {
    return !Row(4242) && !Exists(Pin("tc_4242_in")) && !Exists(Pin("tc_4242_out")) &&
           !Exists(Pin("clsact_4242"));
  }));
}

TEST_P(AttachTest, ARenamedDeviceStaysCovered) {
  StartAgent();
  AddVeth("before");
  ExpectCovered("before", WAGGLE_ROLE_POD, way_.Pod());
  node_.Ip("link set before down\nlink set before name after\nlink set after up\n");
  ExpectCovered("after", WAGGLE_ROLE_POD, way_.Pod());
  RunResult status = Waggle(node_, {"status", "-o", "wide", "--pin-path", node_.pin_path()});
  EXPECT_THAT(status.out, AllOf(HasSubstr("(after)"), Not(HasSubstr("(before)"))));
}

// As some CNIs do it: both ends are made on the node, then one moves into the pod.
TEST_P(AttachTest, APeerThatMovesAwayMakesItAPods) {
  StartAgent();
  node_.Ip("link add here type veth peer name there\nlink set here up\n");
  AddVeth("marker");  // events are in order
  ExpectCovered("marker", WAGGLE_ROLE_POD, way_.Pod());
  EXPECT_EQ(At("here"), Programs());
  node_.Ip(absl::StrCat("link set there netns ", a_.name(), "\n"));
  ExpectCovered("here", WAGGLE_ROLE_POD, way_.Pod());
}

// A device that leaves the namespace takes no program of ours with it.
TEST_P(AttachTest, ADeviceThatMovesAwayAndBack) {
  StartAgent();
  AddVeth("roams");
  ExpectCovered("roams", WAGGLE_ROLE_POD, way_.Pod());
  const uint32_t index = Index("roams");
  node_.Ip("link set roams netns node2\n");
  EXPECT_TRUE(WaitFor([&] { return !Row(index); }));
  const Node& there = nodes_.node2;
  EXPECT_TRUE(WaitFor([&] { return ProgramsAt(there, IndexOf(there, "roams")) == Programs(); }))
      << ProgramsAt(there, IndexOf(there, "roams"));
  there.Ip("link set roams netns node1\n");
  node_.Ip("link set roams up\n");
  ExpectCovered("roams", WAGGLE_ROLE_POD, way_.Pod());
  // While no agent looks, and another one takes its index: the link still says that index.
  agent_->Kill();
  node_.Ip(absl::StrCat("link set roams name r9\nlink set r9 netns node2 index 4343\n"));
  AddVeth("newcomer", "index 4343");
  there.Ip("link set r9 up\n");
  agent_->Start();
  agent_->AwaitReady();
  EXPECT_EQ(At("newcomer"), way_.Pod());
  EXPECT_EQ(ProgramsAt(there, 4343), Programs());
}

// Nodes that are containers have uplinks that look like pods' devices.
TEST_P(AttachTest, AddressesAndRoutesMakeAnUplink) {
  StartAgent();
  struct {
    const char* what;
    const char* make;
    const char* undo;
  } const rows[] = {
      {"an address", "address add 10.99.0.1/24 dev w\n", "address del 10.99.0.1/24 dev w\n"},
      {"one of IPv6", "address add fd00:99::1/64 dev w nodad\n",
       "address del fd00:99::1/64 dev w\n"},
      {"a default route", "route add default dev w metric 9\n",
       "route del default dev w metric 9\n"},
      {"one of IPv6", "route add ::/0 dev w metric 9999\n", "route del ::/0 dev w metric 9999\n"},
      {"a gateway", "route add 10.98.0.0/16 via 10.97.0.1 dev w onlink\n",
       "route del 10.98.0.0/16\n"},
      {"a gateway in another table", "route add 10.98.0.0/16 via 10.97.0.1 dev w onlink table 77\n",
       "route del 10.98.0.0/16 table 77\n"},
  };
  AddVeth("w");
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    ExpectCovered("w", WAGGLE_ROLE_POD, way_.Pod());
    node_.Ip(row.make);
    ExpectCovered("w", WAGGLE_ROLE_UPLINK, way_.Net());
    EXPECT_EQ(Row(Index("w"))->netns_id, -1);
    node_.Ip(row.undo);
  }
  ExpectCovered("w", WAGGLE_ROLE_POD, way_.Pod());
  // What every pod has makes none.
  node_.Ip(
      "address add 169.254.1.1/32 dev w\naddress add fe80::7/64 dev w nodad\n"
      "route add 10.97.0.1 dev w\nroute add 10.98.0.0/16 via 10.97.0.1 dev w\n");
  AddVeth("marker");
  ExpectCovered("marker", WAGGLE_ROLE_POD, way_.Pod());
  ExpectCovered("w", WAGGLE_ROLE_POD, way_.Pod());
  // Replaced: the old way is not named.
  node_.Ip("route del 10.97.0.1 dev w\nroute add 10.96.0.0/16 dev w\n");
  ExpectCovered("w", WAGGLE_ROLE_UPLINK, way_.Net());
  node_.Ip("route replace 10.98.0.0/16 via 192.168.50.1\n");
  ExpectCovered("w", WAGGLE_ROLE_POD, way_.Pod());
}

TEST_P(AttachTest, AgentsComeAndGo) {
  StartAgent();
  AddVeth("stays");
  AddVeth("goes");
  AddVeth("renewed", "index 5151");
  for (const char* device : {"stays", "goes", "renewed"})
    ExpectCovered(device, WAGGLE_ROLE_POD, way_.Pod());
  const uint32_t gone = Index("goes");
  for (bool kill : {true, false}) {
    SCOPED_TRACE(kill ? "killed" : "stopped");
    std::vector<uint32_t> links = LinkIds("stays");
    if (kill) {
      agent_->Kill();
    } else {
      EXPECT_EQ(agent_->Stop(), 0);
    }
    EXPECT_EQ(At("stays"), way_.Pod());
    // While nobody looks.
    if (kill) node_.Ip("link del goes\n");
    node_.Ip("link del renewed\n");
    AddVeth("renewed", "index 5151");
    AddVeth(absl::StrCat("later", kill));
    agent_->Start();
    agent_->AwaitReady();
    // At once: all is done before the agent says that it is ready.
    EXPECT_EQ(At("stays"), way_.Pod());
    EXPECT_EQ(LinkIds("stays"), links);
    EXPECT_EQ(At("renewed"), way_.Pod());
    EXPECT_EQ(At(absl::StrCat("later", kill)), way_.Pod());
    EXPECT_FALSE(Row(gone));
    for (const char* name : {"tc_%_in", "tc_%_out", "clsact_%"}) {
      std::string pin = name;
      pin.replace(pin.find('%'), 1, std::to_string(gone));
      EXPECT_FALSE(Exists(Pin(pin))) << pin;
    }
  }
}

// Packets of a pod to the node, so that programs at its device have something to do.
class BesideOthersTest : public AttachTest {
 protected:
  void Send() const {
    Client client(a_);
    client.Must({"timeout 100", "socket udp4"});
    client.Do("query 10.255.255.1:9 x");
  }
  void ExpectCounting(const Stranger& stranger) const {
    uint64_t before = stranger.packets();
    Send();
    EXPECT_GT(stranger.packets(), before);
  }
};

INSTANTIATE_TEST_SUITE_P(, BesideOthersTest, testing::Values(kTcx, kClsact),
                         [](const auto& param) { return param.param.name; });

TEST_P(BesideOthersTest, OtherPeoplesProgramsGoOn) {
  const uint32_t index = Index(a_.host_device());
  Stranger link, filter;
  link.Link(node_, index);
  filter.Filter(node_, index, /*make=*/true);
  ExpectCounting(link);
  ExpectCounting(filter);
  StartAgent();
  // Ours is the first of its kind where there is an order to choose.
  Programs want = way_.Pod();
  if (way_.flag == kTcx.flag) {
    want.in = {"waggle_pod_in", "foreign", "filter foreign"};
  } else {
    want.in = {"foreign", "filter foreign", "filter waggle_pod_in"};
  }
  EXPECT_EQ(At(a_.host_device()), want);
  ExpectCounting(link);
  ExpectCounting(filter);
  // And one that comes later.
  Stranger later;
  later.Link(node_, index);
  ExpectCounting(later);
  agent_->Kill();
  agent_->Start();
  agent_->AwaitReady();
  for (const Stranger* stranger : {&link, &filter, &later})
    ExpectCounting(*stranger);
  EXPECT_EQ(agent_->Stop(), 0);
  ExpectNothingLeft();
  EXPECT_THAT(At(a_.host_device()).in, ElementsAre("foreign", "foreign", "filter foreign"));
  for (const Stranger* stranger : {&link, &filter, &later})
    ExpectCounting(*stranger);
}

// A clsact of ours that others have begun to use stays for them.
TEST_P(BesideOthersTest, AClsactOfOursThatOthersUse) {
  StartAgent();
  const bool ours = way_.flag == kClsact.flag;
  Stranger filter;
  filter.Filter(node_, Index(a_.host_device()), /*make=*/!ours);
  EXPECT_EQ(agent_->Stop(), 0);
  ExpectNothingLeft();
  EXPECT_THAT(At(a_.host_device()).in, ElementsAre("filter foreign"));
  ExpectCounting(filter);
  RunResult qdiscs = node_.Run({"tc", "qdisc", "show"});
  EXPECT_THAT(qdiscs.out, HasSubstr("clsact")) << "the stranger's";
  EXPECT_THAT(qdiscs.out, Not(HasSubstr("clsact ffff: dev eth0"))) << "ours";
}

// A packet that both translated would be taken for a stranger's.
TEST_F(DevicesTest, OneWayIsExchangedForTheOther) {
  for (const Way& way : {kTcx, kClsact, kTcx}) {
    SCOPED_TRACE(way.name);
    StartAgent({"--tc-attach", way.flag});
    EXPECT_EQ(At(a_.host_device()), way.Pod());
    EXPECT_EQ(At("eth0"), way.Net());
    AddVeth(absl::StrCat("new", way.name, peers_));
    ExpectCovered(absl::StrCat("new", way.name, peers_ - 1), WAGGLE_ROLE_POD, way.Pod());
    agent_->Kill();
  }
  // A clsact is left for cleanup to find.
  ExpectNothingLeft();
  EXPECT_THAT(node_.Run({"tc", "qdisc", "show"}).out, Not(HasSubstr("clsact")));
}

TEST_F(DevicesTest, AFeatureThatIsMissing) {
  StartAgent({"--disable-feature", "tcx"});
  EXPECT_EQ(At(a_.host_device()), kClsact.Pod());
  EXPECT_EQ(agent_->Stop(), 0);
  Agent refuses(nodes_.lab, node_, {.flags = {"--disable-feature", "tcx", "--tc-attach", "tcx"}});
  EXPECT_THAT(refuses.AwaitRefusal().err, HasSubstr("--tc-attach"));
}

// Somebody removes the clsact, and with it our filters.
TEST_F(DevicesTest, FiltersThatAreTakenAwayComeBack) {
  StartAgent({"--tc-attach", "clsact"});
  ASSERT_EQ(At(a_.host_device()), kClsact.Pod());
  ASSERT_TRUE(node_.Run({"tc", "qdisc", "del", "dev", a_.host_device(), "clsact"}).ok());
  ExpectCovered(a_.host_device(), WAGGLE_ROLE_POD, kClsact.Pod());
  ASSERT_TRUE(node_.Run({"tc", "filter", "del", "dev", a_.host_device(), "egress"}).ok());
  ExpectCovered(a_.host_device(), WAGGLE_ROLE_POD, kClsact.Pod());
}

// A queueing discipline without egress in our place: said, not broken, tried again.
TEST_F(DevicesTest, ADeviceThatCannotBeCovered) {
  ASSERT_TRUE(node_.Run({"tc", "qdisc", "add", "dev", a_.host_device(), "ingress"}).ok());
  StartAgent({"--tc-attach", "clsact"});
  EXPECT_EQ(At("eth0"), kClsact.Net());
  EXPECT_EQ(At(a_.host_device()), Programs());
  EXPECT_FALSE(Row(Index(a_.host_device()))) << "a row says that there are programs";
  EXPECT_THAT(agent_->Log(), AllOf(HasSubstr(a_.host_device()), HasSubstr("ingress")));
  ASSERT_TRUE(node_.Run({"tc", "qdisc", "del", "dev", a_.host_device(), "ingress"}).ok());
  ExpectCovered(a_.host_device(), WAGGLE_ROLE_POD, kClsact.Pod());
}

TEST_F(DevicesTest, TheOperatorsWordCounts) {
  AddVeth("mine1");
  AddVeth("other");
  AddVeth("x9");
  node_.Ip("tuntap add dev tun7 mode tun\nlink add va type veth peer name vb\n");
  StartAgent(
      {"--ignore-devices", "mine*,tun7", "--uplink-devices", "other", "--pod-devices", "va"});
  ExpectCovered("x9", WAGGLE_ROLE_POD, kTcx.Pod());
  ExpectCovered("va", WAGGLE_ROLE_POD, kTcx.Pod());
  ExpectCovered("other", WAGGLE_ROLE_UPLINK, kTcx.Net());
  for (const char* device : {"mine1", "tun7", "vb"})
    EXPECT_EQ(At(device), Programs()) << device;
  // A name that is ignored, or not any more.
  node_.Ip("link set x9 down\nlink set x9 name mine2\n");
  EXPECT_TRUE(WaitFor([&] { return At("mine2") == Programs() && !Row(Index("mine2")); }));
  EXPECT_TRUE(WaitFor([&] { return !Exists(Pin(absl::StrCat("tc_", Index("mine2"), "_in"))); }));
  node_.Ip("link set mine2 name x10\nlink set x10 up\n");
  ExpectCovered("x10", WAGGLE_ROLE_POD, kTcx.Pod());
  // The next agent is told something else.
  EXPECT_EQ(agent_->Stop(), 0);
  StartAgent({"--ignore-devices", "*"});
  for (const char* device : {"x10", "va", "other", "eth0"}) {
    EXPECT_EQ(At(device), Programs()) << device;
    EXPECT_FALSE(Row(Index(device))) << device;
  }
}

class BridgedDevicesTest : public DevicesTest {
 protected:
  BridgedDevicesTest() : DevicesTest(Cni::kBridged) {}

  std::string BridgeMac(const std::string& device) const {
    auto row = Row(Index(device));
    if (!row) return "no row";
    std::string text;
    for (unsigned char byte : row->bridge_mac)
      absl::StrAppend(&text, text.empty() ? "" : ":", absl::Hex(byte, absl::kZeroPad2));
    return text;
  }
};

TEST_F(BridgedDevicesTest, PortsKnowTheirBridge) {
  StartAgent();
  node_.Ip("link set cni0 address 02:00:00:00:00:aa\n");
  AddVeth("p1", "", "master cni0 up");
  ExpectCovered("p1", WAGGLE_ROLE_POD, kTcx.Pod());
  EXPECT_TRUE(WaitFor([&] { return BridgeMac("p1") == "02:00:00:00:00:aa"; })) << BridgeMac("p1");
  EXPECT_EQ(Row(Index("p1"))->bridge, Index("cni0"));
  ExpectCovered("cni0", WAGGLE_ROLE_BRIDGE, {});
  node_.Ip("link set cni0 address 02:00:00:00:00:bb\n");
  EXPECT_TRUE(WaitFor([&] { return BridgeMac("p1") == "02:00:00:00:00:bb"; })) << BridgeMac("p1");
  // A port that leaves its bridge is still there.
  node_.Ip("link set p1 nomaster\n");
  EXPECT_TRUE(WaitFor([&] { return BridgeMac("p1") == "00:00:00:00:00:00"; })) << BridgeMac("p1");
  ExpectCovered("p1", WAGGLE_ROLE_POD, kTcx.Pod());
  // A bridge that the node's own network hangs on is no way to local pods only.
  node_.Ip("link add br1 type bridge\n");
  ExpectCovered("br1", WAGGLE_ROLE_BRIDGE, {});
  node_.Ip("link add link eth0 name mv1 type macvlan\nlink set mv1 master br1\n");
  ExpectCovered("br1", WAGGLE_ROLE_UPLINK, kTcx.Net());
  node_.Ip("link del mv1\n");
  ExpectCovered("br1", WAGGLE_ROLE_BRIDGE, {});
}

// More events than the socket holds: everything is read anew.
TEST_F(DevicesTest, EventsThatWereLost) {
  StartAgent();
  AddVeth("same", "index 6161");
  AddVeth("goes");
  AddVeth("toggles");
  for (const char* device : {"same", "goes", "toggles"})
    ExpectCovered(device, WAGGLE_ROLE_POD, kTcx.Pod());
  const pid_t pid = static_cast<pid_t>(ReadAgent(node_.pin_path()).pid);
  const uint32_t gone = Index("goes");
  kill(pid, SIGSTOP);
  std::string lines;
  for (int i = 0; i < 4000; ++i)
    absl::StrAppend(&lines, "link set toggles mtu ", 1400 + i % 2, "\n");
  node_.Ip(lines);
  // None of this is heard.
  AddVeth("late");
  node_.Ip("link del goes\nlink del same\n");
  AddVeth("same", "index 6161");
  const uint64_t drops = Drops(pid);
  kill(pid, SIGCONT);
  EXPECT_GT(drops, 0u) << "the socket held all of it";
  ExpectCovered("late", WAGGLE_ROLE_POD, kTcx.Pod());
  ExpectCovered("same", WAGGLE_ROLE_POD, kTcx.Pod());
  EXPECT_TRUE(WaitFor([&] { return !Row(gone); }));
  EXPECT_FALSE(Exists(Pin(absl::StrCat("tc_", gone, "_in"))));
}

}  // namespace
}  // namespace waggle::lab
