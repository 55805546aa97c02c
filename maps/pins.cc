#include "maps/pins.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "bpf/abi.h"
#include "maps/kernel_map_store.h"
#include "maps/layout.h"
#include "userspace/os/errno_status.h"

namespace waggle::maps {
namespace {

struct MapKind {
  std::string_view name;
  uint32_t type;
  uint32_t key_size;
  uint32_t value_size;
};
constexpr std::array<MapKind, kMaps.size()> kKinds = {{
    {"frontends", BPF_MAP_TYPE_HASH, sizeof(waggle_frontend_key), sizeof(waggle_frontend)},
    {"lists", BPF_MAP_TYPE_ARRAY, 4, sizeof(waggle_list)},
    {"backends", BPF_MAP_TYPE_ARRAY, 4, sizeof(waggle_backend)},
    {"services", BPF_MAP_TYPE_HASH, 4, sizeof(waggle_service)},
    {"sock_state", BPF_MAP_TYPE_SK_STORAGE, 4, sizeof(waggle_sock_state)},
    {"udp_flows", BPF_MAP_TYPE_LRU_HASH, sizeof(waggle_udp_flow_key), sizeof(waggle_udp_flow)},
    {"flows", BPF_MAP_TYPE_HASH, sizeof(waggle_flow_key), sizeof(waggle_flow)},
    {"half_open", BPF_MAP_TYPE_LRU_HASH, sizeof(waggle_flow_key), sizeof(waggle_flow)},
    {"fragments", BPF_MAP_TYPE_LRU_HASH, sizeof(waggle_fragment_key), sizeof(waggle_fragment)},
    {"devices", BPF_MAP_TYPE_HASH, 4, sizeof(waggle_device)},
    {"settings", BPF_MAP_TYPE_ARRAY, 4, sizeof(waggle_settings)},
    {"icmp_budget", BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(waggle_icmp_budget)},
    {"stats", BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(__u64)},
    {"agent", BPF_MAP_TYPE_ARRAY, 4, sizeof(waggle_agent)},
}};

static_assert(std::equal(kKinds.begin(), kKinds.end(), kMaps.begin(), kMaps.end(),
                         [](const MapKind& kind, const MapInfo& map) {
                           return kind.name == map.name;
                         }));

const MapKind& KindOf(std::string_view name) {
  for (const MapKind& kind : kKinds) {
    if (kind.name == name) return kind;
  }
  return kKinds.back();
}

absl::StatusOr<os::UniqueFd> OpenAny(const std::string& path, Access access) {
  struct bpf_obj_get_opts options {};
  options.sz = sizeof(options);
  options.file_flags = access == Access::kReadOnly ? BPF_F_RDONLY : 0;
  os::UniqueFd fd(bpf_obj_get_opts(path.c_str(), &options));
  if (fd) return fd;
  const int error = errno;
  // The file's mode, or the kind of object?
  const bool unreadable =
      error == EACCES &&
      (access == Access::kReadWrite || faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) != 0);
  if (error == EPERM || unreadable) {
    return absl::PermissionDeniedError(absl::StrCat("open pin ", path, ": ", std::strerror(error),
                                                    " (BPF needs CAP_BPF or root)"));
  }
  // A link cannot be opened read-only, a file that is no BPF object not at all.
  if (error == EACCES || error == EINVAL) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is not a BPF map of Waggle; remove it or give another --pin-path"));
  }
  return os::ErrnoStatus(error, absl::StrCat("open pin ", path));
}

// Map, program and link descriptors answer the same call; the kernel's names in
// /proc tell them apart without guessing at structure sizes.
bool IsMap(int fd) {
  char target[64] = {};
  const std::string path = absl::StrCat("/proc/self/fd/", fd);
  const ssize_t length = readlink(path.c_str(), target, sizeof(target) - 1);
  return length > 0 && std::strcmp(target, "anon_inode:bpf-map") == 0;
}

}  // namespace

