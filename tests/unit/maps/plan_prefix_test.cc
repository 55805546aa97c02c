// Every prefix of a plan is safe. 10,000 random worlds go through Compile, Plan, Append
// and the writer; after every elementary step a reader looks at every frontend, and an
// agent that died right there is replaced by a new one, whose own steps are watched too.
// A failure prints the seed of its world: WAGGLE_WORLD=<seed> runs that one alone.
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "absl/strings/str_cat.h"
#include "maps/compile.h"
#include "maps/plan.h"
#include "maps/writer.h"
#include "tests/unit/maps/model_agent.h"
#include "tests/unit/maps/world.h"

namespace waggle::maps {
namespace {

using Services = std::map<ServiceName, ResolvedService>;

Services WithPorts(const Services& services) {
  Services result = services;
  std::erase_if(result, [](const auto& entry) { return entry.second.ports.empty(); });
  return result;
}

Services Decompiled(const Tables& tables, const ArrayView& arrays) {
  Services services;
  for (ResolvedService& service : Decompile(tables, arrays)) {
    ServiceName name = service.name;
    services.emplace(std::move(name), std::move(service));
  }
  return WithPorts(services);
}

// Watches one application of a plan.
class Watch {
 public:
  Watch(FakeMapStore& store, const Standings& before, const Standings& after) : store_(store) {
    for (const auto& [key, standing] : before)
      Add(key, before, after);
    for (const auto& [key, standing] : after)
      Add(key, before, after);
    store_.after = [this](const FakeMapStore::Event&) { Look(); };
    store_.before = [this](const FakeMapStore::Event& event) { Guard(event); };
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { store_.after = store_.before = nullptr; }

  // Slots and ranges that readers may still hold.
  void Protect(const Retired& retired) {
    slots_.insert(slots_.end(), retired.slots.begin(), retired.slots.end());
    ranges_.insert(ranges_.end(), retired.ranges.begin(), retired.ranges.end());
  }

  std::function<void()> after_step;
  const std::string& error() const { return error_; }
  int steps() const { return steps_; }

 private:
  struct Expected {
    waggle_frontend_key key;
    Outcome before;
    Outcome after;
    bool gap;
    // What a frontend that leaves its Service may see before it does: its old list as
    // those that stay see it. It is that Service's until it goes.
    std::vector<Outcome> last;
  };

  void Add(const waggle_frontend_key& key, const Standings& before, const Standings& after) {
    for (const Expected& known : expected_) {
      if (SameKey(known.key, key)) return;
    }
    const auto old_at = before.find(key);
    const auto new_at = after.find(key);
    expected_.push_back({key,
                         old_at == before.end() ? Outcome{} : old_at->second.outcome,
                         new_at == after.end() ? Outcome{} : new_at->second.outcome,
                         GapAllowed(key, before, after),
                         {}});
    if (old_at == before.end()) return;
    if (new_at != after.end() && new_at->second.service == old_at->second.service) return;
    for (const auto& [other, standing] : before) {
      if (standing.service != old_at->second.service || standing.list != old_at->second.list ||
          other.protocol != key.protocol) {
        continue;
      }
      const auto now = after.find(other);
      if (now != after.end() && now->second.service == standing.service) {
        expected_.back().last.push_back(now->second.outcome);
      }
    }
  }

  void Fail(std::string text) {
    if (error_.empty()) error_ = absl::StrCat("after ", steps_, " steps: ", text);
  }

  void Look() {
    ++steps_;
    for (const Expected& expected : expected_) {
      std::string error;
      const Outcome seen = store_.Lookup(expected.key, &error);
      if (!error.empty()) Fail(absl::StrCat(Describe(expected), ": ", error));
      if (seen == expected.before || seen == expected.after) continue;
      if (seen == Outcome{} && expected.gap) continue;
      if (std::find(expected.last.begin(), expected.last.end(), seen) != expected.last.end()) {
        continue;
      }
      Fail(absl::StrCat(Describe(expected), ": neither old nor new",
                        seen == Outcome{} ? " but missed" : ""));
    }
    if (after_step) after_step();
  }

  void Guard(const FakeMapStore::Event& event) {
    if (event.step == FakeMapStore::Step::kListTail || event.step == FakeMapStore::Step::kList) {
      for (const uint32_t slot : slots_) {
        if (slot == event.index) Fail(absl::StrCat("slot ", slot, " is in quarantine"));
      }
    }
    if (event.step != FakeMapStore::Step::kBackend) return;
    const auto inside = [&](uint32_t base, uint32_t count) {
      return event.index >= base && event.index < base + count;
    };
    for (const auto& [base, count] : ranges_) {
      if (inside(base, count)) Fail(absl::StrCat("range at ", base, " is in quarantine"));
    }
    for (const auto& [key, row] : store_.frontends()) {
      const waggle_list& list = store_.lists().at(row.slot);
      if (inside(list.base, list.count)) Fail(absl::StrCat("range at ", list.base, " is in force"));
    }
  }

  static std::string Describe(const Expected& expected) {
    std::array<uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), expected.key.addr, bytes.size());
    const net::Endpoint endpoint{net::Address(bytes), ntohs(expected.key.port_be)};
    return absl::StrCat("frontend ", endpoint.ToString(), "/", expected.key.protocol);
  }

