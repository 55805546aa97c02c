// Makes room in `flows`, which the kernel never evicts from: removes flows that are over and
// those of devices that are gone. The programs count both as absent already; nothing depends
// on the moment.
#ifndef WAGGLE_MAPS_FLOW_COLLECTOR_H_
#define WAGGLE_MAPS_FLOW_COLLECTOR_H_

#include <cstdint>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "maps/flow_table.h"
#include "maps/hash_walk.h"
#include "userspace/os/unique_fd.h"

namespace waggle::maps {

// Since the collector was made.
struct CollectorCounts {
  uint64_t expired = 0;    // flows whose lifetime was over
  uint64_t orphans = 0;    // entries without a partner, idle for a minute, and damaged ones
  uint64_t forgotten = 0;  // entries of devices that are gone
  uint64_t rounds = 0;     // times that all of `flows` was looked at
};

// Used by one thread at a time: the agent's owner.
class FlowCollector {
 public:
  // A round over all of `flows` takes no longer than this, if Tick() is called each second.
  static constexpr uint64_t kRoundNs = 60'000'000'000;
  // A look at an empty or small map costs a walk over its buckets: no more often than this.
  static constexpr uint64_t kMinRoundNs = 10'000'000'000;

  // Both readable and writable.
  FlowCollector(os::UniqueFd flows, os::UniqueFd half_open);

  // To be called about once a second, and again at once (with no budget) while urgent(). Looks
  // at about `budget` entries, or at as many more as a large map needs for its round in time.
  // `now_ns`: CLOCK_MONOTONIC. After an error the next call goes on where this one stood.
  absl::Status Tick(uint64_t now_ns, uint32_t budget);

  // The device has left: the next Tick()s remove the flows of its clients from both maps.
  // Flows that begin at `when_ns` or later are those of a new device with the same ifindex and
  // stay: by the coarse clock of the programs one may begin within the same tick.
  void ForgetDevice(uint32_t ifindex, uint64_t when_ns);
  // Flows of gone devices wait to be removed.
  bool urgent() const { return !leaving_.empty() || !leaving_next_.empty(); }

  const CollectorCounts& counts() const { return counts_; }

 private:
  using Leaving = absl::flat_hash_map<uint32_t, uint64_t>;  // ifindex → when it was gone

  absl::Status Collect(uint64_t now_ns, uint32_t budget);
  absl::Status Judge(const FlowEntry& seen, uint64_t now_ns);
  // From `flows`, if it is unchanged.
  absl::StatusOr<bool> Remove(const FlowEntry& entry);
  absl::Status Forget();
  absl::Status ForgetIn(HashWalk& walk, int fd, std::string_view name);
  bool HasLeft(const FlowEntry& entry) const;
  FlowFds fds() const { return {flows_.get(), half_open_.get()}; }

  os::UniqueFd flows_;
  os::UniqueFd half_open_;
  HashWalk round_;
  uint64_t capacity_ = 0;  // of `flows`; 0: not asked yet
  bool in_round_ = false;
  uint64_t rounds_begun_ = 0;
  uint64_t round_began_ns_ = 0;
  uint64_t last_tick_ns_ = 0;
  Leaving leaving_;       // looked for by the walks that are under way
  Leaving leaving_next_;  // by the next ones
  HashWalk leaving_flows_;
  HashWalk leaving_half_open_;
  CollectorCounts counts_;
};

}  // namespace waggle::maps

#endif
