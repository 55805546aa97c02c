#include "userspace/agent/health_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "userspace/agent/local_gaps.h"

namespace waggle::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

net::Address Ip(const std::string& text) {
  return *net::Address::Parse(text);
}

k8s::ObjectChange ServiceChange(const std::string& name, uint16_t port,
                                const std::vector<std::string>& ips = {"10.96.0.1", "fd00::1"}) {
  auto service = std::make_shared<k8s::Service>();
  service->name = {"ns", name};
  service->health_check_port = port;
  for (const std::string& ip : ips)
    service->cluster_ips.push_back(Ip(ip));
  return {{k8s::ObjectKind::kService, service->name}, k8s::Object(std::move(service))};
}

// Endpoints as "address" or "address on node", with a "!" in front when not ready.
k8s::ObjectChange SliceChange(const std::string& name, const std::vector<std::string>& endpoints,
                              bool port = true, const std::string& service = "web") {
  auto slice = std::make_shared<k8s::EndpointSlice>();
  slice->name = {"ns", name};
  slice->service = service;
  if (port) slice->ports = {{"http", net::Protocol::kTcp, 8080}};
  for (std::string text : endpoints) {
    k8s::Endpoint endpoint;
    if (text[0] == '!') {
      endpoint.ready = false;
      text.erase(0, 1);
    }
    if (const size_t on = text.find(" on "); on != std::string::npos) {
      endpoint.node_name = text.substr(on + 4);
      text.resize(on);
    }
    endpoint.address = Ip(text);
    slice->family = endpoint.address.family();
    slice->endpoints.push_back(endpoint);
  }
  return {{k8s::ObjectKind::kEndpointSlice, slice->name}, k8s::Object(std::move(slice))};
}

class HealthChecksTest : public testing::Test {
 protected:
  void Apply(const k8s::ObjectChange& change) {
    for (const ServiceName& name : store_.Apply(change)) {
      if (checks_.Concerns(name, store_)) checks_.Update(name, store_, in_force_);
    }
  }
  // "31000 web 1 2": port, name, endpoints of each family; '-' for one that it does not serve.
  std::vector<std::string> Lines() {
    const auto changed = checks_.TakeChanged();
    if (!changed) return {"unchanged"};
    std::vector<std::string> lines;
    for (const auto& [port, check] : *changed) {
      std::string line = std::to_string(port) + " " + check.service.name;
      for (size_t i = 0; i < 2; ++i)
        line += check.serves[i] ? " " + std::to_string(check.local[i]) : " -";
      if (!check.in_force) line += " not in force";
      lines.push_back(line);
    }
    return lines;
  }

  Store store_{"n1"};
  HealthChecks checks_;
  bool in_force_ = true;
};

TEST_F(HealthChecksTest, TellsWhatIsInForce) {
  in_force_ = false;
  Apply(ServiceChange("web", 31000));
  EXPECT_THAT(Lines(), ElementsAre("31000 web 0 0 not in force"));
  in_force_ = true;
  Apply(ServiceChange("web", 31000));
  EXPECT_THAT(Lines(), ElementsAre("31000 web 0 0"));
  // Nobody else is looked at.
  EXPECT_FALSE(checks_.Concerns({"ns", "other"}, store_));
}

TEST_F(HealthChecksTest, FollowsServicesAndEndpoints) {
  EXPECT_THAT(Lines(), ElementsAre("unchanged"));
  Apply(ServiceChange("web", 31000));
  EXPECT_THAT(Lines(), ElementsAre("31000 web 0 0"));
  EXPECT_THAT(Lines(), ElementsAre("unchanged"));
  Apply(SliceChange("a", {"10.0.0.1 on n1", "10.0.0.2 on n2", "!10.0.0.3 on n1", "10.0.0.4"}));
  EXPECT_THAT(Lines(), ElementsAre("31000 web 1 0"));
  // Another slice, with a copy of one; distinct addresses count, over all ports.
  Apply(SliceChange("b", {"10.0.0.1 on n1", "10.0.0.5 on n1"}));
  EXPECT_THAT(Lines(), ElementsAre("31000 web 2 0"));
  Apply(SliceChange("c", {"fd00::1 on n1", "fd00::2 on n1", "fd00::3 on n1"}));
  EXPECT_THAT(Lines(), ElementsAre("31000 web 2 3"));
  // Without ports an endpoint serves nothing.
  Apply(SliceChange("d", {"10.0.0.6 on n1"}, false));
  EXPECT_THAT(Lines(), ElementsAre("unchanged"));
  Apply(ServiceChange("web", 31001));
  EXPECT_THAT(Lines(), ElementsAre("31001 web 2 3"));
  Apply(ServiceChange("web", 31001, {"10.96.0.1"}));
  EXPECT_THAT(Lines(), ElementsAre("31001 web 2 -"));
  Apply({{k8s::ObjectKind::kEndpointSlice, {"ns", "b"}}, k8s::Deleted{}});
  EXPECT_THAT(Lines(), ElementsAre("31001 web 1 -"));
  Apply(ServiceChange("web", 0));
  EXPECT_THAT(Lines(), IsEmpty());
  Apply(SliceChange("a", {}));
  EXPECT_THAT(Lines(), ElementsAre("unchanged"));
}

