#include "maps/kernel_map_store.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "maps/hash_walk.h"
#include "maps/pins.h"
#include "userspace/os/errno_status.h"

namespace waggle::maps {
namespace {

// Below this a batch costs more than it saves.
constexpr size_t kBatchFrom = 8;
constexpr uint32_t kBatch = 4096;
// Arrays are mapped by so much at a time: each piece is a mapping of its own.
constexpr size_t kPiece = size_t{256} << 10;

// The kernel's own error, which has no name in user space: not for this type of map.
constexpr int kNotSupported = 524;

static_assert(sizeof(waggle_list) % 8 == 0 && sizeof(waggle_backend) % 8 == 0 &&
                  sizeof(waggle_agent) % 8 == 0,
              "the kernel rounds the stride of an array up to 8 bytes");
static_assert(std::atomic_ref<uint64_t>::is_always_lock_free);

}  // namespace

absl::StatusOr<RawTables> ReadHashes(int frontends_fd, int services_fd) {
  RawTables raw;
  absl::Status status = ReadHash<waggle_frontend_key, waggle_frontend>(
      frontends_fd, "frontends", [&](const waggle_frontend_key& key, const waggle_frontend& value) {
        raw.frontends.push_back({key, value});
      });
  if (!status.ok()) return status;
  status = ReadHash<uint32_t, waggle_service>(services_fd, "services",
                                              [&](uint32_t id, const waggle_service& value) {
                                                raw.services.push_back({id, value});
                                              });
  if (!status.ok()) return status;
  return raw;
}

absl::StatusOr<uint64_t> CountEntries(int fd) {
  bpf_map_info info{};
  uint32_t length = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0) return os::ErrnoStatus(errno, "map info");
  uint64_t entries = 0;
  HashWalk walk(fd, info.key_size, info.value_size, info.name);
  while (!walk.done()) {
    if (absl::Status status = walk.Next(kBatch); !status.ok()) return status;
    entries += walk.count();
  }
  return std::min<uint64_t>(entries, info.max_entries);
}

absl::Status CopyUdpFlows(int from_fd, int to_fd, CopyFlows which) {
  const uint64_t flags = which == CopyFlows::kMissing ? BPF_NOEXIST : BPF_ANY;
  absl::Status copied;
  absl::Status read = ReadHash<waggle_udp_flow_key, waggle_udp_flow>(
      from_fd, "udp_flows", [&](const waggle_udp_flow_key& key, const waggle_udp_flow& value) {
        if (bpf_map_update_elem(to_fd, &key, &value, flags) != 0 && errno != EEXIST &&
            copied.ok()) {
          copied = os::ErrnoStatus(errno, "copy map udp_flows");
        }
      });
  return read.ok() ? copied : read;
}

absl::Status CopyCounters(int from_fd, int to_fd) {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 1) return os::ErrnoStatus(-cpus, "count CPUs");
  const absl::StatusOr<uint32_t> from = MapCapacity(from_fd);
  if (!from.ok()) return from.status();
  const absl::StatusOr<uint32_t> to = MapCapacity(to_fd);
  if (!to.ok()) return to.status();
  std::vector<uint64_t> values(static_cast<size_t>(cpus));
  for (uint32_t reason = 0; reason < std::min(*from, *to); ++reason) {
    if (bpf_map_lookup_elem(from_fd, &reason, values.data()) != 0 ||
        bpf_map_update_elem(to_fd, &reason, values.data(), BPF_ANY) != 0) {
      return os::ErrnoStatus(errno, "copy map stats");
    }
  }
  return absl::OkStatus();
}

absl::Status PutElement(int fd, const void* key, const void* value, std::string_view name,
                        uint64_t flags) {
  if (bpf_map_update_elem(fd, key, value, flags) == 0) return absl::OkStatus();
  if (errno == E2BIG || errno == ENOSPC) {
    return absl::ResourceExhaustedError(absl::StrCat("map ", std::string(name), " is full"));
  }
  return os::ErrnoStatus(errno, absl::StrCat("insert into map ", std::string(name)));
}

