// The watching thread while others write: slowly, fast, and more than the kernel tells of.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/unit/k8s-watch/source_fixture.h"

namespace waggle::k8s {
namespace {

using testing::ElementsAre;

// The shell truncates at once, kubectl answers seconds later.
TEST_F(SourceTest, ASlowWriterRemovesNothingHoweverLongItTakes) {
  Write("a.yaml", Svc("a", 1) + "---\n" + Svc("b", 1));
  Start();
  OpenFile file(dir_ / "a.yaml", O_WRONLY | O_TRUNC);
  ExpectProblem("a.yaml: unreadable: is being written since 2");
  ExpectProblem("; its last readable state stays in force");
  ExpectObjects({{"a", "1"}, {"b", "1"}});
  file.Write(Svc("a", 2) + "---\n");
  std::filesystem::permissions(dir_ / "a.yaml", std::filesystem::perms::owner_read);
  Barrier();
  ExpectObjects({{"a", "1"}, {"b", "1"}});
  file.Write(Svc("b", 2));
  file.Close();
  ExpectObjects({{"a", "2"}, {"b", "2"}});
  ExpectNoProblems();
  EXPECT_THAT(sink_.seen().log, testing::Not(testing::Contains("b deleted")));
  EXPECT_THAT(sink_.seen().synced, ElementsAre(true));
}

TEST_F(SourceTest, ANewFileIsReadWhenItsWriterClosesIt) {
  Write("b.yaml", Svc("b", 1));
  Start();
  OpenFile file(dir_ / "a.yaml", O_WRONLY | O_CREAT);
  ExpectProblem("; it is read when its writer closes it");
  file.Write(Svc("a", 1));
  Barrier();
  ExpectObjects({{"b", "1"}});
  file.Close();
  ExpectObjects({{"a", "1"}, {"b", "1"}});
  ExpectNoProblems();
}

TEST_F(SourceTest, ASlowWriterBehindALinkIsWaitedForUntilTheLinkLeadsElsewhere) {
  WriteFile(base_ / "target", Svc("a", 1));
  std::filesystem::create_symlink(base_ / "target", dir_ / "a.yaml");
  Start();
  OpenFile file(base_ / "target", O_WRONLY | O_TRUNC);
  ExpectProblem("is being written since");
  file.Write(Svc("a", 2));
  Barrier();
  ExpectObjects({{"a", "1"}});
  file.Close();
  ExpectObjects({{"a", "2"}});
  OpenFile again(base_ / "target", O_WRONLY | O_TRUNC);
  ExpectProblem("is being written since");
  WriteFile(base_ / "other", Svc("a", 3));
  std::filesystem::create_symlink(base_ / "other", base_ / "link");
  std::filesystem::rename(base_ / "link", dir_ / "a.yaml");
  ExpectObjects({{"a", "3"}});
  ExpectNoProblems();
  EXPECT_THAT(sink_.seen().log, testing::Not(testing::Contains("a deleted")));
}

// Its first name is gone before anybody looks, and nobody will close the second.
TEST_F(SourceTest, AFileThatComesWithItsContentIsReadAtOnce) {
  Write("b.yaml", Svc("b", 1));
  Start();
  sink_.Hold();
  Write("b.yaml", Svc("b", 2));
  ASSERT_TRUE(sink_.WaitUntilBlocked());
  WriteFile(base_ / "new", Svc("a", 1));
  std::filesystem::create_hard_link(base_ / "new", dir_ / "a.yaml");
  std::filesystem::remove(base_ / "new");
  sink_.Release();
  ExpectObjects({{"a", "1"}, {"b", "2"}});
  ExpectNoProblems();
}

// A writer in the middle of its work: every prefix of this file that ends with a line is
// valid YAML.
TEST_F(SourceTest, AHalfWrittenFileIsNotRead) {
  Write("a.yaml", Svc("a", 1) + "---\n" + Svc("b", 1));
  Start();
  for (int round = 2; round < 12; ++round) {
    const int fd = open((dir_ / "a.yaml").c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    const std::string first = Svc("a", round) + "---\n";
    const std::string second = Svc("b", round);
    ASSERT_EQ(write(fd, first.data(), first.size()), static_cast<ssize_t>(first.size()));
    Barrier();  // other files make the source look at the folder meanwhile
    ASSERT_EQ(write(fd, second.data(), second.size()), static_cast<ssize_t>(second.size()));
    close(fd);
    ExpectObjects({{"a", std::to_string(round)}, {"b", std::to_string(round)}});
  }
  const auto log = sink_.seen().log;
  EXPECT_THAT(log, testing::Not(testing::Contains("b deleted")));
  EXPECT_THAT(log, testing::Not(testing::Contains("a deleted")));
}

TEST_F(SourceTest, NoChangeIsLostUnderAStorm) {
  Start();
  for (int i = 1; i <= 200; ++i) {
    const std::string name = std::string("f") + std::to_string(i % 7) + ".yaml";
    switch (i % 3) {
      case 0:
        Write(name, Svc("s" + std::to_string(i % 7), i));
        break;
      case 1:
        Replace(name, Svc("s" + std::to_string(i % 7), i));
        break;
      default:
        Remove(name);
        Write(name, Svc("s" + std::to_string(i % 7), i));
    }
  }
  Objects last;
  for (int i = 194; i <= 200; ++i)
    last["s" + std::to_string(i % 7)] = std::to_string(i);
  ExpectObjects(last);
  ExpectNoProblems();
}

// More events than the kernel keeps: what is dropped must be found by looking.
TEST_F(SourceTest, NoChangeIsLostWhenTheKernelDropsEvents) {
  int limit = 0;
  std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> limit;
  ASSERT_GT(limit, 0);
  ASSERT_LE(limit, 1 << 20);
  Write("a.yaml", Svc("a", 1));
  Write("gone.yaml", Svc("gone", 1));
  Write("slow.yaml", Svc("slow", 1) + "---\n" + Svc("slower", 1));
  Start();
  OpenFile slow(dir_ / "slow.yaml", O_WRONLY | O_TRUNC);
  ExpectProblem("slow.yaml: unreadable: is being written since");
  sink_.Hold();
  Write("b.yaml", Svc("b", 1));
  ASSERT_TRUE(sink_.WaitUntilBlocked());
  Write("churn", "");
  for (int i = 0; i <= limit / 4; ++i) {  // two events each
    std::filesystem::rename(dir_ / "churn", dir_ / "churn2");
    std::filesystem::rename(dir_ / "churn2", dir_ / "churn");
  }
  Write("a.yaml", Svc("a", 2));
  Write("c.yaml", Svc("c", 1));
  Remove("gone.yaml");
  slow.Write(Svc("slow", 2));
  sink_.Release();
  ExpectObjects({{"a", "2"}, {"b", "1"}, {"c", "1"}, {"slow", "2"}, {"slower", "1"}});
  ExpectProblem("slow.yaml: unreadable: was not seen to be closed by its writer and may be half");
  slow.Close();
  ExpectObjects({{"a", "2"}, {"b", "1"}, {"c", "1"}, {"slow", "2"}});
  ExpectNoProblems();
}

}  // namespace
}  // namespace waggle::k8s
