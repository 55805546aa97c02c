#include "k8s-watch/manifest_folder.h"

#include <dirent.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace waggle::k8s {
namespace {

std::string Now() {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone());
}

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};

absl::StatusOr<std::set<std::string>> ListNames(const std::string& path) {
  const std::unique_ptr<DIR, CloseFolder> folder(opendir(path.c_str()));
  if (folder == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot be listed: ", std::strerror(errno)));
  }
  std::set<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = readdir(folder.get());
    if (entry == nullptr) break;
    names.insert(entry->d_name);
  }
  if (errno != 0) {
    return absl::UnavailableError(absl::StrCat("cannot be listed: ", std::strerror(errno)));
  }
  return names;
}

}  // namespace

std::vector<Problem> ProblemsOf(const ManifestIndex& index, const std::string& path) {
  std::vector<Problem> problems = index.Problems();
  if (index.NeverHeldAny()) {
    problems.insert(problems.begin(),
                    FileProblem(path, "", "holds no manifests; nothing is removed until it does"));
  }
  return problems;
}

ManifestFolder::ManifestFolder(const std::string& path) : path_(path) {
  while (path_.size() > 1 && path_.back() == '/')
    path_.pop_back();
  folder_ = path_;
}

absl::Status ManifestFolder::Open() {
  struct stat info;
  if (path_.empty() || stat(path_.c_str(), &info) != 0) {
    const int error = path_.empty() ? ENOENT : errno;
    return absl::NotFoundError(
        absl::StrCat("no manifests at \"", path_, "\": ", std::strerror(error)));
  }
  if (S_ISDIR(info.st_mode)) return absl::OkStatus();
  const size_t slash = path_.rfind('/');
  only_ = path_.substr(slash == std::string::npos ? 0 : slash + 1);
  folder_ = slash == std::string::npos ? "." : slash == 0 ? "/" : path_.substr(0, slash);
  return absl::OkStatus();
}

bool ManifestFolder::Wants(std::string_view name) const {
  if (!only_.empty()) return name == only_;
  return !name.empty() && name[0] != '.' &&
         (name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json"));
}

absl::Status ManifestFolder::ScanAll(bool force, bool may_remove, ScanGuard* guard) {
  if (!only_.empty()) return ScanName(only_, force, may_remove, guard);
  const auto names = ListNames(folder_);
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    if (!Wants(name)) continue;
    if (guard->Stopped()) return absl::OkStatus();
    if (auto status = ScanName(name, force, may_remove, guard); !status.ok()) return status;
  }
  for (auto next = known_.begin(); next != known_.end();) {
    const std::string name = (next++)->first;
    if (names->count(name) != 0) continue;
    if (auto status = Vanished(name, may_remove); !status.ok()) return status;
  }
  listed_ = true;
  return absl::OkStatus();
}

absl::Status ManifestFolder::ScanName(const std::string& name, bool force, bool may_remove,
                                      ScanGuard* guard) {
  const std::string path = PathOf(name);
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) return Vanished(name, may_remove);
  const bool link = S_ISLNK(info.st_mode);
  if (link) {
    links_.insert(name);
  } else {
    links_.erase(name);
  }
  std::optional<FileStamp> stamp = StampOf(path);
  const auto known = known_.find(name);
  if (!force && stamp && known != known_.end() && known->second == stamp) return absl::OkStatus();
  dangling_.erase(name);
  FileStamp read_stamp;
  absl::StatusOr<std::string> text = ReadFileText(path, &read_stamp);
  if (absl::IsNotFound(text.status())) {
    if (!link) return Vanished(name, may_remove);
    dangling_.insert(name);
    text = absl::NotFoundError("is a symbolic link that leads nowhere");
  }
  const ScanGuard::Whole whole = guard->IsWhole(name);
  if (whole == ScanGuard::Whole::kNo) {
    if (known != known_.end()) return absl::OkStatus();
    text = absl::UnavailableError("is being written");
    stamp.reset();
  } else if (stamp) {
    stamp = read_stamp;
  }
  known_[name] = stamp;
  if (!only_.empty()) listed_ = true;
  ManifestContent content =
      text.ok() ? ParseManifest(name, path, *text) : UnreadableManifest(path, text.status());
  content.maybe_half = whole == ScanGuard::Whole::kUnknown;
  index_.SetFile(name, std::move(content), Now());
  return absl::OkStatus();
}

std::vector<Problem> ManifestFolder::Problems() const {
  if (listed_) return ProblemsOf(index_, path_);
  return index_.Problems();
}

// Without the folder itself nothing may be concluded from a missing file.
absl::Status ManifestFolder::Vanished(const std::string& name, bool may_remove) {
  if (!only_.empty()) return absl::UnavailableError("is gone");
  if (!StampOf(folder_)) return absl::UnavailableError("is gone");
  if (!may_remove) return absl::OkStatus();
  known_.erase(name);
  links_.erase(name);
  dangling_.erase(name);
  index_.RemoveFile(name);
  return absl::OkStatus();
}

}  // namespace waggle::k8s