TEST_F(HealthChecksTest, ForgetsWhatIsGoneOrNotForUs) {
  Apply(ServiceChange("web", 31000));
  Apply(ServiceChange("headless", 31001, {}));
  Apply(ServiceChange("other", 31002));
  Apply(ServiceChange("second", 31000));
  EXPECT_THAT(Lines(), ElementsAre("31000 second 0 0", "31002 other 0 0"));
  Apply({{k8s::ObjectKind::kService, {"ns", "second"}}, k8s::Deleted{}});
  Apply({{k8s::ObjectKind::kService, {"ns", "other"}}, k8s::Deleted{}});
  EXPECT_THAT(Lines(), ElementsAre("31000 web 0 0"));
}

struct Case {
  const char* name;
  bool primary = false;
  std::vector<std::string> ranges;
  std::string bind_address;
  std::vector<std::string> node;  // InternalIPs
  std::vector<std::string> addresses;
};
void PrintTo(const Case& test, std::ostream* out) {
  *out << test.name;
}

class Addresses : public testing::TestWithParam<Case> {};

TEST_P(Addresses, FollowNodePortAddresses) {
  const Case& test = GetParam();
  config::AgentConfig config;
  config.node_port_addresses.primary = test.primary;
  for (const std::string& range : test.ranges)
    config.node_port_addresses.ranges.push_back(*net::Prefix::Parse(range));
  if (!test.bind_address.empty()) config.bind_address = Ip(test.bind_address);
  k8s::Node node;
  for (const std::string& address : test.node)
    node.internal_ips.push_back(Ip(address));
  node.external_ips.push_back(Ip("2001:db8::9"));
  const std::vector<net::Address> local = {Ip("127.0.0.1"), Ip("192.0.2.1"), Ip("192.0.2.2"),
                                           Ip("10.0.0.1"),  Ip("::1"),       Ip("2001:db8::1")};
  std::vector<std::string> have;
  for (const net::Address& address : HealthCheckAddresses(config, &node, local))
    have.push_back(address.ToString());
  EXPECT_THAT(have, testing::UnorderedElementsAreArray(test.addresses));
}

INSTANTIATE_TEST_SUITE_P(
    Rules, Addresses,
    testing::Values(
        Case{"All", false, {}, "", {}, {"0.0.0.0", "::"}},
        Case{"Ranges",
             false,
             {"192.0.2.0/24", "2001:db8::/64"},
             "",
             {},
             {"192.0.2.1", "192.0.2.2", "2001:db8::1"}},
        Case{"RangesOfOneFamily", false, {"192.0.2.1/32"}, "", {}, {"192.0.2.1", "::"}},
        Case{"RangeWithoutAnAddress", false, {"203.0.113.0/24", "::1/128"}, "", {}, {"::1"}},
        Case{"RangeOfAll", false, {"0.0.0.0/0", "::/0"}, "", {}, {"0.0.0.0", "::"}},
        Case{"Primary",
             true,
             {},
             "",
             {"192.0.2.2", "192.0.2.1", "2001:db8::5"},
             {"192.0.2.2", "2001:db8::5"}},
        Case{"PrimaryByExternal", true, {}, "", {}, {"0.0.0.0", "2001:db8::9"}},
        Case{"PrimaryByBindAddress",
             true,
             {},
             "10.0.0.1",
             {"192.0.2.2"},
             {"10.0.0.1", "2001:db8::9"}}),
    [](const testing::TestParamInfo<Case>& test) { return test.param.name; });

TEST(Addresses, WithoutANodeAreAll) {
  config::AgentConfig config;
  config.node_port_addresses.primary = true;
  EXPECT_THAT(HealthCheckAddresses(config, nullptr, {}),
              UnorderedElementsAre(Ip("0.0.0.0"), Ip("::")));
}

TEST(LocalAddresses, HoldLoopback) {
  EXPECT_THAT(LocalAddresses(), testing::Contains(Ip("127.0.0.1")));
}

BackendList List(Fate fate, Scope scope, const std::string& ip, uint16_t port = 80) {
  BackendList list;
  list.fate = fate;
  list.frontends = {{{Ip(ip), port}, FrontendKind::kClusterIp, scope}};
  return list;
}

TEST(LocalGaps, CountsPortsByScopeAndFamily) {
  LocalGaps gaps;
  const auto port = [](std::vector<BackendList> lists) {
    ResolvedPort resolved;
    resolved.lists = std::move(lists);
    return resolved;
  };
  const ResolvedService a = {{"ns", "a"},
                             {port({List(Fate::kDrop, Scope::kInternal, "10.96.0.1"),
                                    List(Fate::kDrop, Scope::kInternal, "fd00::1"),
                                    List(Fate::kDrop, Scope::kExternal, "192.0.2.1")}),
                              port({List(Fate::kDrop, Scope::kInternal, "10.96.0.1", 81),
                                    List(Fate::kRefuse, Scope::kInternal, "fd00::1", 81)})}};
  const ResolvedService b = {{"ns", "b"},
                             {port({List(Fate::kDrop, Scope::kInternal, "10.96.0.2")})}};
  gaps.Update(a);
  gaps.Update(b);
  EXPECT_EQ(gaps.total(), (LocalGaps::Counts{{{3, 1}, {1, 0}}}));
  gaps.Update(a);
  EXPECT_EQ(gaps.total(), (LocalGaps::Counts{{{3, 1}, {1, 0}}}));
  gaps.Update({{"ns", "a"}, {port({List(Fate::kForward, Scope::kInternal, "10.96.0.1")})}});
  EXPECT_EQ(gaps.total(), (LocalGaps::Counts{{{1, 0}, {0, 0}}}));
  gaps.Update({{"ns", "b"}, {}});
  EXPECT_EQ(gaps.total(), LocalGaps::Counts{});
}

}  // namespace
}  // namespace waggle::agent
