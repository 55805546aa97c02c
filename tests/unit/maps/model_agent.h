// What the agent does with plans, without its loop: plan, apply, remember, retire.
#ifndef WAGGLE_TESTS_UNIT_MAPS_MODEL_AGENT_H_
#define WAGGLE_TESTS_UNIT_MAPS_MODEL_AGENT_H_

#include <gtest/gtest.h>

#include <tuple>
#include <utility>
#include <vector>

#include "maps/compile.h"
#include "maps/plan.h"
#include "maps/reader.h"
#include "maps/slots.h"
#include "maps/writer.h"
#include "tests/unit/maps/fake_map_store.h"

namespace waggle::maps {

inline Sizes RoomySizes() {
  return {.frontends = 64, .services = 32, .backends = 512, .udp_flows = 1};
}

// Used entries of every pool: (frontends, services, lists, backends).
using Usage = std::tuple<uint32_t, uint32_t, uint32_t, uint32_t>;
inline Usage UsageOf(Slots& slots) {
  return {slots.frontends_used(), slots.services().used(), slots.lists().used(),
          slots.backends().used()};
}

class ModelAgent {
 public:
  explicit ModelAgent(const Sizes& sizes = RoomySizes())
      : sizes_(sizes), store(sizes), slots(sizes) {}

  absl::StatusOr<Planned> PlanFor(const ResolvedService& service) {
    const auto found = tables.services.find(service.name);
    return Plan(Compile(service), found == tables.services.end() ? nullptr : &found->second,
                store.arrays(), slots);
  }

  // Plans and applies. Returns what was planned.
  WritePlan Set(const ResolvedService& service) {
    absl::StatusOr<Planned> planned = PlanFor(service);
    EXPECT_TRUE(planned.ok()) << planned.status();
    if (!planned.ok()) return {};
    Apply(planned->plan);
    tables.services[service.name] = std::move(planned->after);
    return std::move(planned->plan);
  }

  WritePlan Remove(const ServiceName& name) {
    WritePlan plan = PlanRemoval(tables.services.at(name));
    Apply(plan);
    tables.services.erase(name);
    return plan;
  }

  void Apply(const WritePlan& plan) {
    Writer writer(&store);
    const absl::Status status = writer.Apply(plan);
    EXPECT_TRUE(status.ok()) << status;
    slots.Retire(plan.retired, ++epoch);
  }

  // All grace periods are over.
  void Reclaim() { Writer(&store).ClearLists(slots.Reclaim(epoch)); }

  CheckedTables ReadBack() { return CheckTables(*store.Read(), store.arrays()); }
  std::vector<ResolvedService> InForce() { return Decompile(ReadBack().tables, store.arrays()); }

  // The maps hold these Services and nothing else, nothing is damaged, and nothing
  // leaked from the pools.
  void ExpectHolds(std::vector<ResolvedService> expected) {
    Reclaim();
    std::sort(expected.begin(), expected.end());
    const CheckedTables checked = ReadBack();
    for (const Problem& problem : checked.problems)
      ADD_FAILURE() << problem.ToString();
    EXPECT_EQ(Decompile(checked.tables, store.arrays()), expected);
    Slots fresh(sizes_);
    fresh.Adopt(checked.tables);
    EXPECT_EQ(UsageOf(slots), UsageOf(fresh));
  }

  Outcome Lookup(const waggle_frontend_key& key) {
    std::string error;
    Outcome outcome = store.Lookup(key, &error);
    EXPECT_EQ(error, "");
    return outcome;
  }

 private:
  Sizes sizes_;

 public:
  FakeMapStore store;
  Slots slots;
  Tables tables;
  uint64_t epoch = 0;
};

}  // namespace waggle::maps

#endif
