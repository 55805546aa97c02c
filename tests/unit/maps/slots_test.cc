#include "maps/slots.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "tests/unit/maps/testing.h"

namespace waggle::maps {
namespace {

TEST(IdPool, GivesTheLowestFreeIdAndNoneWhenFull) {
  for (const uint32_t capacity : {1u, 2u, 63u, 64u, 65u, 128u, 200u}) {
    SCOPED_TRACE(capacity);
    IdPool pool(capacity);
    for (uint32_t id = 0; id < capacity; ++id)
      ASSERT_EQ(pool.Take(), id);
    EXPECT_EQ(pool.used(), capacity);
    EXPECT_EQ(pool.Take(), std::nullopt);
    pool.Release(capacity - 1);
    pool.Release(0);
    EXPECT_EQ(pool.used(), capacity - (capacity == 1 ? 1 : 2));
    EXPECT_EQ(pool.Take(), 0u);
  }
}

TEST(IdPool, ReserveRefusesWhatIsTakenOrOutside) {
  IdPool pool(70);
  EXPECT_TRUE(pool.Reserve(69));
  EXPECT_FALSE(pool.Reserve(69));
  EXPECT_FALSE(pool.Reserve(70));
  EXPECT_FALSE(pool.Reserve(~0u));
  EXPECT_EQ(pool.used(), 1u);
  for (uint32_t id = 0; id < 69; ++id)
    ASSERT_EQ(pool.Take(), id);
  EXPECT_EQ(pool.Take(), std::nullopt);
}

// Ids come from pinned maps, too: `services` is a hash, and anybody with the rights can
// put id 4294967295 there.
TEST(IdPool, ReleaseOfWhatWasNeverTakenChangesNothing) {
  IdPool pool(70);
  EXPECT_EQ(pool.Take(), 0u);
  pool.Release(~0u);
  pool.Release(70);
  pool.Release(127);
  pool.Release(1);
  EXPECT_EQ(pool.used(), 1u);
  for (uint32_t id = 1; id < 70; ++id)
    ASSERT_EQ(pool.Take(), id);
  EXPECT_EQ(pool.Take(), std::nullopt);
}

TEST(IdPool, AgreesWithASetOverRandomOperations) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const uint32_t capacity = 1 + random.Below(200);
    IdPool pool(capacity);
    std::set<uint32_t> taken;
    for (int step = 0; step < 500; ++step) {
      switch (random.Below(3)) {
        case 0: {
          std::optional<uint32_t> lowest;
          for (uint32_t id = 0; id < capacity && !lowest; ++id) {
            if (!taken.contains(id)) lowest = id;
          }
          const auto id = pool.Take();
          ASSERT_EQ(id, lowest);
          if (id) taken.insert(*id);
          break;
        }
        case 1: {
          const uint32_t id = random.Below(capacity + 10);
          ASSERT_EQ(pool.Reserve(id), id < capacity && taken.insert(id).second) << id;
          break;
        }
        default: {
          if (taken.empty()) break;
          auto chosen = taken.lower_bound(random.Below(capacity));
          if (chosen == taken.end()) chosen = taken.begin();
          pool.Release(*chosen);
          taken.erase(chosen);
        }
      }
      ASSERT_EQ(pool.used(), taken.size());
    }
  }
}

TEST(RangePool, JoinsNeighbours) {
  RangePool pool(30);
  ASSERT_EQ(pool.Take(10), 0u);
  ASSERT_EQ(pool.Take(10), 10u);
  ASSERT_EQ(pool.Take(10), 20u);
  EXPECT_EQ(pool.Take(1), std::nullopt);
  pool.Release(0, 10);
  pool.Release(20, 10);
  EXPECT_EQ(pool.Take(11), std::nullopt);
  pool.Release(10, 10);
  EXPECT_EQ(pool.used(), 0u);
  EXPECT_EQ(pool.Take(30), 0u);
}

TEST(RangePool, TakesTheSmallestHoleThatFits) {
  RangePool pool(100);
  ASSERT_TRUE(pool.Reserve(10, 80));
  pool.Release(40, 5);
  EXPECT_EQ(pool.Take(4), 40u);
  EXPECT_EQ(pool.Take(1), 44u);
  EXPECT_EQ(pool.Take(10), 0u);
}

TEST(RangePool, ReserveRefusesWhatOverlapsOrLiesOutside) {
  RangePool pool(100);
  ASSERT_TRUE(pool.Reserve(40, 20));
  const std::pair<uint32_t, uint32_t> refused[] = {
      {40, 20}, {39, 2},   {59, 1},  {59, 2},    {0, 100}, {45, 5}, {100, 1},
      {99, 2},  {99, ~0u}, {~0u, 1}, {~0u, ~0u}, {0, 0},   {50, 0}};
  for (const auto& [base, count] : refused) {
    EXPECT_FALSE(pool.Reserve(base, count)) << base << "+" << count;
  }
  EXPECT_TRUE(pool.Reserve(60, 40));
  EXPECT_TRUE(pool.Reserve(0, 40));
  EXPECT_EQ(pool.used(), 100u);
}

