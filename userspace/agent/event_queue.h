// The one queue between sources (their threads) and whoever owns what becomes of their objects.
#ifndef WAGGLE_USERSPACE_AGENT_EVENT_QUEUE_H_
#define WAGGLE_USERSPACE_AGENT_EVENT_QUEUE_H_

#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "k8s-watch/source.h"
#include "userspace/health/board.h"
#include "userspace/os/unique_fd.h"
#include "userspace/status/problem.h"

namespace waggle::agent {

// Changes of one object are coalesced, the latest wins: memory is bounded by the
// number of objects, however slow the reader is.
class EventQueue final : public k8s::EventSink {
 public:
  struct Batch {
    std::vector<k8s::ObjectChange> changes;        // one for each object, in order of arrival
    std::optional<bool> synced;                    // the last OnSynced(), if any
    std::optional<std::vector<Problem>> problems;  // the last OnProblems(), if any

    bool empty() const { return changes.empty() && !synced && !problems; }
  };

  // When so many changes wait, the reader of event_fd() is told at once, and takes them while the
  // source reads on.
  static constexpr size_t kMany = 64;

  // A change rests (it is queued, and nobody has been woken for it) until the source pauses. Then
  // `handle` is called on the source's thread: it drains the queue and deals with what was there,
  // or says false, and the reader is told. To wake another thread takes longer than a change does.
  // Without `handle`, for many changes, and for what is no change, it is always the reader.
  explicit EventQueue(std::function<bool()> handle = nullptr);

  void OnChange(k8s::ObjectChange change) override;
  void OnPause() override;
  void OnSynced(bool complete) override;
  void OnProblems(std::vector<Problem> problems) override;

  // Everything that has come since the last call. A change that came in the place of another
  // has its read_at: it is as late as that one.
  Batch Drain();
  // What nobody has drained yet. From any thread.
  struct Waiting {
    size_t services = 0;
    size_t slices = 0;
    size_t others = 0;
    health::Oldest oldest;
  };
  Waiting waiting() const;
  // Readable while there may be something to drain, but for changes that rest. Closed by the queue.
  int event_fd() const { return event_.get(); }

 private:
  void Signal();

  const std::function<bool()> handle_;
  os::UniqueFd event_;
  mutable std::mutex mutex_;
  Batch pending_;
  absl::flat_hash_map<k8s::ObjectKey, size_t> index_;  // into pending_.changes
  Waiting waiting_;
  bool resting_ = false;  // there are changes, and nobody has been told
};

// The families whose traffic a change may concern.
health::ByFamily<bool> FamiliesOf(const k8s::ObjectChange& change);

}  // namespace waggle::agent

#endif
