// `waggle cleanup --kube-proxy` among other people's rules; with a real kube-proxy:
// tests/cluster/swap_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/lab/agent.h"
#include "tests/lab/lab.h"

namespace waggle::lab {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// As kube-proxy leaves them in mode ipvs, and some of mode iptables before it; with a set and rules
// of somebody else.
constexpr char kRules[] =
    "*nat\n"
    ":KUBE-HOSTPORTS - [0:0]\n"
    ":KUBE-MARK-MASQ - [0:0]\n"
    ":KUBE-NODE-PORT - [0:0]\n"
    ":KUBE-NODEPORTS - [0:0]\n"
    ":KUBE-POSTROUTING - [0:0]\n"
    ":KUBE-SERVICES - [0:0]\n"
    "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
    "-A PREROUTING -m set --match-set THEIRS dst -j RETURN\n"
    "-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n"
    "-A KUBE-HOSTPORTS -s 10.244.1.2/32 -j KUBE-MARK-MASQ\n"
    "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n"
    "-A KUBE-NODE-PORT -p tcp -j KUBE-MARK-MASQ\n"
    "-A KUBE-NODEPORTS -p tcp -m comment --comment default/web:http -m tcp --dport 30080 "
    "-j KUBE-MARK-MASQ\n"
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

// Their counters change all the time.
long LinesOf(const std::string& rules) {
  return std::count(rules.begin(), rules.end(), '\n');
}

// So that a source is complete.
void WriteManifest(const Lab& lab) {
  lab.WriteManifest("none.yaml", "apiVersion: v1\nkind: List\nitems: []\n");
}

class KubeProxyCleanupTest : public testing::TestWithParam<const char*> {
 protected:
  KubeProxyCleanupTest() : node_(lab_.AddNode(Cni::kRouted)) {
    Feed({"ipset", "restore"},
         "create KUBE-CLUSTER-IP hash:ip,port\ncreate KUBE-6-CLUSTER-IP hash:ip,port family inet6\n"
         // kube-router's.
         "create KUBE-SRC-2FAVVDOWQKCUVPBZ hash:ip\ncreate KUBE-DST-2FAVVDOWQKCUVPBZ hash:ip\n"
         "create inet6:KUBE-CLUSTER-IP hash:ip family inet6\ncreate THEIRS hash:ip\n");
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
  // On pins that are in force.
  RunResult Cleanup(const Argv& flags = {}) const {
    Argv argv = {"cleanup", "--kube-proxy", "--pin-path", node_.pin_path()};
    argv.insert(argv.end(), flags.begin(), flags.end());
    return Waggle(node_, argv);
  }
  // The agent stops, its programs go on.
  void PutWaggleInForce() {
    WriteManifest(lab_);
    Agent agent(lab_, node_);
    agent.AwaitReady();
    agent.Stop();
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
  PutWaggleInForce();
  const std::string before = Rules();
  const RunResult dry = Cleanup({"--dry-run"});
  EXPECT_TRUE(dry.ok()) << dry.ToString();
  EXPECT_THAT(dry.out, AllOf(HasSubstr("would remove 4 chains and 2 rules of " + Tool("")),
                             HasSubstr("  chain in nat: KUBE-SERVICES\n"),
                             HasSubstr("  rule in filter: -A FORWARD -m comment"),
                             HasSubstr("would remove ipset KUBE-CLUSTER-IP\n"),
                             HasSubstr("would remove device kube-ipvs0\n"),
                             HasSubstr("warning: NodePorts, "), HasSubstr(": default/web:http\n"),
                             Not(HasSubstr("would refuse"))));
  EXPECT_EQ(LinesOf(Rules()), LinesOf(before));

  const RunResult cleaned = Cleanup();
  EXPECT_TRUE(cleaned.ok()) << cleaned.ToString();
  EXPECT_THAT(cleaned.out, AllOf(HasSubstr("removed 4 chains and 2 rules of " + Tool("")),
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
  EXPECT_EQ(Sets(),
            "KUBE-SRC-2FAVVDOWQKCUVPBZ\nKUBE-DST-2FAVVDOWQKCUVPBZ\ninet6:KUBE-CLUSTER-IP\n"
            "THEIRS\n");
  EXPECT_FALSE(node_.Run({"ip", "link", "show", "kube-ipvs0"}).ok());

  const RunResult again = Cleanup();
  EXPECT_TRUE(again.ok()) << again.ToString();
  EXPECT_THAT(again.out, Not(HasSubstr("removed")));
  EXPECT_EQ(LinesOf(Rules()), LinesOf(after));
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
  EXPECT_TRUE(Cleanup({"--force"}).ok());
  process.Kill();
  EXPECT_EQ(Waggle(other, {"cleanup", "--kube-proxy"}).out,
            "nothing of kube-proxy in this network namespace\n");
}

TEST_P(KubeProxyCleanupTest, RefusesWhereWaggleIsNotInForce) {
  const std::string before = Rules();
  const auto refused = [&](const std::string& why) {
    const RunResult result = Cleanup();
    EXPECT_NE(result.status, 0);
    EXPECT_THAT(result.err, AllOf(HasSubstr("Waggle is not in force"), HasSubstr(why)));
    EXPECT_THAT(Cleanup({"--dry-run"}).out, HasSubstr("would refuse: Waggle is not in force"));
    EXPECT_EQ(LinesOf(Rules()), LinesOf(before));
  };
  refused("nothing is pinned");
  {
    // An empty folder is no source yet.
    Agent agent(lab_, node_);
    agent.AwaitReady();
    refused("part of the agent's input could not be read");
    WriteManifest(lab_);
    EXPECT_TRUE(WaitFor(
        [&] { return Cleanup({"--dry-run"}).out.find("would refuse") == std::string::npos; }));
    agent.Stop();
  }
  ASSERT_TRUE(node_.Run({"sh", "-c", "rm " + node_.pin_path() + "/links/*"}).ok());
  refused("no programs are attached");
  const RunResult forced = Cleanup({"--force"});
  EXPECT_TRUE(forced.ok()) << forced.ToString();
  EXPECT_THAT(Rules(), Not(HasSubstr("KUBE-SERVICES")));
}

// Part of a kube-proxy would be worse than all of it.
TEST_P(KubeProxyCleanupTest, VirtualServersKeepWhatTheyNeed) {
  const std::string before = Rules(), sets = Sets();
  // This kernel may have no IPVS: /proc/net of the command holds a file of ours.
  const std::string folder = lab_.scratch() + "/proc-net";
  const auto cleanup = [&] {
    return node_.Run({"unshare", "-m", "sh", "-c",
                      "mkdir -p " + folder + " && cat /proc/net/ip_tables_names >" + folder +
                          "/ip_tables_names && printf 'TCP  0A600001:01BB rr\\n' >" + folder +
                          "/ip_vs && mount --bind " + folder + " /proc/$$/net && exec " +
                          WAGGLE_BINARY " cleanup --kube-proxy --force"});
  };
  const RunResult kept = cleanup();
  EXPECT_TRUE(kept.ok()) << kept.ToString();
  EXPECT_THAT(kept.out,
              AllOf(HasSubstr("stays: in table nat of " + Tool("") + ": kube-proxy's chains"),
                    HasSubstr("stays: in table filter of " + Tool("")),
                    HasSubstr("stays: 2 ipsets of kube-proxy"),
                    HasSubstr("stays: 1 virtual server of IPVS and the device kube-ipvs0"),
                    HasSubstr("ipvsadm --clear"), Not(HasSubstr("removed"))));
  EXPECT_EQ(LinesOf(Rules()), LinesOf(before));
  EXPECT_EQ(Sets(), sets);
}

// Somebody who answers as kube-proxy does holds one, whatever its name; Waggle is told apart.
TEST_P(KubeProxyCleanupTest, WhoAnswersAsKubeProxyDoesIsARefusal) {
  {
    WriteManifest(lab_);
    Agent agent(lab_, node_);
    agent.AwaitReady();
    EXPECT_TRUE(WaitFor([&] { return agent.Log().find(":10249") != std::string::npos; }));
    const RunResult dry = Cleanup({"--dry-run"});
    EXPECT_THAT(dry.out, AllOf(HasSubstr("would remove"), Not(HasSubstr("would refuse"))));
    agent.Stop();
  }
  constexpr char kServer[] =
      "use IO::Socket::INET; $0 = 'k3s-server';"
      "my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1:10249', Listen => 5, ReuseAddr => 1) "
      "or die; while (my $c = $s->accept) { my $asked = <$c>;"
      "while (my $line = <$c>) { last if $line =~ /^\\r?$/; }"
      "print $c \"HTTP/1.1 200 OK\\r\\n\\r\\n\", $asked =~ /proxyMode/ ? 'iptables' : \"other "
      "1\\n\";"
      "close $c; }";
  Process process(node_.surroundings(), {"perl", "-e", kServer}, Process::Output::kToMemory);
  RunResult refused;
  EXPECT_TRUE(WaitFor([&] {
    refused = Cleanup({"--dry-run"});
    return refused.out.find("in k3s-server") != std::string::npos;
  })) << refused.ToString();
  refused = Cleanup();
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("kube-proxy runs on this node, in k3s-server (pid "),
                                 HasSubstr("port 10249")));
}

// It answers nowhere, and what it wrote comes back.
TEST_P(KubeProxyCleanupTest, WhatComesBackIsAnError) {
  PutWaggleInForce();
  const std::string iptables = Tool("");
  const std::string program = "$0 = 'kubelite'; while (1) { system('" + iptables +
                              " -w -t nat -n -L KUBE-SERVICES >/dev/null 2>&1 || " + iptables +
                              " -w -t nat -N KUBE-SERVICES'); select(undef, undef, undef, 0.2); }";
  Process process(node_.surroundings(), {"perl", "-e", program}, Process::Output::kToMemory);
  EXPECT_TRUE(WaitFor([&] {
    return node_.Run({"cat", "/proc/" + std::to_string(process.pid()) + "/comm"}).out ==
           "kubelite\n";
  }));
  const RunResult result = Cleanup();
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.out, HasSubstr("removed"));
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("came back: kubelite (pid "), HasSubstr("switch it off")));
}

