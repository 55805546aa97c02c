// The watching thread against real files.
#include "k8s-watch/manifest_source.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/unit/k8s-watch/source_fixture.h"
#include "userspace/os/unique_fd.h"

namespace waggle::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST_F(SourceTest, FollowsFilesThatComeChangeAndGo) {
  Write("a.yaml", Svc("a", 1));
  Start();
  ExpectObjects({{"a", "1"}});
  EXPECT_THAT(sink_.seen().synced, ElementsAre(true));
  Write("b.yaml", Svc("b", 2));
  ExpectObjects({{"a", "1"}, {"b", "2"}});
  Write("a.yaml", Svc("a", 3));
  ExpectObjects({{"a", "3"}, {"b", "2"}});
  Replace("a.yaml", Svc("a", 4));
  ExpectObjects({{"a", "4"}, {"b", "2"}});
  std::filesystem::rename(dir_ / "a.yaml", dir_ / "a.txt");
  ExpectObjects({{"b", "2"}});
  std::filesystem::rename(dir_ / "a.txt", dir_ / "c.yaml");
  ExpectObjects({{"a", "4"}, {"b", "2"}});
  std::filesystem::create_hard_link(dir_ / "c.yaml", dir_ / "A.yaml");
  ExpectProblem("conflict");
  Remove("c.yaml");
  ExpectNoProblems();
  Remove("A.yaml");
  Remove("b.yaml");
  ExpectObjects({});
  EXPECT_THAT(sink_.seen().log, ElementsAre("a 1", "b 2", "a 3", "a 4", "a deleted", "a 4",
                                            "a deleted", "b deleted"));
  EXPECT_THAT(sink_.seen().synced, ElementsAre(true));
}

TEST_F(SourceTest, AnUnchangedFileIsNoChange) {
  Write("a.yaml", Svc("a", 1));
  Start();
  Write("a.yaml", "# said again\n" + Svc("a", 1));
  std::filesystem::permissions(dir_ / "a.yaml", std::filesystem::perms::owner_read);
  Barrier();
  EXPECT_EQ(sink_.seen().log[0], "a 1");
  EXPECT_EQ(sink_.seen().log.size(), 3U);
}

TEST_F(SourceTest, ABrokenFileKeepsItsStateAndComesBack) {
  Write("a.yaml", Svc("a", 1));
  Start();
  Write("a.yaml", "a: [");
  ExpectProblem(
      "a.yaml: unreadable: line 2, column 1: not YAML: end of sequence flow not found; the state "
      "of 2");
  ExpectObjects({{"a", "1"}});
  Write("a.yaml", Svc("a", 2));
  ExpectObjects({{"a", "2"}});
  ExpectNoProblems();
  EXPECT_THAT(sink_.seen().synced, ElementsAre(true));
}

TEST_F(SourceTest, ABrokenFileAtTheStartHoldsUpTheSync) {
  Write("a.yaml", Svc("a", 1));
  Write("b.yaml", "a: [");
  Write("c.yaml", "{{");
  Start();
  EXPECT_THAT(sink_.seen().synced, ElementsAre(false));
  ExpectObjects({{"a", "1"}});
  Remove("c.yaml");
  Barrier();
  EXPECT_THAT(sink_.seen().synced, ElementsAre(false));
  Write("b.yaml", Svc("b", 1));
  EXPECT_TRUE(
      sink_.WaitFor([](const Seen& seen) { return seen.synced.size() == 2 && seen.synced[1]; }));
  ExpectObjects({{"a", "1"}, {"b", "1"}});
}

TEST_F(SourceTest, AnEmptyFolderHoldsUpTheSyncUntilItHoldsAManifest) {
  Start();
  EXPECT_THAT(sink_.seen().synced, ElementsAre(false));
  ExpectProblem("/d: unreadable: holds no manifests; nothing is removed until it does");
  Write("a.yaml", Svc("a", 1));
  EXPECT_TRUE(sink_.WaitFor([](const Seen& seen) {
    return seen.synced == std::vector<bool>{false, true};
  }));
  ExpectNoProblems();
  Remove("a.yaml");
  ExpectObjects({});
  ExpectNoProblems();
}

TEST_F(SourceTest, AnEmptiedFileRemovesNothing) {
  Write("a.yaml", Svc("a", 1));
  Start();
  Write("a.yaml", "");
  ExpectProblem("a.yaml: unreadable: is empty, expected manifests; the state of 2");
  ExpectObjects({{"a", "1"}});
}

TEST_F(SourceTest, AnObjectThatWasNeverReadableIsToldByName) {
  Write("a.yaml", "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: 1}");
  Start();
  ExpectObjects({{"a", "unreadable"}});
  EXPECT_THAT(sink_.seen().synced, ElementsAre(true));
  Write("a.yaml", Svc("a", 1));
  ExpectObjects({{"a", "1"}});
  ExpectNoProblems();
}

