// What one reflector knows of its objects: turns what lists and watches say into changes,
// and gives out only what really differs. A state machine over values.
#ifndef WAGGLE_K8S_WATCH_OBJECT_INDEX_H_
#define WAGGLE_K8S_WATCH_OBJECT_INDEX_H_

#include <cstdint>
#include <functional>
#include <map>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "k8s-watch/source.h"
#include "k8s-watch/stream_decoder.h"
#include "userspace/status/problem.h"

namespace waggle::k8s {

class ObjectIndex {
 public:
  using Emit = std::function<void(ObjectChange)>;

  ObjectIndex(ObjectKind kind, Emit emit) : kind_(kind), emit_(std::move(emit)) {}

  // A list begins; one that had begun and did not end is forgotten, what it said holds.
  void BeginList();
  // It has ended: what it did not name is gone, unless it held something that nobody could
  // identify. False then.
  bool EndList();

  // The object exists with this content, in the list that has begun or by itself. A version
  // that cannot be read, or only in part, does not replace one that could.
  void Put(StreamObject&& object);
  void Remove(const ObjectName& name);

  // Of all objects, sorted.
  std::vector<Problem> Problems() const;
  // The problems may have changed since the last call.
  bool TakeProblemsChanged() { return std::exchange(problems_changed_, false); }
  size_t size() const { return readable_.size() + unreadable_.size(); }

 private:
  // By the name that the object itself holds, which is then not there twice.
  struct ByName {
    using is_transparent = void;
    size_t operator()(const ObjectName& name) const { return absl::Hash<ObjectName>()(name); }
    size_t operator()(const Object& object) const { return (*this)(NameOf(object)); }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return NameOf(a) == NameOf(b);
    }
  };
  struct Seen {
    uint64_t list = 0;   // the last list that named it, or that was current when it came
    bool whole = false;  // an object of which nothing was left out
  };

  void PutUnreadable(StreamObject&& object);
  void Tell(StreamObject& object, ProblemReason reason, const char* text) const;
  void SetProblems(const ObjectName& name, std::vector<Problem> problems);

  const ObjectKind kind_;
  const Emit emit_;
  uint64_t list_ = 0;
  // Each object is in one of both.
  absl::flat_hash_map<Object, Seen, ByName, ByName> readable_;
  std::map<ObjectName, uint64_t> unreadable_;  // with what Seen::list says
  // Not for us, or nobody can tell, and there is something to say of it; likewise.
  std::map<ObjectName, uint64_t> noted_;
  std::map<ObjectName, std::vector<Problem>> problems_;
  // Of the current list, and of what came after it, where not even a name is known; bounded.
  std::vector<Problem> unidentified_;
  bool list_unidentified_ = false;
  bool problems_changed_ = false;
};

}  // namespace waggle::k8s

#endif
