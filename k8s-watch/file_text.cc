#include "k8s-watch/file_text.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "k8s-watch/document.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

namespace waggle::k8s {
namespace {

int64_t Nanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

FileStamp Stamp(const struct stat& info) {
  return {info.st_dev, info.st_ino, info.st_size, Nanoseconds(info.st_mtim),
          Nanoseconds(info.st_ctim)};
}

// What is not there, be it for its own folder's sake, is NotFound.
absl::Status NotOpened(int error) {
  return os::ErrnoStatus(error == ENOTDIR ? ENOENT : error, "cannot be opened");
}

absl::Status CheckKind(const struct stat& info) {
  if (S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError("is a directory, expected a regular file");
  }
  if (S_ISFIFO(info.st_mode)) {
    return absl::InvalidArgumentError("is a named pipe, expected a regular file");
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError("is a device or socket, expected a regular file");
  }
  if (info.st_size > static_cast<off_t>(kMaxFileBytes)) {
    return absl::InvalidArgumentError(absl::StrCat("is ", info.st_size, " bytes long, at most ",
                                                   kMaxFileBytes >> 20, " MiB are read"));
  }
  return absl::OkStatus();
}

absl::Status TooLong() {
  return absl::InvalidArgumentError(
      absl::StrCat("is longer than ", kMaxFileBytes >> 20, " MiB, the most that is read"));
}

// Appends one read() to `*text`; false at the end.
absl::StatusOr<bool> ReadSome(int fd, std::string* text) {
  std::vector<char> buffer(size_t{256} << 10);
  const ssize_t got = read(fd, buffer.data(), buffer.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  if (got < 0) return os::ErrnoStatus(errno, "cannot be read");
  if (got == 0) return false;
  if (text->size() + static_cast<size_t>(got) > kMaxFileBytes) return TooLong();
  text->append(buffer.data(), static_cast<size_t>(got));
  return true;
}

}  // namespace

std::optional<FileStamp> StampOf(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return std::nullopt;
  return Stamp(info);
}

absl::StatusOr<std::string> ReadFileText(const std::string& path, FileStamp* stamp) {
  struct stat info;
  // Looked at before it is opened: opening a device may have effects.
  if (stat(path.c_str(), &info) != 0) return NotOpened(errno);
  *stamp = Stamp(info);
  if (auto status = CheckKind(info); !status.ok()) return status;
  const os::UniqueFd file(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  if (!file) return NotOpened(errno);
  if (fstat(file.get(), &info) != 0) return os::ErrnoStatus(errno, "cannot be read");
  *stamp = Stamp(info);
  if (auto status = CheckKind(info); !status.ok()) return status;
  std::string text;
  text.reserve(static_cast<size_t>(info.st_size));
  while (true) {
    const auto more = ReadSome(file.get(), &text);
    if (!more.ok()) return more.status();
    if (!*more) return text;
  }
}

absl::StatusOr<std::string> ReadDescriptor(int fd, int stop_fd) {
  std::string text;
  while (true) {
    pollfd polls[2] = {{fd, POLLIN, 0}, {stop_fd, POLLIN, 0}};
    if (poll(polls, 2, -1) < 0 && errno != EINTR) return os::ErrnoStatus(errno, "cannot be read");
    if ((polls[1].revents & POLLIN) != 0) return absl::CancelledError("stopped");
    if (polls[0].revents == 0) continue;
    const auto more = ReadSome(fd, &text);
    if (!more.ok()) return more.status();
    if (!*more) return text;
  }
}

}  // namespace waggle::k8s
