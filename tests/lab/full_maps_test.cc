// Maps that are too small: the error says which map, which flag and which Service; all
// others work; room made brings the Service back by itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/cluster.h"

namespace waggle::lab {
namespace {

using net::Family;
using testing::AllOf;
using testing::HasSubstr;

struct Row {
  const char* name;
  const char* flag;
  const char* map;
  int size;  // enough for `web` (two families, two ports, two endpoints), not for two such
};

class FullMapTest : public testing::TestWithParam<Row> {
 protected:
  bool Listed(const std::string& service) const {
    return ServiceList(cluster_.node1).out.find("\"" + service + "\"") != std::string::npos;
  }
  void ExpectServed(const Service& service) {
    for (const Traffic& traffic : AllTraffic()) {
      Tally tally =
          AskMany(cluster_.client, traffic.mode, Cluster::Frontend(service, traffic.family), 5);
      EXPECT_TRUE(tally.AllOk()) << service.name << " " << traffic.Name() << " " << tally;
    }
  }
  waggle_agent Said() const { return ReadAgent(cluster_.node1.pin_path()); }

  Cluster cluster_;
};

INSTANTIATE_TEST_SUITE_P(, FullMapTest,
                         testing::Values(Row{"Frontends", "--max-frontends", "frontends", 6},
                                         Row{"Backends", "--max-backends", "backends", 12},
                                         Row{"Services", "--max-services", "services", 3}),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(FullMapTest, OneServiceIsLeftOutAndComesBackByItself) {
  cluster_.Apply(cluster_.web);
  cluster_.StartAgent({.flags = {GetParam().flag, std::to_string(GetParam().size)}});
  Service late = Cluster::Make("late", 50, cluster_.web.endpoints);
  cluster_.Apply(late);
  ASSERT_TRUE(WaitFor([&] { return Said().services_left_out == 1; })) << cluster_.agent->Log();
  EXPECT_THAT(cluster_.agent->Log(), AllOf(HasSubstr("default/late"), HasSubstr(GetParam().flag),
                                           HasSubstr(GetParam().map)));
  ExpectServed(cluster_.web);

  // Changes of others go on.
  cluster_.web.endpoints = {cluster_.on2(cluster_.b2)};
  cluster_.Apply(cluster_.web);
  EXPECT_TRUE(WaitFor([&] {
    return AskMany(cluster_.client, "tcp", Cluster::Frontend(cluster_.web, Family::kIpv4), 10)
               .names.count("b1") == 0;
  }));
  ExpectServed(cluster_.web);

  cluster_.lab.RemoveManifest("web.yaml");
  cluster_.agent->AwaitProgrammed();
  EXPECT_TRUE(Listed("late"));
  ExpectServed(late);
  EXPECT_EQ(Said().services_left_out, 0u);
}

// An agent that finds everything too small from the start is still of use.
TEST_P(FullMapTest, TwoServicesFromTheStartAndRoomForOne) {
  cluster_.Apply(cluster_.web);
  cluster_.Apply(Cluster::Make("also", 51, cluster_.web.endpoints));
  Agent agent(cluster_.lab, cluster_.node1,
              {.flags = {GetParam().flag, std::to_string(GetParam().size)}});
  agent.AwaitReady();
  EXPECT_EQ(Said().services_left_out, 1u) << agent.Log();
  ASSERT_NE(Listed("web"), Listed("also"));
  ExpectServed(Listed("web") ? cluster_.web : Cluster::Make("also", 51, {}));
}

// Many more sockets than entries: old flows are forgotten, nobody is refused.
TEST(UdpFlowsTest, MoreSocketsThanEntries) {
  Cluster cluster;
  cluster.Apply(cluster.web);
  cluster.StartAgent({.flags = {"--max-udp-flows", "64"}});
  for (Family family : kBothFamilies) {
    Tally tally = AskMany(cluster.client, "udp-new", Cluster::Frontend(cluster.web, family), 500);
    EXPECT_TRUE(tally.AllOk()) << tally;
  }
}

}  // namespace
}  // namespace waggle::lab
