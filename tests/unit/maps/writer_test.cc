#include "maps/writer.h"

#include <gtest/gtest.h>

#include "tests/unit/maps/model_agent.h"
#include "tests/unit/maps/testing.h"

namespace waggle::maps {
namespace {

ResolvedService Web(std::string_view address = "10.96.0.1:80") {
  return Service("web", {Port("http", {Forward({address}, {"10.1.0.1:1", "10.1.0.2:1"})})});
}

TEST(Writer, CountsWhatItDoes) {
  ModelAgent agent;
  const waggle_agent& counts = *agent.store.agent();
  agent.Set(Web());
  EXPECT_EQ(counts.plans_applied, 1u);
  EXPECT_EQ(counts.backend_stores, 2u);
  EXPECT_EQ(counts.list_stores, 1u);
  EXPECT_EQ(counts.hash_inserts, 2u);  // a name and a frontend
  EXPECT_EQ(counts.hash_deletes, 0u);
  agent.Set(Web());
  EXPECT_EQ(counts.plans_applied, 1u) << "a plan without steps is no plan";
  agent.Remove({"ns", "web"});
  EXPECT_EQ(counts.plans_applied, 2u);
  EXPECT_EQ(counts.hash_deletes, 2u);
  agent.Reclaim();
  EXPECT_EQ(counts.list_stores, 2u) << "the slot was cleared";
  EXPECT_EQ(counts.write_errors, 0u);
}

TEST(Writer, WithoutMemoryForTheArraysNothingIsWritten) {
  ModelAgent agent;
  agent.Set(Web());
  const auto frontends = agent.store.frontends().size();
  auto planned = agent.PlanFor(
      Service("more", {Port("http", {Forward({"10.96.0.2:80"}, {"10.1.0.3:1", "10.1.0.4:1"})})}));
  ASSERT_TRUE(planned.ok());
  agent.store.no_memory = true;
  EXPECT_TRUE(absl::IsResourceExhausted(Writer(&agent.store).Apply(planned->plan)));
  EXPECT_EQ(agent.store.frontends().size(), frontends);
  EXPECT_EQ(agent.store.services().size(), 1u);
  agent.store.no_memory = false;
  EXPECT_TRUE(Writer(&agent.store).Apply(planned->plan).ok());
  EXPECT_EQ(agent.store.frontends().size(), frontends + 1);
}

TEST(Writer, CountsMovesAsOneOfEach) {
  ModelAgent agent;
  agent.Set(Web());
  ResolvedService other_kind = Web();
  other_kind.ports[0].lists[0].frontends[0].kind = FrontendKind::kExternalIp;
  const waggle_agent before = *agent.store.agent();
  agent.Set(other_kind);
  EXPECT_EQ(agent.store.agent()->hash_inserts, before.hash_inserts + 1);
  EXPECT_EQ(agent.store.agent()->hash_deletes, before.hash_deletes + 1);
}

TEST(Writer, ClearsSlotsThatNobodyHolds) {
  ModelAgent agent;
  agent.Set(Web());
  agent.Remove({"ns", "web"});
  EXPECT_EQ(agent.store.lists()[0].fate, WAGGLE_FATE_FORWARD) << "a reader may still be there";
  agent.Reclaim();
  EXPECT_EQ(agent.store.lists()[0].fate, WAGGLE_FATE_NONE);
}

// Whatever call fails: the error comes back, is counted, and reading the maps again
// and planning anew reaches the goal.
TEST(Writer, AFailedStepLeavesASafePrefix) {
  const auto before =
      Service("web", {Port("a", {Forward({"10.96.0.1:80", "10.96.0.2:80"}, {"10.1.0.1:1"})}),
                      Port("b", {Forward({"10.96.0.1:81"}, {"10.1.0.1:1"})})});
  ResolvedService goal = Service(
      "web",
      {Port("a", {Forward({"10.96.0.1:80", "10.96.0.3:80", "10.96.0.4:80"}, {"10.1.0.2:1"})}),
       Port("c", {Forward({"10.96.0.1:82"}, {"10.1.0.2:1"})})});
  goal.ports[0].lists[0].frontends[0].kind = FrontendKind::kExternalIp;
  int call = 1;
  for (bool failed = true; failed; ++call) {
    SCOPED_TRACE(call);
    ASSERT_LT(call, 100);
    ModelAgent agent;
    agent.Set(before);
    auto planned = agent.PlanFor(goal);
    ASSERT_TRUE(planned.ok());
    agent.store.fail_in = call;
    Writer writer(&agent.store);
    const absl::Status status = writer.Apply(planned->plan);
    agent.store.fail_in.reset();
    failed = !status.ok();
    EXPECT_EQ(agent.store.agent()->write_errors, failed ? 1u : 0u);
    EXPECT_EQ(status.code(), failed ? absl::StatusCode::kUnavailable : absl::StatusCode::kOk);

    const CheckedTables checked = agent.ReadBack();
    agent.slots = Slots(RoomySizes());
    agent.slots.Adopt(checked.tables);
    agent.tables = checked.tables;
    agent.Apply(PlanStrays(checked.tables));
    agent.Set(goal);
    agent.ExpectHolds({goal});
  }
  EXPECT_GT(call, 8) << "the plan has fewer calls than this test is for";
}

}  // namespace
}  // namespace waggle::maps
