#include "userspace/os/oom_score.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

namespace waggle::os {
namespace {

int OwnScore() {
  int score = -9999;
  std::ifstream("/proc/self/oom_score_adj") >> score;
  return score;
}

// In a process of its own: who may not lower it again would keep it.
TEST(OomScore, IsSet) {
  const pid_t child = fork();
  if (child == 0) _exit(SetOomScoreAdj(1000).ok() && OwnScore() == 1000 ? 0 : 1);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(OomScore, TellsARefusal) {
  const int before = OwnScore();
  EXPECT_EQ(SetOomScoreAdj(1001).message(), "/proc/self/oom_score_adj: Invalid argument");
  EXPECT_EQ(OwnScore(), before);
}

}  // namespace
}  // namespace waggle::os
