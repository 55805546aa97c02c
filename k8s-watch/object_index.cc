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
  for (const auto& [object, seen] : readable_) {
    if (seen.list != list_) gone.push_back(NameOf(object));
  }
  for (const auto* others : {&unreadable_, &noted_}) {
    for (const auto& [name, list] : *others) {
      if (list != list_) gone.push_back(name);
    }
  }
  for (const ObjectName& name : gone)
    Remove(name);
  return true;
}

void ObjectIndex::Put(StreamObject&& object) {
  if (object.unidentified) list_unidentified_ = true;
  if (object.unidentified && !object.name) {
    for (Problem& problem : object.problems) {
      if (unidentified_.size() == kMaxUnidentified) break;
      // A page may come twice.
      if (std::find(unidentified_.begin(), unidentified_.end(), problem) != unidentified_.end()) {
        continue;
      }
      unidentified_.push_back(std::move(problem));
      problems_changed_ = true;
    }
    return;
  }
  if (!object.object) {
    if (!object.name) return;
    // Not for us (any more).
    if (!object.unidentified) Remove(*object.name);
    if (!object.problems.empty()) noted_.insert_or_assign(*object.name, list_);
    return SetProblems(*object.name, std::move(object.problems));
  }
  noted_.erase(*object.name);
  if (!object.object->object) return PutUnreadable(std::move(object));
  const ObjectName& name = *object.name;
  const Object& now = *object.object->object;
  const bool whole = !object.object->damaged;
  if (const auto found = readable_.find(name); found != readable_.end()) {
    found->second.list = list_;
    if (!whole && found->second.whole) {
      Tell(object, ProblemReason::kInvalid,
           "is not taken over because of its other problems; its last readable version stays in "
           "force");
      return SetProblems(name, std::move(object.problems));
    }
    if (SameContent(found->first, now)) {
      found->second.whole = whole;
      return SetProblems(name, std::move(object.problems));
    }
    readable_.erase(found);
  }
  unreadable_.erase(name);
  readable_.emplace(now, Seen{list_, whole});
  SetProblems(name, std::move(object.problems));
  emit_({{kind_, name}, now});
}

void ObjectIndex::PutUnreadable(StreamObject&& object) {
  const ObjectName& name = *object.name;
  const auto found = readable_.find(name);
  Tell(object, ProblemReason::kUnreadable,
       found != readable_.end()
           ? "its last readable version stays in force"
           : "no earlier version of it is known; what the node has for it stays in force");
  SetProblems(name, std::move(object.problems));
  if (found != readable_.end()) {
    found->second.list = list_;
    return;
  }
  const bool fresh = unreadable_.insert_or_assign(name, list_).second;
  if (fresh) emit_({{kind_, name}, Unreadable{object.object->service}});
}

void ObjectIndex::Remove(const ObjectName& name) {
  const ObjectName gone = name;  // the caller's may be the object's own
  noted_.erase(gone);
  SetProblems(gone, {});
  if (unreadable_.erase(gone) == 0) {
    const auto found = readable_.find(gone);
    if (found == readable_.end()) return;
    readable_.erase(found);
  }
  emit_({{kind_, gone}, Deleted{}});
}

void ObjectIndex::Tell(StreamObject& object, ProblemReason reason, const char* text) const {
  object.problems.push_back(
      {{std::string(ObjectKindName(kind_)), object.name->ns, object.name->name},
       object.object->origin,
       "",
       reason,
       text});
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