TEST_F(SourceTest, ConfigMapSwapIsFollowed) {
  const auto version = [this](const std::string& name, int port) {
    std::filesystem::create_directory(dir_ / name);
    WriteFile(dir_ / name / "a.yaml", Svc("a", port));
    WriteFile(dir_ / name / "b.yaml", Svc("b", port));
  };
  version("..1", 1);
  std::filesystem::create_directory_symlink("..1", dir_ / "..data");
  std::filesystem::create_symlink("..data/a.yaml", dir_ / "a.yaml");
  std::filesystem::create_symlink("..data/b.yaml", dir_ / "b.yaml");
  Start();
  ExpectObjects({{"a", "1"}, {"b", "1"}});
  for (int i = 2; i < 8; ++i) {  // as the kubelet's AtomicWriter
    const std::string name = ".." + std::to_string(i);
    version(name, i);
    std::filesystem::create_directory_symlink(name, dir_ / "..data_tmp");
    std::filesystem::rename(dir_ / "..data_tmp", dir_ / "..data");
    std::filesystem::remove_all(dir_ / (".." + std::to_string(i - 1)));
    ExpectObjects({{"a", std::to_string(i)}, {"b", std::to_string(i)}});
    ExpectNoProblems();
  }
  EXPECT_THAT(sink_.seen().log, testing::Not(testing::Contains(HasSubstr("deleted"))));
}

TEST_F(SourceTest, TargetsOfLinksElsewhereAreFollowed) {
  WriteFile(base_ / "target", Svc("a", 1));
  std::filesystem::create_symlink(base_ / "target", dir_ / "a.yaml");
  Start();
  WriteFile(base_ / "target", Svc("a", 2));
  ExpectObjects({{"a", "2"}});
  WriteFile(base_ / "other", Svc("a", 3));
  std::filesystem::rename(base_ / "other", base_ / "target");
  ExpectObjects({{"a", "3"}});
  std::filesystem::remove(base_ / "target");
  ExpectProblem("is a symbolic link that leads nowhere; the state of");
  ExpectObjects({{"a", "3"}});
  WriteFile(base_ / "target", Svc("a", 4));
  ExpectObjects({{"a", "4"}});
  ExpectNoProblems();
}

TEST_F(SourceTest, DuplicatesAreToldAndTheOtherTakesOver) {
  Write("b.yaml", Svc("a", 2));
  Start();
  ExpectObjects({{"a", "2"}});
  Write("a.yaml", Svc("a", 1));
  ExpectObjects({{"a", "1"}});
  ExpectProblem(
      "Service default/a (b.yaml): conflict: is also in a.yaml, which comes first and wins");
  Remove("a.yaml");
  ExpectObjects({{"a", "2"}});
  ExpectNoProblems();
}

TEST_F(SourceTest, AFolderThatVanishesKeepsItsStateAndComesBack) {
  Write("a.yaml", Svc("a", 1));
  Write("b.yaml", Svc("b", 1));
  Start();
  std::filesystem::rename(dir_, base_ / "away");
  ExpectProblem("d: unreadable: is gone; the last state stays in force until it is back");
  ExpectObjects({{"a", "1"}, {"b", "1"}});
  std::filesystem::rename(base_ / "away", dir_);
  ExpectNoProblems();
  Write("a.yaml", Svc("a", 2));
  ExpectObjects({{"a", "2"}, {"b", "1"}});
  // Made anew, empty at first: what it does not get is removed, the rest never goes.
  // (remove_all would be no such case: it removes the files one by one first.)
  std::filesystem::rename(dir_, base_ / "away");
  std::filesystem::create_directory(dir_);
  Write("a.yaml", Svc("a", 3));
  ExpectObjects({{"a", "3"}});
  EXPECT_THAT(sink_.seen().log, testing::Not(testing::Contains("a deleted")));
}

TEST_F(SourceTest, AFolderBehindASwappedLinkIsFollowed) {
  std::filesystem::create_directory(base_ / "one");
  std::filesystem::create_directory(base_ / "two");
  WriteFile(base_ / "one" / "a.yaml", Svc("a", 1));
  WriteFile(base_ / "two" / "a.yaml", Svc("a", 2));
  std::filesystem::create_directory_symlink("one", base_ / "link");
  Start(base_ / "link");
  ExpectObjects({{"a", "1"}});
  std::filesystem::create_directory_symlink("two", base_ / "link.new");
  std::filesystem::rename(base_ / "link.new", base_ / "link");
  ExpectObjects({{"a", "2"}});
  WriteFile(base_ / "two" / "a.yaml", Svc("a", 3));
  ExpectObjects({{"a", "3"}});
}

