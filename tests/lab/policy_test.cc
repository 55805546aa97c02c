// Policy engines are found by what they really write, and nobody else is taken for one.
#include "loader/policy_engines.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <iterator>
#include <ostream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "loader/features.h"
#include "tests/lab/cluster.h"
#include "tests/lab/kube_proxy.h"
#include "tests/lab/lab.h"

namespace waggle::lab {
namespace {

using loader::PolicyEngine;
using loader::PolicyEngineFinder;
using loader::PolicyScope;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Property;
using testing::SizeIs;

// Debian 12's headers are older than tcx.
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
constexpr auto kTcxEgress = static_cast<bpf_attach_type>(47);

// Does something in a network namespace, on a thread of its own.
void Within(const Place& place, const std::function<void()>& body) {
  std::thread([&] {
    const Fd netns(open(("/run/netns/" + place.name()).c_str(), O_RDONLY | O_CLOEXEC));
    if (setns(netns.get(), CLONE_NEWNET) != 0) Fail("setns " + place.name());
    body();
  }).join();
}

// Of this thread's rights those of these that it has.
void KeepOnly(const std::vector<int>& capabilities) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct had[2]{}, rights[2]{};
  if (syscall(SYS_capget, &header, had) != 0) Fail("capget");
  for (const int capability : capabilities) {
    const uint32_t bit = had[capability / 32].permitted & 1U << capability % 32;
    rights[capability / 32].effective |= bit;
    rights[capability / 32].permitted |= bit;
  }
  if (syscall(SYS_capset, &header, rights) != 0) Fail("capset");
}

// A program that lets all pass.
Fd LoadProgram(const char* name) {
  bpf_insn code[2] = {};
  code[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
  code[0].dst_reg = BPF_REG_0;
  code[0].imm = -1;
  code[1].code = BPF_JMP | BPF_EXIT;
  Fd program(
      bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, name, "Dual BSD/GPL", code, std::size(code), nullptr));
  if (!program.valid()) Fail("load a tc program");
  return program;
}

class PolicyTest : public testing::Test {
 protected:
  PolicyTest()
      : node_(lab_.AddNode(Cni::kRouted)),
        pod_(node_.AddPod("pod")),
        other_(node_.AddPod("other")) {
    lab_.Connect();
    libbpf_set_print(nullptr);  // it complains of a clsact that is there already
  }

  void Must(const Argv& argv) const {
    const RunResult result = node_.Run(argv);
    if (!result.ok()) Fail(result.ToString());
  }
  unsigned Ifindex(const std::string& device) const {
    unsigned ifindex = 0;
    Within(node_, [&] { ifindex = if_nametoindex(device.c_str()); });
    return ifindex;
  }
  PolicyScope Scope() const {
    return {.pods = {static_cast<int>(Ifindex(pod_.host_device())),
                     static_cast<int>(Ifindex(other_.host_device()))},
            .uplinks = {static_cast<int>(Ifindex("eth0"))},
            .own_programs = own_programs_};
  }
  absl::StatusOr<std::vector<PolicyEngine>> Find(PolicyEngineFinder& finder) const {
    const PolicyScope scope = Scope();
    absl::StatusOr<std::vector<PolicyEngine>> found;
    Within(node_, [&] {
      if (!keep_only_.empty()) KeepOnly(keep_only_);
      found = finder.Find(scope);
    });
    return found;
  }
  absl::StatusOr<std::vector<PolicyEngine>> Find() { return Find(finder_); }
  // "where: why" of each.
  std::vector<std::string> Found() {
    const auto found = Find();
    EXPECT_TRUE(found.ok()) << found.status();
    std::vector<std::string> texts;
    if (!found.ok()) return texts;
    for (const PolicyEngine& engine : *found)
      texts.push_back(engine.where + ": " + engine.why);
    return texts;
  }

