// `waggle cleanup --kube-proxy` among other people's rules; with a real kube-proxy:
// tests/cluster/swap_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/agent.h"
#include "tests/lab/lab.h"

namespace waggle::lab {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// As kube-proxy leaves them in mode ipvs; with a set and rules of somebody else.
constexpr char kRules[] =
    "*nat\n"
    ":KUBE-HOSTPORTS - [0:0]\n"
    ":KUBE-MARK-MASQ - [0:0]\n"
    ":KUBE-NODE-PORT - [0:0]\n"
    ":KUBE-POSTROUTING - [0:0]\n"
    ":KUBE-SERVICES - [0:0]\n"
    "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
    "-A PREROUTING -m set --match-set THEIRS dst -j RETURN\n"
    "-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n"
    "-A KUBE-HOSTPORTS -s 10.244.1.2/32 -j KUBE-MARK-MASQ\n"
    "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n"
    "-A KUBE-NODE-PORT -p tcp -j KUBE-MARK-MASQ\n"
    "-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE\n"
    "-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\n"
    "COMMIT\n"
    "*filter\n"
    ":KUBE-FIREWALL - [0:0]\n"
    ":KUBE-FORWARD - [0:0]\n"
    "-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n"
    "-A OUTPUT -j KUBE-FIREWALL\n"
    "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n"
    "COMMIT\n";

class KubeProxyCleanupTest : public testing::TestWithParam<const char*> {
 protected:
  KubeProxyCleanupTest() : node_(lab_.AddNode(Cni::kRouted)) {
    Feed({"ipset", "restore"},
         "create KUBE-CLUSTER-IP hash:ip,port\ncreate KUBE-6-CLUSTER-IP hash:ip,port family inet6\n"
         "create THEIRS hash:ip\n");
    Feed({Tool("-restore"), "--noflush"}, kRules);
    node_.Ip("link add kube-ipvs0 type veth peer name peer0\n");
  }

  std::string Tool(const char* suffix) const { return GetParam() + std::string(suffix); }
  void Feed(const Argv& argv, const std::string& input) const {
    Surroundings where = node_.surroundings();
    where.input = input;
    const RunResult result = RunProgram(where, argv);
    if (!result.ok()) Fail(argv[0] + ": " + result.ToString());
  }
  std::string Rules() const { return node_.Run({Tool("-save")}).out; }
  std::string Sets() const { return node_.Run({"ipset", "list", "-n"}).out; }

  Lab lab_;
  Node& node_;
};

INSTANTIATE_TEST_SUITE_P(, KubeProxyCleanupTest, testing::Values("iptables-nft", "iptables-legacy"),
                         [](const auto& row) {
                           return std::string(row.param) == "iptables-nft" ? "Nft" : "Legacy";
                         });

TEST_P(KubeProxyCleanupTest, RemovesWhatIsKubeProxysAndNothingElse) {
  const std::string before = Rules();
  const RunResult dry = Waggle(node_, {"cleanup", "--kube-proxy", "--dry-run"});
  EXPECT_TRUE(dry.ok()) << dry.ToString();
  EXPECT_THAT(dry.out, AllOf(HasSubstr("would remove 3 chains and 2 rules of " + Tool("")),
                             HasSubstr("  chain in nat: KUBE-SERVICES\n"),
                             HasSubstr("  rule in filter: -A FORWARD -m comment"),
                             HasSubstr("would remove ipset KUBE-CLUSTER-IP\n"),
                             HasSubstr("would remove device kube-ipvs0\n")));
  EXPECT_EQ(Rules().size(), before.size());

  const RunResult cleaned = Waggle(node_, {"cleanup", "--kube-proxy"});
  EXPECT_TRUE(cleaned.ok()) << cleaned.ToString();
  EXPECT_THAT(cleaned.out, AllOf(HasSubstr("removed 3 chains and 2 rules of " + Tool("")),
                                 HasSubstr("stays: in table nat of " + Tool("") +
                                           ": chain KUBE-MARK-MASQ (KUBE-HOSTPORTS leads there)"),
                                 HasSubstr("removed ipset KUBE-6-CLUSTER-IP\n")));
  const std::string after = Rules();
  EXPECT_THAT(after, AllOf(Not(HasSubstr("KUBE-SERVICES")), Not(HasSubstr("KUBE-FORWARD")),
                           Not(HasSubstr("KUBE-NODE-PORT"))));
  EXPECT_THAT(after, AllOf(HasSubstr("-A OUTPUT -j KUBE-FIREWALL"),
                           HasSubstr("-A PREROUTING -m set --match-set THEIRS dst -j RETURN"),
                           HasSubstr("-A KUBE-HOSTPORTS -s 10.244.1.2/32 -j KUBE-MARK-MASQ"),
                           HasSubstr("-j KUBE-POSTROUTING")));
  EXPECT_EQ(Sets(), "THEIRS\n");
  EXPECT_FALSE(node_.Run({"ip", "link", "show", "kube-ipvs0"}).ok());

  const RunResult again = Waggle(node_, {"cleanup", "--kube-proxy"});
  EXPECT_TRUE(again.ok()) << again.ToString();
  EXPECT_THAT(again.out, Not(HasSubstr("removed")));
  EXPECT_EQ(Rules().size(), after.size());
}

// It counts by its name and its network namespace.
TEST_P(KubeProxyCleanupTest, ARunningKubeProxyIsARefusalOnItsOwnNodeOnly) {
  Node& other = lab_.AddNode(Cni::kRouted);
  const std::string program = lab_.scratch() + "/kube-proxy";
  ASSERT_TRUE(node_.Run({"cp", "/bin/sleep", program}).ok());
  Process process(other.surroundings(), {program, "1000"}, Process::Output::kToMemory);
  const auto refused = [](const RunResult& result) {
    return result.status == 1 &&
           result.err.find("kube-proxy runs on this node") != std::string::npos;
  };
  EXPECT_TRUE(WaitFor([&] { return refused(Waggle(other, {"cleanup", "--kube-proxy"})); }));
  EXPECT_TRUE(Waggle(node_, {"cleanup", "--kube-proxy"}).ok());
  process.Kill();
  EXPECT_EQ(Waggle(other, {"cleanup", "--kube-proxy"}).out,
            "nothing of kube-proxy in this network namespace\n");
}

}  // namespace
}  // namespace waggle::lab
