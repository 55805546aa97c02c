#include "userspace/config/config_watch.h"

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "k8s-watch/file_text.h"
#include "k8s-watch/quote.h"

namespace waggle::config {
namespace {

absl::Status Named(const absl::Status& status, const std::string& path) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

}  // namespace

absl::Status ConfigWatch::Open(const std::string& path) {
  path_ = path;
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error).lexically_normal();
  if (error || !absolute.has_filename()) {
    return absl::InvalidArgumentError(absl::StrCat(k8s::Quote(path, 256), " is not a file"));
  }
  folder_ = absolute.parent_path();
  name_ = absolute.filename();
  absl::Status watched = watch_.Open();
  const bool opened = watched.ok();
  if (opened) watched = WatchAgain();
  if (opened && absl::IsNotFound(watched)) return watched;
  k8s::FileStamp stamp;
  auto text = k8s::ReadFileText(path_, &stamp);
  if (!text.ok()) return Named(text.status(), path_);
  text_ = *std::move(text);
  if (watched.ok()) return absl::OkStatus();
  return absl::ResourceExhaustedError(watched.message());
}

absl::Status ConfigWatch::WatchAgain() {
  if (absl::Status status = watch_.WatchFolder(folder_); !status.ok()) {
    return Named(status, folder_);
  }
  // Through links it may be a file of another folder. One that is gone is missed below.
  if (absl::Status status = watch_.WatchTarget(name_, path_); !absl::IsNotFound(status)) {
    return Named(status, path_);
  }
  return absl::OkStatus();
}

bool ConfigWatch::Check() {
  const k8s::FolderEvents events = watch_.Read();
  // The folder itself may be another one now, or gone until it comes back. Where the kernel has
  // no room for another watch, those that there are have to do.
  WatchAgain().IgnoreError();
  if (events.written.count(name_) != 0 || events.replaced.count(name_) != 0) writing_ = false;
  std::error_code ignored;
  const bool created =
      events.created.count(name_) != 0 && !std::filesystem::is_symlink(path_, ignored);
  if (created || events.modified.count(name_) != 0) writing_ = true;
  if (writing_ && !events.lost) return false;
  k8s::FileStamp stamp;
  auto text = k8s::ReadFileText(path_, &stamp);
  if (!text.ok() || *text == text_) return false;
  text_ = *std::move(text);
  return true;
}

}  // namespace waggle::config
