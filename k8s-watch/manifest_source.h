// Manifests on disk as a Source: a folder, a single file, or standard input.
//
// What a file held when it was last read completely stays in force while it cannot be
// read; docs/manifests.md tells the rules as users see them.
#ifndef WAGGLE_K8S_WATCH_MANIFEST_SOURCE_H_
#define WAGGLE_K8S_WATCH_MANIFEST_SOURCE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "k8s-watch/source.h"
#include "userspace/status/problem.h"

namespace waggle::k8s {

// Everything at `path` at this moment.
struct ManifestSnapshot {
  std::vector<ObjectChange> changes;  // by key; Object or Unreadable
  std::vector<Problem> problems;
  bool complete = true;  // false: part of it could not be read
};

// Reads `path` once, on the caller's thread; "-" is descriptor `input`, read to its end.
// NotFound when there is nothing at `path`; whatever is wrong within is a problem.
absl::StatusOr<ManifestSnapshot> ReadManifests(const std::string& path, int input = 0);

class ManifestSource : public Source {
 public:
  // "-" is descriptor `input`, which stays the caller's: read once to its end, never again.
  explicit ManifestSource(std::string path, int input = 0);
  ~ManifestSource() override;

  // NotFound when there is nothing at the path now; Unavailable when the system has no
  // descriptors left. What happens to the path later is a problem, not an error.
  absl::Status Start(EventSink* sink) override;
  void Stop() override;

 private:
  class Worker;

  std::string path_;
  int input_;
  std::unique_ptr<Worker> worker_;
};

}  // namespace waggle::k8s

#endif
