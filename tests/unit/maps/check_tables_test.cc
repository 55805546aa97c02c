// Every kind of damage in the pins, found and named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "maps/reader.h"
#include "tests/unit/maps/model_agent.h"
#include "tests/unit/maps/testing.h"

namespace waggle::maps {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

const ServiceName kGood{"ns", "good"};
const ServiceName kBad{"ns", "bad"};

ResolvedService Good() {
  return Service("good", {Port("a", {Forward({"10.96.0.1:80"}, {"10.1.0.1:1", "10.1.0.2:1"})})});
}
ResolvedService Bad() {
  return Service("bad", {Port("a", {Forward({"10.96.0.2:80"}, {"10.1.0.3:1", "10.1.0.4:1"})}),
                         Port("b", {Without(Fate::kRefuse, {"10.96.0.2:81"})})});
}

struct Damage {
  const char* name;
  std::function<void(ModelAgent&)> make;
  const char* map;   // in the report
  const char* text;  // in the report
  size_t stray_frontends;
  size_t stray_services;
};

waggle_frontend& Row(ModelAgent& agent) {
  return agent.store.frontends().at(KeyOf("10.96.0.2:80"));
}
waggle_list& List(ModelAgent& agent) {
  return agent.store.lists().at(Row(agent).slot);
}
waggle_list& GoodList(ModelAgent& agent) {
  return agent.store.lists().at(agent.store.frontends().at(KeyOf("10.96.0.1:80")).slot);
}
waggle_service& Name(ModelAgent& agent) {
  return agent.store.services().at(Row(agent).service_id);
}
// Another row with a tag that fits, as a stranger who knows the layout would write it.
void Rewrite(ModelAgent& agent, const std::function<void(waggle_frontend&)>& change) {
  const waggle_frontend_key key = KeyOf("10.96.0.2:80");
  waggle_frontend& row = Row(agent);
  change(row);
  row.tag = waggle_frontend_tag(&key, row.slot, row.service_id, row.kind);
}

const Damage kDamages[] = {
    {"tag", [](ModelAgent& a) { Row(a).tag ^= 1; }, "frontends", "tag", 1, 0},
    {"slot without new tag", [](ModelAgent& a) { ++Row(a).slot; }, "frontends", "tag", 1, 0},
    {"slot outside", [](ModelAgent& a) { Rewrite(a, [](auto& row) { row.slot = 128; }); },
     "frontends", "slot 128 lies outside", 1, 0},
    {"slot far outside", [](ModelAgent& a) { Rewrite(a, [](auto& row) { row.slot = ~0u; }); },
     "frontends", "lies outside", 1, 0},
    {"kind", [](ModelAgent& a) { Rewrite(a, [](auto& row) { row.kind = 9; }); }, "frontends",
     "unknown kind", 1, 0},
    {"unknown id", [](ModelAgent& a) { Rewrite(a, [](auto& row) { row.service_id = 31; }); },
     "frontends", "service id 31, which is unknown", 1, 0},
    {"slot of another Service",
     [](ModelAgent& a) {
       const uint32_t slot = a.store.frontends().at(KeyOf("10.96.0.1:80")).slot;
       Rewrite(a, [&](auto& row) { row.slot = slot; });
     },
     "frontends", "slot", 1, 0},
    {"slot of another port",
     [](ModelAgent& a) {
       const uint32_t slot = a.store.frontends().at(KeyOf("10.96.0.2:81")).slot;
       Rewrite(a, [&](auto& row) { row.slot = slot; });
     },
     "", "", 1, 0},
    {"slot not in force", [](ModelAgent& a) { List(a).fate = WAGGLE_FATE_NONE; }, "lists",
     "contradicts frontend 10.96.0.2:80/TCP", 1, 0},
    {"fate", [](ModelAgent& a) { List(a).fate = 77; }, "lists", "contradicts", 1, 0},
    {"policy", [](ModelAgent& a) { List(a).policy = 77; }, "lists", "contradicts", 1, 0},
    {"forward to nobody", [](ModelAgent& a) { List(a).count = 0; }, "lists", "contradicts", 1, 0},
    {"refuse with backends", [](ModelAgent& a) { List(a).fate = WAGGLE_FATE_REFUSE; }, "lists",
     "contradicts", 1, 0},
    {"list of another id", [](ModelAgent& a) { List(a).service_id = 30; }, "lists", "contradicts",
     1, 0},
    {"range outside", [](ModelAgent& a) { List(a).base = 511; }, "lists", "outside", 1, 0},
    {"range far outside", [](ModelAgent& a) { List(a).base = ~0u; }, "lists", "outside", 1, 0},
    {"range overlaps", [](ModelAgent& a) { List(a).base = GoodList(a).base + 1; }, "lists",
     "overlaps", 1, 0},
    {"namespace without end", [](ModelAgent& a) { std::memset(Name(a).ns, 'x', 64); }, "services",
     "no end", 1, 1},
    {"name without end", [](ModelAgent& a) { std::memset(Name(a).name, 'x', 64); }, "services",
     "no end", 1, 1},
    {"port name without end", [](ModelAgent& a) { std::memset(Name(a).port_name, 'x', 64); },
     "services", "no end", 1, 1},
    {"empty name", [](ModelAgent& a) { Name(a).name[0] = 0; }, "services", "empty", 1, 1},
    {"a row of nobody",
     [](ModelAgent& a) {
       const waggle_frontend_key key = KeyOf("9.9.9.9:9");
       a.store.frontends()[key] = RowOf(key, 5, 4000000000u);
     },
     "frontends", "unknown", 1, 0},
    {"an id far outside without a name", [](ModelAgent& a) { a.store.services()[~0u] = {}; },
     "services", "empty", 0, 1},
    {"scope",
     [](ModelAgent& a) {
       waggle_frontend_key key = KeyOf("9.9.9.9:9");
       key.scope = 7;
       a.store.frontends()[key] = RowOf(key, Row(a).slot, Row(a).service_id);
     },
     "frontends", "unknown kind or scope", 1, 0},
};

// Each kind of damage is reported by name, touches only what is damaged, and a full
// sync repairs it.
TEST(CheckTables, DamageIsNamedContainedAndRepaired) {
  for (const Damage& damage : kDamages) {
    SCOPED_TRACE(damage.name);
    ModelAgent agent;
    agent.Set(Service("early", {Port("x", {Forward({"10.96.7.7:7"}, {"10.1.7.7:7"})})}));
    agent.Set(Good());
    agent.Set(Bad());
    agent.Remove({"ns", "early"});
    agent.Reclaim();
    damage.make(agent);

    const CheckedTables checked = agent.ReadBack();
    ASSERT_FALSE(checked.problems.empty());
    bool named = false;
    for (const Problem& problem : checked.problems) {
      EXPECT_EQ(problem.object.kind, "pinned map");
      EXPECT_EQ(problem.reason, ProblemReason::kInvalid);
      named = named || (problem.text.find(damage.text) != std::string::npos &&
                        (*damage.map == 0 || problem.object.name == damage.map));
    }
    EXPECT_TRUE(named) << checked.problems[0].ToString();
    EXPECT_THAT(checked.tables.stray_services, SizeIs(damage.stray_services));
    // What shares a slot or a range can only be told apart by who comes first.
    if (std::string_view(damage.name) != "range overlaps" &&
        std::string_view(damage.name) != "slot of another Service" &&
        std::string_view(damage.name) != "slot of another port") {
      EXPECT_THAT(checked.tables.stray_frontends, SizeIs(damage.stray_frontends));
      const auto services = Decompile(checked.tables, agent.store.arrays());
      EXPECT_THAT(services, ::testing::Contains(Good()));
    }

    // A new agent adopts that and makes a full sync.
    agent.slots = Slots(RoomySizes());
    agent.slots.Adopt(checked.tables);
    agent.tables = checked.tables;
    WritePlan plan = PlanStrays(checked.tables);
    for (const ResolvedService& service : {Good(), Bad()}) {
      auto planned = agent.PlanFor(service);
      ASSERT_TRUE(planned.ok()) << planned.status();
      plan.Append(std::move(planned->plan));
      agent.tables.services[service.name] = std::move(planned->after);
      agent.tables.services.erase({"", ""});
    }
    for (const auto& [name, state] : checked.tables.services) {
      if (name == kGood || name == kBad) continue;
      plan.Append(PlanRemoval(state));
      agent.tables.services.erase(name);
    }
    agent.Apply(plan);
    agent.ExpectHolds({Good(), Bad()});
  }
}

TEST(CheckTables, SoundTablesHaveNoProblems) {
  ModelAgent agent;
  agent.Set(Good());
  agent.Set(Bad());
  const CheckedTables checked = agent.ReadBack();
  EXPECT_THAT(checked.problems, IsEmpty());
  EXPECT_THAT(checked.tables.stray_frontends, IsEmpty());
  EXPECT_THAT(checked.tables.stray_services, IsEmpty());
  EXPECT_EQ(checked.tables.services.size(), 2u);
}

TEST(CheckTables, EmptyMaps) {
  const CheckedTables checked = CheckTables({}, {});
  EXPECT_THAT(checked.problems, IsEmpty());
  EXPECT_TRUE(checked.tables.services.empty());
}

// An agent that dies between two names of a swap leaves two ids for one port. The rows
// are in force and sound: to take them for strays would interrupt the Service.
TEST(CheckTables, TwoIdsForOnePortKeepTheirRows) {
  ModelAgent agent;
  const auto ports = [](std::string first, std::string second) {
    return Service("web", {Port(first, {Forward({"10.96.0.1:80"}, {"10.1.0.1:1"})}),
                           Port(second, {Forward({"10.96.0.1:81"}, {"10.1.0.2:1"})})});
  };
  agent.Set(ports("a", "b"));
  auto& services = agent.store.services();
  services.at(0) = services.at(1);

  const CheckedTables checked = agent.ReadBack();
  EXPECT_THAT(checked.problems, IsEmpty());
  EXPECT_THAT(checked.tables.stray_frontends, IsEmpty());
  EXPECT_THAT(checked.tables.stray_services, IsEmpty());

  agent.slots = Slots(RoomySizes());
  agent.slots.Adopt(checked.tables);
  agent.tables = checked.tables;
  const WritePlan plan = agent.Set(ports("b", "a"));
  EXPECT_THAT(plan.frontend_moves, IsEmpty()) << "no gap";
  EXPECT_THAT(plan.frontend_deletes, IsEmpty());
  agent.ExpectHolds({ports("b", "a")});
}

// An id without rows is what a crash before the first frontend leaves.
TEST(CheckTables, AnIdWithoutFrontendsBelongsToItsService) {
  ModelAgent agent;
  agent.Set(Good());
  agent.store.frontends().clear();
  const CheckedTables checked = agent.ReadBack();
  EXPECT_THAT(checked.problems, IsEmpty());
  ASSERT_TRUE(checked.tables.services.contains(kGood));
  EXPECT_THAT(checked.tables.services.at(kGood).ports.at(0).lists, IsEmpty());
  EXPECT_THAT(agent.InForce(), SizeIs(1));
  EXPECT_THAT(agent.InForce()[0].ports, IsEmpty());
}

// ---- Decompile(Compile(x)) == x

TEST(Decompile, GivesBackWhatWasCompiled) {
  BackendList rich = Forward({"10.96.0.9:53"}, {});
  rich.backends = {BackendAt("10.1.0.1:53", true), BackendAt("10.1.0.1:54", false, true),
                   BackendAt("10.1.0.2:53", true, true)};
  rich.affinity_s = 86400;
  rich.policy = Policy::kLocal;
  rich.frontends = {ClusterIp("10.96.0.9:53"),
                    {At("192.0.2.1:30053"), FrontendKind::kNodePort, Scope::kInternal},
                    {At("203.0.113.1:53"), FrontendKind::kLoadBalancerIp, Scope::kInternal},
                    {At("198.51.100.1:53"), FrontendKind::kExternalIp, Scope::kInternal}};
  std::sort(rich.frontends.begin(), rich.frontends.end());
  BackendList outside = rich;
  for (Frontend& frontend : outside.frontends)
    frontend.scope = Scope::kExternal;
  outside.policy = Policy::kCluster;
  const ResolvedService services[] = {
      Good(),
      Bad(),
      Service("dns", {Port("dns", {rich, outside}, net::Protocol::kUdp),
                      Port("dns-tcp", {rich, outside}, net::Protocol::kTcp)}),
      Service("dual", {Port("", {Forward({"10.96.3.1:443"}, {"10.1.3.1:443"}),
                                 Without(Fate::kDrop, {"[fd00::3:1]:443"})})}),
      Service(std::string(63, 'n'),
              {Port(std::string(63, 'p'), {Forward({"10.96.4.1:65535"}, {"[ff02::1]:65535"})})}),
  };
  ModelAgent agent;
  std::vector<ResolvedService> all;
  for (const ResolvedService& service : services) {
    SCOPED_TRACE(service.name.ToString());
    ModelAgent alone;
    alone.Set(service);
    alone.ExpectHolds({service});
    agent.Set(service);
    all.push_back(service);
  }
  agent.ExpectHolds(all);
}

}  // namespace
}  // namespace waggle::maps
