// Full maps: the error names the map, the flag and the Service, nothing is taken, and
// the Service comes back by itself when there is room.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "maps/plan.h"
#include "tests/unit/maps/model_agent.h"
#include "tests/unit/maps/testing.h"

namespace waggle::maps {
namespace {

using ::testing::HasSubstr;

ResolvedService Occupant() {
  return Service("first", {Port("a", {Forward({"10.96.0.1:80"}, {"10.1.0.1:1", "10.1.0.2:1"})})});
}

struct FullCase {
  const char* name;
  Sizes sizes;
  ResolvedService wanted;
  const char* text;
};

std::vector<FullCase> FullCases() {
  std::vector<BackendList> eight_lists;
  for (int i = 0; i < 8; ++i) {
    const std::string frontend = "10.96.1." + std::to_string(i) + ":80";
    eight_lists.push_back(Without(Fate::kRefuse, {frontend}));
  }
  return {
      {"frontends",
       {.frontends = 2, .services = 8, .backends = 64, .udp_flows = 1},
       Service("late", {Port("a", {Forward({"10.96.0.2:80", "10.96.0.3:80"}, {"10.1.0.1:1"})})}),
       "map frontends is full (2 of 2 used): Service ns/late needs one more; raise "
       "--max-frontends"},
      {"services",
       {.frontends = 8, .services = 1, .backends = 64, .udp_flows = 1},
       Service("late", {Port("a", {Forward({"10.96.0.2:80"}, {"10.1.0.1:1"})})}),
       "map services is full (1 of 1 used): Service ns/late needs 1 more; raise --max-services"},
      {"services, second port",
       {.frontends = 8, .services = 2, .backends = 64, .udp_flows = 1},
       Service("late", {Port("a", {Forward({"10.96.0.2:80"}, {"10.1.0.1:1"})}),
                        Port("b", {Forward({"10.96.0.2:81"}, {"10.1.0.1:1"})})}),
       "map services is full (2 of 2 used): Service ns/late needs 1 more; raise --max-services"},
      {"lists",
       {.frontends = 64, .services = 2, .backends = 64, .udp_flows = 1},
       Service("late", {Port("b", eight_lists)}),
       "map lists is full (8 of 8 used): Service ns/late needs 1 more; raise --max-services"},
      {"backends",
       {.frontends = 8, .services = 8, .backends = 4, .udp_flows = 1},
       Service("late", {Port("a", {Forward({"10.96.0.2:80"},
                                           {"10.1.0.1:1", "10.1.0.2:1", "10.1.0.3:1"})})}),
       "map backends is full (2 of 4 used): Service ns/late needs 3 more in a row; raise "
       "--max-backends"},
  };
}

TEST(PlanFull, TheErrorNamesMapFlagAndServiceAndNothingIsTaken) {
  for (const FullCase& c : FullCases()) {
    SCOPED_TRACE(c.name);
    ModelAgent agent(c.sizes);
    agent.Set(Occupant());
    const Usage before = UsageOf(agent.slots);
    const auto planned = agent.PlanFor(c.wanted);
    ASSERT_EQ(planned.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(planned.status().message()), HasSubstr(c.text));
    EXPECT_EQ(UsageOf(agent.slots), before);
    agent.ExpectHolds({Occupant()});

    // Not only the counts: what was given back can be taken again.
    const auto small = Service("small", {});
    EXPECT_TRUE(agent.PlanFor(small).ok());
    agent.Remove({"ns", "first"});
    agent.Reclaim();
    EXPECT_TRUE(agent.PlanFor(Occupant()).ok());
  }
}

TEST(PlanFull, TheServiceComesBackWhenThereIsRoom) {
  for (const FullCase& c : FullCases()) {
    if (std::string_view(c.name) != "frontends" && std::string_view(c.name) != "backends" &&
        std::string_view(c.name) != "services") {
      continue;
    }
    SCOPED_TRACE(c.name);
    ModelAgent agent(c.sizes);
    agent.Set(Occupant());
    ASSERT_FALSE(agent.PlanFor(c.wanted).ok());
    agent.Remove({"ns", "first"});
    agent.Reclaim();
    agent.Set(c.wanted);
    agent.ExpectHolds({c.wanted});
  }
}

TEST(PlanFull, ARangeInQuarantineIsNotRoom) {
  ModelAgent agent({.frontends = 8, .services = 8, .backends = 4, .udp_flows = 1});
  agent.Set(Occupant());
  agent.Remove({"ns", "first"});
  const auto wide = Service(
      "wide", {Port("a", {Forward({"10.96.0.2:80"},
                                  {"10.1.0.1:1", "10.1.0.2:1", "10.1.0.3:1", "10.1.0.4:1"})})});
  EXPECT_EQ(agent.PlanFor(wide).status().code(), absl::StatusCode::kResourceExhausted);
  agent.Reclaim();
  EXPECT_TRUE(agent.PlanFor(wide).ok());
}

// resolve() cuts longer lists; should one come all the same, count (16 bits) must not
// wrap round to a Service that refuses everybody.
TEST(PlanFull, AListThatIsTooLongIsAnErrorWithTheServiceName) {
  ModelAgent agent({.frontends = 4, .services = 4, .backends = 200000, .udp_flows = 1});
  BackendList list = Forward({"10.96.0.1:80"}, {});
  for (int i = 0; i <= WAGGLE_MAX_LIST; ++i) {
    Backend backend = BackendAt("10.1.0.1:1");
    std::array<uint8_t, 16> bytes = backend.endpoint.address.bytes();
    bytes[13] = static_cast<uint8_t>(i >> 16);
    bytes[14] = static_cast<uint8_t>(i >> 8);
    bytes[15] = static_cast<uint8_t>(i);
    backend.endpoint.address = net::Address(bytes);
    list.backends.push_back(backend);
  }
  const auto planned = agent.PlanFor(Service("huge", {Port("a", {list})}));
  ASSERT_EQ(planned.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(planned.status().message()), HasSubstr("ns/huge"));
  EXPECT_THAT(std::string(planned.status().message()), HasSubstr("65535"));
  agent.ExpectHolds({});
}

}  // namespace
}  // namespace waggle::maps
