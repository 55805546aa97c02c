#include "maps/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/maps/model_agent.h"
#include "tests/unit/maps/testing.h"

namespace waggle::maps {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

ResolvedService Web(std::vector<std::string_view> backends = {"10.244.0.1:8080",
                                                              "10.244.0.2:8080"}) {
  return Service("web", {Port("http", {Forward({"10.96.0.1:80"}, std::move(backends))})});
}

// The number of writes of each kind, to compare a plan with a row of a table.
struct Writes {
  size_t backend_ranges = 0;
  size_t service_puts = 0;
  size_t list_stores = 0;
  size_t inserts = 0;
  size_t moves = 0;
  size_t deletes = 0;
  size_t service_deletes = 0;

  friend bool operator==(const Writes&, const Writes&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Writes& writes) {
    return out << "ranges " << writes.backend_ranges << " puts " << writes.service_puts << " lists "
               << writes.list_stores << " inserts " << writes.inserts << " moves " << writes.moves
               << " deletes " << writes.deletes << " service deletes " << writes.service_deletes;
  }
};
Writes Count(const WritePlan& plan) {
  return {plan.backends.size(),         plan.service_puts.size(),   plan.list_stores.size(),
          plan.frontend_inserts.size(), plan.frontend_moves.size(), plan.frontend_deletes.size(),
          plan.service_deletes.size()};
}

struct Case {
  const char* name;
  ResolvedService before;
  ResolvedService after;
  Writes writes;
  size_t slots_retired = 0;
  size_t ranges_retired = 0;
};

ResolvedService With(Fate fate) {
  return Service("web", {Port("http", {Without(fate, {"10.96.0.1:80"})})});
}
ResolvedService Dual(std::vector<std::string_view> v6_backends) {
  return Service("web", {Port("http", {Forward({"10.96.0.1:80"}, {"10.244.0.1:8080"}),
                                       Forward({"[fd00::1]:80"}, std::move(v6_backends))})});
}
ResolvedService WithKind(FrontendKind kind) {
  ResolvedService service = Web();
  service.ports[0].lists[0].frontends[0].kind = kind;
  return service;
}
ResolvedService WithAffinity(uint32_t seconds) {
  ResolvedService service = Web();
  service.ports[0].lists[0].affinity_s = seconds;
  return service;
}
ResolvedService TwoPorts(std::string first, std::string second) {
  return Service("web", {Port(first, {Forward({"10.96.0.1:80"}, {"10.244.0.1:8080"})}),
                         Port(second, {Forward({"10.96.0.1:81"}, {"10.244.0.1:8081"})})});
}
// The frontends of three addresses, grouped into lists.
ResolvedService Grouped(std::vector<std::vector<std::string_view>> groups) {
  std::vector<BackendList> lists;
  for (size_t i = 0; i < groups.size(); ++i) {
    const std::string backend = "10.244.1." + std::to_string(i) + ":8080";
    lists.push_back(Forward(std::move(groups[i]), {backend}));
  }
  return Service("web", {Port("http", std::move(lists))});
}

std::vector<Case> Cases() {
  ResolvedService local_policy = Web();
  local_policy.ports[0].lists[0].policy = Policy::kLocal;
  ResolvedService flagged = Web();
  flagged.ports[0].lists[0].backends[0].local = true;
  ResolvedService udp = Service(
      "web", {Port("http", {Forward({"10.96.0.1:80"}, {"10.244.0.1:8080"})}, net::Protocol::kUdp)});
  return {
      {"a new Service", {}, Web(), {1, 1, 1, 1, 0, 0, 0}},
      {"a new Service without endpoints", {}, With(Fate::kRefuse), {0, 1, 1, 1, 0, 0, 0}},
      {"the same again", Web(), Web(), {}},
      {"the same again, refused", With(Fate::kRefuse), With(Fate::kRefuse), {}},
      {"a backend more",
       Web(),
       Web({"10.244.0.1:8080", "10.244.0.2:8080", "10.244.0.3:8080"}),
       {1, 0, 1, 0, 0, 0, 0},
       0,
       1},
      {"a backend less", Web(), Web({"10.244.0.2:8080"}), {1, 0, 1, 0, 0, 0, 0}, 0, 1},
      {"a backend's port",
       Web(),
       Web({"10.244.0.1:8080", "10.244.0.2:8081"}),
       {1, 0, 1, 0, 0, 0, 0},
       0,
       1},
      {"a backend's flag", Web(), flagged, {1, 0, 1, 0, 0, 0, 0}, 0, 1},
      {"the last backend goes", Web(), With(Fate::kRefuse), {0, 0, 1, 0, 0, 0, 0}, 0, 1},
      {"the first backend comes", With(Fate::kRefuse), Web(), {1, 0, 1, 0, 0, 0, 0}},
      {"forward to drop", Web(), With(Fate::kDrop), {0, 0, 1, 0, 0, 0, 0}, 0, 1},
      {"drop to forward", With(Fate::kDrop), Web(), {1, 0, 1, 0, 0, 0, 0}},
      {"refuse to drop", With(Fate::kRefuse), With(Fate::kDrop), {0, 0, 1, 0, 0, 0, 0}},
      {"drop to refuse", With(Fate::kDrop), With(Fate::kRefuse), {0, 0, 1, 0, 0, 0, 0}},
      {"affinity", Web(), WithAffinity(10800), {0, 0, 1, 0, 0, 0, 0}},
      {"policy", Web(), local_policy, {0, 0, 1, 0, 0, 0, 0}},
      {"a port's name",
       Service("web", {Port("a", {Forward({"10.96.0.1:80"}, {"10.244.0.1:1"})})}),
       Service("web", {Port("b", {Forward({"10.96.0.1:80"}, {"10.244.0.1:1"})})}),
       {0, 1, 0, 0, 0, 0, 0}},
      {"two ports swap their names", TwoPorts("a", "b"), TwoPorts("b", "a"), {0, 2, 0, 0, 0, 0, 0}},
      {"a second family",
       Web({"10.244.0.1:8080"}),
       Dual({"[fd00:1::1]:8080"}),
       {1, 0, 1, 1, 0, 0, 0}},
      {"only the other family's backends",
       Dual({"[fd00:1::1]:8080"}),
       Dual({"[fd00:1::2]:8080"}),
       {1, 0, 1, 0, 0, 0, 0},
       0,
       1},
      {"a family goes",
       Dual({"[fd00:1::1]:8080"}),
       Web({"10.244.0.1:8080"}),
       {0, 0, 0, 0, 0, 1, 0},
       1,
       1},
      {"another kind for the same address",
       Web(),
       WithKind(FrontendKind::kExternalIp),
       {0, 0, 0, 0, 1, 0, 0}},
      {"another address",
       Web(),
       Service("web",
               {Port("http", {Forward({"10.96.0.2:80"}, {"10.244.0.1:8080", "10.244.0.2:8080"})})}),
       {1, 0, 1, 1, 0, 1, 0},
       1,
       1},
      {"another protocol", Web({"10.244.0.1:8080"}), udp, {1, 1, 1, 1, 0, 1, 1}, 1, 1},
      {"all ports go", Web(), Service("web", {}), {0, 0, 0, 0, 0, 1, 1}, 1, 1},
      {"a frontend joins a list",
       Grouped({{"1.0.0.1:80"}}),
       Grouped({{"1.0.0.1:80", "1.0.0.2:80"}}),
       {0, 0, 0, 1, 0, 0, 0}},
      {"a frontend leaves a list",
       Grouped({{"1.0.0.1:80", "1.0.0.2:80"}}),
       Grouped({{"1.0.0.1:80"}}),
       {0, 0, 0, 0, 0, 1, 0}},
      {"a list is split",
       Grouped({{"1.0.0.1:80", "1.0.0.2:80"}}),
       Grouped({{"1.0.0.1:80"}, {"1.0.0.2:80"}}),
       {1, 0, 1, 0, 1, 0, 0}},
      {"a list is split and both parts change",
       Service("web", {Port("http", {Forward({"1.0.0.1:80", "1.0.0.2:80"}, {"10.1.0.1:1"})})}),
       Service("web", {Port("http", {Forward({"1.0.0.1:80"}, {"10.1.0.2:1"}),
                                     Forward({"1.0.0.2:80"}, {"10.1.0.3:1"})})}),
       {2, 0, 2, 0, 2, 0, 0},
       1,
       1},
      {"two lists are joined",
       Grouped({{"1.0.0.1:80"}, {"1.0.0.2:80"}}),
       Grouped({{"1.0.0.1:80", "1.0.0.2:80"}}),
       {0, 0, 0, 0, 1, 0, 0},
       1,
       1},
      {"a frontend goes to another port",
       Service("web", {Port("a", {Forward({"1.0.0.1:80", "1.0.0.2:80"}, {"10.1.0.1:1"})}),
                       Port("b", {Forward({"1.0.0.3:80"}, {"10.1.0.2:1"})})}),
       Service("web", {Port("a", {Forward({"1.0.0.1:80"}, {"10.1.0.1:1"})}),
                       Port("b", {Forward({"1.0.0.2:80", "1.0.0.3:80"}, {"10.1.0.2:1"})})}),
       {0, 0, 0, 0, 1, 0, 0}},
  };
}

TEST(Plan, WritesWhatChangedAndNothingElse) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    ModelAgent agent;
    // Neighbours, so that nothing happens to have number 0.
    const ResolvedService other =
        Service("other", {Port("x", {Forward({"10.96.9.9:9"}, {"10.244.9.9:9"})})});
    agent.Set(other);
    std::vector<ResolvedService> expected{other};
    if (!c.before.name.name.empty()) agent.Set(c.before);
    agent.store.calls = 0;
    const WritePlan plan = agent.Set(c.after);

