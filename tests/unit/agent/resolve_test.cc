// Ports, families, duplicates, fields not served and limits; the sets of endpoints have
// a table of their own in endpoint_sets_test.cc.
#include "userspace/agent/resolve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/unit/agent/resolve_testing.h"

namespace waggle::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

struct PortCase {
  const char* rule;
  k8s::ServicePort port;
  std::vector<std::vector<k8s::EndpointPort>> slices;  // each with the endpoint 10.0.0.<n>
  const char* expected;

  friend void PrintTo(const PortCase& row, std::ostream* out) { *out << row.rule; }
};

class WhichPorts : public testing::TestWithParam<PortCase> {};

TEST_P(WhichPorts, AreMatchedByNameAndProtocol) {
  const PortCase& row = GetParam();
  auto service = WebService();
  service->ports = {row.port};
  ServiceInput input{service, {}, kNode};
  for (size_t i = 0; i < row.slices.size(); ++i) {
    input.slices.push_back(
        Slice("web-" + std::to_string(i), row.slices[i], {"10.0.0." + std::to_string(i + 1)}));
  }
  const Resolution result = Resolve(input);
  ASSERT_THAT(result.service.ports, SizeIs(1));
  EXPECT_EQ(Describe(result.service.ports[0].lists[0]), row.expected) << row.rule;
}

INSTANTIATE_TEST_SUITE_P(Table, WhichPorts,
                         testing::Values(PortCase{"the slice's number is the target",
                                                  {"http", kTcp, 80, 0},
                                                  {{{"http", kTcp, 8080}}},
                                                  "forward Cluster 10.0.0.1:8080"},
                                         PortCase{"other name",
                                                  {"http", kTcp, 80, 0},
                                                  {{{"https", kTcp, 8443}}},
                                                  "refuse Cluster"},
                                         PortCase{"same name, other protocol",
                                                  {"dns", kUdp, 53, 0},
                                                  {{{"dns", kTcp, 53}}},
                                                  "refuse Cluster"},
                                         PortCase{"same name, both protocols",
                                                  {"dns", kUdp, 53, 0},
                                                  {{{"dns", kTcp, 1053}, {"dns", kUdp, 53}}},
                                                  "forward Cluster 10.0.0.1:53"},
                                         PortCase{"empty names match",
                                                  {"", kTcp, 80, 0},
                                                  {{{"", kTcp, 8080}}},
                                                  "forward Cluster 10.0.0.1:8080"},
                                         PortCase{"empty matches only empty",
                                                  {"", kTcp, 80, 0},
                                                  {{{"http", kTcp, 8080}}},
                                                  "refuse Cluster"},
                                         PortCase{"several slices, several numbers: union",
                                                  {"http", kTcp, 80, 0},
                                                  {{{"http", kTcp, 8080}}, {{"http", kTcp, 9090}}},
                                                  "forward Cluster 10.0.0.1:8080 10.0.0.2:9090"},
                                         PortCase{"a slice without ports gives none",
                                                  {"http", kTcp, 80, 0},
                                                  {{}, {{"http", kTcp, 8080}}},
                                                  "forward Cluster 10.0.0.2:8080"},
                                         PortCase{"two numbers in one slice: both",
                                                  {"http", kTcp, 80, 0},
                                                  {{{"http", kTcp, 8080}, {"http", kTcp, 8081}}},
                                                  "forward Cluster 10.0.0.1:8080 10.0.0.1:8081"}));

struct DuplicateCase {
  const char* rule;
  std::string first;   // in slice web-1
  std::string second;  // in slice web-2
  const char* expected;

  friend void PrintTo(const DuplicateCase& row, std::ostream* out) { *out << row.rule; }
};

class Duplicates : public testing::TestWithParam<DuplicateCase> {};

