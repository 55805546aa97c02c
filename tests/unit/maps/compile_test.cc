#include "maps/compile.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "tests/unit/maps/testing.h"

namespace waggle::maps {
namespace {

std::string Bytes(const __u8 (&bytes)[16]) {
  return {bytes, bytes + 16};
}

TEST(Compile, WritesAddressesInNetworkOrderAndV4AsMapped) {
  const ServiceRows rows =
      Compile(Service("web", {Port("http", {Forward({"10.96.1.2:80"}, {"10.244.0.9:8080"}),
                                            Forward({"[fd00::a]:80"}, {"[fd00:1::9]:8080"})})}));
  ASSERT_EQ(rows.name.ToString(), "ns/web");
  ASSERT_EQ(rows.ports.size(), 1u);
  const PortRows& port = rows.ports[0];
  EXPECT_STREQ(port.service.ns, "ns");
  EXPECT_STREQ(port.service.name, "web");
  EXPECT_STREQ(port.service.port_name, "http");
  EXPECT_EQ(port.service.protocol, IPPROTO_TCP);
  ASSERT_EQ(port.lists.size(), 2u);

  const ListRows& v4 = port.lists[0];
  EXPECT_EQ(v4.list.fate, WAGGLE_FATE_FORWARD);
  EXPECT_EQ(v4.list.count, 1);
  EXPECT_EQ(v4.list.base, 0u);
  EXPECT_EQ(v4.list.service_id, 0u);
  ASSERT_EQ(v4.frontends.size(), 1u);
  EXPECT_EQ(Bytes(v4.frontends[0].key.addr),
            std::string("\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\x60\x01\x02", 16));
  EXPECT_EQ(v4.frontends[0].key.port_be, htons(80));
  EXPECT_EQ(v4.frontends[0].key.protocol, IPPROTO_TCP);
  EXPECT_EQ(v4.frontends[0].key.scope, WAGGLE_SCOPE_INTERNAL);
  ASSERT_EQ(v4.backends.size(), 1u);
  EXPECT_EQ(Bytes(v4.backends[0].addr),
            std::string("\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\xf4\x00\x09", 16));
  EXPECT_EQ(v4.backends[0].port_be, htons(8080));
  EXPECT_EQ(Bytes(port.lists[1].frontends[0].key.addr),
            std::string("\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a", 16));
}

TEST(Compile, EveryKindScopePolicyAndProtocolHasItsAbiValue) {
  struct Case {
    FrontendKind kind;
    uint8_t abi_kind;
    Scope scope;
    uint8_t abi_scope;
    Policy policy;
    uint8_t abi_policy;
    net::Protocol protocol;
    uint8_t abi_protocol;
  };
  const Case cases[] = {
      {FrontendKind::kClusterIp, WAGGLE_KIND_CLUSTER_IP, Scope::kInternal, WAGGLE_SCOPE_INTERNAL,
       Policy::kCluster, WAGGLE_POLICY_CLUSTER, net::Protocol::kTcp, IPPROTO_TCP},
      {FrontendKind::kNodePort, WAGGLE_KIND_NODE_PORT, Scope::kExternal, WAGGLE_SCOPE_EXTERNAL,
       Policy::kLocal, WAGGLE_POLICY_LOCAL, net::Protocol::kUdp, IPPROTO_UDP},
      {FrontendKind::kLoadBalancerIp, WAGGLE_KIND_LOAD_BALANCER_IP, Scope::kExternal,
       WAGGLE_SCOPE_EXTERNAL, Policy::kCluster, WAGGLE_POLICY_CLUSTER, net::Protocol::kSctp,
       IPPROTO_SCTP},
      {FrontendKind::kExternalIp, WAGGLE_KIND_EXTERNAL_IP, Scope::kInternal, WAGGLE_SCOPE_INTERNAL,
       Policy::kLocal, WAGGLE_POLICY_LOCAL, net::Protocol::kTcp, IPPROTO_TCP},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(static_cast<int>(c.kind));
    BackendList list = Forward({"10.0.0.1:1"}, {"10.1.0.1:1"});
    list.policy = c.policy;
    list.affinity_s = 10800;
    list.frontends[0].kind = c.kind;
    list.frontends[0].scope = c.scope;
    const ServiceRows rows = Compile(Service("s", {Port("", {list}, c.protocol)}));
    const ListRows& made = rows.ports.at(0).lists.at(0);
    EXPECT_EQ(made.frontends[0].kind, c.abi_kind);
    EXPECT_EQ(made.frontends[0].key.scope, c.abi_scope);
    EXPECT_EQ(made.frontends[0].key.protocol, c.abi_protocol);
    EXPECT_EQ(made.list.policy, c.abi_policy);
    EXPECT_EQ(made.list.affinity_s, 10800u);
    EXPECT_EQ(rows.ports[0].service.protocol, c.abi_protocol);
  }
}

TEST(Compile, BackendFlagsComeFromEndpointConditions) {
  BackendList list = Forward({"10.0.0.1:1"}, {});
  list.backends = {BackendAt("10.1.0.1:1"), BackendAt("10.1.0.2:1", true),
                   BackendAt("10.1.0.3:1", false, true), BackendAt("10.1.0.4:1", true, true)};
  const ServiceRows rows = Compile(Service("s", {Port("", {list})}));
  const uint16_t flags[] = {0, WAGGLE_BACKEND_LOCAL, WAGGLE_BACKEND_TERMINATING,
                            WAGGLE_BACKEND_LOCAL | WAGGLE_BACKEND_TERMINATING};
  for (size_t i = 0; i < 4; ++i)
    EXPECT_EQ(rows.ports[0].lists[0].backends[i].flags, flags[i]);
}

TEST(Compile, RefuseAndDropHaveNoBackends) {
  for (const Fate fate : {Fate::kRefuse, Fate::kDrop}) {
    BackendList list = Forward({"10.0.0.1:1"}, {"10.1.0.1:1"});
    list.fate = fate;
    const ServiceRows rows = Compile(Service("s", {Port("", {list})}));
    EXPECT_EQ(rows.ports[0].lists[0].list.fate, static_cast<int>(fate));
    EXPECT_EQ(rows.ports[0].lists[0].list.count, 0);
    EXPECT_TRUE(rows.ports[0].lists[0].backends.empty());
  }
}

// The kernel's form of 'forward to nobody' is 'refuse': CheckTables() would take the
// other for damage after a restart, and give the Service a gap.
TEST(Compile, ForwardWithoutBackendsIsRefuse) {
  const ServiceRows rows = Compile(Service("s", {Port("", {Forward({"10.0.0.1:1"}, {})})}));
  EXPECT_EQ(rows.ports[0].lists[0].list.fate, WAGGLE_FATE_REFUSE);
}

TEST(Compile, NamesFitOrAreCut) {
  const std::string longest(63, 'n');
  const std::string longer(64, 'n');
  ResolvedService service = Service(longest, {Port(longer, {Forward({"10.0.0.1:1"}, {})})});
  const ServiceRows rows = Compile(service);
  EXPECT_EQ(std::string(rows.ports[0].service.name), longest);
  EXPECT_EQ(std::string(rows.ports[0].service.port_name), longest);
}

TEST(Compile, PaddingIsZero) {
  const ServiceRows rows =
      Compile(Service("s", {Port("", {Forward({"10.0.0.1:1"}, {"10.1.0.1:1"})})}));
  for (const __u8 byte : rows.ports[0].service.reserved)
    EXPECT_EQ(byte, 0);
}

TEST(Compile, NothingForNothing) {
  EXPECT_TRUE(Compile(Service("s", {})).ports.empty());
}

}  // namespace
}  // namespace waggle::maps
