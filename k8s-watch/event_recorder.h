// Tells a cluster's users of problems with their objects, as Kubernetes Events: `kubectl describe`
// shows them where the object is.
//
// Rate-limited for each object and over all; what comes again within ten minutes becomes a series
// of the same Event. Events have names that follow from what they say, so that all nodes which see
// the same fault of an object make one Event between them. Nothing is ever waited for by who
// reports.
#ifndef WAGGLE_K8S_WATCH_EVENT_RECORDER_H_
#define WAGGLE_K8S_WATCH_EVENT_RECORDER_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "k8s-watch/api_client.h"
#include "k8s-watch/event_counts.h"
#include "userspace/os/unique_fd.h"
#include "userspace/status/problem.h"

namespace waggle::k8s {

// Grows by `per_second` up to `burst`, with which it begins.
class TokenBucket {
 public:
  using Time = std::chrono::steady_clock::time_point;

  TokenBucket(double burst, double per_second, Time now)
      : burst_(burst), per_second_(per_second), tokens_(burst), filled_(now) {}
  bool Take(Time now);

 private:
  double burst_;
  double per_second_;
  double tokens_;
  Time filled_;
};

class EventRecorder {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // client-go's numbers for one source and object.
  static constexpr double kObjectBurst = 25;
  static constexpr double kObjectPerSecond = 1.0 / 300;
  static constexpr double kBurst = 50;
  static constexpr double kPerSecond = 1.0 / 6;
  static constexpr std::chrono::minutes kSeries{10};
  // After a 403 nothing is tried for so long.
  static constexpr std::chrono::minutes kForbidden{10};
  static constexpr size_t kMaxQueue = 1000;
  // Objects and Events that are remembered; the one that was used longest ago is forgotten first.
  static constexpr size_t kMaxKnown = 1000;
  static constexpr int kTries = 3;

  struct Options {
    std::string node_name;
    std::function<Time()> now = [] { return std::chrono::steady_clock::now(); };
    std::function<double()> random = [] { return 0.5; };  // in [0, 1)
    std::chrono::milliseconds retry_after{1000};          // the first time; then twice as long
    // Events cannot be created, and why; empty: they can again. On the recorder's thread.
    std::function<void(std::vector<Problem>)> on_trouble = [](const std::vector<Problem>&) {};
  };

  // All pointers, and `stop_fd`, must outlive it.
  EventRecorder(Options options, ApiClient* client, EventCounts* counts, int stop_fd);
  EventRecorder(const EventRecorder&) = delete;
  EventRecorder& operator=(const EventRecorder&) = delete;

  // Those that have appeared. Takes the ones of Services, EndpointSlices and Nodes that have come
  // from an apiserver or are about what the kernel makes of them. From any thread; does not wait.
  void Report(const std::vector<Problem>& appeared);

  // Sends until `stop_fd` is readable. On a thread of its own.
  void Run();

 private:
  struct Known {
    std::string name;    // of the Event
    bool ours = false;   // else another node has made it
    uint64_t count = 1;  // of our series
    Time last;
    std::list<std::string>::iterator use;  // in event_uses_
  };
  struct Reply {
    int status = 0;
    std::string body;
  };

  void Send(const Problem& problem);
  void Create(const Problem& problem, const std::string& name, const std::string& uid, Time now);
  // False: the Event is no longer there.
  bool Repeat(const Problem& problem, const std::string& name, Known* known, Time now);
  bool TakeToken(const ObjectRef& object, Time now);
  void Remember(const std::string& name, Known known);
  void Forget(const std::string& name);
  // Its metadata.uid; empty: there is none that we may see. NotFound: no such object.
  absl::StatusOr<std::string> FindUid(const ObjectRef& object);
  // With retries. An error: no answer, or it is time to stop.
  absl::StatusOr<Reply> Do(const ApiRequest& request);
  // After an answer that was no success.
  void Failed(const Reply& reply, std::string_view verb);
  void SetTrouble(std::optional<std::string> text);

  const Options options_;
  ApiClient* const client_;
  EventCounts& counts_;
  const int stop_fd_;
  const os::UniqueFd wake_;
  std::mutex mutex_;
  std::deque<Problem> queue_;

  // Of the thread.
  TokenBucket tokens_;
  std::unordered_map<std::string, std::pair<TokenBucket, std::list<std::string>::iterator>>
      objects_;
  std::list<std::string> object_uses_;             // oldest first
  std::unordered_map<std::string, Known> events_;  // by namespace and name
  std::list<std::string> event_uses_;
  std::optional<Time> forbidden_until_;
  bool trouble_ = false;
};

// The name of an Event: the same for the same problem of the same object on every node, unless it
// is the node's own. `uid` may be empty. Pure.
std::string EventName(const Problem& problem, const std::string& uid, const std::string& node);
// Its body for the API: events.k8s.io/v1. Pure.
std::string EventBody(const Problem& problem, const std::string& uid, const std::string& node,
                      std::chrono::system_clock::time_point now);

}  // namespace waggle::k8s

#endif
