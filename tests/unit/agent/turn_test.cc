#include "userspace/agent/turn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

namespace waggle::agent {
namespace {

TEST(Turn, OthersHaveItWhenNobodyElseHas) {
  Turn turn;
  const auto try_elsewhere = [&] {
    bool got = false;
    std::thread([&] {
      const std::unique_lock lock(turn, std::try_to_lock);
      got = lock.owns_lock();
    }).join();
    return got;
  };
  EXPECT_TRUE(try_elsewhere());
  turn.lock();
  EXPECT_FALSE(try_elsewhere());
  turn.unlock();
  EXPECT_TRUE(try_elsewhere());
  const std::unique_lock lock(turn, std::try_to_lock);
  ASSERT_TRUE(lock.owns_lock());
  EXPECT_FALSE(try_elsewhere());
}

// Two threads that want one turn after the other, without a pause.
TEST(Turn, TheMainThreadWaitsForNoMoreThanOneOfEach) {
  Turn turn;
  std::atomic<bool> over = false;
  std::atomic<uint64_t> turns = 0;
  const auto want = [&] {
    while (!over) {
      const std::unique_lock lock(turn, std::try_to_lock);
      if (!lock.owns_lock()) continue;
      ++turns;
      const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(20);
      while (std::chrono::steady_clock::now() < until) {
      }
    }
  };
  std::thread first(want);
  std::thread second(want);
  std::vector<uint64_t> waited;
  for (int i = 0; i < 201; ++i) {
    // They are at it.
    for (const uint64_t begin = turns; turns < begin + 3;)
      std::this_thread::yield();
    const uint64_t before = turns;
    const std::lock_guard lock(turn);
    waited.push_back(turns - before);
  }
  over = true;
  first.join();
  second.join();
  // Most of the time: between the look at `turns` and the wish any time may pass.
  std::sort(waited.begin(), waited.end());
  EXPECT_LE(waited[waited.size() / 2], 3u);
}

}  // namespace
}  // namespace waggle::agent
