#include "loader/cgroup.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "userspace/os/errno_status.h"

namespace waggle::loader {
namespace {

constexpr uint64_t kRootInode = 1;

// mountinfo writes space, tab, newline and backslash as three octal digits.
std::string Unescape(absl::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '7';
    };
    if (text[i] == '\\' && digit(i + 1) && digit(i + 2) && digit(i + 3)) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

std::vector<std::string> CgroupMounts(std::string_view mountinfo) {
  std::vector<std::string> mounts;
  for (absl::string_view line : absl::StrSplit(
           absl::string_view(mountinfo.data(), mountinfo.size()), '\n', absl::SkipEmpty())) {
    // "<id> <parent> <dev> <root> <mount point> <options> [fields] - <type> <source> …"
    const std::vector<absl::string_view> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<absl::string_view> fields = absl::StrSplit(halves[0], ' ');
    const std::vector<absl::string_view> type = absl::StrSplit(halves[1], ' ');
    if (fields.size() >= 5 && type[0] == "cgroup2") mounts.push_back(Unescape(fields[4]));
  }
  return mounts;
}

absl::StatusOr<Cgroup> OpenCgroup(std::string_view path) {
  Cgroup cgroup;
  cgroup.path = std::string(path);
  cgroup.fd.Reset(open(cgroup.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup.fd) return os::ErrnoStatus(errno, absl::StrCat("cgroup ", cgroup.path));
  struct statfs info {};
  struct stat found {};
  if (fstatfs(cgroup.fd.get(), &info) != 0 || fstat(cgroup.fd.get(), &found) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("cgroup ", cgroup.path));
  }
  if (static_cast<uint32_t>(info.f_type) != static_cast<uint32_t>(CGROUP2_SUPER_MAGIC)) {
    return absl::FailedPreconditionError(
        absl::StrCat(cgroup.path, " is not a cgroup v2 folder; see --cgroup-path"));
  }
  cgroup.id = found.st_ino;
  return cgroup;
}

absl::StatusOr<Cgroup> FindRootCgroup() {
  std::ifstream file("/proc/self/mountinfo");
  std::stringstream text;
  text << file.rdbuf();
  const std::vector<std::string> mounts = CgroupMounts(text.str());
  if (mounts.empty()) {
    return absl::FailedPreconditionError(
        "cgroup v2 is not mounted; mount it (mount -t cgroup2 none /sys/fs/cgroup/unified) or name "
        "a folder of it with --cgroup-path");
  }
  for (const std::string& mount : mounts) {
    absl::StatusOr<Cgroup> cgroup = OpenCgroup(mount);
    if (cgroup.ok() && cgroup->id == kRootInode) return cgroup;
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "the cgroup v2 mounted at ", absl::StrJoin(mounts, ", "),
      " is not the root but a subtree of it: this is a private cgroup namespace, and processes "
      "outside of it would not be served. Run in the host's cgroup namespace, mount the host's "
      "/sys/fs/cgroup and name it with --cgroup-path, or name the subtree itself to serve just "
      "that"));
}

}  // namespace waggle::loader
