#include "userspace/health/health.h"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>

#include "userspace/health/board.h"

namespace waggle::health {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kV4 = Index(net::Family::kIpv4);
constexpr size_t kV6 = Index(net::Family::kIpv6);

// 2026-01-31T12:00:00Z and so much more.
WallTime At(Duration after) {
  return WallTime(seconds(1769860800)) + after;
}

// Up to date 5 s ago in IPv4, 2.5 s ago in IPv6.
State Well() {
  State state;
  state.families[kV4].updated = At(seconds(5));
  state.families[kV6].updated = At(milliseconds(7500));
  state.node_eligible = true;
  state.now = At(seconds(10));
  return state;
}

const std::string kFamiliesWell =
    R"("status":{"IPv4":{"lastUpdated":"2026-01-31T12:00:05Z","healthy":true},)"
    R"("IPv6":{"lastUpdated":"2026-01-31T12:00:07.5Z","healthy":true}})";
const std::string kNow = R"("currentTime":"2026-01-31T12:00:10Z",)";

std::string Times(const std::string& updated) {
  return "{\"lastUpdated\":\"" + updated + "\"," + kNow;
}

TEST(Health, SaysWhatKubeProxySays) {
  const State well = Well();
  const Answer healthz = Healthz(well);
  EXPECT_EQ(healthz.status, 200);
  EXPECT_EQ(healthz.body, Times("2026-01-31T12:00:10Z") + R"("nodeEligible":true,"healthy":true,)" +
                              kFamiliesWell + "}");
  const Answer livez = Livez(well);
  EXPECT_EQ(livez.status, 200);
  EXPECT_EQ(livez.body, Times("2026-01-31T12:00:10Z") + R"("healthy":true,)" + kFamiliesWell + "}");
}

TEST(Health, NodeThatLeavesIsUnhealthyButAlive) {
  State state = Well();
  state.node_eligible = false;
  const Answer healthz = Healthz(state);
  EXPECT_EQ(healthz.status, 503);
  // The real last time, of the family that was the later one.
  EXPECT_EQ(healthz.body, Times("2026-01-31T12:00:07.5Z") +
                              R"("nodeEligible":false,"healthy":true,)" + kFamiliesWell + "}");
  EXPECT_EQ(Livez(state).status, 200);
}

TEST(Health, NamesTheFamilyThatIsLate) {
  State state = Well();
  state.families[kV6].pending = seconds(60);
  const std::string families =
      R"("status":{"IPv4":{"lastUpdated":"2026-01-31T12:00:05Z","healthy":true},)"
      R"("IPv6":{"lastUpdated":"2026-01-31T12:00:07.5Z","healthy":false}})";
  EXPECT_EQ(Healthz(state).status, 503);
  EXPECT_EQ(Healthz(state).body, Times("2026-01-31T12:00:07.5Z") +
                                     R"("nodeEligible":true,"healthy":false,)" + families + "}");
  EXPECT_EQ(Livez(state).status, 503);
  EXPECT_EQ(Livez(state).body,
            Times("2026-01-31T12:00:07.5Z") + R"("healthy":false,)" + families + "}");
}

TEST(Health, HasNoFamiliesBeforeTheFirstTime) {
  State state = Well();
  state.families = {};
  EXPECT_EQ(Healthz(state).body,
            Times("2026-01-31T12:00:10Z") + R"("nodeEligible":true,"healthy":true})");
  state.node_eligible = false;
  EXPECT_EQ(Healthz(state).body,
            Times("0001-01-01T00:00:00Z") + R"("nodeEligible":false,"healthy":true})");
}

struct Case {
  const char* name;
  std::optional<Duration> pending4 = std::nullopt;
  std::optional<Duration> pending6 = std::nullopt;
  bool updated = true;
  Duration silent{0};
  bool eligible = true;
  Duration sync_period{seconds(30)};
  int healthz = 200;
  int livez = 200;
};
void PrintTo(const Case& test, std::ostream* out) {
  *out << test.name;
}

class HealthTable : public testing::TestWithParam<Case> {};

TEST_P(HealthTable, Decides) {
  const Case& test = GetParam();
  State state = Well();
  state.families[kV4].pending = test.pending4;
  state.families[kV6].pending = test.pending6;
  if (!test.updated) state.families[kV4].updated = state.families[kV6].updated = std::nullopt;
  state.silent = test.silent;
  state.node_eligible = test.eligible;
  state.sync_period = test.sync_period;
  EXPECT_EQ(Healthz(state).status, test.healthz);
  EXPECT_EQ(Livez(state).status, test.livez);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, HealthTable,
    testing::Values(
        Case{.name = "NothingPending"},
        Case{.name = "PendingForAWhile", .pending4 = seconds(60) - Duration(1)},
        Case{.name = "LateV4", .pending4 = seconds(60), .healthz = 503, .livez = 503},
        Case{.name = "LateV6", .pending6 = seconds(61), .healthz = 503, .livez = 503},
        Case{.name = "OtherSyncPeriod", .pending4 = seconds(61), .sync_period = seconds(31)},
        Case{.name = "ShortSyncPeriod",
             .pending4 = seconds(2),
             .sync_period = seconds(1),
             .healthz = 503,
             .livez = 503},
        Case{.name = "ShortSyncPeriodAndABusyOwner",
             .silent = seconds(29),
             .sync_period = std::chrono::milliseconds(500)},
        Case{.name = "EndlessSyncPeriod",
             .pending4 = seconds(3600),
             .silent = seconds(3600),
             .sync_period = Duration::max()},
        Case{.name = "Starts", .updated = false},
        Case{.name = "NeverManaged",
             .pending4 = seconds(60),
             .updated = false,
             .healthz = 503,
             .livez = 503},
        Case{.name = "OwnerSilentForAWhile", .silent = seconds(59)},
        Case{.name = "OwnerStuck", .silent = seconds(60), .healthz = 503, .livez = 503},
        Case{.name = "OwnerStuckAtTheStart",
             .updated = false,
             .silent = seconds(60),
             .healthz = 503,
             .livez = 503},
        Case{.name = "NodeLeaves", .eligible = false, .healthz = 503},
        Case{.name = "NodeLeavesAndLate",
             .pending4 = seconds(60),
             .eligible = false,
             .healthz = 503,
             .livez = 503}),
    [](const testing::TestParamInfo<Case>& test) { return test.param.name; });

TEST(Node, MustBeSeenAndStay) {
  EXPECT_FALSE(NodeState{}.eligible());
  EXPECT_TRUE((NodeState{true, false, false}.eligible()));
  EXPECT_FALSE((NodeState{true, true, false}.eligible()));
  EXPECT_FALSE((NodeState{true, false, true}.eligible()));
}

TEST(ServiceHealth, SaysWhatKubeProxySays) {
  struct {
    uint32_t local;
    bool healthy;
    int status;
  } const cases[] = {{2, true, 200}, {0, true, 503}, {2, false, 503}, {0, false, 503}};
  for (const auto& test : cases) {
    const Answer answer = ServiceHealth({"shop", "web"}, test.local, test.healthy);
    EXPECT_EQ(answer.status, test.status);
    EXPECT_EQ(answer.body,
              "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n"
              "\t\"localEndpoints\": " +
                  std::to_string(test.local) +
                  ",\n\t\"serviceProxyHealthy\": " + (test.healthy ? "true" : "false") + "\n}");
  }
}

TEST(ServiceCheck, CountsTheFamilyThatIsAskedFor) {
  ServiceCheck check;
  check.local = {1, 2};
  check.serves = {true, true};
  EXPECT_EQ(check.CountFor(net::Family::kIpv4), 1u);
  EXPECT_EQ(check.CountFor(net::Family::kIpv6), 2u);
  check = {{}, {true, false}, {3, 0}};
  EXPECT_EQ(check.CountFor(net::Family::kIpv6), 3u);
  check = {{}, {false, true}, {0, 4}};
  EXPECT_EQ(check.CountFor(net::Family::kIpv4), 4u);
}

TEST(Board, TellsAgesOfWhatWaitsAnywhere) {
  const Time start{seconds(1000)};
  Board board(start);
  const auto read = [&](const Oldest& queued) {
    return board.Read(queued, seconds(30), start + seconds(100), At(seconds(0)));
  };
  State state = read({});
  EXPECT_EQ(state.silent, seconds(100));
  EXPECT_FALSE(state.families[kV4].pending);
  EXPECT_FALSE(state.families[kV4].updated);
  EXPECT_FALSE(state.node_eligible);
  EXPECT_EQ(state.sync_period, seconds(30));
  EXPECT_EQ(state.now, At(seconds(0)));

  board.Beat(start + seconds(99));
  board.SetUpdated(net::Family::kIpv6, At(seconds(3)));
  board.SetPending({std::nullopt, start + seconds(60)});
  board.SetNodeEligible(true);
  state = read({start + seconds(90), start + seconds(70)});
  EXPECT_EQ(state.silent, seconds(1));
  EXPECT_EQ(state.families[kV4].pending, seconds(10));
  EXPECT_EQ(state.families[kV6].pending, seconds(40));
  EXPECT_EQ(state.families[kV6].updated, At(seconds(3)));
  EXPECT_TRUE(state.node_eligible);
  state = read({std::nullopt, start + seconds(10)});
  EXPECT_EQ(state.families[kV6].pending, seconds(90));
  EXPECT_FALSE(state.families[kV4].pending);
  // What came after the clock was read has no age yet.
  EXPECT_EQ(read({start + seconds(101), std::nullopt}).families[kV4].pending, seconds(0));
}

TEST(Published, HandsOutWholeValues) {
  Published<ServiceChecks> published;
  EXPECT_TRUE(published.Get()->empty());
  const auto before = published.Get();
  published.Set(std::make_shared<const ServiceChecks>(ServiceChecks{{31000, {}}}));
  EXPECT_EQ(published.Get()->size(), 1u);
  EXPECT_TRUE(before->empty());
}

}  // namespace
}  // namespace waggle::health
