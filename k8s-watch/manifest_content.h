// One manifest file's text as objects and problems. Pure.
#ifndef WAGGLE_K8S_WATCH_MANIFEST_CONTENT_H_
#define WAGGLE_K8S_WATCH_MANIFEST_CONTENT_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "k8s-watch/decode.h"
#include "userspace/status/problem.h"

namespace waggle::k8s {

struct ManifestContent {
  std::vector<DecodedObject> objects;  // in document order
  std::vector<Problem> problems;
  std::string path;  // the file in full, for problems that concern it as a whole
  // Parts whose objects are unknown: the whole file, a document, an object without name.
  // Whatever else the file held before must stay.
  size_t unidentified = 0;
  std::vector<size_t> causes;  // which of `problems` tell of these
  size_t documents = 0;        // that are not empty
  size_t manifests = 0;        // of these: Kubernetes objects, of whatever kind
  // Nobody knows whether its writer was done: what it lacks is not gone.
  bool maybe_half = false;
};

// `name` is the file as messages shall call it; `path` names it in full.
ManifestContent ParseManifest(std::string_view name, const std::string& path,
                              std::string_view text);
// A problem of the file itself; `origin` may name a document in it.
Problem FileProblem(const std::string& path, std::string origin, std::string text);
// A file that could not be read at all.
ManifestContent UnreadableManifest(const std::string& path, const absl::Status& why);

}  // namespace waggle::k8s

#endif