  void AttachTcx(const char* name, const std::string& device, bpf_attach_type direction) {
    programs_.push_back(LoadProgram(name));
    const Fd& program = programs_.back();
    const unsigned ifindex = Ifindex(device);
    Within(node_, [&] {
      links_.emplace_back(
          bpf_link_create(program.get(), static_cast<int>(ifindex), direction, nullptr));
    });
    if (!links_.back().valid()) Fail("attach by tcx");
  }
  void AttachClsact(const char* name, const std::string& device, bpf_tc_attach_point direction) {
    programs_.push_back(LoadProgram(name));
    const Fd& program = programs_.back();
    const unsigned ifindex = Ifindex(device);
    Within(node_, [&] {
      bpf_tc_hook hook{};
      hook.sz = sizeof(hook);
      hook.ifindex = static_cast<int>(ifindex);
      hook.attach_point = direction;
      bpf_tc_opts options{};
      options.sz = sizeof(options);
      options.prog_fd = program.get();
      const int made = bpf_tc_hook_create(&hook);
      if ((made != 0 && made != -EEXIST) || bpf_tc_attach(&hook, &options) != 0) {
        Fail("attach by clsact");
      }
    });
  }
  static uint32_t IdOf(const Fd& program) {
    bpf_prog_info info{};
    uint32_t length = sizeof(info);
    if (bpf_obj_get_info_by_fd(program.get(), &info, &length) != 0) Fail("ask for a program");
    return info.id;
  }

