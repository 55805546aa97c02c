// The one rendering of plan and list: order, hostile names, and what the golden files of
// plan_command_test.cc cannot hold.
#include "maps/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace waggle::maps {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

net::Endpoint At(const std::string& address, uint16_t port) {
  return {*net::Address::Parse(address), port};
}

ResolvedService Service(const std::string& ns, const std::string& name,
                        std::vector<ResolvedPort> ports) {
  return {{ns, name}, std::move(ports)};
}

BackendList List(Fate fate, std::vector<Frontend> frontends, std::vector<Backend> backends = {}) {
  return {fate, Policy::kCluster, 0, std::move(backends), std::move(frontends)};
}

constexpr auto kTcp = net::Protocol::kTcp;

TEST(ServicesJson, IsOneRowALineWithTheFieldsInOrder) {
  const ResolvedService service = Service(
      "default", "web",
      {{"http",
        kTcp,
        {List(Fate::kForward, {{At("10.96.0.1", 80), FrontendKind::kClusterIp, Scope::kInternal}},
              {{At("10.244.1.2", 8080)}, {At("10.244.1.10", 8080)}})}}});
  EXPECT_EQ(RenderServicesJson({service}),
            "[\n"
            R"({"namespace":"default","name":"web","portName":"http","protocol":"TCP",)"
            R"("family":"IPv4","kind":"ClusterIP","address":"10.96.0.1","port":80,)"
            R"("scope":"internal","policy":"Cluster","fate":"forward",)"
            R"("backends":["10.244.1.2:8080","10.244.1.10:8080"],)"
            R"("affinitySeconds":0,"sourceRanges":[]})"
            "\n]\n");
  EXPECT_EQ(RenderServicesJson({}), "[]\n");
  EXPECT_EQ(RenderBackendsJson({}), "[]\n");
}

// The order of rows is that of the text a reader sees: "10.96.0.10" before "10.96.0.2",
// kinds and scopes by name, but ports as numbers.
TEST(ServicesJson, RowsAreSortedByTheirFieldsInOrder) {
  const auto port = [](const std::string& name, net::Protocol protocol,
                       std::vector<Frontend> frontends) {
    std::vector<BackendList> lists;
    for (Frontend& frontend : frontends)
      lists.push_back(List(Fate::kRefuse, {frontend}));
    return ResolvedPort{name, protocol, lists};
  };
  const auto internal = Scope::kInternal;
  const auto external = Scope::kExternal;
  const auto cluster = FrontendKind::kClusterIp;
  const std::vector<ResolvedService> services = {
      Service("b", "x", {port("", kTcp, {{At("10.0.0.1", 1), cluster, internal}})}),
      Service("a", "y", {port("", kTcp, {{At("10.0.0.2", 1), cluster, internal}})}),
      Service("a", "x",
              {port("q", net::Protocol::kUdp, {{At("10.96.0.2", 5), cluster, internal}}),
               port("q", kTcp,
                    {{At("fd00::1", 5), cluster, internal},
                     {At("10.96.0.2", 5), cluster, internal},
                     {At("10.96.0.10", 5), cluster, internal}}),
               port("p", kTcp,
                    {{At("10.96.0.2", 30000), FrontendKind::kNodePort, internal},
                     {At("10.96.0.2", 30000), FrontendKind::kNodePort, external},
                     {At("10.96.0.2", 80), FrontendKind::kLoadBalancerIp, external},
                     {At("10.96.0.2", 80), FrontendKind::kExternalIp, external},
                     {At("10.96.0.2", 9), FrontendKind::kExternalIp, external}})})};
  std::vector<std::string> seen;
  for (const auto& row : nlohmann::json::parse(RenderServicesJson(services))) {
    seen.push_back(row["namespace"].get<std::string>() + row["name"].get<std::string>() + " " +
                   row["portName"].get<std::string>() + " " + row["protocol"].get<std::string>() +
                   " " + row["kind"].get<std::string>() + " " + row["address"].get<std::string>() +
                   " " + std::to_string(row["port"].get<int>()) + " " +
                   row["scope"].get<std::string>());
  }
  EXPECT_THAT(
      seen,
      ElementsAre(
          "ax p TCP ExternalIP 10.96.0.2 9 external", "ax p TCP ExternalIP 10.96.0.2 80 external",
          "ax p TCP LoadBalancerIP 10.96.0.2 80 external",
          "ax p TCP NodePort 10.96.0.2 30000 external",
          "ax p TCP NodePort 10.96.0.2 30000 internal", "ax q TCP ClusterIP 10.96.0.10 5 internal",
          "ax q TCP ClusterIP 10.96.0.2 5 internal", "ax q TCP ClusterIP fd00::1 5 internal",
          "ax q UDP ClusterIP 10.96.0.2 5 internal", "ay  TCP ClusterIP 10.0.0.2 1 internal",
          "bx  TCP ClusterIP 10.0.0.1 1 internal"));
}

