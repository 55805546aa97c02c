// --socket-lb, and living beside other people's cgroup programs.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include "tests/lab/cluster.h"

namespace waggle::lab {
namespace {

using net::Family;
using testing::HasSubstr;

class SocketLbTest : public testing::TestWithParam<Traffic> {
 protected:
  std::string Target() const { return Cluster::Frontend(cluster_.web, GetParam().family); }

  // No translation means: the packet leaves for the default route and nobody answers.
  void ExpectServed(const Place& place, bool served) {
    if (served) {
      Tally tally = AskMany(place, GetParam().mode, Target(), 20);
      EXPECT_TRUE(tally.AllOk()) << place.name() << " " << tally;
      return;
    }
    Load asking(place, {"rate", "--mode", GetParam().mode, "--to", Target(), "--count", "2",
                        "--timeout-ms", "100"});
    Tally tally = asking.Finish();
    EXPECT_EQ(tally.ok, 0u) << place.name() << " " << tally;
    EXPECT_THAT(tally.failures.begin()->first, HasSubstr("timeout")) << tally;
  }

  void StartWith(const std::string& mode) {
    cluster_.Apply(cluster_.web);
    cluster_.StartAgent({.flags = {"--socket-lb", mode}});
  }

  Cluster cluster_;
};

INSTANTIATE_TEST_SUITE_P(, SocketLbTest, testing::ValuesIn(AllTraffic()), TrafficOf);

TEST_P(SocketLbTest, HostServesPodsByTheirPackets) {
  StartWith("host");
  ExpectServed(cluster_.node1, true);
  EXPECT_EQ(ReadReason(cluster_.node1.pin_path(), WAGGLE_REASON_FLOW_TRANSLATED), 0u);
  ExpectServed(cluster_.client, true);
  EXPECT_GT(ReadReason(cluster_.node1.pin_path(), WAGGLE_REASON_OTHER_NETNS), 0u);
  EXPECT_GT(ReadReason(cluster_.node1.pin_path(), WAGGLE_REASON_FLOW_TRANSLATED), 0u);
  // What is no Service works in pods as ever.
  Tally direct = AskMany(cluster_.client, GetParam().mode,
                         At(cluster_.b2.addresses().Of(GetParam().family), 8080), 3);
  EXPECT_TRUE(direct.AllOk()) << direct;
}

// Trap 15.
TEST_P(SocketLbTest, OffServesPodsAndSaysWhomItCannotServe) {
  StartWith("off");
  ExpectServed(cluster_.node1, false);
  ExpectServed(cluster_.client, true);
  EXPECT_THAT(cluster_.agent->Log(), HasSubstr("socket-lb"));
  RunResult status = Waggle(cluster_.node1, {"status", "--pin-path", cluster_.node1.pin_path()});
  EXPECT_THAT(status.out, HasSubstr("off")) << status.ToString();
}

TEST_P(SocketLbTest, TheModeMayChangeAtARestart) {
  StartWith("host");
  ExpectServed(cluster_.client, true);
  cluster_.agent->Stop();
  cluster_.StartAgent({.flags = {"--socket-lb", "all"}});
  ExpectServed(cluster_.client, true);
  cluster_.agent->Stop();
  cluster_.StartAgent({.flags = {"--socket-lb", "off"}});
  ExpectServed(cluster_.node1, false);
  ExpectServed(cluster_.client, true);
  cluster_.agent->Stop();
  cluster_.StartAgent({.flags = {"--socket-lb", "host"}});
  ExpectServed(cluster_.node1, true);
  ExpectServed(cluster_.client, true);
}

// A sock_addr program of somebody else, which counts its runs and lets all pass.
class Stranger {
 public:
  Stranger(const std::string& cgroup, bpf_attach_type type, uint32_t flags) : type_(type) {
    cgroup_.Reset(open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    runs_.Reset(bpf_map_create(BPF_MAP_TYPE_ARRAY, "stranger", 4, 8, 1, nullptr));
    const bpf_insn code[] = {
        // r1 = &runs[0]; lock *r1 += 1; return 1
        {BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_VALUE, 0, runs_.get()},
        {0, 0, 0, 0, 0},
        {BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 1},
        {BPF_STX | BPF_DW | BPF_ATOMIC, 1, 2, 0, BPF_ADD},
        {BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
    };
    LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = type);
    program_.Reset(bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "stranger", "GPL", code,
                                 std::size(code), &options));
    if (!program_.valid() || bpf_prog_attach(program_.get(), cgroup_.get(), type, flags) != 0) {
      Fail("cannot attach a stranger's program");
    }
  }
  ~Stranger() { bpf_prog_detach2(program_.get(), cgroup_.get(), type_); }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;

  uint64_t Runs() const {
    uint32_t key = 0;
    uint64_t runs = 0;
    bpf_map_lookup_elem(runs_.get(), &key, &runs);
    return runs;
  }

 private:
  bpf_attach_type type_;
  Fd cgroup_, runs_, program_;
};

TEST(StrangersTest, ProgramsBeforeAndAfterOursAllRun) {
  Cluster cluster;
  cluster.Apply(cluster.web);
  const std::string& cgroup = cluster.node1.cgroup();
  Stranger before(cgroup, BPF_CGROUP_INET4_CONNECT, BPF_F_ALLOW_MULTI);
  Stranger pods_own(cluster.client.cgroup(), BPF_CGROUP_INET4_CONNECT, BPF_F_ALLOW_MULTI);
  cluster.StartAgent();
  Stranger after(cgroup, BPF_CGROUP_INET4_CONNECT, BPF_F_ALLOW_MULTI);
  Tally tally = AskMany(cluster.client, "tcp", Cluster::Frontend(cluster.web, Family::kIpv4), 10);
  EXPECT_TRUE(tally.AllOk()) << tally;
  EXPECT_EQ(before.Runs(), 10u);
  EXPECT_EQ(after.Runs(), 10u);
  EXPECT_EQ(pods_own.Runs(), 10u);
  cluster.agent->Stop();
  EXPECT_TRUE(Waggle(cluster.node1, {"cleanup", "--pin-path", cluster.node1.pin_path()}).ok());
  Tally direct = AskMany(cluster.client, "tcp", At(cluster.b2.addresses().v4, 8080), 3);
  EXPECT_TRUE(direct.AllOk()) << direct;
  EXPECT_EQ(before.Runs(), 13u);
  EXPECT_EQ(after.Runs(), 13u);
}

// An old-style attachment without BPF_F_ALLOW_MULTI bars everybody else: the error
// names the place, the hook and the program.
TEST(StrangersTest, AnExclusiveAttachmentInTheWayIsNamed) {
  Cluster cluster;
  cluster.Apply(cluster.web);
  {
    Stranger exclusive(cluster.node1.cgroup(), BPF_CGROUP_INET6_CONNECT, 0);
    Agent agent(cluster.lab, cluster.node1);
    RunResult end = agent.AwaitRefusal();
    EXPECT_THAT(end.err, HasSubstr(cluster.node1.cgroup()));
    EXPECT_THAT(end.err, HasSubstr("connect6"));
    EXPECT_THAT(end.err, HasSubstr("stranger"));
  }
  // Once it is out of the way nothing of the failed start is.
  cluster.StartAgent();
  Tally tally = AskMany(cluster.client, "tcp", Cluster::Frontend(cluster.web, Family::kIpv6), 10);
  EXPECT_TRUE(tally.AllOk()) << tally;
}

}  // namespace
}  // namespace waggle::lab
