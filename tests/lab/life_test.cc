// Agents come and go, Services change, and traffic does not notice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/lab/cluster.h"

namespace waggle::lab {
namespace {

using net::Family;
using testing::HasSubstr;
using testing::Not;

// Clients of every kind, in the node and in a pod, that keep asking.
class Crowd {
 public:
  explicit Crowd(const Cluster& cluster) {
    std::string v4 = Cluster::Frontend(cluster.web, Family::kIpv4),
                v6 = Cluster::Frontend(cluster.web, Family::kIpv6);
    for (const Place* place :
         {static_cast<const Place*>(&cluster.client), static_cast<const Place*>(&cluster.node1)}) {
      Add(place->name() + " hold", *place,
          {"hold", "--tcp", v4, "--tcp", v6, "--udp", v4, "--udp", v6, "--connections", "5",
           "--interval-ms", "10"});
      for (const char* mode : {"tcp", "udp", "udp-new", "udp-connected"}) {
        Add(place->name() + " " + mode, *place,
            {"rate", "--mode", mode, "--to", v4, "--to", v6, "--per-second", "100"});
      }
    }
  }

  // Everybody has asked at least `count` times since the last call, and all went well.
  void ExpectAllWell(uint64_t count = 20) {
    for (auto& [name, load] : loads_) {
      uint64_t attempts = 0;
      bool enough = WaitFor([&] {
        Tally tally = load.Mark();
        EXPECT_EQ(tally.ok, tally.attempts) << name << " " << tally;
        return (attempts += tally.attempts) >= count;
      });
      EXPECT_TRUE(enough) << name;
    }
  }

 private:
  void Add(const std::string& name, const Place& place, const Argv& argv) {
    loads_.emplace_back(name, Load(place, argv));
  }

  std::vector<std::pair<std::string, Load>> loads_;
};

class LifeTest : public testing::Test {
 protected:
  LifeTest() {
    cluster_.Apply(cluster_.web);
    cluster_.StartAgent();
  }

  waggle_agent Said() const { return ReadAgent(cluster_.node1.pin_path()); }
  std::string Web(Family family = Family::kIpv4) const {
    return Cluster::Frontend(cluster_.web, family);
  }
  std::string List() const { return ServiceList(cluster_.node1).out; }