  FakeMapStore& store_;
  std::vector<Expected> expected_;
  std::vector<uint32_t> slots_;
  std::vector<std::pair<uint32_t, uint32_t>> ranges_;
  std::string error_;
  int steps_ = 0;
};

struct PlannedRound {
  WritePlan plan;
  std::map<ServiceName, ServiceState> after;
};

// A full sync, as the reconciler makes it: every known Service is planned, in a random
// order, and joined into one plan.
std::optional<PlannedRound> PlanAll(const Services& goal, const Tables& tables, FakeMapStore& store,
                                    Slots& slots, bool backwards) {
  std::vector<const ResolvedService*> order;
  for (const auto& [name, service] : goal)
    order.push_back(&service);
  if (backwards) std::reverse(order.begin(), order.end());
  PlannedRound round;
  for (const ResolvedService* service : order) {
    const auto known = tables.services.find(service->name);
    const ServiceState* state = known == tables.services.end() ? nullptr : &known->second;
    if (service->ports.empty()) {
      if (!state) continue;
      round.plan.Append(PlanRemoval(*state));
      round.after[service->name] = {};
      continue;
    }
    auto planned = Plan(Compile(*service), state, store.arrays(), slots);
    EXPECT_TRUE(planned.ok()) << planned.status();
    if (!planned.ok()) return std::nullopt;
    round.plan.Append(std::move(planned->plan));
    round.after[service->name] = std::move(planned->after);
  }
  return round;
}

void Remember(PlannedRound&& round, Tables& tables) {
  for (auto& [name, state] : round.after) {
    if (state.ports.empty()) {
      tables.services.erase(name);
    } else {
      tables.services[name] = std::move(state);
    }
  }
}

// A new agent finds `store` as another one left it. Returns what went wrong.
std::string Recover(FakeMapStore& store, const Services& goal) {
  CheckedTables checked = CheckTables(*store.Read(), store.arrays());
  // A crash leaves every row sound; strays would mean a gap for their frontends.
  if (!checked.tables.stray_frontends.empty()) return "stray frontends";
  if (!checked.tables.stray_services.empty()) return "stray services";
  Slots slots(RoomySizes());
  slots.Adopt(checked.tables);
  const Services found = Decompiled(checked.tables, store.arrays());
  Services wanted = goal;
  for (const auto& [name, state] : checked.tables.services)
    wanted.try_emplace(name, ResolvedService{name, {}});
  auto round = PlanAll(wanted, checked.tables, store, slots, false);
  if (!round) return "no plan";
  {
    Watch watch(store, StandingsOf(found), StandingsOf(goal));
    if (const absl::Status status = Writer(&store).Apply(round->plan); !status.ok()) {
      return status.ToString();
    }
    if (!watch.error().empty()) return watch.error();
  }
  slots.Retire(round->plan.retired, 1);
  Writer(&store).ClearLists(slots.Reclaim(1));
  const CheckedTables after = CheckTables(*store.Read(), store.arrays());
  if (!after.problems.empty()) return after.problems[0].ToString();
  if (Decompiled(after.tables, store.arrays()) != goal) return "another goal was reached";
  Slots fresh(RoomySizes());
  fresh.Adopt(after.tables);
  if (UsageOf(fresh) != UsageOf(slots)) return "something leaked";
  return "";
}

class Journey {
 public:
  explicit Journey(uint32_t seed)
      : world_(seed), random_(~seed), store_(RoomySizes()), slots_(RoomySizes()) {}

  void Play() {
    for (int round = 0; round < 3 && !::testing::Test::HasFailure(); ++round) {
      SCOPED_TRACE(absl::StrCat("round ", round));
      if (round > 0) world_.Change();
      Round();
      if (!::testing::Test::HasFailure()) Reclaim();
    }
  }
  int steps() const { return steps_; }
  int recoveries() const { return recoveries_; }