  Lab lab_;
  Node& node_;
  Pod& pod_;
  Pod& other_;
  PolicyEngineFinder finder_;
  std::vector<Fd> programs_;
  std::vector<Fd> links_;
  std::vector<uint32_t> own_programs_;
  std::vector<int> keep_only_;  // who looks has these capabilities; empty: all
};

TEST_F(PolicyTest, NothingOnABareNode) {
  EXPECT_THAT(Found(), IsEmpty());
}

// The neighbours that every node may have, none of which knows a pod.
TEST_F(PolicyTest, OrdinaryRulesAreNoPolicy) {
  InstallKubeProxyRules(node_, {.name = "web",
                                .cluster_ips = {"10.96.0.10", "fd00:96::10"},
                                .endpoints = {EndpointOf(node_, pod_)}});
  for (const char* command : {"iptables-nft", "ip6tables-nft", "iptables-legacy"}) {
    for (const char* chain : {"KUBE-SERVICES", "KUBE-FORWARD", "KUBE-FIREWALL", "DOCKER-USER",
                              "FLANNEL-FWD", "CNI-FORWARD", "ufw-before-forward"}) {
      Must({command, "-N", chain});
      Must({command, "-A", "FORWARD", "-j", chain});
    }
    Must({command, "-P", "FORWARD", "DROP"});
    // In `nat` a name means nothing: it sees no packet but the first.
    Must({command, "-t", "nat", "-N", "cali-FORWARD"});
  }
  node_.Nft(
      "table inet firewalld {\n  chain filter_FORWARD {\n"
      "    type filter hook forward priority 10; policy drop;\n"
      "    ct state established,related accept\n  }\n}\n"
      "table bridge filter {\n  chain FORWARD {\n"
      "    type filter hook forward priority 0;\n  }\n}\n"
      "table netdev mine {\n  chain in {\n"
      "    type filter hook ingress device lo priority 0;\n  }\n}\n");
  Must({"tc", "qdisc", "add", "dev", pod_.host_device(), "root", "pfifo_fast"});
  Must({"tc", "qdisc", "add", "dev", pod_.host_device(), "clsact"});
  Must({"tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "1gbit", "burst", "100k",
        "latency", "50ms"});
  EXPECT_THAT(Found(), IsEmpty());
}

TEST_F(PolicyTest, OurOwnProgramsAreNoStrangers) {
  AttachTcx("waggle_pod_in", pod_.host_device(), kTcxIngress);
  AttachTcx("waggle_pod_out", pod_.host_device(), kTcxEgress);
  AttachClsact("waggle_pod_in", other_.host_device(), BPF_TC_INGRESS);
  AttachClsact("waggle_pod_out", other_.host_device(), BPF_TC_EGRESS);
  AttachTcx("waggle_net_in", "eth0", kTcxIngress);
  EXPECT_THAT(Found(), IsEmpty());
  // Known by its id, whatever its name.
  AttachTcx("renamed", pod_.host_device(), kTcxIngress);
  EXPECT_THAT(Found(), SizeIs(1));
  own_programs_.push_back(IdOf(programs_.back()));
  EXPECT_THAT(Found(), IsEmpty());
}

// As the agent of deploy/waggle.yaml has it: the kernel tells it names of filters only.
TEST_F(PolicyTest, WithTheRightsOfTheDaemonSetOursAreKnownByTheirIds) {
  AttachTcx("waggle_pod_in", pod_.host_device(), kTcxIngress);
  own_programs_.push_back(IdOf(programs_.back()));
  AttachTcx("waggle_net_in", "eth0", kTcxIngress);
  own_programs_.push_back(IdOf(programs_.back()));
  AttachClsact("waggle_pod_in", other_.host_device(), BPF_TC_INGRESS);
  AttachClsact("waggle_pod_out", other_.host_device(), BPF_TC_EGRESS);
  keep_only_ = {CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_RESOURCE};
  EXPECT_THAT(Found(), IsEmpty());

  // Left by a Waggle with other pins: it could as well be somebody's policy.
  AttachTcx("waggle_pod_out", pod_.host_device(), kTcxEgress);
  const std::vector<std::string> found = Found();
  EXPECT_EQ(found, std::vector<std::string>{absl::StrCat(
                       "program ", IdOf(programs_.back()), " of unknown name at tcx egress of ",
                       pod_.host_device(), ": programs of others must see the packets")});
  EXPECT_EQ(loader::ChooseForwarding(WAGGLE_FORWARDING_AUTO, Find()).forwarding,
            WAGGLE_FORWARDING_STACK);
  links_.pop_back();
  AttachClsact("cil_from_contai", other_.host_device(), BPF_TC_INGRESS);
  EXPECT_THAT(Found(), ElementsAre(HasSubstr("filter bpf cil_from_contai:[")));
}

// What leaves by an uplink meets the programs there.
TEST_F(PolicyTest, AnUplinksEgressSeesAll) {
  AttachTcx("stranger", "eth0", kTcxEgress);
  AttachClsact("stranger", "eth0", BPF_TC_EGRESS);
  EXPECT_THAT(Found(), IsEmpty());
}

TEST_F(PolicyTest, DevicesThatAreNotOursMayCarryAnything) {
  node_.Ip("link add other0 type veth peer name other1\n");
  AttachTcx("stranger", "other0", kTcxIngress);
  AttachClsact("stranger", "other0", BPF_TC_EGRESS);
  EXPECT_THAT(Found(), IsEmpty());
}

// Each of these alone, by the tools that engines use.
struct Engine {
  const char* name;
  std::vector<Argv> commands;
  const char* nft;
  const char* found;
};

void PrintTo(const Engine& engine, std::ostream* out) {
  *out << engine.name;
}

class EngineTest : public PolicyTest, public testing::WithParamInterface<Engine> {};

INSTANTIATE_TEST_SUITE_P(
    , EngineTest,
    testing::Values(
        Engine{"CalicoIptablesNft",
               {{"iptables-nft", "-N", "cali-FORWARD"}},
               "",
               "chain cali-FORWARD in table ip filter: Calico's policy must see the packets"},
        Engine{"CalicoIp6tablesNft",
               {{"ip6tables-nft", "-N", "cali-INPUT"}},
               "",
               "chain cali-INPUT in table ip6 filter: Calico's policy must see the packets"},
        Engine{"CalicoIptablesLegacy",
               {{"iptables-legacy", "-N", "cali-FORWARD"},
                {"iptables-legacy", "-A", "FORWARD", "-j", "cali-FORWARD"}},
               "",
               "chain cali-FORWARD in table filter of iptables-legacy: Calico's policy must see "
               "the packets"},
        Engine{"CalicoNftables",
               {},
               "table ip calico {\n  chain filter-FORWARD {\n"
               "    type filter hook forward priority 0;\n  }\n}\n",
               "table ip calico: Calico's policy must see the packets"},
        Engine{"KubeRouter",
               {{"iptables-legacy", "-N", "KUBE-SERVICES"},
                {"iptables-legacy", "-N", "KUBE-ROUTER-FORWARD"}},
               "",
               "chain KUBE-ROUTER-FORWARD in table filter of iptables-legacy: kube-router's "
               "policy must see the packets"},
        Engine{"WeaveNpc",
               {{"ip6tables-legacy", "-t", "raw", "-N", "WEAVE-NPC"}},
               "",
               "chain WEAVE-NPC in table raw of ip6tables-legacy: Weave Net's policy must see the "
               "packets"},
        Engine{"Cilium",
               {{"iptables-nft", "-N", "CILIUM_FORWARD"}},
               "",
               "chain CILIUM_FORWARD in table ip filter: Cilium's policy must see the packets"},
        Engine{"KubeNetworkPolicies",
               {},
               "table inet kube-network-policies {\n}\n",
               "table inet kube-network-policies: kube-network-policies' policy must see the "
               "packets"},
        Engine{"ANetdevChainOnAPod",
               {},
               "table netdev guard {\n  chain in {\n    type filter hook ingress device "
               "\"calipod\" priority 0;\n  }\n}\n",
               "chain in in table netdev guard on device calipod: other people's rules must see "
               "the packets"},
        Engine{"ANetdevChainOnManyDevices",
               {},
               "table netdev guard {\n  chain in {\n    type filter hook ingress devices = { lo, "
               "caliother } priority 0;\n  }\n}\n",
               "chain in in table netdev guard on device caliother: other people's rules must see "
               "the packets"},
        Engine{"AFilterOfAnotherKind",
               {{"tc", "qdisc", "add", "dev", "calipod", "clsact"},
                {"tc", "filter", "add", "dev", "calipod", "egress", "protocol", "all", "u32",
                 "match", "u32", "0", "0", "classid", "1:1"}},
               "",
               "filter u32 at tc egress of calipod: programs of others must see the packets"},
        Engine{"AFilterOnTheOldIngressQdisc",
               {{"tc", "qdisc", "add", "dev", "caliother", "ingress"},
                {"tc", "filter", "add", "dev", "caliother", "ingress", "protocol", "ip", "u32",
                 "match", "u32", "0", "0", "classid", "1:1"}},
               "",
               "filter u32 at tc ingress of caliother: programs of others must see the packets"},
        Engine{"ABandwidthLimit",
               {{"tc", "qdisc", "add", "dev", "calipod", "root", "tbf", "rate", "1mbit", "burst",
                 "10k", "latency", "50ms"}},
               "",
               "qdisc tbf on calipod: it limits what goes to the pod"}),
    [](const auto& param) { return param.param.name; });

TEST_P(EngineTest, IsFoundAndNamed) {
  ASSERT_THAT(Found(), IsEmpty());
  for (const Argv& command : GetParam().commands)
    Must(command);
  if (*GetParam().nft != '\0') node_.Nft(GetParam().nft);
  for (int i = 0; i < 2; ++i) {  // the second time from memory
    const auto found = Find();
    ASSERT_TRUE(found.ok()) << found.status();
    ASSERT_THAT(*found, SizeIs(1));
    const loader::ForwardingChoice choice = loader::ChooseForwarding(WAGGLE_FORWARDING_AUTO, found);
    EXPECT_EQ(choice.forwarding, WAGGLE_FORWARDING_STACK);
    EXPECT_EQ(choice.reason, GetParam().found);
  }
}

// Somebody else's program, wherever ours might leave it out.
struct Stranger {
  const char* name;
  const char* device;
  bool tcx;
  bool ingress;
  const char* found;
};

void PrintTo(const Stranger& stranger, std::ostream* out) {
  *out << stranger.name;
}

class StrangerTest : public PolicyTest, public testing::WithParamInterface<Stranger> {};

INSTANTIATE_TEST_SUITE_P(
    , StrangerTest,
    testing::Values(
        Stranger{"TcxIngress", "calipod", true, true,
                 "program cil_from_contai at tcx ingress of calipod"},
        Stranger{"TcxEgress", "caliother", true, false,
                 "program cil_from_contai at tcx egress of caliother"},
        Stranger{"TcxIngressOfAnUplink", "eth0", true, true,
                 "program cil_from_contai at tcx ingress of eth0"},
        Stranger{"ClsactIngress", "calipod", false, true, "filter bpf cil_from_contai:["},
        Stranger{"ClsactEgress", "calipod", false, false, "filter bpf cil_from_contai:["},
        Stranger{"ClsactIngressOfAnUplink", "eth0", false, true, "filter bpf cil_from_contai:["}),
    [](const auto& param) { return param.param.name; });

TEST_P(StrangerTest, IsFoundAmongOurs) {
  const Stranger& row = GetParam();
  const auto attach = [&](const char* name) {
    if (row.tcx) {
      AttachTcx(name, row.device, row.ingress ? kTcxIngress : kTcxEgress);
    } else {
      AttachClsact(name, row.device, row.ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS);
    }
  };
  attach("waggle_pod_in");
  EXPECT_THAT(Found(), IsEmpty());
  attach("cil_from_contai");
  attach("waggle_pod_out");
  const std::vector<std::string> found = Found();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_THAT(found[0], HasSubstr(row.found));
  EXPECT_THAT(found[0], HasSubstr(absl::StrCat(row.ingress ? "ingress" : "egress", " of ",
                                               row.device, ": programs of others must see")));
}

TEST_F(PolicyTest, MoreStrangersThanAskedForAtFirst) {
  for (int i = 0; i < 20; ++i)
    AttachTcx("waggle_net_in", pod_.host_device(), kTcxIngress);
  EXPECT_THAT(Found(), IsEmpty());
  AttachTcx("stranger", pod_.host_device(), kTcxIngress);
  EXPECT_THAT(Found(), SizeIs(1));
}

// Engines come after us when a node starts, and may be removed.
TEST_F(PolicyTest, WhatComesAndGoesIsNoticed) {
  struct {
    const char* what;
    Argv come;
    Argv go;
  } const rows[] = {
      {"iptables-nft",
       {"iptables-nft", "-N", "cali-FORWARD"},
       {"iptables-nft", "-X", "cali-FORWARD"}},
      {"nftables",
       {"nft", "add", "table", "ip", "calico"},
       {"nft", "delete", "table", "ip", "calico"}},
      {"iptables-legacy",
       {"iptables-legacy", "-N", "WEAVE-NPC"},
       {"iptables-legacy", "-X", "WEAVE-NPC"}},
      {"qdisc",
       {"tc", "qdisc", "add", "dev", "calipod", "root", "tbf", "rate", "1mbit", "burst", "10k",
        "latency", "50ms"},
       {"tc", "qdisc", "del", "dev", "calipod", "root"}},
  };
  for (const auto& row : rows) {
    for (int round = 0; round < 2; ++round) {
      Must(row.come);
      EXPECT_TRUE(WaitFor([&] { return Found().size() == 1; })) << row.what;
      Must(row.go);
      EXPECT_TRUE(WaitFor([&] { return Found().empty(); })) << row.what;
    }
  }
  AttachTcx("stranger", pod_.host_device(), kTcxIngress);
  EXPECT_THAT(Found(), SizeIs(1));
  links_.clear();
  EXPECT_TRUE(WaitFor([&] { return Found().empty(); }));
}

TEST_F(PolicyTest, ADeviceThatIsGoneIsPassedOver) {
  PolicyScope scope = Scope();
  node_.Ip("link del calipod\n");
  absl::StatusOr<std::vector<PolicyEngine>> found;
  Within(node_, [&] { found = loader::FindPolicyEngines(scope); });
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(*found, IsEmpty());
}

TEST_F(PolicyTest, AllEnginesAreNamedOnce) {
  for (const char* command : {"iptables-nft", "ip6tables-nft", "iptables-legacy"}) {
    for (const char* chain : {"cali-FORWARD", "cali-INPUT", "cali-OUTPUT"})
      Must({command, "-N", chain});
  }
  Must({"iptables-legacy", "-N", "KUBE-ROUTER-FORWARD"});
  AttachTcx("stranger", pod_.host_device(), kTcxIngress);
  AttachTcx("stranger", other_.host_device(), kTcxEgress);
  EXPECT_THAT(Found(), SizeIs(3));
}

// kube-proxy of 10,000 Services makes 60,000 chains; the kernel needs 90 ms to list them.
TEST_F(PolicyTest, TensOfThousandsOfChainsCostNothing) {
  std::string rules = "table ip nat {\n";
  for (int i = 0; i < 60000; ++i)
    absl::StrAppend(&rules, "chain KUBE-SEP-", i, " { counter\n }\n");
  absl::StrAppend(&rules, "}\n");
  node_.Nft(rules);
  auto best = std::chrono::steady_clock::duration::max();
  for (int i = 0; i < 10; ++i) {
    Must({"nft", "add", "chain", "ip", "nat", absl::StrCat("KUBE-SVC-", i)});  // asked anew
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_THAT(Found(), IsEmpty());
    best = std::min(best, std::chrono::steady_clock::now() - begin);
  }
  EXPECT_LT(best, std::chrono::milliseconds(20));
  Must({"iptables-nft", "-N", "cali-FORWARD"});
  EXPECT_THAT(Found(), SizeIs(1));
}

TEST_F(PolicyTest, WithoutRightsItIsNotKnown) {
  absl::StatusOr<std::vector<PolicyEngine>> found;
  Within(node_, [&] {
    KeepOnly({});
    found = finder_.Find({});
  });
  EXPECT_FALSE(found.ok());
  const loader::ForwardingChoice choice = loader::ChooseForwarding(WAGGLE_FORWARDING_AUTO, found);
  EXPECT_EQ(choice.forwarding, WAGGLE_FORWARDING_STACK);
  EXPECT_THAT(choice.reason, HasSubstr("read the chains of nftables"));
}

// The agent's part: auto follows what it finds, for new flows, and says why.
class AutoForwardingTest : public testing::Test {
 protected:
  AutoForwardingTest() { cluster_.Apply(cluster_.web); }

