#include "userspace/agent/claims.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

namespace waggle::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr auto kTcp = net::Protocol::kTcp;
constexpr auto kUdp = net::Protocol::kUdp;
const ServiceName kA = {"ns", "a"};
const ServiceName kB = {"ns", "b"};
const ServiceName kC = {"ns", "c"};

struct Wanted {
  std::string address;
  uint16_t port;
  net::Protocol protocol = kTcp;
};

ResolvedService Service(const ServiceName& name, const std::vector<Wanted>& wanted) {
  ResolvedService service;
  service.name = name;
  for (const Wanted& want : wanted) {
    BackendList list;
    list.frontends = {{{*net::Address::Parse(want.address), want.port},
                       FrontendKind::kClusterIp,
                       Scope::kInternal}};
    service.ports.push_back({std::to_string(want.port), want.protocol, {list}});
  }
  return service;
}

std::vector<std::string> FrontendsOf(const ResolvedService& service) {
  std::vector<std::string> texts;
  for (const ResolvedPort& port : service.ports) {
    EXPECT_THAT(port.lists, testing::Not(IsEmpty()));
    for (const BackendList& list : port.lists) {
      EXPECT_THAT(list.frontends, testing::Not(IsEmpty()));
      for (const Frontend& frontend : list.frontends) {
        texts.push_back(frontend.endpoint.ToString() + "/" +
                        std::string(net::ProtocolName(port.protocol)));
      }
    }
  }
  return texts;
}

TEST(Claims, OneServiceAloneKeepsAll) {
  Claims claims;
  const ResolvedService service = Service(kA, {{"10.96.0.1", 80}, {"10.96.0.1", 53, kUdp}});
  const auto outcome = claims.Claim(service, 5);
  EXPECT_EQ(outcome.service, service);
  EXPECT_THAT(outcome.problems, IsEmpty());
  EXPECT_THAT(outcome.affected, IsEmpty());
  EXPECT_EQ(claims.Claim(service, 5).service, service) << "claiming again changes nothing";
}

TEST(Claims, TheOlderServiceWinsWhoeverComesFirst) {
  Claims claims;
  EXPECT_THAT(claims.Claim(Service(kA, {{"10.96.0.1", 80}}), 20).affected, IsEmpty());
  const auto older = claims.Claim(Service(kB, {{"10.96.0.1", 80}}), 10);
  EXPECT_THAT(FrontendsOf(older.service), ElementsAre("10.96.0.1:80/TCP"));
  EXPECT_THAT(older.affected, ElementsAre(kA)) << "the loser has to give up";
  const auto loser = claims.Claim(Service(kA, {{"10.96.0.1", 80}}), 20);
  EXPECT_THAT(loser.service.ports, IsEmpty());
  EXPECT_THAT(loser.affected, IsEmpty()) << "nothing changes any more";
  ASSERT_THAT(loser.problems, SizeIs(1));
  EXPECT_EQ(loser.problems[0].reason, ProblemReason::kConflict);
  EXPECT_EQ(loser.problems[0].object.ToString(), "Service ns/a");
  EXPECT_EQ(loser.problems[0].field, "spec.clusterIPs");
  EXPECT_THAT(loser.problems[0].text, HasSubstr("10.96.0.1:80/TCP belongs to Service ns/b"));
}

TEST(Claims, OfEqualAgeTheFirstByNameWins) {
  Claims claims;
  claims.Claim(Service(kB, {{"10.96.0.1", 80}}), 10);
  EXPECT_THAT(claims.Claim(Service(kA, {{"10.96.0.1", 80}}), 10).affected, ElementsAre(kB));
  EXPECT_THAT(claims.Claim(Service(kC, {{"10.96.0.1", 80}}), 10).service.ports, IsEmpty());
}

TEST(Claims, UnknownAgeLosesToAKnownOne) {
  Claims claims;
  claims.Claim(Service(kA, {{"10.96.0.1", 80}}), 0);
  EXPECT_THAT(claims.Claim(Service(kB, {{"10.96.0.1", 80}}), 1700000000).affected, ElementsAre(kA));
  // Between two of unknown age the name decides.
  Claims unknown;
  unknown.Claim(Service(kB, {{"10.96.0.1", 80}}), 0);
  EXPECT_THAT(unknown.Claim(Service(kA, {{"10.96.0.1", 80}}), 0).affected, ElementsAre(kB));
}

TEST(Claims, ProtocolsPortsAndFamiliesAreSeparate) {
  Claims claims;
  claims.Claim(Service(kA, {{"10.96.0.1", 53, kUdp}, {"fd00::1", 80}}), 1);
  const auto other = claims.Claim(
      Service(kB, {{"10.96.0.1", 53, kTcp}, {"10.96.0.1", 54, kUdp}, {"fd00::2", 80}}), 2);
  EXPECT_THAT(FrontendsOf(other.service), SizeIs(3));
  EXPECT_THAT(other.problems, IsEmpty());
  EXPECT_THAT(other.affected, IsEmpty());
}

TEST(Claims, OnlyTheContestedFrontendIsLeftOut) {
  Claims claims;
  claims.Claim(Service(kA, {{"10.96.0.1", 80}}), 1);
  const auto partly =
      claims.Claim(Service(kB, {{"10.96.0.1", 80}, {"10.96.0.2", 80}, {"10.96.0.1", 81}}), 2);
  EXPECT_THAT(FrontendsOf(partly.service), ElementsAre("10.96.0.2:80/TCP", "10.96.0.1:81/TCP"));
  EXPECT_THAT(partly.problems, SizeIs(1));
}