TEST_F(SourceTest, ASingleFileIsWatched) {
  Write("objects", Svc("a", 1));
  Write("other.yaml", Svc("x", 1));
  Start(dir_ / "objects");
  Write("objects", Svc("a", 2));
  ExpectObjects({{"a", "2"}});
  Replace("objects", Svc("a", 3));
  ExpectObjects({{"a", "3"}});
  Remove("objects");
  ExpectProblem("objects: unreadable: is gone; the last state stays in force until it is back");
  ExpectObjects({{"a", "3"}});
  Write("objects", Svc("b", 4));
  ExpectObjects({{"b", "4"}});
  ExpectNoProblems();
}

TEST_F(SourceTest, PipesAndDirectoriesDoNotBlockIt) {
  Start();
  ASSERT_EQ(mkfifo((dir_ / "a.yaml").c_str(), 0600), 0);
  ExpectProblem("a.yaml: unreadable: is a named pipe, expected a regular file");
  std::filesystem::create_directory(dir_ / "b.yaml");
  Write("c.yaml", Svc("c", 1));
  ExpectObjects({{"c", "1"}});
  Remove("a.yaml");
  ExpectProblem("b.yaml: unreadable: is a directory, expected a regular file");
  Remove("b.yaml");
  ExpectNoProblems();
}

TEST_F(SourceTest, BothFamiliesArrive) {
  Write(
      "a.yaml",
      "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIPs: [10.96.0.1, "
      "'fd00::1'], ipFamilies: "
      "[IPv4, IPv6], ports: [{port: 1}]}\n---\n"
      "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a-4, labels: "
      "{kubernetes.io/service-name: a}}\naddressType: IPv4\nports: [{port: 1}]\nendpoints: "
      "[{addresses: [10.1.0.1]}]"
      "\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a-6, labels: "
      "{kubernetes.io/service-name: a}}\naddressType: IPv6\nports: [{port: 1}]\nendpoints: "
      "[{addresses: "
      "['fd01::1']}]\n---\n{apiVersion: v1, kind: Node, metadata: {name: m}}\n");
  Start();
  ExpectObjects({{"a", "1"}, {"a-4", "there"}, {"a-6", "there"}, {"m", "there"}});
  EXPECT_THAT(sink_.seen().problems, IsEmpty());
}

TEST_F(SourceTest, ItWatchesAgainWhenDescriptorsAreLeft) {
  Write("a.yaml", Svc("a", 1));
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few = {std::min<rlim_t>(64, before.rlim_cur), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<os::UniqueFd> taken;
  while (true) {
    os::UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!fd) break;
    taken.push_back(std::move(fd));
  }
  ASSERT_FALSE(taken.empty());
  taken.pop_back();  // for the source to start at all
  Start();
  EXPECT_THAT(sink_.seen().synced, ElementsAre(false));
  ExpectProblem("d: unreadable: cannot be listed: Too many open files");
  EXPECT_THAT(sink_.seen().problems, testing::Contains(HasSubstr("cannot be watched: ")));
  taken.clear();
  EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ExpectObjects({{"a", "1"}});
  ExpectNoProblems();
}

TEST_F(SourceTest, StartSaysWhenNothingIsThere) {
  ManifestSource source((dir_ / "none").string());
  EXPECT_TRUE(absl::IsNotFound(source.Start(&sink_)));
  source.Stop();
}

TEST_F(SourceTest, StopsWhileBlockedAndNeverCallsAgain) {
  Write("a.yaml", Svc("a", 1));
  Start();
  EXPECT_TRUE(absl::IsFailedPrecondition(source_->Start(&sink_)));
  source_->Stop();
  source_->Stop();
  const size_t before = sink_.seen().log.size();
  Write("a.yaml", Svc("a", 2));
  EXPECT_EQ(sink_.seen().log.size(), before);
  // It may be started again, and then tells everything anew.
  ASSERT_TRUE(source_->Start(&sink_).ok());
  ExpectObjects({{"a", "2"}});
}

TEST_F(SourceTest, StopsWhileWaitingForInput) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  {
    ManifestSource source("-", ends[0]);
    ASSERT_TRUE(source.Start(&sink_).ok());
    source.Stop();
  }
  EXPECT_THAT(sink_.seen().synced, IsEmpty());
  ManifestSource source("-", ends[0]);
  ASSERT_TRUE(source.Start(&sink_).ok());
  const std::string text = Svc("a", 1);
  EXPECT_EQ(write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  close(ends[1]);
  ExpectObjects({{"a", "1"}});
  EXPECT_TRUE(
      sink_.WaitFor([](const Seen& seen) { return seen.synced == std::vector<bool>{true}; }));
  source.Stop();
  close(ends[0]);
}

}  // namespace
}  // namespace waggle::k8s