// The naive model marks every entry of the array.
TEST(RangePool, AgreesWithANaiveModelOverRandomOperations) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const uint32_t capacity = 1 + random.Below(120);
    RangePool pool(capacity);
    std::vector<bool> taken(capacity);
    std::vector<std::pair<uint32_t, uint32_t>> ranges;
    const auto is_free = [&](uint64_t base, uint64_t count) {
      if (base + count > capacity) return false;
      for (uint64_t i = base; i < base + count; ++i) {
        if (taken[i]) return false;
      }
      return true;
    };
    const auto mark = [&](uint32_t base, uint32_t count, bool value) {
      for (uint32_t i = base; i < base + count; ++i)
        taken[i] = value;
    };
    for (int step = 0; step < 400; ++step) {
      const uint32_t count = 1 + random.Below(12);
      switch (random.Below(3)) {
        case 0: {
          // The shortest hole that is long enough, the lowest of these.
          std::optional<uint32_t> best;
          uint32_t best_length = ~0u;
          for (uint32_t at = 0; at < capacity;) {
            uint32_t length = 0;
            while (at + length < capacity && !taken[at + length])
              ++length;
            if (length >= count && length < best_length) {
              best = at;
              best_length = length;
            }
            at += length + 1;
          }
          const auto base = pool.Take(count);
          ASSERT_EQ(base, best);
          if (!base) break;
          mark(*base, count, true);
          ranges.emplace_back(*base, count);
          break;
        }
        case 1: {
          const uint32_t base = random.Below(capacity + 4);
          const bool expected = is_free(base, count);
          ASSERT_EQ(pool.Reserve(base, count), expected) << base << "+" << count;
          if (!expected) break;
          mark(base, count, true);
          ranges.emplace_back(base, count);
          break;
        }
        default: {
          if (ranges.empty()) break;
          std::swap(ranges[random.Below(static_cast<uint32_t>(ranges.size()))], ranges.back());
          const auto [base, length] = ranges.back();
          ranges.pop_back();
          pool.Release(base, length);
          mark(base, length, false);
        }
      }
      ASSERT_EQ(pool.used(), static_cast<uint32_t>(std::count(taken.begin(), taken.end(), true)));
    }
  }
}

Sizes Small() {
  return {.frontends = 4, .services = 2, .backends = 16, .udp_flows = 1};
}

TEST(Slots, KeepsSlotsAndRangesBackUntilTheirEpochIsOver) {
  Slots slots(Small());
  ASSERT_TRUE(slots.TakeFrontend());
  const uint32_t slot = *slots.lists().Take();
  const uint32_t id = *slots.services().Take();
  const uint32_t base = *slots.backends().Take(16);
  slots.Retire({.slots = {slot}, .ranges = {{base, 16}}, .service_ids = {id}, .frontends = 1}, 7);

  EXPECT_EQ(slots.frontends_used(), 0u);
  EXPECT_EQ(slots.services().used(), 0u) << "programs do not follow ids";
  EXPECT_TRUE(slots.in_quarantine());
  EXPECT_TRUE(slots.Reclaim(6).empty());
  EXPECT_EQ(slots.lists().used(), 1u);
  EXPECT_EQ(slots.backends().Take(1), std::nullopt);
  EXPECT_EQ(slots.Reclaim(7), std::vector<uint32_t>{slot});
  EXPECT_FALSE(slots.in_quarantine());
  EXPECT_EQ(slots.lists().used(), 0u);
  EXPECT_EQ(slots.backends().Take(16), base);
}

TEST(Slots, ReclaimsEveryEpochUpToTheOneThatIsOver) {
  Slots slots(Small());
  for (uint64_t epoch = 1; epoch <= 3; ++epoch) {
    slots.Retire({.slots = {*slots.lists().Take()}, .ranges = {}, .service_ids = {}}, epoch);
  }
  EXPECT_EQ(slots.Reclaim(2), (std::vector<uint32_t>{0, 1}));
  EXPECT_TRUE(slots.in_quarantine());
  EXPECT_EQ(slots.Reclaim(100), std::vector<uint32_t>{2});
}

TEST(Slots, NothingTakenOutOfForceMeansNoQuarantine) {
  Slots slots(Small());
  ASSERT_TRUE(slots.TakeFrontend());
  slots.Retire({.slots = {}, .ranges = {}, .service_ids = {}, .frontends = 1}, 1);
  EXPECT_FALSE(slots.in_quarantine());
}

TEST(Slots, AdoptTakesAllThatTablesUseAndStraysToo) {
  Slots slots(Small());
  Tables tables;
  ListState list;
  list.slot = 3;
  list.list.count = 4;
  list.list.base = 8;
  list.list.fate = WAGGLE_FATE_FORWARD;
  list.frontends.resize(2);
  ListState refused;
  refused.slot = 0;
  refused.list.fate = WAGGLE_FATE_REFUSE;
  refused.frontends.resize(1);
  tables.services[{"ns", "a"}].ports.push_back(
      {.id = 1, .name = "", .protocol = 0, .lists = {list, refused}});
  tables.stray_frontends.resize(1);
  tables.stray_services = {0};
  slots.Adopt(tables);

  EXPECT_EQ(slots.frontends_used(), 4u);
  EXPECT_FALSE(slots.TakeFrontend());
  EXPECT_EQ(slots.services().Take(), std::nullopt);
  EXPECT_EQ(slots.lists().used(), 2u);
  EXPECT_EQ(slots.lists().Take(), 1u);
  EXPECT_EQ(slots.backends().used(), 4u);
  EXPECT_FALSE(slots.backends().Reserve(11, 1));
  EXPECT_TRUE(slots.backends().Reserve(12, 1));
}

TEST(Slots, SizesAreThoseOfTheMaps) {
  Slots slots(Small());
  EXPECT_EQ(slots.lists().capacity(), 8u);
  EXPECT_EQ(slots.services().capacity(), 2u);
  EXPECT_EQ(slots.backends().capacity(), 16u);
  EXPECT_EQ(slots.frontends_capacity(), 4u);
}

}  // namespace
}  // namespace waggle::maps