 private:
  void Round() {
    const Services before = Decompiled(tables_, store_.arrays());
    const Services wanted = world_.Services();
    auto round = PlanAll(wanted, tables_, store_, slots_, random_.OneIn(2));
    ASSERT_TRUE(round);

    // Where the plan leads is seen on a copy first.
    const auto preview = store_.Copy();
    ASSERT_TRUE(Writer(preview.get()).Apply(round->plan).ok());
    const CheckedTables led_to = CheckTables(*preview->Read(), preview->arrays());
    ASSERT_TRUE(led_to.problems.empty()) << led_to.problems[0].ToString();
    const Services after = Decompiled(led_to.tables, preview->arrays());
    ASSERT_EQ(after, WithPorts(wanted));

    {
      Watch watch(store_, StandingsOf(before), StandingsOf(after));
      for (const auto& [epoch, retired] : quarantine_)
        watch.Protect(retired);
      std::string recovery_error;
      watch.after_step = [&] {
        if (!recovery_error.empty()) return;
        ++recoveries_;
        const auto copy = store_.Copy();
        recovery_error = Recover(*copy, after);
        if (!recovery_error.empty()) {
          recovery_error = absl::StrCat("cut after ", watch.steps(), " steps: ", recovery_error);
        }
      };
      ASSERT_TRUE(Writer(&store_).Apply(round->plan).ok());
      ASSERT_EQ(watch.error(), "");
      ASSERT_EQ(recovery_error, "");
      steps_ += watch.steps();
    }
    slots_.Retire(round->plan.retired, ++epoch_);
    quarantine_.emplace_back(epoch_, round->plan.retired);
    Remember(*std::move(round), tables_);

    const auto again = PlanAll(wanted, tables_, store_, slots_, false);
    ASSERT_TRUE(again && again->plan.empty()) << "the same again is an empty plan";
  }

  // Some grace periods are over.
  void Reclaim() {
    const uint64_t over = epoch_ - random_.Below(3);
    if (over > epoch_) return;  // wrapped: none yet
    std::erase_if(quarantine_, [&](const auto& entry) { return entry.first <= over; });
    Writer(&store_).ClearLists(slots_.Reclaim(over));
    if (!quarantine_.empty()) return;
    Slots fresh(RoomySizes());
    fresh.Adopt(CheckTables(*store_.Read(), store_.arrays()).tables);
    ASSERT_EQ(UsageOf(slots_), UsageOf(fresh)) << "something leaked";
  }

