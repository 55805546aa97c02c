// Whose turn it is: all that the agent knows is touched by one thread at a time. As a rule that is
// the main thread; another may have a turn in between, when nobody waits for it.
#ifndef WAGGLE_USERSPACE_AGENT_TURN_H_
#define WAGGLE_USERSPACE_AGENT_TURN_H_

#include <atomic>
#include <mutex>

namespace waggle::agent {

class Turn {
 public:
  // Of the main thread. Waits for one turn of each other thread at most, however often they want
  // one: a mutex alone is not fair.
  void lock() {
    main_waits_ = true;
    mutex_.lock();
    main_waits_ = false;
  }
  void unlock() { mutex_.unlock(); }

  // Of the others, who never wait: false when it is somebody else's turn, or about to be.
  bool try_lock() { return !main_waits_ && mutex_.try_lock(); }

 private:
  std::mutex mutex_;
  std::atomic<bool> main_waits_ = false;
};

}  // namespace waggle::agent

#endif