  waggle_settings Settings() const {
    const Fd map(bpf_obj_get((cluster_.node1.pin_path() + "/settings").c_str()));
    waggle_settings settings{};
    const uint32_t key = 0;
    if (!map.valid() || bpf_map_lookup_elem(map.get(), &key, &settings) != 0) Fail("no settings");
    return settings;
  }
  void Await(waggle_forwarding forwarding, const std::string& reason) {
    EXPECT_TRUE(WaitFor([&] { return Settings().forwarding == forwarding; }))
        << Settings().forwarding_reason;
    EXPECT_THAT(Settings().forwarding_reason, HasSubstr(reason));
    EXPECT_EQ(Settings().forwarding_asked, uint32_t{WAGGLE_FORWARDING_AUTO});
    const Argv status = {"status", "-o", "json", "--pin-path", cluster_.node1.pin_path()};
    EXPECT_THAT(Waggle(cluster_.node1, status).out, HasSubstr(reason));
    EXPECT_THAT(cluster_.agent->Log(), HasSubstr(reason));
  }
  // Whether flows that begin now take the short way.
  bool Redirected() {
    const std::string to = Cluster::Frontend(cluster_.web, net::Family::kIpv4);
    const Tally tally = AskMany(cluster_.client, "udp-new", to, 10);
    EXPECT_TRUE(tally.AllOk()) << tally;
    const RunResult flows =
        Waggle(cluster_.node1, {"flow", "list", "--pin-path", cluster_.node1.pin_path()});
    EXPECT_TRUE(flows.ok()) << flows.ToString();
    return flows.out.find("peer") != std::string::npos;
  }
  void ExpectServed() {
    for (const Traffic& traffic : AllTraffic()) {
      const std::string to = Cluster::Frontend(cluster_.web, traffic.family);
      const Tally tally = AskMany(cluster_.client, traffic.mode, to, 5);
      EXPECT_TRUE(tally.AllOk()) << traffic.Name() << " " << tally;
    }
  }
  RunResult OnNode(const Argv& argv) const {
    RunResult result = cluster_.node1.Run(argv);
    EXPECT_TRUE(result.ok()) << result.ToString();
    return result;
  }

