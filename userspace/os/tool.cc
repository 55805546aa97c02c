#include "userspace/os/tool.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

extern char** environ;

namespace waggle::os {
namespace {

// A service's PATH may be short.
constexpr char kAdministrators[] = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";
// Of what a tool says when it fails.
constexpr size_t kMaxComplaint = 1000;

// Files in memory, not pipes: nobody has to read and write at the same time.
absl::StatusOr<UniqueFd> MemoryFile(const char* name) {
  UniqueFd file(memfd_create(name, MFD_CLOEXEC));
  if (!file) return ErrnoStatus(errno, "make a file in memory");
  return file;
}

absl::Status WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoStatus(errno, "write to a file in memory");
    text.remove_prefix(static_cast<size_t>(written));
  }
  if (lseek(fd, 0, SEEK_SET) != 0) return ErrnoStatus(errno, "rewind a file in memory");
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadAll(int fd) {
  const off_t size = lseek(fd, 0, SEEK_END);
  if (size < 0) return ErrnoStatus(errno, "measure a file in memory");
  std::string text(static_cast<size_t>(size), '\0');
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t got = pread(fd, &text[have], text.size() - have, static_cast<off_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, "read a file in memory");
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  text.resize(have);
  return text;
}

class FileActions {
 public:
  FileActions() { posix_spawn_file_actions_init(&actions_); }
  ~FileActions() { posix_spawn_file_actions_destroy(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  int Dup(int from, int to) { return posix_spawn_file_actions_adddup2(&actions_, from, to); }
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

}  // namespace

std::string FindTool(std::string_view name) {
  if (name.find('/') != std::string_view::npos) return std::string(name);
  const char* path = getenv("PATH");
  const std::string folders = absl::StrCat(path ? path : "", ":", kAdministrators);
  for (absl::string_view folder : absl::StrSplit(folders, ':', absl::SkipEmpty())) {
    std::string file = absl::StrCat(folder, "/", std::string(name));
    if (access(file.c_str(), X_OK) == 0) return file;
  }
  return "";
}

absl::StatusOr<std::string> RunTool(const std::vector<std::string>& argv, std::string_view input) {
  const std::string program = FindTool(argv.at(0));
  if (program.empty()) return absl::NotFoundError(absl::StrCat("no program ", argv[0], " here"));
  absl::StatusOr<UniqueFd> in = MemoryFile("input"), out = MemoryFile("output"),
                           err = MemoryFile("errors");
  for (const absl::StatusOr<UniqueFd>* file : {&in, &out, &err}) {
    if (!file->ok()) return file->status();
  }
  if (absl::Status status = WriteAll(in->get(), input); !status.ok()) return status;

  FileActions actions;
  int error = actions.Dup(in->get(), STDIN_FILENO);
  if (error == 0) error = actions.Dup(out->get(), STDOUT_FILENO);
  if (error == 0) error = actions.Dup(err->get(), STDERR_FILENO);
  std::vector<char*> words;
  words.reserve(argv.size() + 1);
  for (const std::string& word : argv)
    words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  pid_t pid = -1;
  if (error == 0) {
    error = posix_spawn(&pid, program.c_str(), actions.get(), nullptr, words.data(), environ);
  }
  if (error != 0) return ErrnoStatus(error, "run " + program);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return ErrnoStatus(errno, "wait for " + program);
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return ReadAll(out->get());

  absl::StatusOr<std::string> said = ReadAll(err->get());
  std::string complaint(said.ok() ? absl::StripAsciiWhitespace(*said) : "");
  if (complaint.size() > kMaxComplaint) complaint.resize(kMaxComplaint);
  const std::string how = WIFSIGNALED(status)
                              ? absl::StrCat("was killed by signal ", WTERMSIG(status))
                              : absl::StrCat("failed with status ", WEXITSTATUS(status));
  return absl::InternalError(
      absl::StrCat(argv[0], " ", how, complaint.empty() ? "" : ": ", complaint));
}

}  // namespace waggle::os