    EXPECT_EQ(Count(plan), c.writes);
    EXPECT_THAT(plan.retired.slots, SizeIs(c.slots_retired));
    EXPECT_THAT(plan.retired.ranges, SizeIs(c.ranges_retired));
    EXPECT_EQ(plan.empty(), c.writes == Writes{});
    if (c.writes.inserts + c.writes.moves + c.writes.deletes + c.writes.service_puts == 0) {
      EXPECT_EQ(agent.store.calls, 0) << "stores into mmapped arrays cost no system call";
    }
    if (!c.after.ports.empty()) expected.push_back(c.after);
    agent.ExpectHolds(expected);
    EXPECT_TRUE(agent.Set(c.after).empty());
  }
}

TEST(Plan, ARenamedPortKeepsItsIdSlotsAndRows) {
  ModelAgent agent;
  agent.Set(TwoPorts("a", "b"));
  const auto rows = agent.store.frontends();
  const auto plan = agent.Set(TwoPorts("c", "b"));
  ASSERT_THAT(plan.service_puts, SizeIs(1));
  EXPECT_STREQ(plan.service_puts[0].second.port_name, "c");
  for (const auto& [key, row] : rows) {
    EXPECT_EQ(std::memcmp(&agent.store.frontends().at(key), &row, sizeof(row)), 0);
  }
}

