// What a crash, a stranger's program or a stranger's pin leaves in the loader's way.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "loader/cgroup.h"
#include "loader/sock_links.h"
#include "maps/kernel_map_store.h"
#include "tests/lab/cluster.h"

namespace waggle::lab {
namespace {

using net::Family;
using testing::AllOf;
using testing::ElementsAre;
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

// A program that allows everything, for the attach type.
Fd Bystander(int attach_type) {
  bpf_insn code[2] = {};
  code[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
  code[0].imm = 1;
  code[1].code = BPF_JMP | BPF_EXIT;
  bpf_prog_load_opts options{};
  options.sz = sizeof(options);
  options.expected_attach_type = static_cast<bpf_attach_type>(attach_type);
  Fd program(bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "bystander", "GPL", code,
                           std::size(code), &options));
  if (!program.valid()) Fail("cannot load a program");
  return program;
}

// Attached in the old way, without a link; gone with the cgroup or at Detach().
class Attached {
 public:
  Attached(const std::string& cgroup, int attach_type, uint32_t flags)
      : cgroup_(open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
        program_(Bystander(attach_type)),
        attach_type_(static_cast<bpf_attach_type>(attach_type)) {
    if (bpf_prog_attach(program_.get(), cgroup_.get(), attach_type_, flags) != 0) {
      Fail("cannot attach a program to " + cgroup);
    }
  }
  ~Attached() { bpf_prog_detach2(program_.get(), cgroup_.get(), attach_type_); }

 private:
  Fd cgroup_;
  Fd program_;
  bpf_attach_type attach_type_;
};

TEST_F(LoaderFaultsTest, AnExclusiveProgramOnOneHookLeavesNoLinkOnTheOthers) {
  const std::string node = cluster_.node1.cgroup();
  const std::string parent = std::filesystem::path(node).parent_path();
  for (const std::string& where : {node, parent}) {
    Attached exclusive(where, BPF_CGROUP_UDP6_SENDMSG, 0);
    Agent agent(cluster_.lab, cluster_.node1);
    EXPECT_THAT(agent.AwaitRefusal().err,
                AllOf(HasSubstr("sendmsg6"), HasSubstr("bystander"), HasSubstr(where)));
    EXPECT_THAT(AttachedPrograms(), Not(HasSubstr("waggle")));
    EXPECT_NE(access(Pin("links").c_str(), F_OK), 0);
    EXPECT_NE(access(Pin("agent").c_str(), F_OK), 0);
  }
  // One in a parent that can be overridden is in nobody's way.
  Attached admits(parent, BPF_CGROUP_UDP6_SENDMSG, BPF_F_ALLOW_OVERRIDE);
  cluster_.StartAgent();
  ExpectServed();
}

TEST_F(LoaderFaultsTest, AnExclusiveProgramUnderARelativeCgroupPath) {
  std::filesystem::path cgroup = cluster_.node1.cgroup();
  Attached exclusive(cgroup, BPF_CGROUP_INET4_CONNECT, 0);
  Argv argv = {"sh", "-c", R"(cd "$0" && exec "$@")", cgroup.parent_path()};
  for (const std::string& argument : AgentArgv(cluster_.lab, cluster_.node1)) {
    argv.push_back(argument == cgroup ? cgroup.filename().string() : argument);
  }
  RunResult result = RunProgram(cluster_.node1.surroundings(), argv);
  EXPECT_GT(result.status, 0) << result.ToString();
  EXPECT_LT(result.status, 126) << result.ToString();
  EXPECT_THAT(result.out + result.err, HasSubstr("bystander"));
}

TEST_F(LoaderFaultsTest, AFailedAttachmentTakesBackTheOthers) {
  ASSERT_EQ(mkdir(cluster_.node1.pin_path().c_str(), 0700), 0);
  auto cgroup = loader::OpenCgroup(cluster_.node1.cgroup());
  ASSERT_TRUE(cgroup.ok());
  std::vector<Fd> loaded;
  loader::SockPrograms programs;
  for (const loader::SockHook& hook : loader::SockHooks()) {
    loaded.push_back(Bystander(hook.attach_type));
    programs.emplace_back(hook.name, loaded.back().get());
  }
  loader::SockPrograms broken = programs;
  broken.back().second = -1;
  EXPECT_FALSE(loader::SyncSockLinks(cluster_.node1.pin_path(), *cgroup, broken).ok());
  EXPECT_THAT(AttachedPrograms(), Not(HasSubstr("bystander")));
  EXPECT_NE(access(Pin("links").c_str(), F_OK), 0);

  // What had a link before keeps one.
  ASSERT_TRUE(loader::SyncSockLinks(cluster_.node1.pin_path(), *cgroup, {programs.front()}).ok());
  EXPECT_FALSE(loader::SyncSockLinks(cluster_.node1.pin_path(), *cgroup, broken).ok());
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(Pin("links")))
    left.push_back(entry.path().filename());
  EXPECT_THAT(left, ElementsAre(std::string(programs.front().first)));
}

TEST_F(LoaderFaultsTest, CleanupLeavesOtherPeoplesPins) {
  cluster_.StartAgent();
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  Fd foreign(bpf_map_create(BPF_MAP_TYPE_ARRAY, "stats", 4, 8, 4, nullptr));
  Fd unnamed(bpf_map_create(BPF_MAP_TYPE_HASH, "foreign", 20, 16, 4, nullptr));
  const std::vector<std::pair<std::string, int>> pins = {{Pin("backends_new"), unnamed.get()},
                                                         {Pin("frontends"), unnamed.get()},
                                                         {Pin("links/connect4"), foreign.get()},
                                                         {Pin("links/other"), foreign.get()},
                                                         {Pin("stats"), foreign.get()}};
  for (const auto& [path, fd] : pins) {
    unlink(path.c_str());
    ASSERT_EQ(bpf_obj_pin(fd, path.c_str()), 0) << path;
  }
  RunResult cleanup = Cleanup();
  EXPECT_FALSE(cleanup.ok()) << cleanup.ToString();
  for (const auto& [path, fd] : pins)
    EXPECT_THAT(cleanup.err, HasSubstr(path));
  std::vector<std::string> left;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(cluster_.node1.pin_path())) {
    if (!entry.is_directory()) left.push_back(entry.path());
  }
  std::sort(left.begin(), left.end());
  std::vector<std::string> expected;
  for (const auto& [path, fd] : pins)
    expected.push_back(path);
  EXPECT_EQ(left, expected);
  EXPECT_THAT(AttachedPrograms(), Not(HasSubstr("waggle")));
  for (const auto& [path, fd] : pins)
    EXPECT_EQ(unlink(path.c_str()), 0);
  cleanup = Cleanup();
  EXPECT_TRUE(cleanup.ok()) << cleanup.ToString();
  EXPECT_NE(access(cluster_.node1.pin_path().c_str(), F_OK), 0);
}

TEST_F(LoaderFaultsTest, CleanupGoesBackwards) {
  cluster_.StartAgent();
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  RunResult cleanup = Cleanup();
  ASSERT_TRUE(cleanup.ok()) << cleanup.ToString();
  const char* const order[] = {"/links/sendmsg6", "/links/connect4", "/links/getpeername6",
                               "/links/recvmsg4", "/frontends",      "/agent"};
  size_t at = 0;
  for (const char* name : order) {
    size_t found = cleanup.out.find(std::string("removed ") + cluster_.node1.pin_path() + name);
    ASSERT_NE(found, std::string::npos) << name << "\n" << cleanup.out;
    EXPECT_GE(found, at) << name << "\n" << cleanup.out;
    at = found;
  }
  cleanup = Cleanup();
  EXPECT_TRUE(cleanup.ok()) << cleanup.ToString();
  EXPECT_THAT(cleanup.out, HasSubstr("nothing to remove"));
}

TEST_F(LoaderFaultsTest, CleanupOfAMountPoint) {
  const std::string path = cluster_.lab.scratch() + "/bpf";
  ASSERT_EQ(mkdir(path.c_str(), 0755), 0);
  ASSERT_EQ(mount("bpf", path.c_str(), "bpf", 0, nullptr), 0);
  {
    Agent agent(cluster_.lab, cluster_.node1, {.pin_path = path});
    agent.AwaitReady();
    EXPECT_EQ(agent.Stop(), 0);
  }
  RunResult cleanup = Waggle(cluster_.node1, {"cleanup", "--pin-path", path});
  EXPECT_TRUE(cleanup.ok()) << cleanup.ToString();
  EXPECT_NE(access((path + "/agent").c_str(), F_OK), 0);
  EXPECT_NE(access((path + "/links").c_str(), F_OK), 0);
  EXPECT_EQ(umount(path.c_str()), 0);
}

// The table of UDP flows changes its size: who talked to a backend goes on with it.
TEST_F(LoaderFaultsTest, UdpConversationsMoveToTheNewTable) {
  cluster_.StartAgent();
  constexpr int kClients = 8;
  std::vector<std::pair<std::unique_ptr<Client>, std::string>> talks;
  const std::string web = Cluster::Frontend(cluster_.web, Family::kIpv4);
  for (int i = 0; i < kClients; ++i) {
    auto client = std::make_unique<Client>(cluster_.client);
    std::string name = client->Must({"socket udp4", "query " + web + " x"}).name();
    talks.emplace_back(std::move(client), std::move(name));
  }
  const uint32_t before = InfoOf("udp_flows").id;
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  Agent agent(cluster_.lab, cluster_.node1, {.flags = {"--max-udp-flows", "1000"}});
  agent.AwaitReady();
  EXPECT_NE(InfoOf("udp_flows").id, before);
  EXPECT_EQ(InfoOf("udp_flows").max_entries, 1000u);
  for (auto& [client, name] : talks)
    EXPECT_EQ(client->Must({"query " + web + " x"}).name(), name);
}

// The tables of the packet path change their sizes: open connections go on, with no socket
// program to help.
TEST_F(LoaderFaultsTest, EstablishedFlowsMoveToTheNewTable) {
  const Argv off = {"--socket-lb", "off"};
  cluster_.StartAgent({.flags = off});
  Argv hold = {"hold", "--connections", "5", "--interval-ms", "10"};
  for (Family family : kBothFamilies) {
    const std::string web = Cluster::Frontend(cluster_.web, family);
    hold.insert(hold.end(), {"--tcp", web, "--udp", web});
  }
  Load load(cluster_.client, hold);
  auto all_well = [&] {
    uint64_t attempts = 0;
    EXPECT_TRUE(WaitFor([&] {
      Tally tally = load.Mark();
      EXPECT_EQ(tally.ok, tally.attempts) << tally;
      return (attempts += tally.attempts) >= 200;
    }));
  };
  auto entries = [&](const char* name) {
    Fd map(bpf_obj_get(Pin(name).c_str()));
    return maps::CountEntries(map.get()).value();
  };
  all_well();
  EXPECT_TRUE(WaitFor([&] { return entries("flows") >= 40; })) << entries("flows");
  for (const char* size : {"1000", "2000"}) {
    SCOPED_TRACE(size);
    const uint32_t before = InfoOf("flows").id;
    const uint64_t held = entries("flows");
    EXPECT_EQ(cluster_.agent->Stop(), 0);
    Argv flags = off;
    flags.insert(flags.end(), {"--max-flows", size, "--max-half-open", size});
    Agent agent(cluster_.lab, cluster_.node1, {.flags = flags});
    agent.AwaitReady();
    EXPECT_NE(InfoOf("flows").id, before);
    EXPECT_EQ(InfoOf("flows").max_entries, static_cast<uint32_t>(std::stoi(size)));
    EXPECT_GE(entries("flows"), held);
    EXPECT_THAT(agent.Log(), Not(HasSubstr("did not move")));
    all_well();
    EXPECT_EQ(agent.Stop(), 0);
  }
}

// A start that fails after the new tables are made: the programs go on over the old ones, and the
// next agent finds those.
TEST_F(LoaderFaultsTest, AChangeOfSizeThatFailsLateKeepsTheTablesInUse) {
  const Argv off = {"--socket-lb", "off"};
  Argv more = off;
  more.insert(more.end(), {"--max-flows", "1000"});
  cluster_.StartAgent({.flags = off});
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  const uint32_t before = InfoOf("flows").id;
  // No folder where the links should be.
  ASSERT_EQ(rename(Pin("links").c_str(), Pin("aside").c_str()), 0);
  {
    Fd map(bpf_obj_get(Pin("stats").c_str()));
    ASSERT_EQ(bpf_obj_pin(map.get(), Pin("links").c_str()), 0);
  }
  {
    Agent fails(cluster_.lab, cluster_.node1, {.flags = more});
    EXPECT_THAT(fails.AwaitRefusal().err, HasSubstr(Pin("links")));
  }
  EXPECT_EQ(InfoOf("flows").id, before);
  EXPECT_EQ(RecordedIds(), PinnedIds());
  EXPECT_NE(access(Pin("flows_new").c_str(), F_OK), 0);
  Client client(cluster_.client);
  const std::string web = Cluster::Frontend(cluster_.web, Family::kIpv4);
  client.Must({"socket tcp4", "connect " + web, "ask x"});
  ASSERT_EQ(unlink(Pin("links").c_str()), 0);
  ASSERT_EQ(rename(Pin("aside").c_str(), Pin("links").c_str()), 0);
  Agent agent(cluster_.lab, cluster_.node1, {.flags = more});
  agent.AwaitReady();
  EXPECT_NE(InfoOf("flows").id, before);
  client.Must({"ask x"});
}

TEST(UdpFlowsCopyTest, TheSecondCopyKeepsWhatIsNewer) {
  auto make = [](uint32_t entries) {
    return Fd(bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "udp_flows", sizeof(waggle_udp_flow_key),
                             sizeof(waggle_udp_flow), entries, nullptr));
  };
  Fd from = make(20000), to = make(20000), small = make(64);
  auto put = [](const Fd& map, uint64_t cookie, uint64_t last_ns) {
    waggle_udp_flow_key key{};
    key.cookie = cookie;
    waggle_udp_flow value{};
    value.last_ns = last_ns;
    ASSERT_EQ(bpf_map_update_elem(map.get(), &key, &value, BPF_ANY), 0);
  };
  auto get = [](const Fd& map, uint64_t cookie) {
    waggle_udp_flow_key key{};
    key.cookie = cookie;
    waggle_udp_flow value{};
    return bpf_map_lookup_elem(map.get(), &key, &value) == 0 ? value.last_ns : 0;
  };
  constexpr uint64_t kRows = 9000;  // more than two batches
  EXPECT_EQ(maps::CountEntries(from.get()).value(), 0u);
  for (uint64_t cookie = 1; cookie <= kRows; ++cookie)
    put(from, cookie, 1);
  EXPECT_EQ(maps::CountEntries(from.get()).value(), kRows);
  ASSERT_TRUE(maps::CopyUdpFlows(from.get(), to.get(), maps::CopyFlows::kAll).ok());
  EXPECT_EQ(maps::CountEntries(to.get()).value(), kRows);
  put(to, 1, 2);
  put(from, kRows + 1, 1);
  ASSERT_TRUE(maps::CopyUdpFlows(from.get(), to.get(), maps::CopyFlows::kMissing).ok());
  EXPECT_EQ(get(to, 1), 2u);
  EXPECT_EQ(get(to, kRows + 1), 1u);
  EXPECT_EQ(maps::CountEntries(to.get()).value(), kRows + 1);
  // A smaller one takes what it can.
  EXPECT_TRUE(maps::CopyUdpFlows(from.get(), small.get(), maps::CopyFlows::kAll).ok());
  EXPECT_LE(maps::CountEntries(small.get()).value(), 64u);
  EXPECT_FALSE(maps::CountEntries(-1).ok());
}

}  // namespace
}  // namespace waggle::lab
