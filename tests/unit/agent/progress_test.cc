#include "userspace/agent/progress.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <numeric>
#include <string>

namespace waggle::agent {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kV4 = 0;
constexpr size_t kV6 = 1;
const Moment kStart = {health::Time(seconds(1000)), health::WallTime(seconds(1'700'000'000))};

Moment After(health::Duration duration) {
  return {kStart.steady + duration, kStart.wall + duration};
}

k8s::ObjectChange Service(const std::string& name, health::Duration read) {
  return {{k8s::ObjectKind::kService, {"ns", name}},
          k8s::Object(std::make_shared<k8s::Service>()),
          kStart.steady + read};
}
// `trigger`: Unix time from the start on; none: no annotation.
k8s::ObjectChange Slice(net::Family family, health::Duration read,
                        std::optional<health::Duration> trigger = std::nullopt,
                        const std::string& name = "s") {
  auto slice = std::make_shared<k8s::EndpointSlice>();
  slice->family = family;
  if (trigger) slice->trigger.unix_ns = (kStart.wall + *trigger).time_since_epoch().count();
  return {{k8s::ObjectKind::kEndpointSlice, {"ns", name}},
          k8s::Object(std::move(slice)),
          kStart.steady + read};
}
k8s::ObjectChange SliceGone(health::Duration read, const std::string& name = "s") {
  return {{k8s::ObjectKind::kEndpointSlice, {"ns", name}}, k8s::Deleted{}, kStart.steady + read};
}
k8s::ObjectChange Node(health::Duration read) {
  return {{k8s::ObjectKind::kNode, {"", "n"}},
          k8s::Object(std::make_shared<k8s::Node>()),
          kStart.steady + read};
}

uint64_t Count(const metrics::Histogram& histogram) {
  const auto counts = histogram.counts();
  return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

class ProgressTest : public testing::Test {
 protected:
  void Took(std::vector<k8s::ObjectChange> changes, health::Duration when) {
    EventQueue::Batch batch;
    batch.changes = std::move(changes);
    progress_.Took(batch, After(when));
  }
  void Tried(health::Duration when, bool done, bool full = false) {
    progress_.Tried({.began = After(when - microseconds(40)),
                     .ended = After(when),
                     .ready = true,
                     .done = done,
                     .full = full});
  }
  // The first lists are in the kernel.
  void BeReady() {
    Took({Service("a", seconds(0))}, seconds(1));
    Tried(seconds(1), true, true);
  }
  health::State Read(health::Duration when) {
    board_.Beat(After(when).steady);
    return board_.Read({}, seconds(30), After(when).steady, After(when).wall);
  }
  const metrics::FamilyMetrics& family(size_t index) const { return metrics_.families[index]; }

  health::Board board_{kStart.steady};
  metrics::AgentMetrics metrics_;
  Progress progress_{&board_, &metrics_, kStart.wall};
};

TEST_F(ProgressTest, TheFirstListsAreNoLateEvents) {
  Took({Service("a", seconds(0)), Slice(net::Family::kIpv4, seconds(0), seconds(-50))}, seconds(1));
  progress_.Tried({.began = After(seconds(1)), .ended = After(seconds(1)), .done = true});
  EXPECT_FALSE(Read(seconds(500)).families[kV4].pending);
  EXPECT_FALSE(Read(seconds(500)).families[kV4].updated);
  EXPECT_EQ(Count(family(kV4).sync), 0u);
  EXPECT_EQ(metrics_.slices_pending.value(), 1);

  Tried(seconds(2), true, true);
  const health::State state = Read(seconds(3));
  for (const size_t each : {kV4, kV6}) {
    EXPECT_EQ(state.families[each].updated, After(seconds(2)).wall);
    EXPECT_FALSE(state.families[each].pending);
    EXPECT_EQ(Count(family(each).sync), 1u);
    EXPECT_EQ(Count(family(each).sync_full), 1u);
    EXPECT_EQ(Count(family(each).sync_partial), 0u);
    EXPECT_EQ(Count(family(each).programming), 0u);
  }
  EXPECT_EQ(Count(metrics_.event_to_kernel), 0u);
  EXPECT_EQ(metrics_.service_changes.value(), 1u);
  EXPECT_EQ(metrics_.slice_changes.value(), 1u);
  EXPECT_EQ(metrics_.slices_pending.value(), 0);
}

// An agent that was started again because nothing could be written has the same trouble.
TEST_F(ProgressTest, WhatIsRefusedFromTheStartWaits) {
  Took({Service("a", seconds(0))}, seconds(1));
  progress_.Tried({.began = After(seconds(2)), .ended = After(seconds(2))});
  EXPECT_EQ(family(kV4).failures.value(), 1u);
  EXPECT_TRUE(health::ProxyHealthy(Read(seconds(30))));
  EXPECT_FALSE(health::ProxyHealthy(Read(seconds(70))));
  Tried(seconds(80), true, true);
  EXPECT_TRUE(health::ProxyHealthy(Read(seconds(81))));
}

TEST_F(ProgressTest, MeasuresEachChangeInItsFamily) {
  BeReady();
  Took({Slice(net::Family::kIpv6, seconds(10), seconds(9)), Node(seconds(10))}, seconds(10));
  EXPECT_EQ(Read(seconds(11)).families[kV6].pending, seconds(1));
  Tried(seconds(10) + microseconds(45), true);
  EXPECT_EQ(Count(metrics_.event_to_kernel), 1u);
  EXPECT_NEAR(metrics_.event_to_kernel.sum(), 45e-6, 1e-9);
  EXPECT_EQ(Count(metrics_.reconcile), 2u);
  // The Node concerns both.
  EXPECT_EQ(Count(family(kV4).sync), 2u);
  Took({Slice(net::Family::kIpv6, seconds(20), seconds(19))}, seconds(20));
  Tried(seconds(21), true);
  EXPECT_EQ(Count(family(kV4).sync), 2u);
  EXPECT_EQ(Count(family(kV6).sync), 3u);
  EXPECT_EQ(Count(family(kV6).sync_partial), 2u);
  EXPECT_EQ(Count(family(kV4).programming), 0u);
  EXPECT_EQ(Count(family(kV6).programming), 2u);
  EXPECT_NEAR(family(kV6).programming.sum(), 1 + 45e-6 + 2, 1e-6);
  EXPECT_EQ(Read(seconds(30)).families[kV6].updated, After(seconds(21)).wall);
  EXPECT_EQ(Read(seconds(30)).families[kV4].updated, After(seconds(10) + microseconds(45)).wall);
  EXPECT_EQ(family(kV6).last_queued.value(), 1'700'000'020);
  EXPECT_EQ(family(kV6).last_sync.value(), 1'700'000'021);
}

TEST_F(ProgressTest, WhatTheKernelRefusesWaits) {
  BeReady();
  Took({Slice(net::Family::kIpv4, seconds(10), seconds(9))}, seconds(10));
  Tried(seconds(10), false);
  Took({Slice(net::Family::kIpv6, seconds(20), seconds(20), "t"), Service("b", seconds(20))},
       seconds(20));
  Tried(seconds(20), false, true);
  health::State state = Read(seconds(75));
  EXPECT_EQ(state.families[kV4].pending, seconds(65));
  // Since the first refusal nobody knows what the kernel holds.
  EXPECT_EQ(state.families[kV6].pending, seconds(65) + microseconds(40));
  EXPECT_FALSE(health::ProxyHealthy(state));
  EXPECT_EQ(family(kV4).failures.value(), 2u);
  EXPECT_EQ(metrics_.services_pending.value(), 1);
  EXPECT_EQ(metrics_.slices_pending.value(), 2);
  EXPECT_EQ(Count(metrics_.event_to_kernel), 0u);

  Tried(seconds(80), true, true);
  state = Read(seconds(81));
  EXPECT_TRUE(health::ProxyHealthy(state));
  EXPECT_FALSE(state.families[kV4].pending);
  EXPECT_EQ(Count(metrics_.event_to_kernel), 3u);
  EXPECT_NEAR(metrics_.event_to_kernel.sum(), 70 + 60 + 60, 1e-6);
  EXPECT_EQ(Count(family(kV4).programming), 1u);
  EXPECT_NEAR(family(kV4).programming.sum(), 71, 1e-6);
  EXPECT_EQ(metrics_.slices_pending.value(), 0);
}

TEST_F(ProgressTest, ARetryWithoutChangesCounts) {
  BeReady();
  const uint64_t before = Count(family(kV4).sync);
  // Nothing waits and nothing was wrong: a grace period that ended.
  Tried(seconds(5), true);
  EXPECT_EQ(Count(family(kV4).sync), before);
  Tried(seconds(10), false);
  EXPECT_EQ(family(kV6).failures.value(), 1u);
  EXPECT_TRUE(Read(seconds(20)).families[kV6].pending);
  Tried(seconds(30), true);
  EXPECT_FALSE(Read(seconds(31)).families[kV6].pending);
  EXPECT_EQ(Count(family(kV6).sync), before + 2);
}

TEST_F(ProgressTest, OnlyTimesSinceTheStartThatStillMatterAreMeasured) {
  BeReady();
  Took({Slice(net::Family::kIpv4, seconds(10), seconds(-1), "old"),
        Slice(net::Family::kIpv4, seconds(10), std::nullopt, "none"),
        Slice(net::Family::kIpv4, seconds(10), seconds(9), "gone"),
        // By a clock that is ahead.
        Slice(net::Family::kIpv4, seconds(10), seconds(60), "ahead")},
       seconds(10));
  Tried(seconds(10), false);
  Took({SliceGone(seconds(11), "gone")}, seconds(11));
  Tried(seconds(12), true);
  EXPECT_EQ(Count(family(kV4).programming), 1u);
  EXPECT_EQ(family(kV4).programming.sum(), 0);
  EXPECT_EQ(Count(metrics_.event_to_kernel), 5u);
}

TEST_F(ProgressTest, MemoryIsBounded) {
  BeReady();
  std::vector<k8s::ObjectChange> many(Progress::kMaxWaiting + 10, Service("a", seconds(2)));
  Took(std::move(many), seconds(2));
  Tried(seconds(2), false);
  Tried(seconds(3), true);
  EXPECT_EQ(Count(metrics_.event_to_kernel), Progress::kMaxWaiting);
  EXPECT_EQ(metrics_.services_pending.value(), 0);
}

}  // namespace
}  // namespace waggle::agent
