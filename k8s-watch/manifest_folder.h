// A folder of manifests, or a single file of them, read into a ManifestIndex. Knows what
// is a manifest and what has changed on disk; knows nothing of threads and watches.
#ifndef WAGGLE_K8S_WATCH_MANIFEST_FOLDER_H_
#define WAGGLE_K8S_WATCH_MANIFEST_FOLDER_H_

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "k8s-watch/file_text.h"
#include "k8s-watch/manifest_index.h"

namespace waggle::k8s {

// What a scan asks its caller in between.
class ScanGuard {
 public:
  virtual ~ScanGuard() = default;
  // The scan shall end; what was read so far is kept.
  virtual bool Stopped() { return false; }
  enum class Whole {
    kYes,
    kUnknown,  // it may be half of the file: nothing may be removed on its account
    kNo,       // somebody is writing to it: it is not taken over
  };
  // Asked when a file has been read, about what was read.
  virtual Whole IsWhole(const std::string&) { return Whole::kYes; }
};

// Those of the index, and one of `path`, all of which it holds, when there is nothing in it.
std::vector<Problem> ProblemsOf(const ManifestIndex& index, const std::string& path);

class ManifestFolder {
 public:
  // `path` is a folder (its *.yaml, *.yml and *.json, without those whose name starts
  // with a dot; folders in it are not entered) or a file of any name.
  explicit ManifestFolder(const std::string& path);
  // NotFound when nothing is there; else whether `path` is a folder is settled for good.
  absl::Status Open();

  // The folder that holds the manifests, and whether a file of this name in it is one.
  const std::string& folder() const { return folder_; }
  bool Wants(std::string_view name) const;
  std::string PathOf(const std::string& name) const { return folder_ + "/" + name; }

  // Looks at every file; reads those that have changed, with `force` all of them. Without
  // `may_remove` files that are gone stay in force. Unavailable when the folder cannot be
  // listed, or the single file is gone: then nothing changes.
  absl::Status ScanAll(bool force, bool may_remove, ScanGuard* guard);
  // The same for one file that Wants() its name.
  absl::Status ScanName(const std::string& name, bool force, bool may_remove, ScanGuard* guard);

  // It has been looked at, whatever came of it.
  bool Knows(const std::string& name) const { return known_.count(name) != 0; }
  // Its last look could not take it over; the index tells why.
  bool MustBeReadAgain(const std::string& name) const {
    const auto known = known_.find(name);
    return known != known_.end() && !known->second;
  }
  // Files that are symlinks; and those that led nowhere when last looked at.
  const std::set<std::string>& links() const { return links_; }
  const std::set<std::string>& dangling() const { return dangling_; }
  ManifestIndex& index() { return index_; }
  // Those of the index, and one of the folder when it holds nothing from the start.
  std::vector<Problem> Problems() const;
  // Everything there has been read completely at least once.
  bool complete() const { return listed_ && index_.complete(); }

 private:
  absl::Status Vanished(const std::string& name, bool may_remove);

  std::string path_;
  std::string folder_;
  std::string only_;  // the single file's name; empty for a folder
  bool listed_ = false;
  std::map<std::string, std::optional<FileStamp>> known_;  // without stamp: read it again
  std::set<std::string> links_;
  std::set<std::string> dangling_;
  ManifestIndex index_;
};

}  // namespace waggle::k8s

#endif
