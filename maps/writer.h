// The only code that writes maps: carries out plans, in order, and counts.
#ifndef WAGGLE_MAPS_WRITER_H_
#define WAGGLE_MAPS_WRITER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "maps/map_store.h"
#include "maps/plan.h"

namespace waggle::maps {

class Writer {
 public:
  // `store` is not owned and outlives the writer. Counts go into its row `agent`.
  explicit Writer(MapStore* store) : store_(store) {}

  // Carries out the plan. After an error an unknown prefix of it is in force (which is
  // safe); the caller reads the maps again and plans anew.
  absl::Status Apply(const WritePlan& plan);
  // Zeroes slots that no reader can hold any more, so that dumps show what is in force.
  void ClearLists(const std::vector<uint32_t>& slots);

 private:
  absl::Status ApplySteps(const WritePlan& plan);

  MapStore* store_;
};

}  // namespace waggle::maps

#endif
