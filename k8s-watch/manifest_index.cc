#include "k8s-watch/manifest_index.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace waggle::k8s {
namespace {

constexpr size_t kMaxCopiesTold = 10;

ObjectRef RefOf(const ObjectKey& key) {
  return {std::string(ObjectKindName(key.kind)), key.name.ns, key.name.name};
}

}  // namespace

void ManifestIndex::SetFile(const std::string& name, ManifestContent content,
                            const std::string& when) {
  File& file = files_[name];
  file.name = name;
  RemoveClaims(&file);
  file.problems = std::move(content.problems);
  std::vector<DecodedObject> before = std::exchange(file.objects, std::move(content.objects));
  file.fresh = file.objects.size();
  absl::flat_hash_set<ObjectKey> present;
  for (const DecodedObject& object : file.objects)
    present.insert(object.key);
  const auto cannot_be_whole = [&](const char* why) {
    ++content.unidentified;
    content.causes.push_back(file.problems.size());
    file.problems.push_back(FileProblem(content.path, "", why));
  };
  if (content.unidentified == 0 && content.documents == 0 && !before.empty()) {
    cannot_be_whole("holds no manifests any more");
  }
  if (content.unidentified == 0 && content.maybe_half) {
    const bool lacks = std::any_of(before.begin(), before.end(), [&](const DecodedObject& object) {
      return present.count(object.key) == 0;
    });
    if (lacks || file.good_since.empty()) {
      cannot_be_whole("was not seen to be closed by its writer and may be half of a file");
    }
  }
  if (content.unidentified == 0) {
    file.good_since = when;
    never_read_.erase(name);
    held_any_ = held_any_ || content.manifests > 0;
  } else {
    size_t kept = 0;
    for (DecodedObject& object : before) {
      if (!present.insert(object.key).second) continue;
      file.objects.push_back(std::move(object));
      ++kept;
    }
    if (file.good_since.empty()) never_read_.insert(name);
    const std::string remark =
        file.good_since.empty()
            ? "; nothing is removed from the node until all of the file can be read"
            : absl::StrCat("; the state of ", file.good_since, " stays in force (", kept,
                           kept == 1 ? " object" : " objects", ")");
    for (const size_t cause : content.causes)
      file.problems[cause].text += remark;
    if (content.causes.empty()) {
      file.problems.push_back(
          FileProblem(content.path, "",
                      absl::StrCat("part of it cannot be read (see its other problems)", remark)));
    }
  }
  if (file.problems.empty()) {
    with_problems_.erase(name);
  } else {
    with_problems_.insert(name);
  }
  AddClaims(&file);
}

void ManifestIndex::RemoveFile(const std::string& name) {
  const auto found = files_.find(name);
  if (found == files_.end()) return;
  RemoveClaims(&found->second);
  with_problems_.erase(name);
  never_read_.erase(name);
  files_.erase(found);
}

bool ManifestIndex::ComesFirst(const Claim& a, const Claim& b) {
  return std::tie(a.file->name, a.index) < std::tie(b.file->name, b.index);
}

int ManifestIndex::Quality(const Claim& claim) {
  const DecodedObject& object = claim.file->objects[claim.index];
  if (!object.object) return 2;
  return claim.index < claim.file->fresh ? 0 : 1;
}

void ManifestIndex::AddClaims(File* file) {
  for (size_t i = 0; i < file->objects.size(); ++i) {
    const Claim claim = {file, i};
    std::vector<Claim>& claims = claims_[file->objects[i].key];
    claims.insert(std::upper_bound(claims.begin(), claims.end(), claim,
                                   [](const Claim& a, const Claim& b) {
                                     const int quality_a = Quality(a);
                                     const int quality_b = Quality(b);
                                     return quality_a != quality_b ? quality_a < quality_b
                                                                   : ComesFirst(a, b);
                                   }),
                  claim);
    touched_.insert(file->objects[i].key);
  }
}

void ManifestIndex::RemoveClaims(File* file) {
  for (const DecodedObject& object : file->objects) {
    touched_.insert(object.key);
    const auto found = claims_.find(object.key);
    if (found == claims_.end()) continue;  // a second copy in this file: done already
    auto& claims = found->second;
    claims.erase(std::remove_if(claims.begin(), claims.end(),
                                [file](const Claim& claim) { return claim.file == file; }),
                 claims.end());
    if (claims.empty()) claims_.erase(found);
  }
}

std::vector<ObjectChange> ManifestIndex::TakeChanges() {
  std::vector<ObjectChange> changes;
  for (const ObjectKey& key : touched_)
    Evaluate(key, &changes);
  touched_.clear();
  return changes;
}

void ManifestIndex::Evaluate(const ObjectKey& key, std::vector<ObjectChange>* changes) {
  conflicts_.erase(key);
  unreadable_.erase(key);
  damaged_.erase(key);
  const auto claims = claims_.find(key);
  const auto published = published_.find(key);
  if (claims == claims_.end()) {
    if (published == published_.end()) return;
    published_.erase(published);
    changes->push_back({key, Deleted{}});
    return;
  }
  if (claims->second.size() > 1) conflicts_.insert(key);
  DecodedObject& winner = claims->second.front().file->objects[claims->second.front().index];
  if (!winner.object) {
    unreadable_.insert(key);
    if (published != published_.end()) return;
    const Unreadable state = {winner.service};
    published_[key].state = state;
    changes->push_back({key, state});
    return;
  }
  if (published != published_.end()) {
    if (winner.damaged && published->second.whole) {
      damaged_.insert(key);
      return;
    }
    const Object* last = std::get_if<Object>(&published->second.state);
    if (last != nullptr && SameContent(*last, *winner.object)) {
      winner.object = *last;  // one copy in memory
      published->second.whole = !winner.damaged;
      return;
    }
  }
  published_[key] = {*winner.object, !winner.damaged};
  changes->push_back({key, *winner.object});
}

std::vector<Problem> ManifestIndex::Problems() const {
  std::vector<Problem> problems;
  for (const std::string& name : with_problems_) {
    const auto& of_file = files_.at(name).problems;
    problems.insert(problems.end(), of_file.begin(), of_file.end());
  }
  for (const ObjectKey& key : conflicts_) {
    const std::vector<Claim>& claims = claims_.at(key);
    for (size_t i = 1; i < claims.size(); ++i) {
      if (i > kMaxCopiesTold) {
        problems.push_back({RefOf(key), "", "", ProblemReason::kConflict,
                            absl::StrCat("has ", claims.size() - i, " more copies")});
        break;
      }
      problems.push_back({RefOf(key), At(claims[i]).origin, "", ProblemReason::kConflict,
                          absl::StrCat("is also in ", At(claims[0]).origin,
                                       ComesFirst(claims[0], claims[i])
                                           ? ", which comes first and wins"
                                           : ", which comes later but can be read and wins",
                                       "; this copy is not used")});
    }
  }
  for (const ObjectKey& key : unreadable_) {
    const bool known = std::holds_alternative<Object>(published_.at(key).state);
    problems.push_back({RefOf(key), At(claims_.at(key).front()).origin, "",
                        ProblemReason::kUnreadable,
                        known ? "its last readable version stays in force"
                              : "no earlier version of it is known; what the node has for it "
                                "stays in force"});
  }
  for (const ObjectKey& key : damaged_) {
    problems.push_back({RefOf(key), At(claims_.at(key).front()).origin, "", ProblemReason::kInvalid,
                        "is not taken over because of its other problems; its last readable "
                        "version stays in force"});
  }
  return problems;
}

}  // namespace waggle::k8s
