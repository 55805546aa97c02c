// An agent that cannot start: one clear error, a nonzero exit status, and everything
// as it was before.
#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "tests/lab/cluster.h"
#include "tests/lab/sandbox.h"

namespace waggle::lab {
namespace {

using net::Family;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

std::set<std::string> FilesBelow(const std::string& path) {
  std::set<std::string> files;
  if (!std::filesystem::exists(path)) return files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    files.insert(entry.path());
  }
  return files;
}

size_t ErrorLines(const std::string& log) {
  size_t lines = 0;
  for (size_t at = 0; at < log.size(); ++lines) {
    size_t end = log.find('\n', at);
    at = end == std::string::npos ? log.size() : end + 1;
  }
  return lines;
}

class SurroundingsTest : public testing::Test {
 protected:
  SurroundingsTest() { cluster_.Apply(cluster_.web); }

  // Starts an agent that must end by itself; returns what it said.
  std::string Refused(AgentOptions options = {}) {
    // The default needs a right that not every machine gives to root, and is told where it fails.
    options.flags.insert(options.flags.end(), {"--oom-score-adj", "0"});
    Agent agent(cluster_.lab, cluster_.node1, std::move(options));
    std::string said = agent.AwaitRefusal().err;
    EXPECT_EQ(ErrorLines(said), 1u) << said;
    return said;
  }

  // Nothing of ours is attached to the node's cgroup.
  void ExpectNothingAttached() const {
    RunResult attached = RunProgram({}, {"bpftool", "cgroup", "show", cluster_.node1.cgroup()});
    EXPECT_THAT(attached.out, Not(HasSubstr("waggle"))) << attached.ToString();
  }

  Fd PinForeignMap(const std::string& path) const {
    Fd map(bpf_map_create(BPF_MAP_TYPE_HASH, "foreign", 8, 8, 4, nullptr));
    uint64_t key = 1, value = 42;
    bpf_map_update_elem(map.get(), &key, &value, BPF_ANY);
    if (bpf_obj_pin(map.get(), path.c_str()) != 0) Fail("cannot pin " + path);
    return map;
  }

  void ExpectForeignMapUntouched(const std::string& path) const {
    Fd map(bpf_obj_get(path.c_str()));
    uint64_t key = 1, value = 0;
    EXPECT_EQ(bpf_map_lookup_elem(map.get(), &key, &value), 0);
    EXPECT_EQ(value, 42u);
  }

