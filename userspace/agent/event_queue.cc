#include "userspace/agent/event_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace waggle::agent {

EventQueue::EventQueue(std::function<bool()> handle)
    : handle_(std::move(handle)), event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void EventQueue::Signal() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the reader is awake anyway.
  [[maybe_unused]] const ssize_t ignored = write(event_.get(), &one, sizeof(one));
}

health::ByFamily<bool> FamiliesOf(const k8s::ObjectChange& change) {
  const auto* object = std::get_if<k8s::Object>(&change.state);
  if (object == nullptr) return {true, true};
  const auto* slice = std::get_if<std::shared_ptr<const k8s::EndpointSlice>>(object);
  if (slice == nullptr) return {true, true};
  const bool v4 = (*slice)->family == net::Family::kIpv4;
  return {v4, !v4};
}

void EventQueue::OnChange(k8s::ObjectChange change) {
  if (change.read_at == health::Time()) change.read_at = std::chrono::steady_clock::now();
  const health::ByFamily<bool> families = FamiliesOf(change);
  bool many = false;
  {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < families.size(); ++i) {
      if (families[i]) {
        waiting_.oldest[i] = health::Earlier(waiting_.oldest[i], change.read_at);
      }
    }
    const auto [at, fresh] = index_.try_emplace(change.key, pending_.changes.size());
    if (fresh) {
      switch (change.key.kind) {
        case k8s::ObjectKind::kService:
          ++waiting_.services;
          break;
        case k8s::ObjectKind::kEndpointSlice:
          ++waiting_.slices;
          break;
        case k8s::ObjectKind::kNode:
          ++waiting_.others;
          break;
      }
      pending_.changes.push_back(std::move(change));
    } else {
      k8s::ObjectChange& before = pending_.changes[at->second];
      change.read_at = std::min(change.read_at, before.read_at);
      before = std::move(change);
    }
    many = fresh && pending_.changes.size() % kMany == 0;
    resting_ = !many;
  }
  if (many) Signal();
}

void EventQueue::OnPause() {
  bool few = true;
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(resting_, false)) return;
    few = pending_.changes.size() < kMany;
  }
  if (few && handle_ && handle_()) return;
  Signal();
}

void EventQueue::OnSynced(bool complete) {
  {
    const std::lock_guard lock(mutex_);
    pending_.synced = complete;
    resting_ = false;
  }
  Signal();
}

void EventQueue::OnProblems(std::vector<Problem> problems) {
  {
    const std::lock_guard lock(mutex_);
    pending_.problems = std::move(problems);
    resting_ = false;
  }
  Signal();
}

EventQueue::Batch EventQueue::Drain() {
  uint64_t count = 0;
  // Before the lock: what arrives in between signals again.
  [[maybe_unused]] const ssize_t ignored = read(event_.get(), &count, sizeof(count));
  const std::lock_guard lock(mutex_);
  index_.clear();
  waiting_ = Waiting();
  resting_ = false;
  return std::exchange(pending_, Batch{});
}

EventQueue::Waiting EventQueue::waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_;
}

}  // namespace waggle::agent