  Cluster cluster_;
};

TEST_F(LifeTest, KilledAndBackWhileConnectionsGoOn) {
  Crowd crowd(cluster_);
  crowd.ExpectAllWell();
  for (int round = 0; round < 2; ++round) {
    cluster_.agent->Kill();
    crowd.ExpectAllWell();
    cluster_.agent->Start();
    cluster_.agent->AwaitReady();
    crowd.ExpectAllWell();
  }
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  crowd.ExpectAllWell();
}

TEST_F(LifeTest, ARestartWritesNothingWhenNothingChanged) {
  for (int i = 0; i < 20; ++i) {
    cluster_.Apply(Cluster::Make("s" + std::to_string(i), 100 + i, cluster_.web.endpoints));
  }
  cluster_.agent->AwaitProgrammed();
  EXPECT_GT(MapWrites(Said()), 20u);
  std::string before = List();
  for (bool kill : {true, false}) {
    if (kill) {
      cluster_.agent->Kill();
    } else {
      EXPECT_EQ(cluster_.agent->Stop(), 0);
    }
    cluster_.agent->Start();
    cluster_.agent->AwaitReady();
    EXPECT_EQ(MapWrites(Said()), 0u) << (kill ? "killed" : "stopped");
    EXPECT_EQ(Said().plans_applied, 0u);
    EXPECT_GT(Said().services_resolved, 20u);
    EXPECT_EQ(List(), before);
  }
}

TEST_F(LifeTest, AServiceDeletedMeanwhileIsRemovedAfterTheRestart) {
  Service other = Cluster::Make("other", 20, cluster_.web.endpoints);
  cluster_.Apply(other);
  cluster_.agent->AwaitProgrammed();
  cluster_.agent->Kill();
  cluster_.lab.RemoveManifest("other.yaml");
  Crowd crowd(cluster_);
  cluster_.agent->Start();
  cluster_.agent->AwaitReady();
  cluster_.agent->AwaitProgrammed();
  crowd.ExpectAllWell();
  EXPECT_THAT(List(), Not(HasSubstr("\"other\"")));
  Client client(cluster_.client);
  client.Must({"timeout 100", "socket tcp4"});
  EXPECT_TRUE(client.Do("connect " + Cluster::Frontend(other, Family::kIpv4)).timed_out());
}

// What cannot be read might name every Service: nothing is removed.
TEST_F(LifeTest, AManifestBrokenMeanwhileRemovesNothing) {
  std::string before = List();
  cluster_.agent->Kill();
  cluster_.lab.WriteManifest("web.yaml", "kind: [Service\n  oops: {");
  Crowd crowd(cluster_);
  cluster_.agent->Start();
  ASSERT_TRUE(WaitFor([&] { return Said().problems > 0; })) << cluster_.agent->Log();
  EXPECT_THAT(cluster_.agent->Log(), HasSubstr("web.yaml"));
  EXPECT_EQ(List(), before);
  crowd.ExpectAllWell();
  // Mended: as before, and what it no longer holds goes now.
  cluster_.Apply(cluster_.web);
  cluster_.agent->AwaitProgrammed();
  cluster_.agent->AwaitReady();
  crowd.ExpectAllWell();
  EXPECT_EQ(Said().problems, 0u);
}

TEST_F(LifeTest, AManifestBrokenUnderTheAgentKeepsItsLastGoodState) {
  std::string before = List();
  cluster_.lab.WriteManifest("web.yaml", "{{{");
  ASSERT_TRUE(WaitFor([&] { return Said().problems > 0; })) << cluster_.agent->Log();
  EXPECT_EQ(List(), before);
  EXPECT_THAT(cluster_.agent->Log(), HasSubstr("web.yaml"));
  Tally tally = AskMany(cluster_.client, "tcp", Web(), 10);
  EXPECT_TRUE(tally.AllOk()) << tally;
}

// F9 at the socket: queries go on while backends are replaced, 100 a second.
class ReplacementTest : public LifeTest, public testing::WithParamInterface<Traffic> {};

INSTANTIATE_TEST_SUITE_P(
    , ReplacementTest,
    testing::Values(Traffic{Family::kIpv4, "tcp"}, Traffic{Family::kIpv6, "tcp"},
                    Traffic{Family::kIpv4, "udp"}, Traffic{Family::kIpv6, "udp"},
                    Traffic{Family::kIpv4, "udp-new"}, Traffic{Family::kIpv6, "udp-new"}),
    [](const auto& param) {
      return param.param.Name() + (param.param.mode == "udp" ? "OneSocket" : "");
    });

TEST_P(ReplacementTest, TheNextQueryAfterTheSwitchIsAnsweredByTheNewBackend) {
  Load load(cluster_.client, {"rate", "--mode", GetParam().mode, "--to", Web(GetParam().family),
                              "--per-second", "100"});
  Service only1 = cluster_.web, only2 = cluster_.web;
  only1.endpoints = {cluster_.on1(cluster_.b1)};
  only2.endpoints = {cluster_.on2(cluster_.b2)};
  for (int round = 0; round < 3; ++round) {
    for (const Service* now : {&only2, &only1}) {
      cluster_.Apply(*now);
      cluster_.agent->AwaitProgrammed();
      // Those asked before the switch may still be on their way to the old one.
      Tally during = load.Mark();
      EXPECT_EQ(during.ok, during.attempts) << during;
      // The old one dies: nobody may be sent there any more.
      std::optional<Server>& old = now == &only2 ? cluster_.server1 : cluster_.server2;
      old.reset();
      uint64_t asked = 0;
      EXPECT_TRUE(WaitFor([&] {
        Tally after = load.Mark();
        EXPECT_EQ(after.ok, after.attempts) << after;
        EXPECT_EQ(after.names.count(now == &only2 ? "b1" : "b2"), 0u) << after;
        return (asked += after.attempts) >= 10;
      }));
      old.emplace(ServeAll(now == &only2 ? cluster_.b1 : cluster_.b2));
    }
  }
}

TEST_F(LifeTest, TwoAgentsOnOneMachineLeaveEachOtherAlone) {
  // The same ClusterIP means another backend on each node.
  Service theirs = cluster_.web;
  theirs.endpoints = {cluster_.on2(cluster_.b2)};
  std::string folder = cluster_.lab.scratch() + "/node2";
  std::filesystem::create_directory(folder);
  { std::ofstream(folder + "/web.yaml") << Render(theirs); }
  cluster_.web.endpoints = {cluster_.on1(cluster_.b1)};
  cluster_.Apply(cluster_.web);
  cluster_.agent->AwaitProgrammed();

  Agent other(cluster_.lab, cluster_.node2, {.manifests = folder});
  other.AwaitReady();
  auto who = [&](const Place& from) { return AskMany(from, "tcp", Web(), 5).names; };
  using Names = std::map<std::string, uint64_t>;
  EXPECT_EQ(who(cluster_.client), (Names{{"b1", 5}}));
  EXPECT_EQ(who(cluster_.node1), (Names{{"b1", 5}}));
  EXPECT_EQ(who(cluster_.b2), (Names{{"b2", 5}}));
  EXPECT_EQ(who(cluster_.node2), (Names{{"b2", 5}}));

  EXPECT_EQ(other.Stop(), 0);
  RunResult cleanup = Waggle(cluster_.node2, {"cleanup", "--pin-path", cluster_.node2.pin_path()});
  EXPECT_TRUE(cleanup.ok()) << cleanup.ToString();
  EXPECT_NE(access(cluster_.node2.pin_path().c_str(), F_OK), 0);
  EXPECT_EQ(who(cluster_.client), (Names{{"b1", 5}}));
  Load asking(cluster_.node2,
              {"rate", "--mode", "tcp", "--to", Web(), "--count", "1", "--timeout-ms", "100"});
  EXPECT_EQ(asking.Finish().ok, 0u);
}

TEST_F(LifeTest, ASecondAgentOnTheSamePinsIsRefused) {
  Crowd crowd(cluster_);
  {
    Agent second(cluster_.lab, cluster_.node1);
    RunResult end = second.AwaitRefusal();
    EXPECT_THAT(end.err, HasSubstr(cluster_.node1.pin_path()));
    EXPECT_THAT(end.err, HasSubstr("agent"));
  }
  crowd.ExpectAllWell();
  EXPECT_TRUE(cluster_.agent->running());
  cluster_.Apply(Cluster::Make("later", 21, cluster_.web.endpoints));
  cluster_.agent->AwaitProgrammed();
}

TEST_F(LifeTest, CleanupLeavesNothing) {
  EXPECT_EQ(cluster_.agent->Stop(), 0);
  RunResult cleanup = Waggle(cluster_.node1, {"cleanup", "--pin-path", cluster_.node1.pin_path()});
  EXPECT_TRUE(cleanup.ok()) << cleanup.ToString();
  EXPECT_NE(access(cluster_.node1.pin_path().c_str(), F_OK), 0);
  RunResult attached = RunProgram({}, {"bpftool", "cgroup", "show", cluster_.node1.cgroup()});
  EXPECT_THAT(attached.out, Not(HasSubstr("waggle"))) << attached.ToString();
}

// The cost of one event is the cost of one Service.
TEST_F(LifeTest, OneChangeCostsOneServicesWork) {
  for (int i = 0; i < 40; ++i) {
    cluster_.Apply(Cluster::Make("s" + std::to_string(i), 100 + i, cluster_.web.endpoints));
  }
  cluster_.agent->AwaitProgrammed();
  waggle_agent before = Said();
  cluster_.web.endpoints = {cluster_.on2(cluster_.b2)};
  cluster_.Apply(cluster_.web);
  cluster_.agent->AwaitProgrammed();
  waggle_agent after = Said();
  // Two families, two ports: four lists of one backend; no frontend changes.
  EXPECT_EQ(after.hash_inserts, before.hash_inserts);
  EXPECT_EQ(after.hash_deletes, before.hash_deletes);
  EXPECT_EQ(after.list_stores - before.list_stores, 4u);
  EXPECT_EQ(after.backend_stores - before.backend_stores, 4u);
}

}  // namespace
}  // namespace waggle::lab