// Pins can be edited by a stranger: the JSON still parses, the terminal obeys nothing.
TEST(Rendering, SurvivesHostileNames) {
  const std::string hostile = "\"],}\\\n\x1b[2J\xff\x01 é";
  const ResolvedService service = Service(
      hostile, hostile,
      {{hostile,
        kTcp,
        {List(Fate::kForward, {{At("10.96.0.1", 80), FrontendKind::kClusterIp, Scope::kInternal}},
              {{At("10.244.1.2", 8080)}})}}});
  for (const std::string& text : {RenderServicesJson({service}), RenderBackendsJson({service})}) {
    const auto rows = nlohmann::json::parse(text);
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0]["name"], "\"],}\\\n\x1b[2J\xEF\xBF\xBD\x01 é");
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << "one row is one line";
  }
  for (const std::string& text :
       {RenderServicesTable({service}, true), RenderBackendsTable({service}, true)}) {
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
    EXPECT_THAT(text, Not(HasSubstr("\x1b")));
    EXPECT_THAT(text, HasSubstr(R"("],}\\x0a\x1b[2J\xff\x01\x20\xc3\xa9)"));
  }
}

TEST(Backends, OneRowForEachPortFamilyAndBackend) {
  const Backend here{At("10.244.1.2", 8080), true, false};
  const Backend there{At("10.244.2.2", 8080), false, true};
  const ResolvedService service = Service(
      "default", "web",
      {{"http",
        kTcp,
        {List(Fate::kForward, {{At("10.96.0.1", 80), FrontendKind::kClusterIp, Scope::kInternal}},
              {here, there}),
         List(Fate::kForward,
              {{At("192.0.2.1", 80), FrontendKind::kExternalIp, Scope::kExternal},
               {At("192.0.2.1", 80), FrontendKind::kExternalIp, Scope::kInternal}},
              {here})}}});
  EXPECT_EQ(RenderBackendsJson({service}),
            "[\n"
            R"({"namespace":"default","name":"web","portName":"http","protocol":"TCP",)"
            R"("family":"IPv4","address":"10.244.1.2","port":8080,"local":true,)"
            R"("terminating":false,"frontends":["10.96.0.1:80","192.0.2.1:80"]})"
            ",\n"
            R"({"namespace":"default","name":"web","portName":"http","protocol":"TCP",)"
            R"("family":"IPv4","address":"10.244.2.2","port":8080,"local":false,)"
            R"("terminating":true,"frontends":["10.96.0.1:80"]})"
            "\n]\n");
}

TEST(Tables, HaveAHeadEvenWhenEmpty) {
  EXPECT_EQ(RenderServicesTable({}, false),
            "NAMESPACE   NAME   PORT-NAME   PROTOCOL   KIND   ADDRESS   PORT   FATE   BACKENDS\n");
  EXPECT_EQ(RenderBackendsTable({}, false),
            "NAMESPACE   NAME   PORT-NAME   PROTOCOL   BACKEND   LOCAL   TERMINATING\n");
}

TEST(Tables, NarrowCountsAndWideLists) {
  const ResolvedService service =
      Service("default", "web",
              {{"",
                kTcp,
                {{Fate::kForward,
                  Policy::kLocal,
                  10800,
                  {{At("10.244.1.2", 8080)}, {At("10.244.1.3", 8080)}},
                  {{At("10.96.0.1", 80), FrontendKind::kClusterIp, Scope::kInternal}}}}}});
  EXPECT_EQ(RenderServicesTable({service}, false),
            "NAMESPACE   NAME   PORT-NAME   PROTOCOL   KIND        ADDRESS     PORT   FATE      "
            "BACKENDS\n"
            "default     web    <none>      TCP        ClusterIP   10.96.0.1   80     forward   "
            "2\n");
  EXPECT_THAT(
      RenderServicesTable({service}, true),
      HasSubstr("forward   internal   Local    10800s     10.244.1.2:8080,10.244.1.3:8080"));
}

}  // namespace
}  // namespace waggle::maps
