// Numbers that one thread at a time writes (a lock of theirs orders them) and any thread reads: a
// plain store each, no bus traffic beyond the cache line.
#ifndef WAGGLE_USERSPACE_METRICS_VALUES_H_
#define WAGGLE_USERSPACE_METRICS_VALUES_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace waggle::metrics {

class Counter {
 public:
  void Add(uint64_t count = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_ = 0;
};

class Gauge {
 public:
  void Set(double value) { value_.store(value, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_ = 0;
};

class Histogram {
 public:
  // `bounds`: upper ends of the buckets, ascending, without +Inf; they outlive it.
  explicit Histogram(std::span<const double> bounds)
      : bounds_(bounds), counts_(std::make_unique<Counter[]>(bounds.size() + 1)) {}

  void Observe(double value) {
    const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value);
    counts_[static_cast<size_t>(at - bounds_.begin())].Add();
    sum_.Set(sum_.value() + value);
  }

  std::span<const double> bounds() const { return bounds_; }
  // Of each bucket alone, the last one without end.
  std::vector<uint64_t> counts() const {
    std::vector<uint64_t> counts;
    for (size_t i = 0; i <= bounds_.size(); ++i)
      counts.push_back(counts_[i].value());
    return counts;
  }
  double sum() const { return sum_.value(); }

 private:
  std::span<const double> bounds_;
  std::unique_ptr<Counter[]> counts_;
  Gauge sum_;
};

}  // namespace waggle::metrics

#endif
