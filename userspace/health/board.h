// Where the agent's owner writes how it is doing, for the HTTP server to read without ever making
// it wait.
#ifndef WAGGLE_USERSPACE_HEALTH_BOARD_H_
#define WAGGLE_USERSPACE_HEALTH_BOARD_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "maps/desired.h"
#include "userspace/health/health.h"

namespace waggle::health {

using Time = std::chrono::steady_clock::time_point;
// The oldest change that waits; none: nothing waits.
using Oldest = ByFamily<std::optional<Time>>;

inline std::optional<Time> Earlier(const std::optional<Time>& a, const std::optional<Time>& b) {
  if (!a || !b) return a ? a : b;
  return *a < *b ? a : b;
}

// A Service with a healthCheckNodePort.
struct ServiceCheck {
  ServiceName service;
  ByFamily<bool> serves{};     // it has a cluster IP
  ByFamily<uint32_t> local{};  // distinct ready addresses on this node
  // The kernel forwards what a load balancer sends here for this Service.
  bool in_force = false;

  // For who asks by an address of this family: that of the Service, if it has that family.
  uint32_t CountFor(net::Family family) const {
    const size_t asked = Index(family);
    return local[serves[asked] ? asked : 1 - asked];
  }
  friend bool operator==(const ServiceCheck&, const ServiceCheck&) = default;
};
// By healthCheckNodePort.
using ServiceChecks = std::map<uint16_t, ServiceCheck>;

// A value that is replaced as a whole. The lock is held for the copy of a pointer.
template <typename T>
class Published {
 public:
  void Set(std::shared_ptr<const T> value) {
    const std::lock_guard lock(mutex_);
    value_.swap(value);
  }
  // Never null.
  std::shared_ptr<const T> Get() const {
    const std::lock_guard lock(mutex_);
    return value_;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const T> value_ = std::make_shared<const T>();
};

class Board {
 public:
  explicit Board(Time now) { Beat(now); }

  // Of the owner.
  void Beat(Time now) { beat_ns_.store(Ns(now), std::memory_order_relaxed); }
  void SetPending(const Oldest& oldest) {
    for (size_t i = 0; i < oldest.size(); ++i) {
      pending_ns_[i].store(oldest[i] ? Ns(*oldest[i]) : 0, std::memory_order_relaxed);
    }
  }
  void SetUpdated(net::Family family, WallTime now) {
    updated_ns_[Index(family)].store(now.time_since_epoch().count(), std::memory_order_relaxed);
  }
  void SetNodeEligible(bool eligible) { eligible_.store(eligible, std::memory_order_relaxed); }
  Published<ServiceChecks>& checks() { return checks_; }

  // From any thread. `queued` has not been taken by the owner yet.
  State Read(const Oldest& queued, Duration sync_period, Time now, WallTime wall) const;

 private:
  static int64_t Ns(Time time) {
    return std::chrono::duration_cast<Duration>(time.time_since_epoch()).count();
  }

  std::atomic<int64_t> beat_ns_ = 0;
  ByFamily<std::atomic<int64_t>> pending_ns_{};  // 0: none
  ByFamily<std::atomic<int64_t>> updated_ns_{};  // 0: never
  std::atomic<bool> eligible_ = false;
  Published<ServiceChecks> checks_;
};

}  // namespace waggle::health

#endif
