// Where objects come from: manifests or an apiserver. A source runs on threads of its own,
// decodes before it hands over, and knows nothing of what is done with its objects.
#ifndef WAGGLE_K8S_WATCH_SOURCE_H_
#define WAGGLE_K8S_WATCH_SOURCE_H_

#include <chrono>
#include <compare>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "k8s-watch/event_counts.h"
#include "k8s-watch/request_counts.h"
#include "k8s-watch/types.h"
#include "userspace/status/problem.h"

namespace waggle::k8s {

enum class ObjectKind : uint8_t { kService, kEndpointSlice, kNode };
// "Service", "EndpointSlice" or "Node".
std::string_view ObjectKindName(ObjectKind kind);

struct ObjectKey {
  ObjectKind kind = ObjectKind::kService;
  ObjectName name;

  friend auto operator<=>(const ObjectKey&, const ObjectKey&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const ObjectKey& value) {
    return H::combine(std::move(state), value.kind, value.name);
  }
};

// An object now exists with this content.
using Object = std::variant<std::shared_ptr<const Service>, std::shared_ptr<const EndpointSlice>,
                            std::shared_ptr<const Node>>;
const ObjectName& NameOf(const Object& object);
inline const ObjectName& NameOf(const ObjectName& name) {
  return name;
}
// Of one kind and one content.
bool SameContent(const Object& a, const Object& b);
// The object is gone.
struct Deleted {};
// The object exists but cannot be read, and no earlier readable version is known:
// whatever is in force for it must stay. `service` is the Service it belongs to, as
// far as that could be read (the Service itself, or the owner of a slice).
struct Unreadable {
  ObjectName service;
};

struct ObjectChange {
  ObjectKey key;
  std::variant<Object, Deleted, Unreadable> state;
  // When the last byte of it had come; the epoch where a source does not know.
  std::chrono::steady_clock::time_point read_at = {};
};

// Receives what a source finds, on the source's threads: one at a time, but for OnPause(). Must
// outlive the source. Only OnPause() may take as long as it takes to deal with what came.
class EventSink {
 public:
  virtual ~EventSink() = default;

  // It may rest until OnPause(), which follows unless the source is stopped.
  virtual void OnChange(ObjectChange change) = 0;
  // All that has come was handed over, and the source's thread is about to wait for more. Often
  // there was nothing. What is to be done about the changes may be done here, on this thread;
  // several may call this at once.
  virtual void OnPause() = 0;
  // Everything that was there at the start has been handed over. `complete` is false
  // while part of it could not be read (a broken file): then nothing may be removed.
  // Called again with true when the rest has been read.
  virtual void OnSynced(bool complete) = 0;
  // All problems that the source sees now; replaces what it reported before.
  virtual void OnProblems(std::vector<Problem> problems) = 0;
};

class Source {
 public:
  virtual ~Source() = default;  // stops

  // Starts the thread. InvalidArgument or NotFound when there is nothing to read at
  // all (the path does not exist).
  virtual absl::Status Start(EventSink* sink) = 0;
  // Stops and joins; no call to the sink afterwards. Idempotent.
  virtual void Stop() = 0;

  // Tells the cluster of problems that have appeared, where there is a cluster. Does not wait.
  // From any thread, until Stop().
  virtual void Report(const std::vector<Problem>& /*appeared*/) {}
  // What became of them; null where there is no cluster.
  virtual const EventCounts* event_counts() const { return nullptr; }
  // What was asked of an apiserver, for each kind of object; none where it asks no apiserver.
  virtual std::span<const RequestCounts> counts() const { return {}; }
};

}  // namespace waggle::k8s

#endif
