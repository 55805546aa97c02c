// What became of problems that were to be told as Events. Written by the recorder, read by any.
#ifndef WAGGLE_K8S_WATCH_EVENT_COUNTS_H_
#define WAGGLE_K8S_WATCH_EVENT_COUNTS_H_

#include <atomic>
#include <cstdint>

namespace waggle::k8s {

struct EventCounts {
  using Count = std::atomic<uint64_t>;
  Count created = 0;
  Count repeated = 0;  // counted by a series
  Count known = 0;     // another node, or this one before a restart, has made the Event
  Count rate_limited = 0;
  Count queue_full = 0;
  Count forbidden = 0;
  Count gone = 0;    // the object was no longer there
  Count failed = 0;  // no answer, or one that said no
};

}  // namespace waggle::k8s

#endif
