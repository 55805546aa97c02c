// Follows one kind of object of an apiserver as client-go's reflector does: lists, watches
// from there, resumes, and lists again where it has to. A state machine: one request a step,
// with the transport, the clock and chance put in.
//
// Objects that a new list does not name are deleted, but only differences reach the sink; while
// there is no answer, what is known stays.
#ifndef WAGGLE_K8S_WATCH_REFLECTOR_H_
#define WAGGLE_K8S_WATCH_REFLECTOR_H_

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "k8s-watch/backoff.h"
#include "k8s-watch/object_index.h"
#include "k8s-watch/request_counts.h"
#include "k8s-watch/source.h"
#include "k8s-watch/stream_decoder.h"
#include "k8s-watch/transport.h"

namespace waggle::k8s {

// What is followed, and how the API calls it.
struct Resource {
  ObjectKind kind = ObjectKind::kService;
  std::string path;   // "/api/v1/services"
  std::string name;   // "services"
  std::string group;  // "discovery.k8s.io"; empty for the core group
  std::string query;  // selectors, encoded for a URL

  static Resource Services();
  static Resource EndpointSlices();
  static Resource OneNode(const std::string& name);
};

class Reflector {
 public:
  using Duration = std::chrono::milliseconds;
  using Time = std::chrono::steady_clock::time_point;

  struct Options {
    // Ask for the list as the beginning of a watch (sendInitialEvents), where the server has it.
    bool streaming_list = true;
    std::function<Time()> now = [] { return std::chrono::steady_clock::now(); };
    std::function<double()> random = [] { return 0.5; };  // in [0, 1)
    // Where to count, for who outlives the reflector; null: its own.
    RequestCounts* counts = nullptr;
  };

  // A request that gets no head for so long has failed.
  static constexpr std::chrono::seconds kHeadTime{30};
  // In each span of this length a list brings kLeastBytes, else the next endpoint is asked.
  static constexpr std::chrono::seconds kSlowTime{30};
  static constexpr size_t kLeastBytes = size_t{16} << 10;
  // An event that has begun ends within this time.
  static constexpr std::chrono::seconds kEventTime{30};
  // A server that sends bookmarks does so each minute: where one watch hears nothing for so long,
  // it is not served any more, whoever else is.
  static constexpr std::chrono::seconds kBookmarkTime{150};
  // How long after its own end a watch is waited for.
  static constexpr std::chrono::seconds kGrace{30};
  // A watch that ends sooner, without an event, has failed.
  static constexpr std::chrono::seconds kShortWatch{1};
  // A watch may make us list again so often without being held up.
  static constexpr std::chrono::seconds kRelistApart{5};
  static constexpr int kPageSize = 500;

  // All must outlive the reflector. The sink is called during Step() only: OnSynced() once for
  // each list, with false when it held something that nobody could identify.
  Reflector(Resource resource, Options options, Transport* transport, EventSink* sink);
  Reflector(const Reflector&) = delete;
  Reflector& operator=(const Reflector&) = delete;

  // One request, from its beginning to its end. Returns how long to wait before the next.
  Duration Step();

  const RequestCounts& counts() const { return counts_; }

 private:
  enum class State { kList, kStreamingList, kWatch };
  class Reply;
  friend class Reply;

  std::string Target();
  void StartOver();
  Duration AfterList(const Reply& reply);
  Duration AfterWatch(const Reply& reply);
  Duration OnHttpError(const Reply& reply);
  Duration OnEventError(const ApiStatus& error);
  bool NoStreamingList(int code);
  Duration OnLost(const absl::Status& status, bool established);
  Duration Expired();
  // Tells, and says how long to wait; zero while there are other endpoints to try.
  Duration Fail(std::string text, bool fail_over, Duration at_least = Duration(0));
  void Succeeded();
  void Listed(const std::string& version);
  absl::Status OnEvent(WatchEvent event, Reply* reply);
  void PublishProblems(bool force);
  std::string Doing() const;  // "list services"
  const char* verb() const { return state_ == State::kList ? "list" : "watch"; }

  const Resource resource_;
  const Options options_;
  Transport* const transport_;
  EventSink* const sink_;
  ObjectIndex index_;
  Backoff backoff_;
  RequestCounts own_counts_;
  RequestCounts& counts_;
  Time data_at_;  // the bytes that are being decoded came then

  State state_;
  bool streaming_;
  bool in_list_ = false;                // one has begun
  std::string continue_;                // of a list by pages
  std::optional<std::string> version_;  // of the last list, event or bookmark
  bool version_lost_ = false;           // the server no longer knows `version_`, or not yet
  bool complete_ = false;               // the last list held nothing that nobody could identify
  bool bookmarks_ = false;              // the server sends them
  int timeout_s_ = 0;                   // of the watch
  std::optional<Time> relisted_;        // because a watch said so
  int bad_streams_ = 0;                 // watches in a row that ended in something that is no event
  int unauthorized_ = 0;                // answers in a row
  int bad_lists_ = 0;                   // streaming lists in a row that did so
  size_t tried_ = 0;                    // endpoints in a row that failed
  Duration least_wait_{0};              // that one of those asked for
  std::optional<Problem> failure_;
  std::vector<Problem> published_;
  std::optional<Time> published_at_;
  bool unpublished_ = false;  // something of objects may have changed since
};

}  // namespace waggle::k8s

#endif
