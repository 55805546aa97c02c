#include "userspace/health/board.h"

#include <algorithm>

namespace waggle::health {

State Board::Read(const Oldest& queued, Duration sync_period, Time now, WallTime wall) const {
  State state;
  state.sync_period = sync_period;
  state.now = wall;
  state.node_eligible = eligible_.load(std::memory_order_relaxed);
  // Between the reads of two clocks a thread may have been stopped: ages do not become negative.
  const auto age = [now](int64_t ns) { return std::max(Duration(Ns(now) - ns), Duration(0)); };
  state.silent = age(beat_ns_.load(std::memory_order_relaxed));
  for (size_t i = 0; i < state.families.size(); ++i) {
    State::Family& family = state.families[i];
    const int64_t pending = pending_ns_[i].load(std::memory_order_relaxed);
    if (pending != 0) family.pending = age(pending);
    if (queued[i]) {
      family.pending = std::max(family.pending.value_or(Duration(0)), age(Ns(*queued[i])));
    }
    const int64_t updated = updated_ns_[i].load(std::memory_order_relaxed);
    if (updated != 0) family.updated = WallTime(Duration(updated));
  }
  return state;
}

}  // namespace waggle::health
