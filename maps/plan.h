// Rows − what is in force → ordered writes, of which every prefix is safe: a reader
// that looks at any moment finds the old state or the new one of each frontend,
// never a mixture and never a reference to nothing. Pure but for the slots it takes.
#ifndef WAGGLE_MAPS_PLAN_H_
#define WAGGLE_MAPS_PLAN_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "maps/reader.h"
#include "maps/slots.h"
#include "maps/tables.h"

namespace waggle::maps {

// Carried out member by member, in this order.
struct WritePlan {
  struct BackendRange {
    uint32_t base;
    std::vector<waggle_backend> rows;
  };
  struct FrontendInsert {
    waggle_frontend_key key;
    waggle_frontend value;
  };

  std::vector<BackendRange> backends;  // into ranges that no list in force names
  std::vector<std::pair<uint32_t, waggle_service>> service_puts;
  std::vector<std::pair<uint32_t, waggle_list>> list_stores;  // the switch
  std::vector<FrontendInsert> frontend_inserts;               // keys that are not there
  // Keys that change their owner: deleted and inserted, one after the other. The only
  // write with a gap; needed when a frontend goes from one Service port to another.
  std::vector<FrontendInsert> frontend_moves;
  std::vector<waggle_frontend_key> frontend_deletes;
  std::vector<uint32_t> service_deletes;
  Retired retired;  // after all of that

  bool empty() const;
  // Joins another plan for other Services; prefixes stay safe. A key that one plan
  // deletes and another inserts becomes a move.
  void Append(WritePlan other);

 private:
  // Keys of frontend_inserts (true) and frontend_deletes (false), kept up by Append() so
  // that joining many plans costs their total length.
  void IndexNewKeys();
  FrontendKeyMap<bool> keys_;
  size_t inserts_indexed_ = 0;
  size_t deletes_indexed_ = 0;
};

struct Planned {
  WritePlan plan;
  ServiceState after;  // in force once the plan was applied
};

// `in_force` may be null. ResourceExhausted names the map, the flag and the Service;
// nothing is taken from `slots` then.
absl::StatusOr<Planned> Plan(const ServiceRows& rows, const ServiceState* in_force,
                             const ArrayView& arrays, Slots& slots);

// For a Service that found no room: takes out of force what it no longer wants, and
// needs no room for that. Frontends go, which others may want now. A list that holds
// backends which are gone is cut down to the longest run of those that are not, so that
// nothing is sent to a pod that left.
Planned PlanShrink(const ServiceRows& rows, const ServiceState& in_force, const ArrayView& arrays);

// Takes all of a Service out of force.
WritePlan PlanRemoval(const ServiceState& in_force);
// Takes out what CheckTables() found to belong to nobody.
WritePlan PlanStrays(const Tables& tables);

}  // namespace waggle::maps

#endif
