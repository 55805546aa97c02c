// What a process has used so far, and what the machine was doing.
#ifndef WAGGLE_BENCH_CONTROL_PLANE_USAGE_H_
#define WAGGLE_BENCH_CONTROL_PLANE_USAGE_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace waggle::bench {

// User and system time of all its threads, ended ones too, and of its children that have ended.
int64_t CpuNs(pid_t pid);

struct Memory {
  int64_t peak_bytes = 0;       // VmHWM: all that was resident at once, files and maps too
  int64_t anonymous_bytes = 0;  // RssAnon
};
Memory MemoryOf(pid_t pid);

// The greatest anonymous memory of a process while this lives, looked at each millisecond.
class AnonymousPeak {
 public:
  explicit AnonymousPeak(std::function<pid_t()> pid);
  ~AnonymousPeak();
  AnonymousPeak(const AnonymousPeak&) = delete;
  AnonymousPeak& operator=(const AnonymousPeak&) = delete;

  int64_t bytes() const { return peak_; }

 private:
  std::atomic<bool> over_ = false;
  std::atomic<int64_t> peak_ = 0;
  std::thread thread_;
};

// While it lives these processes, and what they start, have real-time priority, those in `first`
// the higher one: a busy machine hardly shows.
class Preference {
 public:
  explicit Preference(std::vector<pid_t> processes, std::vector<pid_t> first = {});
  ~Preference();
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;

 private:
  const std::vector<pid_t> processes_;
  const std::vector<pid_t> first_;
};

}  // namespace waggle::bench

#endif