absl::Status CheckBpffs(std::string_view pin_path) {
  std::string path(pin_path);
  struct statfs info {};
  while (statfs(path.c_str(), &info) != 0) {
    if (errno != ENOENT) return os::ErrnoStatus(errno, absl::StrCat("pin path ", path));
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos || slash == 0) {
      path = slash == 0 ? "/" : ".";
      if (statfs(path.c_str(), &info) != 0) return os::ErrnoStatus(errno, path);
      break;
    }
    path.resize(slash);
  }
  // f_type is signed on some architectures, the magic number is not.
  if (static_cast<uint32_t>(info.f_type) != static_cast<uint32_t>(BPF_FS_MAGIC)) {
    return absl::FailedPreconditionError(
        absl::StrCat("no bpf file system at ", std::string(pin_path),
                     "; mount one (mount -t bpf bpf /sys/fs/bpf) or give another --pin-path"));
  }
  return absl::OkStatus();
}

absl::Status CheckReadable(std::string_view pin_path) {
  if (absl::Status status = CheckBpffs(pin_path); !status.ok()) return status;
  const absl::StatusOr<uint32_t> version = PinnedLayoutVersion(pin_path);
  if (absl::IsNotFound(version.status())) {
    return absl::NotFoundError(
        absl::StrCat("nothing is pinned in ", std::string(pin_path),
                     "; `waggle agent` has not run here, or ran with another "
                     "--pin-path"));
  }
  if (!version.ok()) return version.status();
  if (*version != WAGGLE_LAYOUT_VERSION) {
    return absl::FailedPreconditionError(
        absl::StrCat("the pins in ", std::string(pin_path), " have layout version ", *version,
                     ", this waggle speaks ", WAGGLE_LAYOUT_VERSION));
  }
  return absl::OkStatus();
}

absl::StatusOr<os::UniqueFd> OpenPin(std::string_view pin_path, std::string_view name,
                                     Access access) {
  const std::string path = PinOf(pin_path, name);
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("pin ", path));
  }
  absl::StatusOr<os::UniqueFd> fd = OpenAny(path, access);
  if (!fd.ok()) return fd;
  const MapKind& kind = KindOf(name);
  bpf_map_info info{};
  uint32_t length = sizeof(info);
  if (!IsMap(fd->get()) || bpf_obj_get_info_by_fd(fd->get(), &info, &length) != 0 ||
      info.type != kind.type || info.key_size != kind.key_size ||
      info.value_size != kind.value_size) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, " is not Waggle's map ", std::string(name), " of layout version ",
        WAGGLE_LAYOUT_VERSION, "; run `waggle cleanup`, remove it, or give another --pin-path"));
  }
  return fd;
}

absl::StatusOr<bool> PinsLocked(std::string_view pin_path) {
  const std::string path(pin_path);
  const os::UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return os::ErrnoStatus(errno, absl::StrCat("pin path ", path));
  // The agent holds a read lock; only asking for a write lock needs no writable descriptor.
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (fcntl(fd.get(), F_OFD_GETLK, &lock) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("ask for locks of ", path));
  }
  return lock.l_type != F_UNLCK;
}

absl::Status MarkAgent(std::string_view pin_path, waggle_agent_state state) {
  const absl::StatusOr<os::UniqueFd> fd = OpenPin(pin_path, "agent", Access::kReadWrite);
  // Nothing pinned, or nothing of ours: the checks that follow say which.
  if (!fd.ok()) return absl::OkStatus();
  absl::StatusOr<ArrayMapping> mapping =
      ArrayMapping::Map(fd->get(), sizeof(waggle_agent), /*writable=*/true, "agent");
  if (!mapping.ok()) return mapping.status();
  auto* agent = static_cast<waggle_agent*>(mapping->data());
  if (agent->layout_version == WAGGLE_LAYOUT_VERSION) agent->state = state;
  return absl::OkStatus();
}

absl::StatusOr<ContentIds> ReadContentIds(int agent_fd) {
  waggle_agent agent{};
  const uint32_t zero = 0;
  if (bpf_map_lookup_elem(agent_fd, &zero, &agent) != 0) {
    return os::ErrnoStatus(errno, "read map agent");
  }
  return std::to_array(agent.content_ids);
}

