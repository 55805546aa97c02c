#include "k8s-watch/liveness.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace waggle::k8s {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLong{3'600'000};

TEST(LivenessTest, NobodyIsAskedWhoWasHeardLately) {
  Liveness liveness(2, kLong);
  const auto ask = [] { return absl::UnavailableError("asked"); };
  EXPECT_EQ(liveness.Check(0, ask), absl::OkStatus());
  EXPECT_EQ(liveness.Check(1, ask), absl::OkStatus());
}

TEST(LivenessTest, TheAnswerIsWhatCounts) {
  Liveness liveness(1, milliseconds(0));
  for (const absl::Status& answer :
       {absl::OkStatus(), absl::UnavailableError("no answer"), absl::CancelledError("stopped")}) {
    EXPECT_EQ(liveness.Check(0, [&] { return answer; }), answer);
  }
}

// Each server has its own silence.
TEST(LivenessTest, WhoSpeaksIsNotAskedAgain) {
  constexpr milliseconds kShort{200};
  Liveness liveness(2, kShort);
  std::this_thread::sleep_for(kShort);
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

TEST(LivenessTest, WhatAnotherConnectionBringsMeanwhileIsASign) {
  constexpr milliseconds kShort{200};
  Liveness liveness(1, kShort);
  std::this_thread::sleep_for(kShort);
  EXPECT_EQ(liveness.Check(0,
                           [&] {
                             liveness.Heard(0);
                             return absl::UnavailableError("no answer");
                           }),
            absl::OkStatus());
}

// One asks, and all have the answer.
TEST(LivenessTest, OneAsksForAll) {
  constexpr int kThreads = 3;
  Liveness liveness(1, milliseconds(0));
  std::atomic<int> asked = 0, waiting = 0, refused = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      ++waiting;
      const absl::Status answer = liveness.Check(0, [&] {
        ++asked;
        while (waiting < kThreads)
          std::this_thread::yield();
        // Time enough for the others to come; who comes later asks again.
        std::this_thread::sleep_for(milliseconds(100));
        return absl::UnavailableError("no answer");
      });
      if (absl::IsUnavailable(answer)) ++refused;
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(refused, kThreads);
  EXPECT_LT(asked, kThreads);
}

}  // namespace
}  // namespace waggle::k8s
