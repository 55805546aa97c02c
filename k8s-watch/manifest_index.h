// What all manifest files together say: which copy of an object wins, what has changed
// since the last look, and what stays in force although it can no longer be read.
// A state machine over values: no files, no clock, no threads.
#ifndef WAGGLE_K8S_WATCH_MANIFEST_INDEX_H_
#define WAGGLE_K8S_WATCH_MANIFEST_INDEX_H_

#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "k8s-watch/manifest_content.h"
#include "k8s-watch/source.h"
#include "userspace/status/problem.h"

namespace waggle::k8s {

class ManifestIndex {
 public:
  // File `name` now holds `content`, read at `when` (text, for messages; when it could be
  // read completely). As long as part of it is unidentified, objects that it held
  // before and that are not in the readable part stay. Files win in the order of their
  // names, objects in one file in theirs.
  void SetFile(const std::string& name, ManifestContent content, const std::string& when);
  // The file is gone, and its objects with it. Nothing happens for an unknown name.
  void RemoveFile(const std::string& name);

  // What has changed since the last call, by key. Objects that are equal to what was
  // given out before are no change.
  std::vector<ObjectChange> TakeChanges();
  // All problems as of now, in the order of the files; conflicts and kept objects behind.
  std::vector<Problem> Problems() const;
  // Every file has been read completely at least once, and there was a manifest in one.
  bool complete() const { return never_read_.empty() && held_any_; }
  // All was read, and there never was a manifest: more likely a mistake than a wish to
  // have nothing.
  bool NeverHeldAny() const { return never_read_.empty() && !held_any_; }

 private:
  struct File {
    std::string name;
    std::vector<DecodedObject> objects;
    size_t fresh = 0;  // of `objects`: the first so many are from its last look, the rest older
    std::vector<Problem> problems;
    std::string good_since;  // empty: never read completely
  };
  // A file's claim to define an object; ordered as they win: what could be read at the last
  // look at its file comes before what could not, and then as the files are ordered.
  struct Claim {
    File* file;
    size_t index;
  };
  struct Published {
    std::variant<Object, Unreadable> state;
    bool whole = false;  // an object of which nothing was left out
  };

  static int Quality(const Claim& claim);
  static bool ComesFirst(const Claim& a, const Claim& b);
  const DecodedObject& At(const Claim& claim) const { return claim.file->objects[claim.index]; }
  void AddClaims(File* file);
  void RemoveClaims(File* file);
  void Evaluate(const ObjectKey& key, std::vector<ObjectChange>* changes);

  std::map<std::string, File> files_;
  std::set<std::string> with_problems_;  // names of files
  std::set<std::string> never_read_;
  bool held_any_ = false;
  absl::flat_hash_map<ObjectKey, std::vector<Claim>> claims_;
  absl::flat_hash_map<ObjectKey, Published> published_;
  std::set<ObjectKey> touched_;     // to be evaluated
  std::set<ObjectKey> conflicts_;   // more than one claim
  std::set<ObjectKey> unreadable_;  // the winning claim cannot be decoded
  std::set<ObjectKey> damaged_;     // it is damaged, and an earlier one that is not stays
};

}  // namespace waggle::k8s

#endif