  Cluster cluster_;
};

TEST_F(SurroundingsTest, NoBpfFileSystemAtThePinPath) {
  std::string path = cluster_.lab.scratch() + "/pins";
  std::string said = Refused({.pin_path = path});
  EXPECT_THAT(said, AllOf(HasSubstr(path), HasSubstr("bpf")));
  EXPECT_EQ(FilesBelow(path).size(), 0u);
  ExpectNothingAttached();
}

TEST_F(SurroundingsTest, AForeignMapWhereOneOfOursBelongs) {
  std::filesystem::create_directory(cluster_.node1.pin_path());
  std::string path = cluster_.node1.pin_path() + "/lists";
  PinForeignMap(path);
  EXPECT_THAT(Refused(), HasSubstr(path));
  EXPECT_EQ(FilesBelow(cluster_.node1.pin_path()), (std::set<std::string>{path}));
  ExpectForeignMapUntouched(path);
  ExpectNothingAttached();
}

TEST_F(SurroundingsTest, AForeignObjectAtThePinPathItself) {
  PinForeignMap(cluster_.node1.pin_path());
  EXPECT_THAT(Refused(), HasSubstr(cluster_.node1.pin_path()));
  ExpectForeignMapUntouched(cluster_.node1.pin_path());
  ExpectNothingAttached();
}

// Pins of another layout are not guessed at. What is in force stays in force.
TEST_F(SurroundingsTest, AnotherLayoutVersionInThePins) {
  constexpr uint32_t kOther = WAGGLE_LAYOUT_VERSION + 1;
  cluster_.StartAgent();
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  waggle_agent agent = ReadAgent(cluster_.node1.pin_path());
  agent.layout_version = kOther;
  Fd map(bpf_obj_get((cluster_.node1.pin_path() + "/agent").c_str()));
  uint32_t key = 0;
  ASSERT_EQ(bpf_map_update_elem(map.get(), &key, &agent, BPF_ANY), 0);
  std::set<std::string> before = FilesBelow(cluster_.node1.pin_path());

  std::string said = Refused();
  EXPECT_THAT(said, AllOf(HasSubstr("layout"), HasSubstr(std::to_string(kOther)),
                          HasSubstr(cluster_.node1.pin_path())));
  RunResult list = ServiceList(cluster_.node1);
  EXPECT_FALSE(list.ok());
  EXPECT_THAT(list.err, HasSubstr("layout"));
  EXPECT_EQ(FilesBelow(cluster_.node1.pin_path()), before);
  for (Family family : kBothFamilies) {
    Tally tally = AskMany(cluster_.client, "tcp", Cluster::Frontend(cluster_.web, family), 10);
    EXPECT_TRUE(tally.AllOk()) << tally;
  }
}

TEST_F(SurroundingsTest, NoBpfRights) {
  std::string said = Refused({.no_bpf_rights = true});
  EXPECT_THAT(said, AnyOf(HasSubstr("CAP_BPF"), HasSubstr("root")));
  EXPECT_EQ(FilesBelow(cluster_.node1.pin_path()).size(), 0u);
  ExpectNothingAttached();
}

// Item 16: in a private cgroup namespace the mount looks like the root, and is not.
TEST_F(SurroundingsTest, APrivateCgroupNamespaceIsRecognised) {
  std::string said = Refused({.private_cgroup_namespace = true});
  EXPECT_THAT(said, HasSubstr("cgroup namespace"));
  EXPECT_THAT(said, HasSubstr("--cgroup-path"));
  EXPECT_EQ(FilesBelow(cluster_.node1.pin_path()).size(), 0u);
  ExpectNothingAttached();
}

TEST_F(SurroundingsTest, PathsThatAreNotWhatTheyShouldBe) {
  struct {
    const char* flag;
    std::string path;
  } const rows[] = {
      {"--manifests", cluster_.lab.scratch() + "/absent"},
      {"--cgroup-path", cluster_.lab.scratch() + "/absent"},
      {"--cgroup-path", cluster_.lab.scratch()},
      {"--pin-path", "/run/waggle-lab/absent/too/waggle"},
  };
  for (const auto& row : rows) {
    Argv argv = AgentArgv(cluster_.lab, cluster_.node1);
    for (size_t i = 0; i + 1 < argv.size(); ++i) {
      if (argv[i] == row.flag) argv[i + 1] = row.path;
    }
    RunResult result = RunProgram(cluster_.node1.surroundings(), argv);
    EXPECT_GT(result.status, 0) << row.flag << " " << row.path << "\n" << result.ToString();
    EXPECT_LT(result.status, 126) << row.flag << " " << row.path << "\n" << result.ToString();
    EXPECT_THAT(result.out + result.err, HasSubstr(row.path)) << row.flag;
    ExpectNothingAttached();
  }
}

TEST_F(SurroundingsTest, NothingPinned) {
  RunResult list = ServiceList(cluster_.node1);
  EXPECT_EQ(list.status, 3) << list.ToString();
  EXPECT_THAT(list.err, HasSubstr(cluster_.node1.pin_path()));
  RunResult wait = Waggle(cluster_.node1, {"status", "--wait", "--timeout", "100ms", "--pin-path",
                                           cluster_.node1.pin_path()});
  EXPECT_EQ(wait.status, 3) << wait.ToString();
}

}  // namespace
}  // namespace waggle::lab
