#include "k8s-watch/object_index.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace waggle::k8s {
namespace {

constexpr size_t kMaxUnidentified = 50;

}  // namespace

void ObjectIndex::BeginList() {
  ++list_;
  list_unidentified_ = false;
  if (!unidentified_.empty()) problems_changed_ = true;
  unidentified_.clear();
}

bool ObjectIndex::EndList() {
  if (list_unidentified_) return false;
  std::vector<ObjectName> gone;
  for (const auto& [name, known] : known_) {
    if (known.list != list_) gone.push_back(name);
  }
  for (const ObjectName& name : gone)
    Remove(name);
  return true;
}

void ObjectIndex::Put(StreamObject object) {
  if (object.unidentified) {
    list_unidentified_ = true;
    for (Problem& problem : object.problems) {
      if (unidentified_.size() == kMaxUnidentified) break;
      // A page may come twice.
      if (std::find(unidentified_.begin(), unidentified_.end(), problem) != unidentified_.end()) {
        continue;
      }
      unidentified_.push_back(std::move(problem));
      problems_changed_ = true;
    }
    object.problems.clear();
  }
  if (!object.object) {
    // Not for us (any more).
    if (object.name && !object.unidentified) Remove(*object.name);
    return;
  }
  const ObjectName& name = *object.name;
  const auto found = known_.find(name);
  const auto tell = [&object, this](ProblemReason reason, const char* text) {
    object.problems.push_back(
        {{std::string(ObjectKindName(kind_)), object.name->ns, object.name->name},
         object.object->origin,
         "",
         reason,
         text});
  };
  const auto keep = [&] {
    found->second.list = list_;
    SetProblems(name, std::move(object.problems));
  };
  if (!object.object->object) {
    const bool readable =
        found != known_.end() && std::holds_alternative<Object>(found->second.state);
    tell(ProblemReason::kUnreadable,
         readable ? "its last readable version stays in force"
                  : "no earlier version of it is known; what the node has for it stays in force");
    if (found != known_.end()) return keep();
    const Unreadable state = {object.object->service};
    known_[name] = {state, false, list_};
    SetProblems(name, std::move(object.problems));
    return emit_({{kind_, name}, state});
  }
  const bool whole = !object.object->damaged;
  if (found != known_.end()) {
    if (!whole && found->second.whole) {
      tell(ProblemReason::kInvalid,
           "is not taken over because of its other problems; its last readable version stays in "
           "force");
      return keep();
    }
    const Object* last = std::get_if<Object>(&found->second.state);
    if (last != nullptr && SameContent(*last, *object.object->object)) {
      found->second.whole = whole;
      return keep();
    }
  }
  known_[name] = {*object.object->object, whole, list_};
  SetProblems(name, std::move(object.problems));
  emit_({{kind_, name}, *std::move(object.object->object)});
}

void ObjectIndex::Remove(const ObjectName& name) {
  const auto found = known_.find(name);
  if (found == known_.end()) return;
  const ObjectName gone = name;  // the caller's may be the key
  known_.erase(found);
  SetProblems(gone, {});
  emit_({{kind_, gone}, Deleted{}});
}

void ObjectIndex::SetProblems(const ObjectName& name, std::vector<Problem> problems) {
  const auto found = problems_.find(name);
  if (problems.empty()) {
    if (found == problems_.end()) return;
    problems_.erase(found);
  } else if (found == problems_.end()) {
    problems_.emplace(name, std::move(problems));
  } else if (found->second != problems) {
    found->second = std::move(problems);
  } else {
    return;
  }
  problems_changed_ = true;
}

std::vector<Problem> ObjectIndex::Problems() const {
  std::vector<Problem> all = unidentified_;
  for (const auto& [_, problems] : problems_)
    all.insert(all.end(), problems.begin(), problems.end());
  return all;
}

}  // namespace waggle::k8s
