// The script in a real bash: what a user gets who presses TAB.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/unit/cli/run.h"
#include "userspace/cli/flow_filter.h"

namespace waggle::cli {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

// COMPREPLY for a line whose last word is the one to complete.
std::vector<std::string> Complete(const std::vector<std::string>& words) {
  // Words come as arguments, so that the test needs no quoting.
  const std::string script =
      "source <(\"$1\" completion bash) || exit 1\n"
      "COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _waggle waggle\n"
      "((${#COMPREPLY[@]})) && printf '%s\\n' \"${COMPREPLY[@]}\"; exit 0\n";
  std::vector<std::string> command = {"/bin/bash", "--norc", "-c", script, "bash", WAGGLE_BINARY};
  command.insert(command.end(), words.begin(), words.end());
  // $0 is "bash", $1 the program: COMP_WORDS begins with the program as it must.
  const RunResult result = RunProgram(command);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  std::vector<std::string> replies;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);)
    replies.push_back(line);
  std::sort(replies.begin(), replies.end());
  return replies;
}

TEST(BashCompletion, OffersTheCommands) {
  EXPECT_THAT(Complete({""}),
              ElementsAre("--help", "--version", "-h", "agent", "backend", "cleanup", "completion",
                          "flow", "plan", "service", "status", "version"));
  EXPECT_THAT(Complete({"s"}), ElementsAre("service", "status"));
  EXPECT_THAT(Complete({"service", ""}), ElementsAre("--help", "-h", "list"));
  EXPECT_THAT(Complete({"backend", "l"}), ElementsAre("list"));
  EXPECT_THAT(Complete({"completion", "b"}), ElementsAre("bash"));
}

TEST(BashCompletion, OffersTheFlagsOfTheCommand) {
  EXPECT_THAT(Complete({"service", "list", "--"}),
              ElementsAre("--help", "--namespace", "--output", "--pin-path"));
  EXPECT_THAT(Complete({"status", "--"}),
              ElementsAre("--help", "--output", "--pin-path", "--probe", "--timeout", "--wait"));
  EXPECT_THAT(Complete({"plan", "--s"}), ElementsAre("--strict"));
  EXPECT_THAT(
      Complete({"flow", "list", "--"}),
      ElementsAre("--backend", "--client", "--frontend", "--help", "--limit", "--mode",
                  "--namespace", "--output", "--pin-path", "--protocol", "--service", "--state"));
  EXPECT_THAT(Complete({"agent", "--"}),
              AllOf(Contains("--manifests"), Contains("--node"), Contains("--socket-lb"),
                    // Hidden options stay hidden.
                    Not(Contains("--disable-feature"))));
  EXPECT_THAT(Complete({"status", "--wait", "--timeout", "30s", "--o"}), ElementsAre("--output"));
}

TEST(BashCompletion, OffersValues) {
  EXPECT_THAT(Complete({"service", "list", "-o", ""}), ElementsAre("json", "table", "wide"));
  EXPECT_THAT(Complete({"status", "--output", "j"}), ElementsAre("json"));
  // As bash splits `--output=w`.
  EXPECT_THAT(Complete({"status", "--output", "=", "w"}), ElementsAre("wide"));
  EXPECT_THAT(Complete({"status", "--output", "="}), ElementsAre("json", "table", "wide"));
  EXPECT_THAT(Complete({"agent", "--socket-lb", "h"}), ElementsAre("host"));
  EXPECT_THAT(Complete({"agent", "--forwarding", ""}), ElementsAre("auto", "redirect", "stack"));
  EXPECT_THAT(Complete({"agent", "--tc-attach", ""}), ElementsAre("auto", "clsact", "tcx"));
  EXPECT_THAT(Complete({"flow", "list", "--mode", ""}), ElementsAre("neigh", "peer", "stack"));
  EXPECT_THAT(Complete({"flow", "list", "--protocol", "U"}), ElementsAre("UDP"));
  // All that the command takes.
  EXPECT_EQ(Complete({"flow", "list", "--state", ""}).size(), FlowStateNames().size());
  EXPECT_THAT(Complete({"flow", "list", "--client", ""}), IsEmpty());
  EXPECT_THAT(Complete({"plan", "--node", ""}), IsEmpty()) << "nobody knows node names";
  EXPECT_THAT(Complete({"status", "--wait", "--timeout", ""}), IsEmpty());
}

