// What a crash, a stranger's program or a stranger's pin leaves in the loader's way.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "loader/pin_lock.h"
#include "tests/lab/cluster.h"
#include "tests/lab/sandbox.h"

namespace waggle::lab {
namespace {

using net::Family;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::Not;

using Ids = std::array<uint32_t, 4>;
constexpr const char* kContent[] = {"frontends", "lists", "backends", "services"};

class LoaderFaultsTest : public testing::Test {
 protected:
  LoaderFaultsTest() { cluster_.Apply(cluster_.web); }

  std::string Pin(const std::string& name) const { return cluster_.node1.pin_path() + "/" + name; }

  bpf_map_info InfoOf(const std::string& name) const {
    Fd map(bpf_obj_get(Pin(name).c_str()));
    bpf_map_info info{};
    uint32_t length = sizeof(info);
    if (bpf_obj_get_info_by_fd(map.get(), &info, &length) != 0) Fail("no map at " + Pin(name));
    return info;
  }
  Ids PinnedIds() const {
    Ids ids;
    for (size_t i = 0; i < ids.size(); ++i)
      ids[i] = InfoOf(kContent[i]).id;
    return ids;
  }
  Ids RecordedIds() const {
    return std::to_array(ReadAgent(cluster_.node1.pin_path()).content_ids);
  }
  // Puts an empty map of the same kind under the name, as of another generation.
  void ExchangeMap(const std::string& name) const {
    bpf_map_info info = InfoOf(name);
    bpf_map_create_opts options{};
    options.sz = sizeof(options);
    options.map_flags = info.map_flags;
    Fd map(bpf_map_create(static_cast<bpf_map_type>(info.type), info.name, info.key_size,
                          info.value_size, info.max_entries, &options));
    if (unlink(Pin(name).c_str()) != 0 || bpf_obj_pin(map.get(), Pin(name).c_str()) != 0) {
      Fail("cannot exchange " + Pin(name));
    }
  }
  void ExpectServed() const {
    for (Family family : kBothFamilies) {
      Tally tally = AskMany(cluster_.client, "tcp", Cluster::Frontend(cluster_.web, family), 10);
      EXPECT_TRUE(tally.AllOk()) << tally;
    }
  }
  std::string AttachedPrograms() const {
    return RunProgram({}, {"bpftool", "cgroup", "show", cluster_.node1.cgroup()}).out;
  }
  RunResult Cleanup() const {
    return Waggle(cluster_.node1, {"cleanup", "--pin-path", cluster_.node1.pin_path()});
  }

  Cluster cluster_;
};

TEST_F(LoaderFaultsTest, PinsOfTwoGenerationsAreMadeAnew) {
  for (const bool remove : {false, true}) {
    cluster_.StartAgent();
    EXPECT_EQ(cluster_.agent->Stop(), 0);
    ASSERT_EQ(RecordedIds(), PinnedIds());
    if (remove) {
      ASSERT_EQ(unlink(Pin("backends").c_str()), 0);
    } else {
      ExchangeMap("lists");
    }
    ExpectServed();
    cluster_.agent->Start();
    cluster_.agent->AwaitReady();
    cluster_.agent->AwaitProgrammed();
    EXPECT_THAT(cluster_.agent->Log(), HasSubstr("not all of one generation"));
    EXPECT_EQ(RecordedIds(), PinnedIds());
    ExpectServed();
    // Whole again: the next one keeps all.
    Ids before = PinnedIds();
    EXPECT_EQ(cluster_.agent->Stop(), 0);
    cluster_.agent->Start();
    cluster_.agent->AwaitReady();
    EXPECT_THAT(cluster_.agent->Log(), Not(HasSubstr("generation")));
    EXPECT_EQ(PinnedIds(), before);
    EXPECT_EQ(RecordedIds(), before);
    EXPECT_EQ(cluster_.agent->Stop(), 0);
  }
}

// A crash between the record and the first rename.
TEST_F(LoaderFaultsTest, AChangeOfSizeCutShortBeforeTheFirstRename) {
  cluster_.StartAgent();
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  waggle_agent row = ReadAgent(cluster_.node1.pin_path());
  for (uint32_t& id : row.content_ids)
    id += 1000;
  {
    Fd map(bpf_obj_get(Pin("agent").c_str()));
    uint32_t key = 0;
    ASSERT_EQ(bpf_map_update_elem(map.get(), &key, &row, BPF_ANY), 0);
    Fd lists(bpf_obj_get(Pin("lists").c_str()));
    ASSERT_EQ(bpf_obj_pin(lists.get(), Pin("lists_new").c_str()), 0);
  }
  cluster_.agent->Start();
  cluster_.agent->AwaitReady();
  EXPECT_THAT(cluster_.agent->Log(), HasSubstr("not all of one generation"));
  EXPECT_NE(access(Pin("lists_new").c_str(), F_OK), 0);
  EXPECT_EQ(RecordedIds(), PinnedIds());
  ExpectServed();
}

TEST_F(LoaderFaultsTest, AChangeOfSizeThatCannotBePinnedChangesNoPin) {
  cluster_.StartAgent();
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  Ids before = PinnedIds();
  ASSERT_EQ(mkdir(Pin("backends_new").c_str(), 0700), 0);
  {
    Agent agent(cluster_.lab, cluster_.node1, {.flags = {"--max-services", "100"}});
    EXPECT_THAT(agent.AwaitRefusal().err, HasSubstr(Pin("backends_new")));
  }
  EXPECT_EQ(PinnedIds(), before);
  EXPECT_EQ(RecordedIds(), before);
  EXPECT_NE(access(Pin("frontends_new").c_str(), F_OK), 0);
  ExpectServed();
  ASSERT_EQ(rmdir(Pin("backends_new").c_str()), 0);
  Agent agent(cluster_.lab, cluster_.node1, {.flags = {"--max-services", "100"}});
  agent.AwaitReady();
  EXPECT_NE(PinnedIds(), before);
  EXPECT_EQ(RecordedIds(), PinnedIds());
  ExpectServed();
}

}  // namespace
}  // namespace waggle::lab