TEST_P(Duplicates, CountOnceWhateverTheOrderOfSlices) {
  const DuplicateCase& row = GetParam();
  const auto one = Slice("web-1", {{"http", kTcp, 8080}}, {row.first});
  const auto two = Slice("web-2", {{"http", kTcp, 8080}}, {row.second});
  const Resolution forth = Resolve({WebService(), {one, two}, kNode});
  const Resolution back = Resolve({WebService(), {two, one}, kNode});
  EXPECT_EQ(Describe(forth.service.ports[0].lists[0]), row.expected);
  EXPECT_EQ(forth.service, back.service);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Duplicates,
    testing::Values(DuplicateCase{"same copies", "10.0.0.1", "10.0.0.1",
                                  "forward Cluster 10.0.0.1:8080"},
                    DuplicateCase{"the copy that names this node wins, first", "10.0.0.1 node=n1",
                                  "10.0.0.1", "forward Cluster 10.0.0.1:8080(local)"},
                    DuplicateCase{"the copy that names this node wins, last", "10.0.0.1 node=n2",
                                  "10.0.0.1 node=n1", "forward Cluster 10.0.0.1:8080(local)"},
                    DuplicateCase{"and wins although the other one is ready", "10.0.0.1",
                                  "10.0.0.1 notready node=n1", "refuse Cluster"},
                    DuplicateCase{"else a ready copy wins", "10.0.0.1 notready", "10.0.0.1",
                                  "forward Cluster 10.0.0.1:8080"},
                    DuplicateCase{"written differently, the same address", "010.0.0.1",
                                  "::ffff:10.0.0.1", "forward Cluster 10.0.0.1:8080"}));

TEST(Resolve, DualStackUsesTheSlicesOfEachFamily) {
  auto service = WebService();
  service->cluster_ips = {Ip("fd00:96::1"), Ip("10.96.0.1")};
  service->ports = {{"http", kTcp, 80, 0}, {"dns", kUdp, 53, 0}};
  const Resolution result =
      Resolve({service,
               {Slice("v4", {{"http", kTcp, 8080}, {"dns", kUdp, 53}}, {"10.0.0.1"}),
                Slice("v6", {{"http", kTcp, 8080}}, {"fd00::1"}, net::Family::kIpv6)},
               kNode});
  ASSERT_THAT(result.service.ports, SizeIs(2));
  const ResolvedPort& dns = result.service.ports[0];
  EXPECT_EQ(dns.name, "dns");
  ASSERT_THAT(dns.lists, SizeIs(2));
  EXPECT_EQ(dns.lists[0].frontends[0].endpoint.ToString(), "10.96.0.1:53");
  EXPECT_EQ(Describe(dns.lists[0]), "forward Cluster 10.0.0.1:53");
  EXPECT_EQ(dns.lists[1].frontends[0].endpoint.ToString(), "[fd00:96::1]:53");
  EXPECT_EQ(Describe(dns.lists[1]), "refuse Cluster");
  const ResolvedPort& http = result.service.ports[1];
  EXPECT_EQ(Describe(http.lists[0]), "forward Cluster 10.0.0.1:8080");
  EXPECT_EQ(Describe(http.lists[1]), "forward Cluster [fd00::1]:8080");
}

TEST(Resolve, AFrontendPerFamilyAndPortWithScopeInternal) {
  const Resolution result = Resolve({WebService(), {}, kNode});
  EXPECT_EQ(result.service.name, (ServiceName{"default", "web"}));
  EXPECT_THAT(
      result.service.ports[0].lists[0].frontends,
      ElementsAre(Frontend{{Ip("10.96.0.1"), 80}, FrontendKind::kClusterIp, Scope::kInternal}));
  EXPECT_EQ(result.service.ports[0].lists[0].affinity_s, 0u);
}

TEST(Resolve, AnAddressOfTheWrongFamilyIsNoBackend) {
  const Resolution result =
      Resolve({WebService(), {Slice("web-1", {{"http", kTcp, 8080}}, {"fd00::1"})}, kNode});
  EXPECT_EQ(Describe(result.service.ports[0].lists[0]), "refuse Cluster");
}

