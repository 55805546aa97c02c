// Who has which slot, id and range of the arrays. What a reader may still hold is
// kept in quarantine until a grace period has passed.
#ifndef WAGGLE_MAPS_SLOTS_H_
#define WAGGLE_MAPS_SLOTS_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "maps/layout.h"
#include "maps/tables.h"

namespace waggle::maps {

// Numbers 0 … capacity-1, lowest free first, so that dumps stay compact.
class IdPool {
 public:
  explicit IdPool(uint32_t capacity);

  std::optional<uint32_t> Take();
  // False when the id is taken already or out of range.
  bool Reserve(uint32_t id);
  // An id that is not taken, or out of range, changes nothing.
  void Release(uint32_t id);
  uint32_t used() const { return used_; }
  uint32_t capacity() const { return capacity_; }

 private:
  uint32_t capacity_;
  uint32_t used_ = 0;
  uint32_t first_word_ = 0;  // no free id below this word
  std::vector<uint64_t> taken_;
};

// Contiguous ranges of an array; best fit, neighbours joined.
class RangePool {
 public:
  explicit RangePool(uint32_t capacity);

  // `count` is at least 1.
  std::optional<uint32_t> Take(uint32_t count);
  // False when any part is taken already or out of range.
  bool Reserve(uint32_t base, uint32_t count);
  void Release(uint32_t base, uint32_t count);
  uint32_t used() const { return used_; }
  uint32_t capacity() const { return capacity_; }

 private:
  void AddFree(uint32_t base, uint32_t count);
  void RemoveFree(uint32_t base, uint32_t count);

  uint32_t capacity_;
  uint32_t used_ = 0;
  absl::btree_map<uint32_t, uint32_t> free_by_base_;
  absl::btree_set<std::pair<uint32_t, uint32_t>> free_by_size_;  // (count, base)
};

// What a plan takes out of force.
struct Retired {
  std::vector<uint32_t> slots;
  std::vector<std::pair<uint32_t, uint32_t>> ranges;  // (base, count)
  std::vector<uint32_t> service_ids;
  uint32_t frontends = 0;

  bool empty() const {
    return slots.empty() && ranges.empty() && service_ids.empty() && frontends == 0;
  }
};

class Slots {
 public:
  explicit Slots(const Sizes& sizes);

  IdPool& lists() { return lists_; }
  IdPool& services() { return services_; }
  RangePool& backends() { return backends_; }

  // Rows of the hash `frontends`: counted, as the kernel would only say E2BIG.
  bool TakeFrontend();
  void ReleaseFrontend() { --frontends_used_; }
  uint32_t frontends_used() const { return frontends_used_; }
  uint32_t frontends_capacity() const { return frontends_capacity_; }

  // Takes everything that `tables` uses. The tables are checked (maps/reader.h), so
  // nothing overlaps. Strays count as frontends until they are removed.
  void Adopt(const Tables& tables);

  // After the plan was applied. Ids and hash rows are free at once, slots and ranges
  // when grace period `epoch` is over. Epochs never decrease.
  void Retire(const Retired& retired, uint64_t epoch);
  // Frees what waited for `epoch` and before. Returns the slots, for the writer to
  // clear before they are used again.
  std::vector<uint32_t> Reclaim(uint64_t epoch);
  bool in_quarantine() const { return !quarantine_.empty(); }

 private:
  struct Waiting {
    uint64_t epoch;
    std::vector<uint32_t> slots;
    std::vector<std::pair<uint32_t, uint32_t>> ranges;
  };

  IdPool lists_;
  IdPool services_;
  RangePool backends_;
  uint32_t frontends_used_ = 0;
  uint32_t frontends_capacity_;
  std::deque<Waiting> quarantine_;
};

}  // namespace waggle::maps

#endif