  Cluster cluster_;
};

TEST_F(AutoForwardingTest, FollowsTheEnginesThatComeAndGo) {
  cluster_.StartAgent({.flags = {"--socket-lb", "off"}});
  Await(WAGGLE_FORWARDING_REDIRECT, "no policy engine found");
  EXPECT_TRUE(Redirected());
  const std::string v4 = Cluster::Frontend(cluster_.web, net::Family::kIpv4);
  const std::string v6 = Cluster::Frontend(cluster_.web, net::Family::kIpv6);
  Load load(cluster_.client, {"hold", "--tcp", v4, "--tcp", v6, "--udp", v4, "--udp", v6,
                              "--connections", "3", "--timeout-ms", "8000"});

  OnNode({"iptables-nft", "-N", "cali-FORWARD"});
  Await(WAGGLE_FORWARDING_STACK,
        "chain cali-FORWARD in table ip filter: Calico's policy must see the packets");
  ExpectServed();
  OnNode({"iptables-nft", "-X", "cali-FORWARD"});
  Await(WAGGLE_FORWARDING_REDIRECT, "no policy engine found");
  ExpectServed();
  // Those that were open all the time kept their way.
  const Tally tally = load.Stop();
  EXPECT_EQ(tally.ok, tally.attempts) << tally;
  EXPECT_GT(tally.attempts, 0u);
}

// Our programs on the pods' devices, by links or by filters, are nobody's policy.
TEST_F(AutoForwardingTest, IsNotMistakenAboutItself) {
  for (const char* attach : {"tcx", "clsact"}) {
    cluster_.StartAgent({.flags = {"--socket-lb", "off", "--tc-attach", attach}});
    Await(WAGGLE_FORWARDING_REDIRECT, "no policy engine found");
    ExpectServed();
    EXPECT_EQ(cluster_.agent->Stop(), 0);
    // What an agent leaves in force is its successor's own.
    cluster_.StartAgent({.flags = {"--socket-lb", "off", "--tc-attach", attach}});
    Await(WAGGLE_FORWARDING_REDIRECT, "no policy engine found");
    EXPECT_EQ(cluster_.agent->Stop(), 0);
  }
}

// The first choice is made before the first flow.
TEST_F(AutoForwardingTest, AnEngineThatIsThereFirst) {
  OnNode({"ip6tables-legacy", "-N", "KUBE-ROUTER-FORWARD"});
  cluster_.StartAgent({.flags = {"--socket-lb", "off"}});
  Await(WAGGLE_FORWARDING_STACK, "kube-router's policy must see the packets");
  EXPECT_FALSE(Redirected());
  ExpectServed();
}

TEST_F(AutoForwardingTest, RedirectOnRequestSaysWhoIsPassedBy) {
  OnNode({"iptables-nft", "-N", "CILIUM_FORWARD"});
  cluster_.StartAgent({.flags = {"--socket-lb", "off", "--forwarding", "redirect"}});
  EXPECT_EQ(Settings().forwarding, uint32_t{WAGGLE_FORWARDING_REDIRECT});
  EXPECT_THAT(Settings().forwarding_reason, HasSubstr("CILIUM_FORWARD"));
  EXPECT_TRUE(Redirected());
}

// The lab needs a kernel that has all of these; each can be taken for missing.
TEST(FeaturesTest, AreFoundAndCanBeDisabled) {
  const auto all = loader::ProbeFeatures({});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_TRUE(all->skip_neigh);
  EXPECT_TRUE(all->tcx);
  EXPECT_TRUE(all->coarse_clock);
  const auto old = loader::ProbeFeatures({"skip_neigh", "tcx", "coarse_clock"});
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_FALSE(old->skip_neigh);
  EXPECT_FALSE(old->tcx);
  EXPECT_FALSE(old->coarse_clock);
  EXPECT_TRUE(old->set_retval);
}

}  // namespace
}  // namespace waggle::lab