  World world_;
  Random random_;
  FakeMapStore store_;
  Slots slots_;
  Tables tables_;
  std::vector<std::pair<uint64_t, Retired>> quarantine_;
  uint64_t epoch_ = 0;
  int steps_ = 0;
  int recoveries_ = 0;
};

constexpr uint32_t kWorlds = 10000;
constexpr uint32_t kShards = 4;  // so that ctest -j can spread them

class PlanPrefix : public ::testing::TestWithParam<uint32_t> {};

TEST_P(PlanPrefix, IsSafeInEveryWorld) {
  uint32_t first = GetParam() * kWorlds / kShards;
  uint32_t last = (GetParam() + 1) * kWorlds / kShards;
  if (const char* only = std::getenv("WAGGLE_WORLD")) {
    first = static_cast<uint32_t>(std::atoi(only));
    last = first + 1;
  }
  int64_t steps = 0;
  int64_t recoveries = 0;
  for (uint32_t seed = first; seed < last; ++seed) {
    SCOPED_TRACE(absl::StrCat("world ", seed));
    Journey run(seed);
    run.Play();
    steps += run.steps();
    recoveries += run.recoveries();
    if (HasFailure()) return;
  }
  RecordProperty("steps", static_cast<int>(steps));
  std::cout << "worlds " << last - first << ", steps " << steps << ", recoveries " << recoveries
            << "\n";
  if (last - first > 1) {
    EXPECT_GT(steps, 50 * (last - first)) << "the worlds have become dull";
  }
}

INSTANTIATE_TEST_SUITE_P(Shards, PlanPrefix, ::testing::Range(0u, kShards));

bool Holds(const Outcome& outer, const Outcome& inner) {
  return std::includes(outer.backends.begin(), outer.backends.end(), inner.backends.begin(),
                       inner.backends.end());
}

// A Service that found no room gives up what it no longer wants: frontends, and backends
// that left. It keeps a run of the others.
TEST(PlanShrink, KeepsOnlyWhatIsStillWanted) {
  int frontends_given_up = 0;
  int lists_cut = 0;
  for (uint32_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(absl::StrCat("world ", seed));
    World world(seed);
    FakeMapStore store(RoomySizes());
    Slots slots(RoomySizes());
    Tables tables;
    auto filled = PlanAll(world.Services(), tables, store, slots, false);
    ASSERT_TRUE(filled && Writer(&store).Apply(filled->plan).ok());
    Remember(*std::move(filled), tables);
    const Standings before = StandingsOf(WithPorts(world.Services()));
    world.Change();

    // Which frontends stay: those that their Service still wants.
    const Services goal = world.Services();
    const Standings wanted = StandingsOf(WithPorts(goal));
    Standings kept = before;
    std::erase_if(kept, [&](const auto& entry) {
      const auto at = wanted.find(entry.first);
      return at == wanted.end() || at->second.service != entry.second.service;
    });
    frontends_given_up += static_cast<int>(before.size() - kept.size());

    PlannedRound round;
    const Usage used = UsageOf(slots);
    for (const auto& [name, service] : goal) {
      const auto known = tables.services.find(name);
      if (known == tables.services.end()) continue;
      Planned shrunk = PlanShrink(Compile(service), known->second, store.arrays());
      round.plan.Append(std::move(shrunk.plan));
      round.after[name] = std::move(shrunk.after);
    }
    EXPECT_EQ(UsageOf(slots), used) << "it needs no room itself";
    EXPECT_TRUE(round.plan.backends.empty());
    const auto preview = store.Copy();
    ASSERT_TRUE(Writer(preview.get()).Apply(round.plan).ok());
    const Standings after = StandingsOf(
        Decompiled(CheckTables(*preview->Read(), preview->arrays()).tables, preview->arrays()));
    ASSERT_EQ(after.size(), kept.size());
    for (const auto& [key, standing] : after) {
      const Outcome& old_outcome = before.at(key).outcome;
      const Outcome& goal_outcome = wanted.at(key).outcome;
      ASSERT_TRUE(Holds(old_outcome, standing.outcome)) << "it needs no room itself";
      // A list of several frontends may go apart: one of them decides what stays.
      if (standing.list != wanted.at(key).list) continue;
      if (standing.outcome.fate == WAGGLE_FATE_FORWARD) {
        ASSERT_TRUE(Holds(goal_outcome, standing.outcome)) << "a backend that left stays";
      }
      lists_cut += standing.outcome.backends.size() < old_outcome.backends.size();
    }
    {
      Watch watch(store, before, after);
      ASSERT_TRUE(Writer(&store).Apply(round.plan).ok());
      ASSERT_EQ(watch.error(), "");
    }
    slots.Retire(round.plan.retired, 1);
    Writer(&store).ClearLists(slots.Reclaim(1));
    Remember(std::move(round), tables);
    const CheckedTables checked = CheckTables(*store.Read(), store.arrays());
    ASSERT_TRUE(checked.problems.empty());
    Slots fresh(RoomySizes());
    fresh.Adopt(checked.tables);
    ASSERT_EQ(UsageOf(slots), UsageOf(fresh)) << "something leaked";
    const Standings now = StandingsOf(Decompiled(checked.tables, store.arrays()));
    ASSERT_EQ(now.size(), after.size());

    // And when there is room, the goal is reached from there.
    auto rest = PlanAll(goal, tables, store, slots, false);
    ASSERT_TRUE(rest && Writer(&store).Apply(rest->plan).ok());
    ASSERT_EQ(Decompiled(CheckTables(*store.Read(), store.arrays()).tables, store.arrays()),
              WithPorts(goal));
  }
  EXPECT_GT(frontends_given_up, 1000);
  EXPECT_GT(lists_cut, 100);
}

// The test of the test: a writer that switches lists before it has written their
// backends, and one that uses a range at once that readers still hold, are found out.
TEST(PlanPrefixControl, AWrongOrderIsNoticed) {
  int noticed = 0;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    World world(seed);
    FakeMapStore store(RoomySizes());
    Slots slots(RoomySizes());
    Tables tables;
    auto round = PlanAll(world.Services(), tables, store, slots, false);
    ASSERT_TRUE(round);
    Watch watch(store, {}, StandingsOf(WithPorts(world.Services())));
    WritePlan late_backends;
    late_backends.backends = std::exchange(round->plan.backends, {});
    Writer writer(&store);
    ASSERT_TRUE(writer.Apply(round->plan).ok());
    ASSERT_TRUE(writer.Apply(late_backends).ok());
    noticed += !watch.error().empty();
  }
  EXPECT_GT(noticed, 15);
}

TEST(PlanPrefixControl, ReuseWithoutQuarantineIsNoticed) {
  int noticed = 0;
  for (uint32_t seed = 0; seed < 50; ++seed) {
    World world(seed);
    FakeMapStore store(RoomySizes());
    Slots slots(RoomySizes());
    Tables tables;
    Retired held;
    for (int i = 0; i < 4; ++i) {
      auto round = PlanAll(world.Services(), tables, store, slots, false);
      ASSERT_TRUE(round);
      Watch watch(store, {}, {});
      watch.Protect(held);
      ASSERT_TRUE(Writer(&store).Apply(round->plan).ok());
      held = round->plan.retired;
      slots.Retire(held, 1);
      (void)slots.Reclaim(1);
      Remember(*std::move(round), tables);
      noticed += !watch.error().empty();
      world.Change();
    }
  }
  EXPECT_GT(noticed, 15);
}

}  // namespace
}  // namespace waggle::maps