TEST(Plan, APortIsKnownByItsNameWhenAllFrontendsAreNew) {
  ModelAgent agent;
  agent.Set(TwoPorts("a", "b"));
  const uint32_t id = agent.tables.services.at({"ns", "web"}).ports[1].id;
  ResolvedService moved = TwoPorts("a", "b");
  moved.ports[1].lists[0].frontends[0] = ClusterIp("10.96.0.1:82");
  const WritePlan plan = agent.Set(moved);
  EXPECT_THAT(plan.service_puts, IsEmpty());
  ASSERT_THAT(plan.frontend_inserts, SizeIs(1));
  EXPECT_EQ(plan.frontend_inserts[0].value.service_id, id);
}

TEST(Plan, NewRowsNameTheSlotAndTheIdAndCarryTheTag) {
  ModelAgent agent;
  const WritePlan plan = agent.Set(Web());
  ASSERT_THAT(plan.frontend_inserts, SizeIs(1));
  const auto& [key, row] = plan.frontend_inserts[0];
  EXPECT_TRUE(SameKey(key, KeyOf("10.96.0.1:80")));
  EXPECT_EQ(row.slot, plan.list_stores[0].first);
  EXPECT_EQ(row.service_id, plan.service_puts[0].first);
  EXPECT_EQ(row.tag, waggle_frontend_tag(&key, row.slot, row.service_id, row.kind));
  EXPECT_EQ(plan.list_stores[0].second.service_id, row.service_id);
  for (const waggle_backend& backend : plan.backends[0].rows) {
    EXPECT_EQ(backend.service_id, row.service_id);
  }
}

