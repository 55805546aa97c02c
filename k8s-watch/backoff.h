// How long to wait after the nth failure in a row: twice as long each time, with jitter, so
// that the nodes of a cluster do not come back together; client-go's numbers. Pure.
#ifndef WAGGLE_K8S_WATCH_BACKOFF_H_
#define WAGGLE_K8S_WATCH_BACKOFF_H_

#include <algorithm>
#include <chrono>

namespace waggle::k8s {

class Backoff {
 public:
  using Duration = std::chrono::milliseconds;

  static constexpr Duration kFirst{800};
  static constexpr Duration kCap{30'000};
  // After so long without a failure the next one counts as the first.
  static constexpr std::chrono::seconds kForget{120};

  // `now`: of a monotonic clock; `random`: in [0, 1). Between once and twice the time of this
  // failure, never more than kCap.
  Duration Next(std::chrono::steady_clock::time_point now, double random) {
    if (failed_ && now - last_ > kForget) base_ = kFirst;
    failed_ = true;
    last_ = now;
    const auto jittered =
        std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(
            static_cast<double>(base_.count()) * (1 + random)));
    base_ = std::min(base_ * 2, kCap);
    return std::min(jittered, kCap);
  }

 private:
  Duration base_ = kFirst;
  bool failed_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace waggle::k8s

#endif
