#include "k8s-watch/liveness.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace waggle::k8s {
namespace {

using Clock = Liveness::Clock;

// Stands still until it is told.
class LivenessTest : public testing::Test {
 protected:
  LivenessTest() : now_(Clock::now()) {}
  std::function<Clock::time_point()> clock() {
    return [this] {
      ++looks_;
      return now_;
    };
  }
  void BeSilent() { now_ += Liveness::kSilence; }

  Clock::time_point now_;
  std::atomic<int> looks_ = 0;  // at the clock
};

TEST_F(LivenessTest, NobodyIsAskedWhoWasHeardLately) {
  Liveness liveness(2, clock());
  now_ += Liveness::kSilence - std::chrono::nanoseconds(1);
  const auto ask = [] { return absl::UnavailableError("asked"); };
  EXPECT_EQ(liveness.Check(0, ask), absl::OkStatus());
  EXPECT_EQ(liveness.Check(1, ask), absl::OkStatus());
}

TEST_F(LivenessTest, TheAnswerIsWhatCounts) {
  Liveness liveness(1, clock());
  for (const absl::Status& answer :
       {absl::OkStatus(), absl::UnavailableError("no answer"), absl::CancelledError("stopped")}) {
    BeSilent();
    EXPECT_EQ(liveness.Check(0, [&] { return answer; }), answer);
  }
}

// Each server has its own silence.
TEST_F(LivenessTest, WhoSpeaksIsNotAskedAgain) {
  Liveness liveness(2, clock());
  BeSilent();
  int asked = 0;
  const auto lives = [&] {
    ++asked;
    return absl::OkStatus();
  };
  EXPECT_TRUE(liveness.Check(0, lives).ok());
  EXPECT_TRUE(liveness.Check(0, lives).ok());  // the answer was heard
  EXPECT_EQ(asked, 1);
  liveness.Heard(1);
  EXPECT_TRUE(liveness.Check(1, lives).ok());
  EXPECT_EQ(asked, 1);
}

TEST_F(LivenessTest, WhatAnotherConnectionBringsMeanwhileIsASign) {
  Liveness liveness(1, clock());
  BeSilent();
  EXPECT_EQ(liveness.Check(0,
                           [&] {
                             liveness.Heard(0);
                             return absl::UnavailableError("no answer");
                           }),
            absl::OkStatus());
}

// One asks, and all have the answer.
TEST_F(LivenessTest, OneAsksForAll) {
  constexpr int kThreads = 3;
  Liveness liveness(1, clock());
  BeSilent();
  looks_ = 0;
  std::atomic<int> asked = 0, refused = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      const absl::Status answer = liveness.Check(0, [&] {
        ++asked;
        // Who has looked at the clock goes on to wait before anybody else has a turn.
        while (looks_ < kThreads)
          std::this_thread::yield();
        return absl::UnavailableError("no answer");
      });
      if (absl::IsUnavailable(answer)) ++refused;
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(refused, kThreads);
  EXPECT_EQ(asked, 1);
}

}  // namespace
}  // namespace waggle::k8s