TEST(Plan, ChangedBackendsGoIntoAnotherRange) {
  ModelAgent agent;
  const auto first = agent.Set(Web()).list_stores[0].second;
  const auto second = agent.Set(Web({"10.244.0.7:8080"})).list_stores[0].second;
  EXPECT_TRUE(second.base >= first.base + first.count || second.base + second.count <= first.base);
}

TEST(Plan, RemovalTakesEverythingOut) {
  ModelAgent agent;
  agent.Set(TwoPorts("a", "b"));
  const WritePlan plan = agent.Remove({"ns", "web"});
  EXPECT_EQ(Count(plan), (Writes{0, 0, 0, 0, 0, 2, 2}));
  agent.ExpectHolds({});
  EXPECT_TRUE(agent.store.frontends().empty());
  EXPECT_TRUE(agent.store.services().empty());
}

TEST(Plan, StraysAreTakenOut) {
  ModelAgent agent;
  const waggle_frontend_key key = KeyOf("10.0.0.1:1");
  agent.store.frontends()[key] = RowOf(key, 0, 77);
  agent.store.services()[5] = {};
  const CheckedTables checked = agent.ReadBack();
  ASSERT_THAT(checked.problems, SizeIs(2));
  agent.slots.Adopt(checked.tables);
  agent.Apply(PlanStrays(checked.tables));
  agent.ExpectHolds({});
}

// ---- Several Services at once

TEST(PlanAppend, AFrontendThatGoesToAnotherServiceIsAMove) {
  for (const bool taker_first : {false, true}) {
    SCOPED_TRACE(taker_first);
    ModelAgent agent;
    const auto both =
        Service("giver", {Port("a", {Forward({"1.0.0.1:80", "1.0.0.2:80"}, {"10.1.0.1:1"})})});
    const auto one = Service("giver", {Port("a", {Forward({"1.0.0.1:80"}, {"10.1.0.1:1"})})});
    const auto taker =
        Service("taker", {Port("a", {Forward({"1.0.0.2:80", "1.0.0.3:80"}, {"10.1.0.2:1"})})});
    agent.Set(both);
    auto give = agent.PlanFor(one);
    auto take = agent.PlanFor(taker);
    ASSERT_TRUE(give.ok() && take.ok());
    WritePlan plan = std::move(taker_first ? take->plan : give->plan);
    plan.Append(std::move(taker_first ? give->plan : take->plan));
    EXPECT_THAT(plan.frontend_inserts, SizeIs(1));
    EXPECT_THAT(plan.frontend_moves, SizeIs(1));
    EXPECT_THAT(plan.frontend_deletes, IsEmpty());
    agent.Apply(plan);
    agent.ExpectHolds({one, taker});
  }
}

TEST(PlanAppend, AStrayThatAServiceWantsIsAMove) {
  ModelAgent agent;
  const waggle_frontend_key key = KeyOf("10.96.0.1:80");
  agent.store.frontends()[key] = RowOf(key, 0, 77);
  const CheckedTables checked = agent.ReadBack();
  agent.slots.Adopt(checked.tables);
  WritePlan plan = PlanStrays(checked.tables);
  auto web = agent.PlanFor(Web());
  ASSERT_TRUE(web.ok());
  plan.Append(std::move(web->plan));
  EXPECT_EQ(Count(plan), (Writes{1, 1, 1, 0, 1, 0, 0}));
  agent.Apply(plan);
  agent.ExpectHolds({Web()});
}

}  // namespace
}  // namespace waggle::maps
