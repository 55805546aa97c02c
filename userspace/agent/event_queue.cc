#include "userspace/agent/event_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

namespace waggle::agent {

EventQueue::EventQueue() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void EventQueue::Signal() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the reader is awake anyway.
  [[maybe_unused]] const ssize_t ignored = write(event_.get(), &one, sizeof(one));
}

void EventQueue::OnChange(k8s::ObjectChange change) {
  {
    const std::lock_guard lock(mutex_);
    const auto [at, fresh] = index_.try_emplace(change.key, pending_.changes.size());
    if (fresh) {
      pending_.changes.push_back(std::move(change));
    } else {
      pending_.changes[at->second] = std::move(change);
    }
  }
  Signal();
}

void EventQueue::OnSynced(bool complete) {
  {
    const std::lock_guard lock(mutex_);
    pending_.synced = complete;
  }
  Signal();
}

void EventQueue::OnProblems(std::vector<Problem> problems) {
  {
    const std::lock_guard lock(mutex_);
    pending_.problems = std::move(problems);
  }
  Signal();
}

EventQueue::Batch EventQueue::Drain() {
  uint64_t count = 0;
  // Before the lock: what arrives in between signals again.
  [[maybe_unused]] const ssize_t ignored = read(event_.get(), &count, sizeof(count));
  const std::lock_guard lock(mutex_);
  index_.clear();
  return std::exchange(pending_, Batch{});
}

}  // namespace waggle::agent
