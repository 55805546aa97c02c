// The kernel's maps behind an interface, so that the writer and all above it are
// tested without a kernel and with faults that a real one seldom gives.
#ifndef WAGGLE_MAPS_MAP_STORE_H_
#define WAGGLE_MAPS_MAP_STORE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "maps/plan.h"
#include "maps/reader.h"

namespace waggle::maps {

class MapStore {
 public:
  virtual ~MapStore() = default;

  // Inserts rows in order. None of the keys may be there (the planner sees to that): one
  // row alone is refused then, a batch overwrites, as the kernel's batches cannot refuse.
  // The status names the map and what the kernel said; how many
  // rows got in is unknown then.
  virtual absl::Status InsertFrontends(absl::Span<const WritePlan::FrontendInsert> rows) = 0;
  // A key that is not there is no error: the result is the same.
  virtual absl::Status DeleteFrontend(const waggle_frontend_key& key) = 0;
  // Inserts or overwrites.
  virtual absl::Status PutService(uint32_t id, const waggle_service& value) = 0;
  // An id that is not there is no error.
  virtual absl::Status DeleteService(uint32_t id) = 0;

  // Before rows below these numbers are stored: the only part of it that can fail.
  virtual absl::Status Cover(uint32_t lists, uint32_t backends) = 0;
  // Stores into mmapped memory: no system call, no error. The first word of a list is
  // stored as one, after everything that was stored before it.
  virtual void StoreList(uint32_t slot, const waggle_list& value) = 0;
  virtual void StoreBackends(uint32_t base, absl::Span<const waggle_backend> rows) = 0;

  virtual absl::StatusOr<RawTables> Read() = 0;
  // Valid where Read() has found something or a row was stored; elsewhere nothing may be there
  // to look at.
  virtual ArrayView arrays() const = 0;
  // The row that the agent says about itself, for the owner to write in place: no
  // program reads it. Valid as long as the store.
  virtual waggle_agent* agent() = 0;
};

}  // namespace waggle::maps

#endif