TEST(Resolve, ServicesThatAreNotOursHaveNoPorts) {
  const std::vector<std::pair<const char*, void (*)(k8s::Service&)>> rows = {
      {"headless", [](k8s::Service& service) { service.headless = true; }},
      {"ExternalName", [](k8s::Service& service) { service.external_name = true; }},
      {"other proxy", [](k8s::Service& service) { service.other_proxy = true; }},
      {"no cluster IP", [](k8s::Service& service) { service.cluster_ips.clear(); }},
  };
  for (const auto& [what, change] : rows) {
    auto service = WebService();
    service->affinity_s = 10;  // nor are their fields anybody's problem
    change(*service);
    const Resolution result =
        Resolve({service, {Slice("web-1", {{"http", kTcp, 8080}}, {"10.0.0.1"})}, kNode});
    EXPECT_THAT(result.service.ports, IsEmpty()) << what;
    EXPECT_THAT(result.problems, IsEmpty()) << what;
    EXPECT_EQ(result.service.name.ToString(), "default/web") << what;
  }
}

TEST(Resolve, AnSctpPortIsLeftOutAndNamed) {
  auto service = WebService();
  service->ports = {{"diameter", net::Protocol::kSctp, 3868, 0}, {"http", kTcp, 80, 0}};
  const Resolution result = Resolve({service, {}, kNode});
  ASSERT_THAT(result.service.ports, SizeIs(1));
  EXPECT_EQ(result.service.ports[0].name, "http");
  ASSERT_THAT(result.problems, SizeIs(1));
  EXPECT_EQ(result.problems[0].ToString(),
            "Service default/web: spec.ports[port=3868,protocol=SCTP]: unsupported: SCTP is not "
            "served by this version: the port is left out, the others work");
}

struct UnservedCase {
  const char* what;
  void (*change)(k8s::Service&);
  const char* field;  // "": no problem
  const char* text;

  friend void PrintTo(const UnservedCase& row, std::ostream* out) { *out << row.what; }
};

class Unserved : public testing::TestWithParam<UnservedCase> {};

TEST_P(Unserved, IsOneProblemForEachService) {
  auto service = WebService();
  GetParam().change(*service);
  const Resolution result =
      Resolve({service, {Slice("web-1", {{"http", kTcp, 8080}}, {"10.0.0.1"})}, kNode});
  // The ClusterIP works all the same, and says what is in effect.
  ASSERT_THAT(result.service.ports, SizeIs(1));
  EXPECT_EQ(Describe(result.service.ports[0].lists[0]), "forward Cluster 10.0.0.1:8080");
  EXPECT_EQ(result.service.ports[0].lists[0].affinity_s, 0u);
  if (std::string(GetParam().field).empty()) {
    EXPECT_THAT(result.problems, IsEmpty());
    return;
  }
  ASSERT_THAT(result.problems, SizeIs(1));
  EXPECT_EQ(result.problems[0].reason, ProblemReason::kUnsupported);
  EXPECT_EQ(result.problems[0].field, GetParam().field);
  EXPECT_THAT(result.problems[0].text, HasSubstr(GetParam().text));
}

INSTANTIATE_TEST_SUITE_P(
    Table, Unserved,
    testing::Values(
        UnservedCase{"nothing of the kind", [](k8s::Service&) {}, "", ""},
        UnservedCase{"node port", [](k8s::Service& service) { service.ports[0].node_port = 30080; },
                     "spec.ports[].nodePort", "ClusterIPs only"},
        UnservedCase{"external IP",
                     [](k8s::Service& service) { service.external_ips = {Ip("192.0.2.1")}; },
                     "spec.externalIPs", "ClusterIPs only"},
        UnservedCase{"load balancer",
                     [](k8s::Service& service) { service.load_balancer_ips = {Ip("192.0.2.2")}; },
                     "status.loadBalancer.ingress", "ClusterIPs only"},
        UnservedCase{"affinity", [](k8s::Service& service) { service.affinity_s = 10800; },
                     "spec.sessionAffinity", "not in effect"},
        UnservedCase{"external policy without an external address",
                     [](k8s::Service& service) { service.external_policy = kLocal; }, "", ""},
        UnservedCase{"everything at once",
                     [](k8s::Service& service) {
                       service.ports[0].node_port = 30080;
                       service.external_ips = {Ip("192.0.2.1")};
                       service.load_balancer_ips = {Ip("192.0.2.2")};
                       service.external_policy = kLocal;
                       service.affinity_s = 1;
                     },
                     "spec.ports[].nodePort, spec.externalIPs, status.loadBalancer.ingress, "
                     "spec.externalTrafficPolicy, spec.sessionAffinity",
                     "; session affinity"}));