absl::Status WriteContentIds(int agent_fd, const ContentIds& ids) {
  absl::StatusOr<ArrayMapping> mapping =
      ArrayMapping::Map(agent_fd, sizeof(waggle_agent), /*writable=*/true, "agent");
  if (!mapping.ok()) return mapping.status();
  std::copy(ids.begin(), ids.end(), static_cast<waggle_agent*>(mapping->data())->content_ids);
  return absl::OkStatus();
}

Content JudgeContent(const ContentIds& pinned, const std::optional<ContentIds>& recorded) {
  const auto missing = std::count(pinned.begin(), pinned.end(), 0u);
  if (missing == static_cast<ptrdiff_t>(pinned.size())) return Content::kNone;
  if (missing > 0 || !recorded) return Content::kMixed;
  const bool known = *recorded != ContentIds{};
  return known && *recorded != pinned ? Content::kMixed : Content::kWhole;
}

absl::Status RemoveMapPin(const std::string& path, std::string_view name) {
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("pin ", path));
  }
  const absl::StatusOr<os::UniqueFd> fd = OpenAny(path, Access::kReadOnly);
  if (!fd.ok()) return fd.status();
  bpf_map_info info{};
  uint32_t length = sizeof(info);
  if (!IsMap(fd->get()) || bpf_obj_get_info_by_fd(fd->get(), &info, &length) != 0 ||
      info.type != KindOf(name).type || name != info.name) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is not Waggle's map ", std::string(name), "; it stays"));
  }
  if (unlink(path.c_str()) != 0) return os::ErrnoStatus(errno, absl::StrCat("remove ", path));
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> MapId(int fd) {
  bpf_map_info info{};
  uint32_t length = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0) return os::ErrnoStatus(errno, "map info");
  return info.id;
}

absl::StatusOr<uint32_t> MapCapacity(int fd) {
  bpf_map_info info{};
  uint32_t length = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0) return os::ErrnoStatus(errno, "map info");
  return info.max_entries;
}

absl::StatusOr<uint32_t> PinnedLayoutVersion(std::string_view pin_path) {
  const std::string path = PinOf(pin_path, "agent");
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("pin ", path));
  }
  absl::StatusOr<os::UniqueFd> fd = OpenAny(path, Access::kReadOnly);
  if (!fd.ok()) return fd.status();
  // The version is the first field for ever, whatever the size of the rest.
  bpf_map_info info{};
  uint32_t length = sizeof(info);
  std::array<char, 65536> value{};
  const uint32_t zero = 0;
  if (!IsMap(fd->get()) || bpf_obj_get_info_by_fd(fd->get(), &info, &length) != 0 ||
      info.type != BPF_MAP_TYPE_ARRAY || info.value_size < 4 || info.value_size > value.size() ||
      bpf_map_lookup_elem(fd->get(), &zero, value.data()) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is not Waggle's map agent; remove it or give another --pin-path"));
  }
  uint32_t version = 0;
  std::memcpy(&version, value.data(), sizeof(version));
  return version;
}

absl::Status CheckPins(std::string_view pin_path) {
  if (absl::Status status = CheckBpffs(pin_path); !status.ok()) return status;
  const absl::StatusOr<uint32_t> version = PinnedLayoutVersion(pin_path);
  if (!version.ok() && !absl::IsNotFound(version.status())) return version.status();
  // 0 is what a map holds whose agent died before its first word.
  if (version.ok() && *version != WAGGLE_LAYOUT_VERSION && *version != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the pins in ", std::string(pin_path), " have layout version ", *version,
        ", this waggle speaks ", WAGGLE_LAYOUT_VERSION,
        "; run the version that made them, or `waggle cleanup` (Services are not translated "
        "until the agent has started again)"));
  }
  for (const MapInfo& map : kMaps) {
    const auto fd = OpenPin(pin_path, map.name, Access::kReadWrite);
    if (!fd.ok() && !absl::IsNotFound(fd.status())) return fd.status();
  }
  return absl::OkStatus();
}

}  // namespace waggle::maps
