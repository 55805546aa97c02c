// What an apiserver streams, as objects: a list, or the events of a watch. One object's
// tree is in memory at a time, however long the stream is. Pure.
#ifndef WAGGLE_K8S_WATCH_STREAM_DECODER_H_
#define WAGGLE_K8S_WATCH_STREAM_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "k8s-watch/decode.h"
#include "k8s-watch/json_reader.h"
#include "k8s-watch/json_splitter.h"
#include "k8s-watch/source.h"

namespace waggle::k8s {

// One object of a stream.
struct StreamObject {
  // Absent: it is not for us, or nobody can tell which it is.
  std::optional<DecodedObject> object;
  std::optional<ObjectName> name;  // as far as it could be read
  std::vector<Problem> problems;   // with origin "apiserver"
  // It may be one for us: as long as it is there, no object may be taken for removed.
  bool unidentified = false;
};

// An answer of the apiserver that is no object: "Status".
struct ApiStatus {
  int code = 0;  // of HTTP; 0 when it does not say
  std::string reason;
  std::string message;  // as it came, of any length and content
  int retry_after_s = 0;
  bool too_large_version = false;  // the server has not got to that resourceVersion yet
};
// Of a body that is none the text is taken for the message.
ApiStatus ParseApiStatus(std::string_view body);

struct ListEnd {
  std::string resource_version;
  std::string continue_token;  // empty: this was the last page
};

class ListDecoder {
 public:
  ListDecoder(ObjectKind kind, std::function<void(StreamObject)> visit);
  ListDecoder(const ListDecoder&) = delete;
  ListDecoder& operator=(const ListDecoder&) = delete;

  // InvalidArgument when this is no list; an item that is no good is none of them.
  absl::Status Feed(std::string_view bytes) { return splitter_.Feed(bytes); }
  absl::StatusOr<ListEnd> Finish() const;

 private:
  const ObjectKind kind_;
  const std::function<void(StreamObject)> visit_;
  size_t items_ = 0;
  JsonReader reader_;
  JsonSplitter splitter_;
};

struct WatchEvent {
  enum class Type : uint8_t { kPut, kDeleted, kBookmark, kError };
  Type type = Type::kPut;
  StreamObject object;              // kPut, kDeleted
  std::string resource_version;     // but for kError; empty when it could not be read
  bool initial_events_end = false;  // kBookmark: all that was there at the start has come
  ApiStatus error;                  // kError
};

class WatchDecoder {
 public:
  // An error of `visit` ends the stream. `skip_bad`: something that is no event does not, it
  // counts as an object that nobody can identify.
  WatchDecoder(ObjectKind kind, bool skip_bad, std::function<absl::Status(WatchEvent)> visit);
  WatchDecoder(const WatchDecoder&) = delete;
  WatchDecoder& operator=(const WatchDecoder&) = delete;

  // InvalidArgument when something is no event (unless it may be skipped), or no JSON at all.
  absl::Status Feed(std::string_view bytes) { return splitter_.Feed(bytes); }
  // DataLoss when the stream has ended within an event.
  absl::Status Finish() const { return splitter_.Finish(); }
  // An event has begun and not ended.
  bool inside() const { return splitter_.inside(); }

 private:
  absl::Status Event(std::string_view text);

  const ObjectKind kind_;
  const std::function<absl::Status(WatchEvent)> visit_;
  JsonReader reader_;
  JsonSplitter splitter_;
};

}  // namespace waggle::k8s

#endif