TEST(Resolve, MoreBackendsThanAListHoldsAreCutAndNamed) {
  auto slice = std::make_shared<k8s::EndpointSlice>();
  slice->name = {"default", "web-1"};
  slice->ports = {{"http", kTcp, 8080}};
  for (uint32_t i = 0; i < 65536; ++i) {
    std::array<uint8_t, 16> bytes = Ip("10.0.0.0").bytes();
    bytes[13] = static_cast<uint8_t>(i >> 16);
    bytes[14] = static_cast<uint8_t>(i >> 8);
    bytes[15] = static_cast<uint8_t>(i);
    k8s::Endpoint endpoint;
    endpoint.address = net::Address(bytes);
    slice->endpoints.push_back(endpoint);
  }
  std::reverse(slice->endpoints.begin(), slice->endpoints.end());
  const Resolution full = Resolve({WebService(), {slice}, kNode});
  const BackendList& list = full.service.ports[0].lists[0];
  ASSERT_THAT(list.backends, SizeIs(65535));
  EXPECT_EQ(list.backends.front().endpoint.ToString(), "10.0.0.0:8080");
  EXPECT_EQ(list.backends.back().endpoint.ToString(), "10.0.255.254:8080");
  ASSERT_THAT(full.problems, SizeIs(1));
  EXPECT_EQ(full.problems[0].reason, ProblemReason::kFull);
  EXPECT_THAT(full.problems[0].text, HasSubstr("IPv4 has 65536 endpoints"));

  auto fitting = std::make_shared<k8s::EndpointSlice>(*slice);
  fitting->endpoints.pop_back();
  const Resolution fits = Resolve({WebService(), {fitting}, kNode});
  EXPECT_THAT(fits.service.ports[0].lists[0].backends, SizeIs(65535));
  EXPECT_THAT(fits.problems, IsEmpty());
}

// "Equal inputs give equal values" in desired.h: nothing depends on orders.
TEST(Resolve, OrderOfSlicesPortsAndEndpointsDecidesNothing) {
  std::mt19937 random(7);
  for (int world = 0; world < 200; ++world) {
    auto service = WebService();
    service->cluster_ips = {Ip("10.96.0.1"), Ip("fd00:96::1")};
    service->ports = {{"http", kTcp, 80, 0}, {"dns", kUdp, 53, 0}, {"dns-tcp", kTcp, 53, 0}};
    std::vector<std::shared_ptr<const k8s::EndpointSlice>> slices;
    for (int i = 0; i < 4; ++i) {
      const bool v6 = random() % 2 == 0;
      std::vector<std::string> endpoints;
      // One copy of an address in each slice: which of two in one slice comes first is
      // part of the input.
      for (int host = 1; host <= 5; ++host) {
        if (random() % 2 == 0) continue;
        std::string text = (v6 ? "fd00::" : "10.0.0.") + std::to_string(host);
        text += random() % 2 == 0 ? " node=n1" : " node=n2";
        if (random() % 3 == 0) text += " notready";
        if (random() % 3 == 0) text += " terminating";
        if (random() % 2 == 0) text += " zones=z1";
        endpoints.push_back(text);
      }
      slices.push_back(Slice("web-" + std::to_string(i), {{"http", kTcp, 8080}, {"dns", kUdp, 53}},
                             endpoints, v6 ? net::Family::kIpv6 : net::Family::kIpv4));
    }
    const Resolution first = Resolve({service, slices, kNode});
    std::shuffle(slices.begin(), slices.end(), random);
    auto shuffled = std::make_shared<k8s::Service>(*service);
    std::shuffle(shuffled->ports.begin(), shuffled->ports.end(), random);
    std::shuffle(shuffled->cluster_ips.begin(), shuffled->cluster_ips.end(), random);
    for (auto& slice : slices) {
      auto copy = std::make_shared<k8s::EndpointSlice>(*slice);
      std::shuffle(copy->endpoints.begin(), copy->endpoints.end(), random);
      std::shuffle(copy->ports.begin(), copy->ports.end(), random);
      slice = copy;
    }
    EXPECT_EQ(Resolve({shuffled, slices, kNode}).service, first.service) << "world " << world;
  }
}

}  // namespace
}  // namespace waggle::agent
