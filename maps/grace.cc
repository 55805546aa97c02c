#include "maps/grace.h"

#include <linux/membarrier.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>

namespace waggle::maps {

GracePeriod::GracePeriod() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  thread_ = std::thread([this] { Run(); });
}

GracePeriod::~GracePeriod() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

uint64_t GracePeriod::Request() {
  uint64_t epoch = 0;
  {
    const std::lock_guard lock(mutex_);
    epoch = ++requested_;
  }
  wake_.notify_all();
  return epoch;
}

uint64_t GracePeriod::completed() const {
  const std::lock_guard lock(mutex_);
  return completed_;
}

void GracePeriod::Wait(uint64_t epoch) {
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return completed_ >= epoch; });
}

void GracePeriod::ClearEvent() {
  uint64_t count = 0;
  // Nothing to read is as good as read.
  [[maybe_unused]] const ssize_t ignored = read(event_.get(), &count, sizeof(count));
}

void GracePeriod::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stop_ || requested_ > completed_; });
    if (stop_) return;
    const uint64_t epoch = requested_;
    lock.unlock();
    // With one CPU online the kernel skips the wait, though a preempted program may be in
    // the middle of its reading.
    const bool waited = sysconf(_SC_NPROCESSORS_ONLN) > 1 &&
                        syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0;
    lock.lock();
    if (!waited) {
      wake_.wait_for(lock, std::chrono::seconds(2), [&] { return stop_; });
      if (stop_) return;
    }
    completed_ = epoch;
    done_.notify_all();
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t ignored = write(event_.get(), &one, sizeof(one));
  }
}

}  // namespace waggle::maps