// What iptables-nft-save leaves out must not look like nothing.
TEST(KubeProxyCleanup, TablesThatIptablesCannotShowAreAnError) {
  Lab lab;
  Node& node = lab.AddNode(Cni::kRouted);
  node.Nft(
      "table ip nat {\n  chain KUBE-SERVICES { numgen inc mod 2 0 accept; }\n}\n"
      "table ip6 nat {\n  chain OTHERS { numgen inc mod 2 0 accept; }\n}\n"
      "table ip6 mangle {\n  chain KUBE-PROXY-CANARY { }\n"
      "  chain others { type filter hook input priority 7; }\n}\n");
  const RunResult result = Waggle(node, {"cleanup", "--kube-proxy", "--force"});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, AllOf(HasSubstr("table nat of iptables-nft holds chains of kube-proxy "
                                          "(KUBE-SERVICES)"),
                                HasSubstr("is incompatible"), Not(HasSubstr("ip6tables-nft"))));
  EXPECT_THAT(result.out, HasSubstr("warning: table mangle of ip6tables-nft: not all"));
}

// Connections that Docker translates have no need of the keeper.
TEST(KubeProxyCleanup, TheKeeperGoesWhereOthersTranslate) {
  Lab lab;
  Node& node = lab.AddNode(Cni::kRouted);
  const auto keep = [&] {
    node.Nft(
        "table ip waggle-keeps-nat {\n  chain postrouting {\n"
        "    type nat hook postrouting priority 300; ct state new accept;\n  }\n}\n");
  };
  const auto cleaned = [&] { return Waggle(node, {"cleanup", "--kube-proxy"}).out; };
  const auto gone = [&] {
    return node.Run({"nft", "list", "tables"}).out.find("waggle") == std::string::npos;
  };
  // One connection to a Service that has been translated, and one end that hears it.
  node.Ip("link set lo up\naddress add 10.96.0.9/32 dev lo\n");
  node.Nft(
      "table ip kube-proxy {\n  chain out {\n    type nat hook output priority -100;\n"
      "    ip daddr 10.96.0.9 udp dport 53 dnat to 127.0.0.1:5353\n  }\n}\n");
  ASSERT_TRUE(node.Run({"bash", "-c", "echo >/dev/udp/10.96.0.9/53"}).ok());
  keep();
  node.Nft("delete table ip kube-proxy\n");
  EXPECT_THAT(cleaned(), AllOf(HasSubstr("stays: table ip waggle-keeps-nat of nftables"),
                               HasSubstr("one to UDP 10.96.0.9:53"),
                               HasSubstr("no other rules translate here")));
  for (const char* program : {"iptables-nft", "iptables-legacy"}) {
    SCOPED_TRACE(program);
    // Chains alone do not translate.
    ASSERT_TRUE(node.Run({program, "-w", "-t", "nat", "-N", "DOCKER"}).ok());
    EXPECT_THAT(cleaned(), HasSubstr("stays: table ip waggle-keeps-nat"));
    ASSERT_TRUE(node.Run({program, "-w", "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16",
                          "-j", "MASQUERADE"})
                    .ok());
    EXPECT_THAT(cleaned(), HasSubstr("removed table ip waggle-keeps-nat"));
    EXPECT_TRUE(gone());
    ASSERT_TRUE(node.Run({program, "-w", "-t", "nat", "-F"}).ok());
    keep();
    EXPECT_THAT(cleaned(), HasSubstr("stays: table ip waggle-keeps-nat"));
  }
}

}  // namespace
}  // namespace waggle::lab