absl::Status DeleteElement(int fd, const void* key, std::string_view name) {
  if (bpf_map_delete_elem(fd, key) != 0 && errno != ENOENT) {
    return os::ErrnoStatus(errno, absl::StrCat("delete from map ", std::string(name)));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> DeleteIfEqual(int fd, const void* key, const void* value, size_t value_size,
                                   std::string_view name) {
  std::vector<char> removed(value_size);
  if (bpf_map_lookup_and_delete_elem(fd, key, removed.data()) != 0) {
    if (errno == ENOENT) return false;
    if (errno != kNotSupported && errno != EINVAL) {
      return os::ErrnoStatus(errno, absl::StrCat("delete from map ", std::string(name)));
    }
    // Before 5.14 there is a gap between looking and deleting.
    if (bpf_map_lookup_elem(fd, key, removed.data()) != 0 ||
        std::memcmp(removed.data(), value, value_size) != 0) {
      return false;
    }
    absl::Status status = DeleteElement(fd, key, name);
    if (!status.ok()) return status;
    return true;
  }
  if (std::memcmp(removed.data(), value, value_size) == 0) return true;
  absl::Status restored = PutElement(fd, key, removed.data(), name, BPF_NOEXIST);
  // Something newer may have the place already.
  if (!restored.ok() && !absl::IsAlreadyExists(restored)) return restored;
  return false;
}

absl::StatusOr<ArrayMapping> ArrayMapping::Map(int fd, size_t stride, bool writable,
                                               const char* name) {
  const absl::StatusOr<uint32_t> entries = MapCapacity(fd);
  if (!entries.ok()) return entries.status();
  ArrayMapping mapping;
  mapping.entries_ = *entries;
  mapping.bytes_ = *entries * stride;
  void* data = mmap(nullptr, mapping.bytes_, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                    MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) {
    mapping.bytes_ = 0;
    return os::ErrnoStatus(errno, absl::StrCat("mmap map ", name));
  }
  mapping.data_ = data;
  return mapping;
}

ArrayMapping::ArrayMapping(ArrayMapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      entries_(std::exchange(other.entries_, 0)) {}

ArrayMapping& ArrayMapping::operator=(ArrayMapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(entries_, other.entries_);
  return *this;
}

ArrayMapping::~ArrayMapping() {
  if (data_) munmap(data_, bytes_);
}

absl::StatusOr<GrowingMapping> GrowingMapping::Reserve(int fd, size_t stride, const char* name) {
  const absl::StatusOr<uint32_t> entries = MapCapacity(fd);
  if (!entries.ok()) return entries.status();
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  GrowingMapping mapping;
  mapping.fd_ = fd;
  mapping.name_ = name;
  mapping.stride_ = stride;
  mapping.entries_ = *entries;
  mapping.bytes_ = (*entries * stride + page - 1) / page * page;
  void* data =
      mmap(nullptr, mapping.bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    mapping.bytes_ = 0;
    return os::ErrnoStatus(errno, absl::StrCat("reserve addresses for map ", name));
  }
  mapping.data_ = data;
  return mapping;
}

absl::Status GrowingMapping::Cover(uint64_t count) {
  const size_t wanted = std::min<uint64_t>(count, entries_) * stride_;
  if (wanted <= mapped_) return absl::OkStatus();
  const size_t end = std::min((wanted + kPiece - 1) / kPiece * kPiece, bytes_);
  if (end < wanted) return absl::ResourceExhaustedError(absl::StrCat("mmap map ", name_));
  void* const at = static_cast<char*>(data_) + mapped_;
  if (mmap(at, end - mapped_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_,
           static_cast<off_t>(mapped_)) == MAP_FAILED) {
    const int error = errno;
    // Before 6.13 the kernel may have given up the reserved addresses before it failed.
    const void* const kept =
        mmap(at, end - mapped_, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (kept == MAP_FAILED && errno != EEXIST) {
      // They are anybody's now: what there is has to do.
      munmap(static_cast<char*>(data_) + end, bytes_ - end);
      bytes_ = mapped_;
    }
    return os::ErrnoStatus(error, absl::StrCat("mmap map ", name_));
  }
  mapped_ = end;
  return absl::OkStatus();
}

GrowingMapping::GrowingMapping(GrowingMapping&& other) noexcept {
  *this = std::move(other);
}

GrowingMapping& GrowingMapping::operator=(GrowingMapping&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(name_, other.name_);
  std::swap(stride_, other.stride_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(mapped_, other.mapped_);
  std::swap(entries_, other.entries_);
  return *this;
}

GrowingMapping::~GrowingMapping() {
  if (data_) munmap(data_, bytes_);
}

absl::StatusOr<std::unique_ptr<KernelMapStore>> KernelMapStore::Create(MapFds fds) {
  std::unique_ptr<KernelMapStore> store(new KernelMapStore);
  store->fds_ = std::move(fds);
  struct {
    int fd;
    size_t stride;
    const char* name;
    GrowingMapping& mapping;
  } const arrays[] = {
      {store->fds_.lists.get(), sizeof(waggle_list), "lists", store->lists_},
      {store->fds_.backends.get(), sizeof(waggle_backend), "backends", store->backends_},
  };
  for (const auto& array : arrays) {
    absl::StatusOr<GrowingMapping> mapping =
        GrowingMapping::Reserve(array.fd, array.stride, array.name);
    if (!mapping.ok()) return mapping.status();
    array.mapping = *std::move(mapping);
  }
  absl::StatusOr<ArrayMapping> agent =
      ArrayMapping::Map(store->fds_.agent.get(), sizeof(waggle_agent), /*writable=*/true, "agent");
  if (!agent.ok()) return agent.status();
  store->agent_ = *std::move(agent);
  return store;
}

absl::Status KernelMapStore::Cover(uint32_t lists, uint32_t backends) {
  if (absl::Status status = lists_.Cover(lists); !status.ok()) return status;
  return backends_.Cover(backends);
}

absl::Status KernelMapStore::InsertFrontends(absl::Span<const WritePlan::FrontendInsert> rows) {
  if (rows.size() < kBatchFrom) {
    for (const auto& [key, value] : rows) {
      if (bpf_map_update_elem(fds_.frontends.get(), &key, &value, BPF_NOEXIST) != 0) {
        return os::ErrnoStatus(errno, "insert into map frontends");
      }
    }
    return absl::OkStatus();
  }
  std::vector<waggle_frontend_key> keys;
  std::vector<waggle_frontend> values;
  for (size_t at = 0; at < rows.size(); at += kBatch) {
    const auto part = rows.subspan(at, kBatch);
    keys.clear();
    values.clear();
    for (const auto& [key, value] : part) {
      keys.push_back(key);
      values.push_back(value);
    }
    auto count = static_cast<uint32_t>(keys.size());
    if (bpf_map_update_batch(fds_.frontends.get(), keys.data(), values.data(), &count, nullptr) !=
        0) {
      return os::ErrnoStatus(errno, "insert a batch into map frontends");
    }
  }
  return absl::OkStatus();
}

absl::Status KernelMapStore::DeleteFrontend(const waggle_frontend_key& key) {
  if (bpf_map_delete_elem(fds_.frontends.get(), &key) != 0 && errno != ENOENT) {
    return os::ErrnoStatus(errno, "delete from map frontends");
  }
  return absl::OkStatus();
}

absl::Status KernelMapStore::PutService(uint32_t id, const waggle_service& value) {
  if (bpf_map_update_elem(fds_.services.get(), &id, &value, BPF_ANY) != 0) {
    return os::ErrnoStatus(errno, "insert into map services");
  }
  return absl::OkStatus();
}

absl::Status KernelMapStore::DeleteService(uint32_t id) {
  if (bpf_map_delete_elem(fds_.services.get(), &id) != 0 && errno != ENOENT) {
    return os::ErrnoStatus(errno, "delete from map services");
  }
  return absl::OkStatus();
}

void KernelMapStore::StoreList(uint32_t slot, const waggle_list& value) {
  auto* row = static_cast<waggle_list*>(lists_.data()) + slot;
  uint64_t words[2];
  static_assert(sizeof(words) == sizeof(value));
  std::memcpy(words, &value, sizeof(words));
  auto* target = reinterpret_cast<uint64_t*>(row);
  std::atomic_ref<uint64_t>(target[1]).store(words[1], std::memory_order_relaxed);
  // The switch: whoever sees the new range sees its backends.
  std::atomic_ref<uint64_t>(target[0]).store(words[0], std::memory_order_release);
}

void KernelMapStore::StoreBackends(uint32_t base, absl::Span<const waggle_backend> rows) {
  std::memcpy(static_cast<waggle_backend*>(backends_.data()) + base, rows.data(),
              rows.size() * sizeof(waggle_backend));
}

absl::StatusOr<RawTables> KernelMapStore::Read() {
  absl::StatusOr<RawTables> raw = ReadHashes(fds_.frontends.get(), fds_.services.get());
  if (!raw.ok()) return raw;
  // A row may name anything, when a stranger wrote it: what lies outside is not looked at.
  uint64_t slots = 0;
  for (const auto& [key, value] : raw->frontends)
    slots = std::max<uint64_t>(slots, value.slot < lists_.entries() ? uint64_t{value.slot} + 1 : 0);
  if (absl::Status status = lists_.Cover(slots); !status.ok()) return status;
  uint64_t rows = 0;
  for (const auto& [key, value] : raw->frontends) {
    if (value.slot >= lists_.entries()) continue;
    const waggle_list& list = static_cast<const waggle_list*>(lists_.data())[value.slot];
    const uint64_t end = uint64_t{list.base} + list.count;
    if (end <= backends_.entries()) rows = std::max(rows, end);
  }
  if (absl::Status status = backends_.Cover(rows); !status.ok()) return status;
  return raw;
}

ArrayView KernelMapStore::arrays() const {
  return {static_cast<const waggle_list*>(lists_.data()), lists_.entries(),
          static_cast<const waggle_backend*>(backends_.data()), backends_.entries()};
}

}  // namespace waggle::maps
