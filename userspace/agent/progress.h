// Follows changes from their arrival until the kernel holds them: how long each took, and what
// still waits, for probes and metrics.
#ifndef WAGGLE_USERSPACE_AGENT_PROGRESS_H_
#define WAGGLE_USERSPACE_AGENT_PROGRESS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "userspace/agent/event_queue.h"
#include "userspace/health/board.h"
#include "userspace/metrics/agent_metrics.h"

namespace waggle::agent {

// Both clocks at one moment.
struct Moment {
  health::Time steady;
  health::WallTime wall;

  static Moment Now();
};

// Used by the owner.
class Progress {
 public:
  // So many waiting changes are measured; when the kernel refuses for long, others only count.
  static constexpr size_t kMaxWaiting = 65536;

  // Both outlive it. What happened in the cluster before `started` is not measured.
  Progress(health::Board* board, metrics::AgentMetrics* metrics, health::WallTime started)
      : board_(board), metrics_(metrics), started_(started) {}

  // A batch was taken from the queue, and is tried next.
  void Took(const EventQueue::Batch& batch, const Moment& now);

  struct Attempt {
    Moment began;
    Moment ended;
    bool ready = false;  // everything known has been tried once, this time or before
    bool done = false;   // the kernel holds all that was taken
    bool full = false;   // all Services were looked at
  };
  // The kernel was brought up to date, or not. Until the first time nothing counts as late: then
  // the lists are still coming.
  void Tried(const Attempt& attempt);

 private:
  struct Waiting {
    health::Time read_at;
    int64_t trigger_ns = 0;  // Unix time; 0: not measured
    size_t slice = 0;        // hash of its key; 0: not of a slice
    health::ByFamily<bool> families{};
    bool measured = true;  // a Service or a slice
  };

  void Add(const k8s::ObjectChange& change);
  void Measure(const Attempt& attempt);
  void Publish();

  health::Board* board_;
  metrics::AgentMetrics* metrics_;
  const health::WallTime started_;
  bool ready_ = false;
  std::vector<Waiting> waiting_;
  absl::flat_hash_set<size_t> waiting_slices_;  // of those that have a trigger
  health::Oldest oldest_;                       // of all that waits, measured or not
  health::ByFamily<bool> concerned_{};          // families with something that waits
  uint64_t services_ = 0;                       // changes that wait
  uint64_t slices_ = 0;
};

}  // namespace waggle::agent

#endif
