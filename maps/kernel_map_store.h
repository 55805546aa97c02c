// The real maps.
#ifndef WAGGLE_MAPS_KERNEL_MAP_STORE_H_
#define WAGGLE_MAPS_KERNEL_MAP_STORE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "maps/map_store.h"
#include "userspace/os/unique_fd.h"

namespace waggle::maps {

// Descriptors of maps whose kind was checked (OpenPin, or made by the loader).
struct MapFds {
  os::UniqueFd frontends;
  os::UniqueFd lists;
  os::UniqueFd backends;
  os::UniqueFd services;
  os::UniqueFd agent;
};

// Reads all elements of the hashes. The arrays are mmapped by the caller.
absl::StatusOr<RawTables> ReadHashes(int frontends_fd, int services_fd);

// Elements of a hash (LRU or not), counted in batches while others write: about right,
// never above max_entries.
absl::StatusOr<uint64_t> CountEntries(int fd);

// Copies the entries of one udp_flows into another, as many as it takes. kMissing: those
// that are there already stay as they are.
enum class CopyFlows { kAll, kMissing };
absl::Status CopyUdpFlows(int from_fd, int to_fd, CopyFlows which);

// Copies the counters of one `stats` into another of more or fewer reasons. To be called
// before the new map is in force: what a program counts in the old one meanwhile is lost.
absl::Status CopyCounters(int from_fd, int to_fd);

// One element of a map. `flags`: BPF_ANY (0), BPF_NOEXIST. ResourceExhausted: "map <name> is
// full"; AlreadyExists with BPF_NOEXIST.
absl::Status PutElement(int fd, const void* key, const void* value, std::string_view name,
                        uint64_t flags = 0);
// A key that is not there is no error.
absl::Status DeleteElement(int fd, const void* key, std::string_view name);

// Removes the element of a hash if it still holds these bytes, and says whether it did. One
// that has changed is there afterwards, too; a program may miss it for a moment.
absl::StatusOr<bool> DeleteIfEqual(int fd, const void* key, const void* value, size_t value_size,
                                   std::string_view name);

// A shared mapping of an array map. Unmaps on destruction.
class ArrayMapping {
 public:
  static absl::StatusOr<ArrayMapping> Map(int fd, size_t stride, bool writable, const char* name);
  ArrayMapping() = default;
  ArrayMapping(ArrayMapping&& other) noexcept;
  ArrayMapping& operator=(ArrayMapping&& other) noexcept;
  ArrayMapping(const ArrayMapping&) = delete;
  ArrayMapping& operator=(const ArrayMapping&) = delete;
  ~ArrayMapping();

  void* data() const { return data_; }
  uint32_t entries() const { return entries_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
  uint32_t entries_ = 0;
};

// A shared, writable mapping of the first rows of an array map, in one piece of address space
// that the whole array fits into: rows that nobody uses are not mapped, as the kernel would
// count each page of them as this process's memory. Unmaps on destruction.
class GrowingMapping {
 public:
  // `fd` and `name` must outlive the mapping.
  static absl::StatusOr<GrowingMapping> Reserve(int fd, size_t stride, const char* name);
  GrowingMapping() = default;
  GrowingMapping(GrowingMapping&& other) noexcept;
  GrowingMapping& operator=(GrowingMapping&& other) noexcept;
  GrowingMapping(const GrowingMapping&) = delete;
  GrowingMapping& operator=(const GrowingMapping&) = delete;
  ~GrowingMapping();

  // Makes rows 0 … count-1 accessible, those below entries() that is. What was mapped stays
  // where it is.
  absl::Status Cover(uint64_t count);

  void* data() const { return data_; }
  uint32_t entries() const { return entries_; }
  size_t mapped_bytes() const { return mapped_; }

 private:
  int fd_ = -1;
  const char* name_ = "";
  size_t stride_ = 0;
  void* data_ = nullptr;
  size_t bytes_ = 0;   // of all rows, in whole pages
  size_t mapped_ = 0;  // from the beginning on
  uint32_t entries_ = 0;
};

class KernelMapStore final : public MapStore {
 public:
  static absl::StatusOr<std::unique_ptr<KernelMapStore>> Create(MapFds fds);

  absl::Status InsertFrontends(absl::Span<const WritePlan::FrontendInsert> rows) override;
  absl::Status DeleteFrontend(const waggle_frontend_key& key) override;
  absl::Status PutService(uint32_t id, const waggle_service& value) override;
  absl::Status DeleteService(uint32_t id) override;
  absl::Status Cover(uint32_t lists, uint32_t backends) override;
  void StoreList(uint32_t slot, const waggle_list& value) override;
  void StoreBackends(uint32_t base, absl::Span<const waggle_backend> rows) override;
  // Covers the rows that what it has read refers to.
  absl::StatusOr<RawTables> Read() override;
  ArrayView arrays() const override;
  waggle_agent* agent() override { return static_cast<waggle_agent*>(agent_.data()); }

 private:
  KernelMapStore() = default;

  MapFds fds_;
  GrowingMapping lists_;
  GrowingMapping backends_;
  ArrayMapping agent_;
};

}  // namespace waggle::maps

#endif
