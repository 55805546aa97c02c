// Grace periods: when one is over, no BPF program can still hold what it read before.
#ifndef WAGGLE_MAPS_GRACE_H_
#define WAGGLE_MAPS_GRACE_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "userspace/os/unique_fd.h"

namespace waggle::maps {

// Waits for grace periods on a thread of its own, as one takes milliseconds:
// membarrier(MEMBARRIER_CMD_GLOBAL) is synchronize_rcu(), and programs run within RCU
// readers. Where the kernel refuses it (nohz_full CPUs) or skips the wait (one CPU), two
// seconds stand in.
class GracePeriod {
 public:
  GracePeriod();
  GracePeriod(const GracePeriod&) = delete;
  GracePeriod& operator=(const GracePeriod&) = delete;
  ~GracePeriod();

  // Asks for a grace period that begins now. Returns its epoch; epochs grow.
  uint64_t Request();
  // The newest epoch that is over.
  uint64_t completed() const;
  // Blocks until the epoch is over.
  void Wait(uint64_t epoch);
  // An eventfd that becomes readable when an epoch ends. Owned by this object.
  int event_fd() const { return event_.get(); }
  // Makes event_fd() unreadable again.
  void ClearEvent();

 private:
  void Run();

  os::UniqueFd event_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  uint64_t requested_ = 0;
  uint64_t completed_ = 0;
  bool stop_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace waggle::maps

#endif
