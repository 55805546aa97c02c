// The program from outside: usage errors, exit codes, help, and what needs no pins.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/unit/cli/run.h"

namespace waggle::cli {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct UsageCase {
  std::vector<std::string> arguments;
  const char* error;

  friend void PrintTo(const UsageCase& row, std::ostream* out) {
    *out << "waggle";
    for (const std::string& word : row.arguments)
      *out << " " << word;
  }
};

class Usage : public testing::TestWithParam<UsageCase> {};

TEST_P(Usage, ErrorsAreOneLineAndExitWithTwo) {
  const RunResult result = Waggle(GetParam().arguments);
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("waggle: "));
  EXPECT_THAT(result.err, HasSubstr(GetParam().error));
  EXPECT_THAT(result.err, HasSubstr("--help`"));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

INSTANTIATE_TEST_SUITE_P(
    Table, Usage,
    testing::Values(
        UsageCase{{}, "a command is missing; see `waggle --help`"},
        UsageCase{{"serve"}, "unknown command 'serve'; see `waggle --help`"},
        UsageCase{{"--wrong"}, "unknown option '--wrong'"},
        UsageCase{{"service"}, "a command is missing; see `waggle service --help`"},
        UsageCase{{"service", "lst"}, "unknown command 'lst'; see `waggle service --help`"},
        UsageCase{{"service", "list", "x"}, "not expected: x; see `waggle service list --help`"},
        UsageCase{{"service", "list", "-o", "yaml"}, "yaml not in {table,wide,json}"},
        UsageCase{{"service", "list", "-o"}, "--output"},
        UsageCase{{"service", "list", "-o", "json", "-o", "wide"}, "--output"},
        UsageCase{{"backend", "list", "-n"}, "--namespace"},
        UsageCase{{"plan", "--node", "n1"}, "--manifests is required"},
        UsageCase{{"plan", "--manifests", "x"}, "--node is required"},
        UsageCase{{"plan", "--manifests", "x", "--node", ""}, "is not a node name"},
        UsageCase{{"plan", "--manifests", "x", "--node", "a b"}, "is not a node name"},
        UsageCase{{"agent", "--manifests", "x", "--node", std::string(254, 'n')},
                  "is not a node name"},
        UsageCase{{"flow"}, "a command is missing; see `waggle flow --help`"},
        UsageCase{{"flow", "list", "--client", "web"}, "'web' is no address or endpoint"},
        UsageCase{{"flow", "list", "--frontend", "10.0.0.1:99999"}, "is no address or endpoint"},
        UsageCase{{"flow", "list", "--backend", ""}, "is no address or endpoint"},
        UsageCase{{"flow", "list", "--service", "a/b/c"}, "'a/b/c' is no Service"},
        UsageCase{{"flow", "list", "--protocol", "sctp"}, "sctp not in {TCP,UDP}"},
        UsageCase{{"flow", "list", "--state", "open"}, "open not in {syn-sent,"},
        UsageCase{{"flow", "list", "--mode", "fast"}, "fast not in {stack,peer,neigh}"},
        UsageCase{{"flow", "list", "--limit", "0"}, "--limit"},
        UsageCase{{"flow", "list", "--limit", "-1"}, "--limit"},
        UsageCase{{"status", "--timeout", "30s"}, "--timeout requires --wait"},
        UsageCase{{"status", "--wait", "--timeout", "30"}, "expected a duration"},
        UsageCase{{"status", "--wait", "--timeout", "-1s"}, "expected a duration"},
        UsageCase{{"status", "--probe", "well"}, "--probe"},
        UsageCase{{"status", "--probe", "alive", "--wait"}, "--wait"},
        UsageCase{{"status", "two\nlines"}, "two\\x0alines"},
        UsageCase{{"agent", "--manifests", "x"}, "--node is required"},
        UsageCase{{"agent", "--kubeconfig", "/nowhere/at/all"},
                  "--kubeconfig: the file \"/nowhere/at/all\" cannot be opened"},
        UsageCase{{"agent", "--master", "ftp://a"}, "--master: is \"ftp://a\", expected a URL"},
        UsageCase{{"agent", "--manifests", "x", "--node", "n", "--apiserver", "https://a"},
                  "--manifests excludes --apiserver"},
        UsageCase{{"agent", "--manifests", "x", "--node", "n", "--socket-lb", "some"}, "some"},
        UsageCase{{"agent", "--manifests", "x", "--node", "n", "--forwarding", "fast"},
                  "fast not in {stack,redirect,auto}"},
        UsageCase{{"agent", "--manifests", "x", "--node", "n", "--tc-attach", "xdp"},
                  "xdp not in {auto,tcx,clsact}"},
        UsageCase{{"agent", "--manifests", "x", "--node", "n", "--max-flows", "0"}, "--max-flows"},
        UsageCase{{"agent", "--manifests", "x", "--node", ""}, "--node is required"},
        UsageCase{{"agent", "-v"}, "--v: 1 required N missing"},
        UsageCase{{"agent", "-v", "--verbose"}, "--v: its value is missing before --verbose"},
        UsageCase{{"agent", "-v=x"}, "--v: is \"x\", expected a number from 0 on"},
        UsageCase{{"agent", "--config", "/nowhere/at/all"},
                  "--config: /nowhere/at: cannot be watched"},
        UsageCase{{"agent", "--config", "--cleanup"}, "its value is missing before --cleanup"},
        UsageCase{{"agent", "--proxy-mode", "userspace"},
                  "--proxy-mode: is \"userspace\", expected one of iptables, ipvs, nftables"},
        UsageCase{{"agent", "--proxy-mode", "iptables", "now"}, "not expected: now"},
        UsageCase{{"agent", "--profiling=x"}, "--profiling: is \"x\", expected true or false"},
        UsageCase{{"agent", "--apiserver", "ftp://a"},
                  "--apiserver: is \"ftp://a\", expected a URL"},
        UsageCase{{"completion"}, "shell is required"},
        UsageCase{{"completion", "fish"}, "fish not in {bash}"},
        UsageCase{{"version", "--pin-path", "x"}, "--pin-path"},
        UsageCase{{"cleanup", "now"}, "now"},
        UsageCase{{"cleanup", "--dry-run"}, "--dry-run requires --kube-proxy"},
        UsageCase{{"cleanup", "--force"}, "--force requires --kube-proxy"}));

class Help : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(Help, GoesToStdoutWithExamples) {
  std::vector<std::string> arguments = GetParam();
  arguments.push_back("--help");
  const RunResult result = Waggle(arguments);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  std::string name = "waggle";
  for (const std::string& word : GetParam())
    name += " " + word;
  EXPECT_THAT(result.out, HasSubstr("Usage: " + name));
  const size_t examples = result.out.find("Examples:\n  ");
  ASSERT_NE(examples, std::string::npos) << result.out;
  EXPECT_THAT(result.out.substr(examples), HasSubstr(name));
}

INSTANTIATE_TEST_SUITE_P(
    Table, Help,
    testing::Values(std::vector<std::string>{}, std::vector<std::string>{"agent"},
                    std::vector<std::string>{"plan"}, std::vector<std::string>{"service"},
                    std::vector<std::string>{"service", "list"},
                    std::vector<std::string>{"backend"},
                    std::vector<std::string>{"backend", "list"}, std::vector<std::string>{"flow"},
                    std::vector<std::string>{"flow", "list"}, std::vector<std::string>{"status"},
                    std::vector<std::string>{"cleanup"}, std::vector<std::string>{"version"},
                    std::vector<std::string>{"completion"}));

// What `waggle agent` would do with these flags, as a configuration file.
std::string Effective(std::vector<std::string> flags) {
  flags.insert(flags.begin(), "agent");
  flags.insert(flags.end(), {"--write-config-to", "/dev/stdout"});
  const RunResult result = Waggle(flags);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return result.out;
}

TEST(AgentFlags, TakeValuesAsKubeProxyDoes) {
  for (const std::vector<std::string>& flags : std::vector<std::vector<std::string>>{
           {"-v4"}, {"-v=4"}, {"-v", "4"}, {"--v=4"}, {"--v", "4"}})
    EXPECT_THAT(Effective(flags), HasSubstr("verbosity: 4\n")) << flags[0];
  EXPECT_THAT(Effective({"--metrics-bind-address=", "--profiling"}),
              testing::AllOf(HasSubstr("metricsBindAddress: \"\"\n"),
                             HasSubstr("enableProfiling: true\n")));
  EXPECT_THAT(Effective({"--iptables-localhost-nodeports=false"}),
              HasSubstr("localhostNodePorts: false\n"));
  EXPECT_THAT(Effective({"--nodeport-addresses", "10.0.0.0/8", "--nodeport-addresses=fd00::/8"}),
              HasSubstr("nodePortAddresses:\n- 10.0.0.0/8\n- fd00::/8\n"));
  // As a DaemonSet gives it whose $(NODE_NAME) is not set.
  EXPECT_THAT(Effective({"--hostname-override="}), HasSubstr("hostnameOverride: \"\"\n"));
  EXPECT_THAT(Effective({"--oom-score-adj", "-5"}), HasSubstr("oomScoreAdj: -5\n"));
}

TEST(AgentFlags, OwnOnesGoIntoTheOwnDocument) {
  const std::string text =
      Effective({"--pin-path", "/x", "--socket-lb", "off", "--apiserver", "https://a",
                 "--apiserver", "https://b", "--pod-devices", "a*,b*", "--max-flows", "7"});
  for (const char* line : {"pinPath: /x\n", "socketLB: \"off\"\n",
                           "apiServers:\n- https://a\n- https://b\n", "  flows: 7\n"})
    EXPECT_THAT(text, HasSubstr(line));
  EXPECT_THAT(text, HasSubstr("  pods:\n  - \"a*\"\n  - \"b*\"\n"));
}

TEST(AgentFlags, CleanupDoesWhatTheCommandDoes) {
  const RunResult command = Waggle({"cleanup", "--pin-path", "/nowhere/at/all"});
  const RunResult flag = Waggle({"agent", "--cleanup", "--pin-path", "/nowhere/at/all"});
  EXPECT_EQ(flag.exit_code, command.exit_code);
  EXPECT_EQ(flag.out, command.out);
  EXPECT_EQ(flag.err, command.err);
  EXPECT_THAT(flag.out + flag.err, HasSubstr("/nowhere/at/all"));
}

TEST(AgentFlags, InitOnlyEndsAtOnce) {
  EXPECT_EQ(Waggle({"agent", "--init-only", "--profiling=false"}).exit_code, 0);
  EXPECT_EQ(Waggle({"agent", "--init-only", "--oom-score-adj", "9999"}).exit_code, 2);
}

TEST(AgentFlags, SayWhereTheConfigurationCannotBeWritten) {
  const RunResult result = Waggle({"agent", "--write-config-to", "/nowhere/at/all"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("--write-config-to: /nowhere/at/all cannot be written"));
}

TEST(Help, NamesTheExitCodes) {
  const std::string help = Waggle({"--help"}).out;
  for (const char* code : {"  0  ", "  1  ", "  2  ", "  3  "})
    EXPECT_THAT(help, HasSubstr(code));
}

TEST(Version, NamesWagglesLayoutAndLibbpf) {
  const RunResult text = Waggle({"version"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_EQ(text.out,
            "waggle " WAGGLE_VERSION "\nmap layout version 1\nlibbpf " WAGGLE_LIBBPF_VERSION "\n");
  const auto json = nlohmann::json::parse(Waggle({"version", "-o", "json"}).out);
  EXPECT_EQ(json["version"], WAGGLE_VERSION);
  EXPECT_EQ(json["layoutVersion"], 1);
  EXPECT_EQ(Waggle({"--version"}).out, "waggle " WAGGLE_VERSION "\n");
}

// A folder on an ordinary file system, where nothing can be pinned.
class NoPins : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "waggle-cli-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
};

TEST_F(NoPins, ReadersFailWithOneLineThatNamesThePath) {
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"service", "list"}, std::vector<std::string>{"backend", "list"},
        std::vector<std::string>{"flow", "list"}, std::vector<std::string>{"status"}}) {
    for (const char* format : {"table", "json"}) {
      std::vector<std::string> arguments = command;
      arguments.insert(arguments.end(), {"--pin-path", folder_ + "/pins", "-o", format});
      const RunResult result = Waggle(arguments);
      EXPECT_EQ(result.exit_code, 1) << command[0];
      EXPECT_EQ(result.out, "");
      EXPECT_THAT(result.err, StartsWith("waggle: "));
      EXPECT_THAT(result.err, HasSubstr(folder_ + "/pins"));
      EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1);
    }
  }
}

TEST_F(NoPins, WaitGivesUpInTimeAndExitsWithThree) {
  const RunResult result =
      Waggle({"status", "--wait", "--timeout", "50ms", "--pin-path", folder_ + "/pins"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("waggle: not ready after 50ms: "));
}

TEST_F(NoPins, ProbesExitWithThree) {
  for (const char* state : {"alive", "ready"}) {
    const RunResult result = Waggle({"status", "--probe", state, "--pin-path", folder_ + "/pins"});
    EXPECT_EQ(result.exit_code, 3) << state;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(folder_ + "/pins")) << state;
  }
}

TEST_F(NoPins, CleanupHasNothingToDo) {
  for (int run = 0; run < 2; ++run) {
    const RunResult result = Waggle({"cleanup", "--pin-path", folder_ + "/pins"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.out, "nothing to remove in " + folder_ + "/pins\n");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_)) << "looking leaves nothing behind";
}

}  // namespace
}  // namespace waggle::cli