TEST(Claims, AListKeepsItsOtherFrontends) {
  Claims claims;
  claims.Claim(Service(kA, {{"10.96.0.1", 80}}), 1);
  ResolvedService two = Service(kB, {{"10.96.0.1", 80}});
  two.ports[0].lists[0].frontends.push_back(
      {{*net::Address::Parse("192.0.2.1"), 80}, FrontendKind::kExternalIp, Scope::kInternal});
  EXPECT_THAT(FrontendsOf(claims.Claim(two, 2).service), ElementsAre("192.0.2.1:80/TCP"));
}

TEST(Claims, TheNextInLineGetsWhatIsReleased) {
  Claims claims;
  claims.Claim(Service(kA, {{"10.96.0.1", 80}}), 1);
  claims.Claim(Service(kB, {{"10.96.0.1", 80}}), 2);
  claims.Claim(Service(kC, {{"10.96.0.1", 80}}), 3);
  EXPECT_THAT(claims.Release(kA), ElementsAre(kB));
  EXPECT_THAT(FrontendsOf(claims.Claim(Service(kB, {{"10.96.0.1", 80}}), 2).service), SizeIs(1));
  EXPECT_THAT(claims.Release(kC), IsEmpty()) << "it held nothing";
  EXPECT_THAT(claims.Release(kB), IsEmpty()) << "nobody is left";
  EXPECT_THAT(claims.Release(kB), IsEmpty()) << "already gone";
}

TEST(Claims, ChangingToAnotherAddressFreesTheOldOne) {
  Claims claims;
  claims.Claim(Service(kA, {{"10.96.0.1", 80}, {"10.96.0.1", 81}}), 1);
  claims.Claim(Service(kB, {{"10.96.0.1", 80}}), 2);
  const auto moved = claims.Claim(Service(kA, {{"10.96.0.2", 80}, {"10.96.0.1", 81}}), 1);
  EXPECT_THAT(moved.affected, ElementsAre(kB));
  EXPECT_THAT(FrontendsOf(claims.Claim(Service(kB, {{"10.96.0.1", 80}}), 2).service),
              ElementsAre("10.96.0.1:80/TCP"));
  // No ports at all (the Service became headless): the same as a release.
  EXPECT_THAT(claims.Claim(Service(kB, {}), 2).affected, IsEmpty());
  EXPECT_THAT(FrontendsOf(claims.Claim(Service(kA, {{"10.96.0.1", 80}}), 1).service), SizeIs(1));
}

TEST(Claims, ARecreatedServiceIsYoungAndGivesWay) {
  Claims claims;
  claims.Claim(Service(kA, {{"10.96.0.1", 80}}), 1);
  claims.Claim(Service(kB, {{"10.96.0.1", 80}}), 2);
  // Deleted and made again between two looks: only the timestamp tells.
  const auto recreated = claims.Claim(Service(kA, {{"10.96.0.1", 80}}), 3);
  EXPECT_THAT(recreated.service.ports, IsEmpty());
  EXPECT_THAT(recreated.affected, ElementsAre(kB));
}

TEST(Claims, OneAddressNamedTwiceByOneServiceCountsOnce) {
  Claims claims;
  ResolvedService twice = Service(kA, {{"192.0.2.1", 80}, {"192.0.2.1", 80}});
  twice.ports[1].lists[0].frontends[0].kind = FrontendKind::kExternalIp;
  const auto outcome = claims.Claim(twice, 1);
  EXPECT_THAT(FrontendsOf(outcome.service), ElementsAre("192.0.2.1:80/TCP"));
  ASSERT_THAT(outcome.problems, SizeIs(1));
  EXPECT_EQ(outcome.problems[0].field, "spec.externalIPs");
  EXPECT_THAT(claims.Release(kA), IsEmpty());
}

// Whatever happened before, the holders are those of a fresh start with the same
// Services in any order: every node and every restart decide alike.
TEST(Claims, HistoryDecidesNothing) {
  std::mt19937 random(11);
  const std::vector<ServiceName> names = {kA, kB, kC, {"m", "a"}};
  for (int world = 0; world < 100; ++world) {
    Claims lived;
    std::map<ServiceName, std::pair<ResolvedService, int64_t>> current;
    std::map<ServiceName, ResolvedService> in_force;
    for (int step = 0; step < 30; ++step) {
      const ServiceName& name = names[random() % names.size()];
      std::vector<ServiceName> again;
      if (random() % 4 == 0) {
        again = lived.Release(name);
        current.erase(name);
        in_force.erase(name);
      } else {
        std::vector<Wanted> wanted;
        for (uint16_t port = 80; port < 84; ++port) {
          if (random() % 2 == 0) wanted.push_back({"10.96.0.1", port});
        }
        current[name] = {Service(name, wanted), static_cast<int64_t>(random() % 3)};
        auto outcome = lived.Claim(current[name].first, current[name].second);
        in_force[name] = outcome.service;
        again = outcome.affected;
      }
      for (const ServiceName& other : again) {
        const auto outcome = lived.Claim(current.at(other).first, current.at(other).second);
        EXPECT_THAT(outcome.affected, IsEmpty()) << "one round settles it";
        in_force[other] = outcome.service;
      }
    }
    Claims fresh;
    for (const auto& [name, entry] : current)
      fresh.Claim(entry.first, entry.second);
    for (const auto& [name, entry] : current) {
      EXPECT_EQ(fresh.Claim(entry.first, entry.second).service, in_force.at(name))
          << "world " << world << " " << name.ToString();
    }
  }
}

}  // namespace
}  // namespace waggle::agent