TEST(BashCompletion, OffersPaths) {
  const std::string data = WAGGLE_TESTDATA;
  EXPECT_THAT(Complete({"plan", "--manifests", data + "/manif"}),
              ElementsAre(data + "/manifests.yaml"));
  EXPECT_THAT(Complete({"status", "--pin-path", data + "/manif"}), IsEmpty()) << "folders only";
  EXPECT_THAT(Complete({"status", "--pin-path", data.substr(0, data.size() - 2)}),
              ElementsAre(data));
}

// A folder with spaces, and a namespace that would be a command, are only names.
class ManifestFolder : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "waggle completion XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
};

TEST_F(ManifestFolder, GivesTheNamespacesOfAPlan) {
  const std::string path = folder_ + "/services.yaml";
  std::ofstream(path) << FileText(TestData("manifests.yaml"));
  EXPECT_THAT(Complete({"plan", "--manifests", path, "--node", "n1", "-n", ""}),
              ElementsAre("a23456789-123456789-123456789-123456789-123456789-123456789-123",
                          "default", "kube-system"));
  EXPECT_THAT(Complete({"plan", "--manifests", "=", path, "--namespace", "k"}),
              ElementsAre("kube-system"));
  EXPECT_THAT(Complete({"plan", "-n", ""}), IsEmpty()) << "no manifests yet";
  EXPECT_THAT(Complete({"plan", "--manifests", "-", "-n", ""}), IsEmpty());
}

TEST_F(ManifestFolder, ExpandsNothingThatANamespaceHolds) {
  const std::string trap = folder_ + "/sprung";
  // A program that answers as `waggle service list` does, from pins that somebody edited.
  const std::string program = folder_ + "/waggle";
  std::ofstream(program) << "#!/bin/bash\n"
                            "[[ $1 == completion ]] && exec " WAGGLE_BINARY
                            " \"$@\"\n"
                            "echo NAMESPACE NAME\n"
                            "echo '$(touch${IFS}sprung) x'\n"
                            "echo '`touch${IFS}sprung` x'\n"
                            "echo 'default x'\n"
                            "echo 'default $(touch${IFS}sprung)'\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  const RunResult result = RunProgram(
      {"/bin/bash", "--norc", "-c",
       "cd \"$2\" && source <(\"$1\" completion bash)\n"
       "COMP_WORDS=(\"$1\" service list -n ''); COMP_CWORD=4; _waggle; echo \"${COMPREPLY[@]}\"",
       "bash", program, folder_});
  EXPECT_EQ(result.out, "default\n") << result.err;
  const RunResult services =
      RunProgram({"/bin/bash", "--norc", "-c",
                  "cd \"$2\" && source <(\"$1\" completion bash)\n"
                  "COMP_WORDS=(\"$1\" flow list --service ''); COMP_CWORD=4; _waggle; echo "
                  "\"${COMPREPLY[@]}\"",
                  "bash", program, folder_});
  EXPECT_EQ(services.out, "default/x\n") << services.err;
  EXPECT_FALSE(std::filesystem::exists(trap));
}

TEST(BashCompletion, IsRegisteredAndIsCleanBash) {
  const RunResult result = RunProgram(
      {"/bin/bash", "--norc", "-c", "set -u; source <(\"$1\" completion bash); complete -p waggle",
       "bash", WAGGLE_BINARY});
  EXPECT_EQ(result.out, "complete -F _waggle waggle\n") << result.err;
}

}  // namespace
}  // namespace waggle::cli
