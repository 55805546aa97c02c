// Waiting for something to become so, for tests of every kind.
#ifndef WAGGLE_TESTS_AWAIT_H_
#define WAGGLE_TESTS_AWAIT_H_

#include <chrono>
#include <functional>
#include <thread>

namespace waggle {

// Asks every few milliseconds; false when it was not so within `patience`, which is only that long
// so that a busy machine fails nothing.
inline bool Await(const std::function<bool()>& condition,
                  std::chrono::milliseconds patience = std::chrono::seconds(20)) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace waggle

#endif
