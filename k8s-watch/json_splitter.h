// Cuts a stream of JSON that arrives in pieces of any size into its parts: the values of a
// watch, or the items of a list. Looks at strings and brackets only; whether a part is JSON
// is its reader's business. Holds one part at a time, never the stream.
#ifndef WAGGLE_K8S_WATCH_JSON_SPLITTER_H_
#define WAGGLE_K8S_WATCH_JSON_SPLITTER_H_

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace waggle::k8s {

class JsonSplitter {
 public:
  // An object of etcd's has 1.5 MB at most; as JSON it may grow.
  static constexpr size_t kMaxPart = size_t{4} << 20;
  static constexpr size_t kMaxEnvelope = size_t{1} << 20;

  enum class Shape {
    kValues,  // objects, one behind the other: each is a part
    kList,    // one object: each object in its member "items" is a part
  };
  // A part; an error of it ends the stream.
  using Visit = std::function<absl::Status(std::string_view part)>;

  JsonSplitter(Shape shape, Visit visit) : shape_(shape), visit_(std::move(visit)) {}

  // InvalidArgument where the stream is not of this shape, or a part is too large; what
  // the visitor returned. The splitter must not be used after that.
  absl::Status Feed(std::string_view bytes);
  // The stream has ended: DataLoss when that was in the middle.
  absl::Status Finish() const;

  // The stream stands within a value.
  bool inside() const { return depth_ > 0 || in_string_; }
  // Of a list: the object without its items.
  const std::string& envelope() const { return envelope_; }

 private:
  size_t SkipString(std::string_view bytes);
  size_t SkipPart(std::string_view bytes);
  absl::Status OnPart(std::string_view piece);
  absl::Status Structural(char c);
  absl::Status Keep(std::string_view bytes);  // in the envelope

  const Shape shape_;
  const Visit visit_;
  size_t depth_ = 0;  // brackets that are open
  bool in_string_ = false;
  bool escaped_ = false;
  bool in_items_ = false;  // between the brackets of "items", at depth 2 or below
  bool in_part_ = false;
  bool comma_needed_ = false;  // a part has come, and nothing since
  bool comma_seen_ = false;    // a comma has come since the last part
  bool items_seen_ = false;
  bool done_ = false;  // of a list: its object has ended
  std::string word_;   // the last string in the envelope at depth 1
  std::string part_;   // what earlier pieces had of it
  std::string envelope_;
};

}  // namespace waggle::k8s

#endif
