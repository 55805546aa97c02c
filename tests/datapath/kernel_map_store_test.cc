// The kernel's store and the fake that all planner tests use do the same: random worlds
// are written to both, one plan after the other, and read back.
#include "maps/kernel_map_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/datapath/lookup.h"  // first: the skeleton speaks of its structures

#include "lookup.skel.h"
#include "maps/compile.h"
#include "maps/writer.h"
#include "tests/datapath/kernel_maps.h"
#include "tests/unit/maps/model_agent.h"
#include "tests/unit/maps/world.h"

namespace waggle::maps {
namespace {

struct Deleter {
  void operator()(lookup* skeleton) const { lookup__destroy(skeleton); }
};
using Skeleton = std::unique_ptr<lookup, Deleter>;

Skeleton Load(const Sizes& sizes) {
  Skeleton skeleton(lookup__open());
  if (!skeleton) return nullptr;
  SetSizes(skeleton->obj, sizes);
  if (lookup__load(skeleton.get()) != 0) return nullptr;
  return skeleton;
}

template <typename T>
std::string Bytes(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// Key and value one by one, as there is padding between them.
std::vector<std::string> Sorted(const std::vector<RawTables::FrontendEntry>& entries) {
  std::vector<std::string> all;
  for (const auto& [key, value] : entries)
    all.push_back(Bytes(key) + Bytes(value));
  std::sort(all.begin(), all.end());
  return all;
}
std::vector<std::string> Sorted(const std::vector<RawTables::ServiceEntry>& entries) {
  std::vector<std::string> all;
  for (const auto& [id, value] : entries)
    all.push_back(Bytes(id) + Bytes(value));
  std::sort(all.begin(), all.end());
  return all;
}

void ExpectSame(MapStore& left, MapStore& right) {
  const auto left_raw = left.Read();
  const auto right_raw = right.Read();
  ASSERT_TRUE(left_raw.ok() && right_raw.ok());
  EXPECT_EQ(Sorted(left_raw->frontends), Sorted(right_raw->frontends));
  EXPECT_EQ(Sorted(left_raw->services), Sorted(right_raw->services));
  const ArrayView left_arrays = left.arrays();
  const ArrayView right_arrays = right.arrays();
  ASSERT_TRUE(left.Cover(left_arrays.lists_size, left_arrays.backends_size).ok());
  ASSERT_TRUE(right.Cover(right_arrays.lists_size, right_arrays.backends_size).ok());
  ASSERT_EQ(left_arrays.lists_size, right_arrays.lists_size);
  ASSERT_EQ(left_arrays.backends_size, right_arrays.backends_size);
  EXPECT_EQ(std::memcmp(left_arrays.lists, right_arrays.lists,
                        left_arrays.lists_size * sizeof(waggle_list)),
            0);
  EXPECT_EQ(std::memcmp(left_arrays.backends, right_arrays.backends,
                        left_arrays.backends_size * sizeof(waggle_backend)),
            0);
  EXPECT_EQ(std::memcmp(left.agent(), right.agent(), sizeof(waggle_agent)), 0);
}

TEST(KernelMapStore, AgreesWithTheFake) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    const Skeleton skeleton = Load(RoomySizes());
    ASSERT_TRUE(skeleton) << "these tests need root";
    const auto real = StoreOf(skeleton->obj);
    ASSERT_TRUE(real.ok()) << real.status();
    ModelAgent model;
    World world(seed);
    for (int round = 0; round < 6; ++round) {
      // Both clear the same slots, and so what the fake's pools free is free in the kernel.
      const std::vector<uint32_t> free = model.slots.Reclaim(model.epoch);
      Writer(&model.store).ClearLists(free);
      Writer(real->get()).ClearLists(free);
      WritePlan plan;
      for (const auto& [name, service] : world.Services()) {
        const auto known = model.tables.services.find(name);
        if (service.ports.empty()) {
          if (known == model.tables.services.end()) continue;
          plan.Append(PlanRemoval(known->second));
          model.tables.services.erase(known);
          continue;
        }
        auto planned = model.PlanFor(service);
        ASSERT_TRUE(planned.ok()) << planned.status();
        plan.Append(std::move(planned->plan));
        model.tables.services[name] = std::move(planned->after);
      }
      model.Apply(plan);
      ASSERT_TRUE(Writer(real->get()).Apply(plan).ok());
      ExpectSame(**real, model.store);
      if (HasFailure()) return;
      world.Change();
    }
  }
}

// More rows than one batch holds, and back.
TEST(KernelMapStore, ManyRows) {
  constexpr uint32_t kRows = 9000;
  const Skeleton skeleton =
      Load({.frontends = kRows, .services = kRows, .backends = 1, .udp_flows = 1});
  ASSERT_TRUE(skeleton) << "these tests need root";
  const auto store = StoreOf(skeleton->obj);
  ASSERT_TRUE(store.ok());
  std::vector<WritePlan::FrontendInsert> rows;
  for (uint32_t i = 0; i < kRows; ++i) {
    waggle_frontend_key key{};
    std::memcpy(key.addr, &i, sizeof(i));
    rows.push_back({key, RowOf(key, i, i)});
  }
  ASSERT_TRUE((*store)->InsertFrontends(rows).ok());
  waggle_service service{};
  service.ns[0] = 'n';
  for (uint32_t i = 0; i < kRows; ++i)
    ASSERT_TRUE((*store)->PutService(i, service).ok());
  auto raw = (*store)->Read();
  ASSERT_TRUE(raw.ok());
  EXPECT_EQ(raw->frontends.size(), kRows);
  EXPECT_EQ(raw->services.size(), kRows);
  std::vector<uint32_t> ids;
  for (const auto& entry : raw->services)
    ids.push_back(entry.id);
  std::sort(ids.begin(), ids.end());
  EXPECT_TRUE(std::adjacent_find(ids.begin(), ids.end()) == ids.end()) << "a row was read twice";

  // Full to the last row: what the planner counts is what the kernel takes.
  waggle_frontend_key one_more{};
  one_more.protocol = 1;
  const WritePlan::FrontendInsert insert{one_more, {}};
  const absl::Status full = (*store)->InsertFrontends({&insert, 1});
  EXPECT_FALSE(full.ok());
  EXPECT_THAT(std::string(full.message()), ::testing::HasSubstr("map frontends"));
  // A move still works there.
  ASSERT_TRUE((*store)->DeleteFrontend(rows[0].key).ok());
  ASSERT_TRUE((*store)->InsertFrontends({rows.data(), 1}).ok());

  for (const auto& row : rows)
    ASSERT_TRUE((*store)->DeleteFrontend(row.key).ok());
  EXPECT_TRUE((*store)->Read()->frontends.empty());
}

// Arrays are mapped as far as they are used, and stay where they are.
TEST(GrowingMapping, MapsWhatIsUsed) {
  constexpr uint32_t kRows = 100'000;
  const Skeleton skeleton =
      Load({.frontends = 1, .services = 1, .backends = kRows, .udp_flows = 1});
  ASSERT_TRUE(skeleton) << "these tests need root";
  const int fd = bpf_map__fd(bpf_object__find_map_by_name(skeleton->obj, "backends"));
  auto mapping = GrowingMapping::Reserve(fd, sizeof(waggle_backend), "backends");
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  EXPECT_EQ(mapping->entries(), kRows);
  EXPECT_EQ(mapping->mapped_bytes(), 0u);
  auto* const rows = static_cast<waggle_backend*>(mapping->data());
  ASSERT_TRUE(mapping->Cover(1).ok());
  const size_t piece = mapping->mapped_bytes();
  EXPECT_GE(piece, sizeof(waggle_backend));
  EXPECT_LT(piece, kRows * sizeof(waggle_backend) / 4);
  rows[0].service_id = 7;

  const uint32_t last = 50'000;
  ASSERT_TRUE(mapping->Cover(last + 1).ok());
  EXPECT_GE(mapping->mapped_bytes(), (last + 1) * sizeof(waggle_backend));
  EXPECT_LT(mapping->mapped_bytes(), (last + 1) * sizeof(waggle_backend) + 2 * piece);
  EXPECT_EQ(rows[0].service_id, 7u);
  rows[last].service_id = 8;
  waggle_backend row{};
  ASSERT_EQ(bpf_map_lookup_elem(fd, &last, &row), 0);
  EXPECT_EQ(row.service_id, 8u);

  ASSERT_TRUE(mapping->Cover(uint64_t{1} << 40).ok()) << "all, and no more";
  rows[kRows - 1].service_id = 9;
  const GrowingMapping moved = *std::move(mapping);
  EXPECT_EQ(moved.data(), rows);
  EXPECT_EQ(rows[kRows - 1].service_id, 9u);
}

// A new agent looks at what the last one wrote, and at what a stranger did.
TEST(KernelMapStore, ReadCoversWhatItFinds) {
  constexpr uint32_t kFar = 60'000;
  const Skeleton skeleton =
      Load({.frontends = 10, .services = kFar, .backends = 2 * kFar, .udp_flows = 1});
  ASSERT_TRUE(skeleton) << "these tests need root";
  waggle_frontend_key key{};
  {
    const auto writer = StoreOf(skeleton->obj);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->Cover(kFar + 1, kFar + 3).ok());
    waggle_backend backend{};
    backend.service_id = 3;
    (*writer)->StoreBackends(kFar + 2, {&backend, 1});
    waggle_list list{};
    list.base = kFar + 2;
    list.count = 1;
    (*writer)->StoreList(kFar, list);
    const WritePlan::FrontendInsert row{key, RowOf(key, kFar, 3)};
    ASSERT_TRUE((*writer)->InsertFrontends({&row, 1}).ok());
    key.protocol = 1;
    const WritePlan::FrontendInsert outside{key, RowOf(key, ~0u, 3)};
    ASSERT_TRUE((*writer)->InsertFrontends({&outside, 1}).ok());
  }
  const auto store = StoreOf(skeleton->obj);
  ASSERT_TRUE(store.ok());
  ASSERT_TRUE((*store)->Read().ok());
  EXPECT_EQ((*store)->arrays().lists[kFar].base, kFar + 2);
  EXPECT_EQ((*store)->arrays().backends[kFar + 2].service_id, 3u);
}

TEST(KernelMapStore, WhatIsNotThereIsDeletedWithoutError) {
  const Skeleton skeleton = Load(RoomySizes());
  ASSERT_TRUE(skeleton) << "these tests need root";
  const auto store = StoreOf(skeleton->obj);
  ASSERT_TRUE(store.ok());
  EXPECT_TRUE((*store)->DeleteFrontend({}).ok());
  EXPECT_TRUE((*store)->DeleteService(7).ok());
  waggle_frontend_key key{};
  const WritePlan::FrontendInsert row{key, {}};
  EXPECT_TRUE((*store)->InsertFrontends({&row, 1}).ok());
  EXPECT_FALSE((*store)->InsertFrontends({&row, 1}).ok()) << "rows are never overwritten";
}

}  // namespace
}  // namespace waggle::maps
