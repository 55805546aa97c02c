// Identity of objects, slices, nodes, lists, and hostile sizes.
#include "k8s-watch/decode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "k8s-watch/fields.h"
#include "tests/unit/k8s-watch/decode_fixture.h"

namespace waggle::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

DecodeCase KindSlip(const char* name, const std::string& version, const std::string& kind,
                    const std::string& expected) {
  return {name,
          "apiVersion: " + version + "\nkind: " + kind + "\nmetadata: {name: web}",
          "",
          {"object (m.yaml): kind: unreadable: is \"" + kind + "\", expected " + expected +
           "; this object is left out"},
          1};
}

INSTANTIATE_TEST_SUITE_P(
    Identity, Decode,
    testing::Values(
        DecodeCase{
            "no_kind",
            "apiVersion: v1\nmetadata: {name: web}",
            "",
            {"object (m.yaml): kind: unreadable: is missing, expected one like \"Service\"; this "
             "object is left out"},
            1},
        DecodeCase{
            "no_version",
            "kind: Service\nmetadata: {name: web}",
            "",
            {"object (m.yaml): apiVersion: unreadable: is missing, expected one like \"v1\"; this "
             "object is left out"},
            1},
        DecodeCase{"scalar",
                   "hello",
                   "",
                   {"object (m.yaml): unreadable: is the string \"hello\", expected a Kubernetes "
                    "object (a "
                    "mapping with apiVersion, kind, metadata); it is left out"},
                   1},
        DecodeCase{
            "kind_is_a_number",
            "apiVersion: v1\nkind: 5",
            "",
            {"object (m.yaml): kind: invalid: is 5, expected a string; this object is left out"},
            1},
        DecodeCase{
            "deployment", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: 5}", "", {}},
        DecodeCase{"knative",
                   "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web}",
                   "",
                   {}},
        KindSlip("kind_in_small_letters", "v1", "service", "\"Service\""),
        KindSlip("kind_lacks_a_letter", "v1", "Servce", "\"Service\""),
        KindSlip("kind_with_a_wrong_letter", "v1", "Nods", "\"Node\""),
        KindSlip("kind_in_the_plural", "v1", "Services", "\"Service\""),
        KindSlip("kind_of_a_list", "v1", "Servicelist", "\"ServiceList\""),
        KindSlip("list", "v1", "list", "\"List\""),
        KindSlip("list_of_another_version", "v2", "List", "another one, or the apiVersion \"v1\""),
        KindSlip("slice_of_another_group", "v1", "EndPointSlice", "\"EndpointSlice\""),
        KindSlip("slice", "discovery.k8s.io/v1", "EndpointsSlices",
                 "\"EndpointSlice\" or \"EndpointSliceList\""),
        DecodeCase{"others_of_v1",
                   "{apiVersion: v1, kind: ServiceAccount}\n---\n{apiVersion: v1, kind: Pod}\n---\n"
                   "{apiVersion: v1, kind: Endpoints}\n---\n{apiVersion: x.org/v1, kind: Servce}",
                   "",
                   {}},
        DecodeCase{"group_with_a_slip",
                   "apiVersion: discovery.k8.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1}",
                   "EndpointSlice default/web-1: unreadable of default/",
                   {"EndpointSlice default/web-1 (m.yaml): apiVersion: unsupported: is "
                    "\"discovery.k8.io/v1\", expected \"discovery.k8s.io/v1\"; this object is left "
                    "out"},
                   1},
        DecodeCase{"values_of_a_chart",
                   "replicas: 3\nimage: {tag: x}",
                   "",
                   {"object (m.yaml): invalid: has neither apiVersion nor kind, so it is no "
                    "Kubernetes object; it is ignored"}},
        DecodeCase{"service_v2",
                   "apiVersion: v2\nkind: Service\nmetadata: {name: web}",
                   "Service default/web: unreadable of default/web",
                   {"Service default/web (m.yaml): apiVersion: unsupported: is \"v2\", expected "
                    "\"v1\"; this "
                    "object is left out"}},
        DecodeCase{
            "slice_v1beta1",
            "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\n"
            "metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}",
            "EndpointSlice shop/web-1: unreadable of shop/web",
            {"EndpointSlice shop/web-1 (m.yaml): apiVersion: unsupported: is "
             "\"discovery.k8s.io/v1beta1\", expected \"discovery.k8s.io/v1\"; this object is left "
             "out"}},
        DecodeCase{
            "no_metadata",
            "apiVersion: v1\nkind: Service",
            "",
            {"Service (m.yaml): metadata: invalid: is missing, expected a mapping with name; this "
             "object is left out"},
            1},
        DecodeCase{"numeric_name",
                   "apiVersion: v1\nkind: Service\nmetadata: {name: 5}",
                   "",
                   {"Service (m.yaml): metadata.name: invalid: is 5, expected a string; this "
                    "object is left "
                    "out"},
                   1},
        DecodeCase{
            "dotted_service_name",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a.b}",
            "",
            {"Service (m.yaml): metadata.name: invalid: is \"a.b\", expected at most 63 lower-case "
             "letters, digits and '-', with a letter or digit at both ends; this object is left "
             "out"},
            1},
        DecodeCase{"escapes_in_a_name",
                   "apiVersion: v1\nkind: Service\nmetadata: {name: \"a\\e[31m\\n\\\"\"}",
                   "",
                   {"Service (m.yaml): metadata.name: invalid: is \"a\\x1b[31m\\n\\\"\", expected "
                    "at most 63 "
                    "lower-case letters, digits and '-', with a letter or digit at both ends; this "
                    "object is "
                    "left out"},
                   1},
        DecodeCase{"bad_namespace",
                   "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: B}",
                   "",
                   {"Service (m.yaml): metadata.namespace: invalid: is \"B\", expected at most 63 "
                    "lower-case "
                    "letters, digits and '-', with a letter or digit at both ends; this object is "
                    "left out"},
                   1}),
    CaseName);

std::string Slice(const std::string& body,
                  const std::string& labels = "kubernetes.io/service-name: web") {
  return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1, labels: {" +
         labels + "}}\n" + body;
}
std::string SliceMsg(const std::string& field, const std::string& text) {
  return "EndpointSlice default/web-1 (m.yaml): " + field + ": invalid: " + text;
}
std::string Address(const std::string& address, const std::string& type = "IPv4") {
  return Slice("addressType: " + type + "\nports: [{port: 1}]\nendpoints: [{addresses: ['" +
               address + "']}]");
}
std::string Shown(const std::string& rest, const char* family = "IPv4") {
  return "EndpointSlice default/web-1: " + std::string(family) + " of web ports=" + rest;
}
DecodeCase Special(const char* name, const std::string& address, const std::string& what,
                   const char* family = "IPv4") {
  return {name,
          Address(address, family),
          Shown(":1/TCP;", family),
          {SliceMsg("endpoints[0].addresses[0]", "\"" + address + "\" is " + what +
                                                     " address, which no endpoint may have; this "
                                                     "endpoint is left out")}};
}

INSTANTIATE_TEST_SUITE_P(
    Slices, Decode,
    testing::Values(
        DecodeCase{"full",
                   Slice("addressType: IPv6\nports: [{name: a, port: 1}, {name: b, port: 2, "
                         "protocol: UDP}]\n"
                         "endpoints:\n- addresses: ['fd00::1', 'fd00::2']\n  nodeName: node-1.x\n"
                         "  conditions: {ready: false, serving: true, terminating: true}\n"
                         "  hints: {forZones: [{name: z1}, {name: z2}], forNodes: [{name: n1}]}\n"),
                   Shown("a:1/TCP;b:2/UDP; fd00::1(-st on node-1.x zones z1,z2 nodes n1)", "IPv6"),
                   {}},
        DecodeCase{"nul_in_a_hint",
                   Slice("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], hints: {forZones: "
                         "[{name: \"x\\0z1\"}, {name: z2}]}}]"),
                   Shown(" 10.0.0.1(rs- zones z2)"),
                   {SliceMsg("endpoints[0].hints.forZones[0].name",
                             "is \"x\\x00z1\", expected no NUL; the endpoint counts as one without "
                             "this hint")}},
        DecodeCase{
            "conditions_default_to_ready",
            Slice("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], "
                  "conditions: {ready: null, serving: null}}, {addresses: [10.0.0.3], conditions: "
                  "{ready: false}}]"),
            Shown(" 10.0.0.1(rs-) 10.0.0.2(rs-) 10.0.0.3(-s-)"),
            {}},
        DecodeCase{"mapped", Address("::ffff:10.0.0.1"), Shown(":1/TCP; 10.0.0.1(rs-)"), {}},
        DecodeCase{"other_family",
                   Address("fd00::1"),
                   Shown(":1/TCP;"),
                   {SliceMsg("endpoints[0].addresses[0]",
                             "is the string \"fd00::1\", expected an IPv4 address "
                             "as addressType says; this endpoint is left out")}},
        Special("loopback4", "127.1.2.3", "a loopback"),
        Special("unspecified4", "0.0.0.0", "an unspecified"),
        Special("link_local4", "169.254.1.1", "a link-local"),
        Special("multicast4", "239.0.0.1", "a multicast"),
        Special("loopback6", "::1", "a loopback", "IPv6"),
        Special("unspecified6", "::", "an unspecified", "IPv6"),
        Special("link_local6", "febf::1", "a link-local", "IPv6"),
        Special("multicast6", "ff02::1", "a multicast", "IPv6"),
        DecodeCase{
            "bad_endpoints",
            Slice("addressType: IPv4\nendpoints: [5, {}, {addresses: []}, {addresses: [x]}, "
                  "{addresses: "
                  "[10.0.0.5], conditions: {ready: 'true'}}, {addresses: [10.0.0.6], nodeName: 7}, "
                  "{addresses: [10.0.0.7]}, {addresses: [10.0.0.8], hints: {forZones: 5}}]"),
            Shown(" 10.0.0.7(rs-) 10.0.0.8(rs-)"),
            {SliceMsg("endpoints[0]", "is 5, expected a mapping; this endpoint is left out"),
             SliceMsg("endpoints[1].addresses",
                      "is empty, expected an address; this endpoint is left out"),
             SliceMsg("endpoints[2].addresses",
                      "is empty, expected an address; this endpoint is left out"),
             SliceMsg("endpoints[3].addresses[0]",
                      "is the string \"x\", expected an IPv4 or IPv6 address; this endpoint is "
                      "left out"),
             SliceMsg("endpoints[4].conditions.ready",
                      "is the string \"true\", expected true or false; this endpoint is left out"),
             SliceMsg("endpoints[5].nodeName",
                      "is 7, expected a string; this endpoint is left out"),
             SliceMsg("endpoints[7].hints.forZones",
                      "is 5, expected a list; the endpoint counts as one without this hint")}},
        DecodeCase{
            "ports",
            Slice("addressType: IPv4\nports: [{name: a, port: null}, {name: b, port: 0}, {name: c, "
                  "port: "
                  "65536}, {name: d, port: 4, protocol: X}, {name: null, port: 5}, {name: f, port: "
                  "6}]"),
            Shown(":5/TCP;f:6/TCP;"),
            {SliceMsg("ports[2].port",
                      "is 65536, expected a port number, a whole number from 1 to 65535; "
                      "this port is left out"),
             SliceMsg("ports[3].protocol",
                      "is the string \"X\", expected TCP, UDP or SCTP; this port is left out")}},
        DecodeCase{
            "nulls", Slice("addressType: IPv4\nports: null\nendpoints: null"), Shown(""), {}},
        DecodeCase{"fqdn", Slice("addressType: FQDN\nendpoints: [{addresses: [x.org]}]"), "", {}},
        DecodeCase{"no_owner", Slice("addressType: IPv4", "a: b"), "", {}},
        DecodeCase{"headless_slice",
                   Slice("addressType: IPv4",
                         "kubernetes.io/service-name: web, service.kubernetes.io/headless: ''"),
                   "",
                   {}},
        DecodeCase{
            "other_proxys_slice",
            Slice("addressType: IPv4",
                  "kubernetes.io/service-name: web, service.kubernetes.io/service-proxy-name: x"),
            "",
            {}},
        DecodeCase{
            "address_type",
            Slice("addressType: ipv4"),
            "EndpointSlice default/web-1: unreadable of default/web",
            {SliceMsg("addressType",
                      "is \"ipv4\", expected \"IPv4\" or \"IPv6\"; this object is left out")}},
        DecodeCase{
            "no_address_type",
            Slice("ports: []"),
            "EndpointSlice default/web-1: unreadable of default/web",
            {SliceMsg("addressType",
                      "is missing, expected \"IPv4\" or \"IPv6\"; this object is left out")}},
        DecodeCase{"bad_owner",
                   Slice("addressType: IPv4", "kubernetes.io/service-name: 5"),
                   "EndpointSlice default/web-1: unreadable of default/",
                   {SliceMsg("metadata.labels.kubernetes.io/service-name",
                             "is 5, expected a string; this object is left out")},
                   1},
        DecodeCase{
            "endpoints_are_a_mapping",
            Slice("addressType: IPv4\nendpoints: {}"),
            "EndpointSlice default/web-1: unreadable of default/web",
            {SliceMsg("endpoints", "is a mapping, expected a list; this object is left out")}}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Nodes, Decode,
    testing::Values(
        DecodeCase{"node",
                   "apiVersion: v1\nkind: Node\nmetadata: {name: n.1, namespace: ignored, labels: "
                   "{topology.kubernetes.io/zone: z}}\nstatus: {addresses: [{type: InternalIP, "
                   "address: 10.0.0.1}, "
                   "{type: Hostname, address: n}, {type: ExternalIP, address: '2001:db8::1'}, "
                   "{type: InternalIP, "
                   "address: 'fd00::1'}]}",
                   "Node /n.1: zone=z internal=10.0.0.1,fd00::1 external=2001:db8::1",
                   {}},
        DecodeCase{"bare",
                   "apiVersion: v1\nkind: Node\nmetadata: {name: m}",
                   "Node /m: zone= internal= external=",
                   {}},
        DecodeCase{"bad_address",
                   "apiVersion: v1\nkind: Node\nmetadata: {name: m}\nstatus: {addresses: [{type: "
                   "InternalIP}, x, "
                   "{type: InternalIP, address: 10.0.0.1}]}",
                   "Node /m: zone= internal=10.0.0.1 external=",
                   {"Node m (m.yaml): status.addresses[0].address: invalid: is null, expected an "
                    "IPv4 or IPv6 "
                    "address; this address is left out",
                    "Node m (m.yaml): status.addresses[1]: invalid: is the string \"x\", expected "
                    "a mapping with "
                    "type and address; this address is left out"}}),
    CaseName);

// What no traffic depends on, and which never makes an object fail.
std::string Trigger(const std::string& time) {
  return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1, labels: "
         "{kubernetes.io/service-name: web}, annotations: "
         "{endpoints.kubernetes.io/last-change-trigger-time: " +
         time + "}}\naddressType: IPv4\nports: [{port: 1}]\nendpoints: [{addresses: [10.0.0.1]}]";
}
std::string Taints(const std::string& spec, const std::string& metadata = "name: m") {
  return "apiVersion: v1\nkind: Node\nmetadata: {" + metadata + "}\nspec: {" + spec + "}";
}
constexpr char kBareNode[] = "Node /m: zone= internal= external=";
const std::string kGoodSlice =
    "EndpointSlice default/web-1: IPv4 of web ports=:1/TCP; 10.0.0.1(rs-)";

INSTANTIATE_TEST_SUITE_P(
    HealthAndMetrics, Decode,
    testing::Values(
        DecodeCase{"trigger",
                   Trigger("'2026-01-31T12:00:00.25Z'"),
                   kGoodSlice + " trigger=1769860800250000000",
                   {}},
        DecodeCase{"trigger_with_offset",
                   Trigger("'2026-01-31T13:00:00+01:00'"),
                   kGoodSlice + " trigger=1769860800000000000",
                   {}},
        DecodeCase{"trigger_no_time",
                   Trigger("yesterday"),
                   kGoodSlice,
                   {"EndpointSlice default/web-1 (m.yaml): "
                    "metadata.annotations.endpoints.kubernetes.io/last-change-trigger-time: "
                    "invalid: is \"yesterday\", expected a time like \"2026-01-31T12:00:00Z\"; "
                    "the time that the change took is not measured"}},
        DecodeCase{"trigger_no_text",
                   Trigger("5"),
                   kGoodSlice,
                   {"EndpointSlice default/web-1 (m.yaml): "
                    "metadata.annotations.endpoints.kubernetes.io/last-change-trigger-time: "
                    "invalid: is 5, expected a string; the time that the change took is not "
                    "measured"}},
        DecodeCase{"deleting",
                   Taints("", "name: m, deletionTimestamp: '2026-01-31T12:00:00Z'"),
                   std::string(kBareNode) + " deleting",
                   {}},
        DecodeCase{"not_deleting", Taints("", "name: m, deletionTimestamp: null"), kBareNode, {}},
        DecodeCase{"taint_of_any_effect",
                   Taints("taints: [{key: x, effect: NoExecute}, {key: "
                          "ToBeDeletedByClusterAutoscaler, value: '17', effect: NoSchedule}]"),
                   std::string(kBareNode) + " to_be_deleted",
                   {}},
        DecodeCase{"other_taints",
                   Taints("taints: [{key: x}, {value: "
                          "ToBeDeletedByClusterAutoscaler}]"),
                   kBareNode,
                   {}},
        DecodeCase{"bad_taints",
                   Taints("taints: [7, {key: 8}, {key: ToBeDeletedByClusterAutoscaler}]"),
                   std::string(kBareNode) + " to_be_deleted",
                   {"Node m (m.yaml): spec.taints[0]: invalid: is 7, expected a mapping with key; "
                    "this taint is left out",
                    "Node m (m.yaml): spec.taints[1].key: invalid: is 8, expected a string; this "
                    "taint is left out"}},
        DecodeCase{"taints_no_list",
                   Taints("taints: x"),
                   kBareNode,
                   {"Node m (m.yaml): spec.taints: invalid: is the string \"x\", expected a list; "
                    "the node counts as one without taints"}}),
    CaseName);

TEST(Slices, TheTriggerIsNoPartOfTheContent) {
  const auto objects = [](const char* time) { return Parse(Trigger(time)).objects; };
  const auto first = objects("'2026-01-31T12:00:00Z'");
  const auto second = objects("'2026-01-31T12:00:01Z'");
  EXPECT_TRUE(SameContent(*first.at(0).object, *second.at(0).object));
}

TEST(Lists, AsKubectlPrintsThem) {
  const ManifestContent content = Parse(R"(apiVersion: v1
items:
- apiVersion: v1
  kind: Service
  metadata:
    creationTimestamp: "2026-01-31T12:00:00Z"
    name: web
    namespace: shop
    resourceVersion: "42"
    uid: 0b1b0f70-0000-4000-8000-000000000000
  spec:
    clusterIP: 10.96.0.1
    clusterIPs:
    - 10.96.0.1
    internalTrafficPolicy: Cluster
    ipFamilies:
    - IPv4
    ipFamilyPolicy: SingleStack
    ports:
    - name: http
      port: 80
      protocol: TCP
      targetPort: 8080
    selector:
      app: web
    sessionAffinity: None
    type: ClusterIP
  status:
    loadBalancer: {}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web}
- apiVersion: v1
  kind: Service
  metadata: {name: broken}
  spec: {clusterIP: 10.96.0.2, ports: [{port: 0}]}
- 7
kind: List
metadata:
  resourceVersion: ""
)");
  EXPECT_THAT(ShowAll(content),
              ElementsAre("Service shop/web: ips=10.96.0.1 ports=http:80/TCP; created=1769860800",
                          "Service default/broken: ips=10.96.0.2 ports="));
  EXPECT_THAT(
      ShowProblems(content),
      ElementsAre("Service default/broken (m.yaml, items[2]): spec.ports[0].port: invalid: is 0" +
                      kNumber + "; this port is left out",
                  "object (m.yaml, items[3]): unreadable: is 7, expected a Kubernetes object (a "
                  "mapping with "
                  "apiVersion, kind, metadata); it is left out"));
  EXPECT_EQ(content.unidentified, 1U);
}

TEST(Lists, TypedListsGiveTheirKindToTheirItems) {
  const ManifestContent content = Parse(
      "{apiVersion: v1, kind: ServiceList, items: [{metadata: {name: a}, spec: {clusterIP: "
      "None}}]}\n---\n"
      "{apiVersion: discovery.k8s.io/v1, kind: EndpointSliceList, items: [{metadata: {name: b, "
      "labels: "
      "{kubernetes.io/service-name: a}}, addressType: IPv4}]}\n---\n"
      "{apiVersion: v1, kind: NodeList, items: [{metadata: {name: c}}]}\n---\n"
      "{apiVersion: v1, kind: List, items: null}\n---\n"
      "{apiVersion: v1, kind: List, items: {}}\n");
  EXPECT_THAT(ShowAll(content), ElementsAre("Service default/a: ips= ports= headless",
                                            "EndpointSlice default/b: IPv4 of a ports=",
                                            "Node /c: zone= internal= external="));
  EXPECT_THAT(
      ShowProblems(content),
      ElementsAre(
          "List (m.yaml, document 5): items: invalid: is a mapping, expected a list; the list "
          "is left out"));
  EXPECT_EQ(content.unidentified, 1U);
}

TEST(Hostile, MegabyteStringsAreCutInMessages) {
  const std::string big(1 << 20, 'x');
  const std::string head = "apiVersion: v1\nkind: Service\nmetadata: ";
  const ManifestContent content = Parse(
      head + "{name: web}\nspec:\n  clusterIP: " + big + "\n  ports: [{port: 1, name: " + big +
      "}]\n  type: " + big + "\n---\n" + head + "{name: " + big + "}\n---\napiVersion: " + big +
      "\nkind: " + big + "\n---\n? " + big + "\n: 1\n? " + big + "\n: 2\n");
  EXPECT_EQ(content.problems.size(), 5U);
  for (const Problem& problem : content.problems) {
    EXPECT_LT(problem.ToString().size(), 400U);
    EXPECT_THAT(problem.text, HasSubstr("... (1048576 bytes)"));
  }
}

TEST(Hostile, ProblemsOfOneObjectAndOneFileAreBounded) {
  std::string ports;
  for (int i = 0; i < 5000; ++i)
    ports += "{port: 0},";
  ManifestContent content = Parse(Svc("clusterIP: 10.96.0.1, ports: [" + ports + "]"));
  EXPECT_EQ(content.problems.size(), Reporter::kMaxProblems + 1);
  EXPECT_EQ(content.problems.back().text, "has 4980 more problems like these");
  std::string documents;
  for (int i = 0; i < 5000; ++i)
    documents += "x\n---\n";
  content = Parse(documents);
  EXPECT_EQ(content.problems.size(), 1001U);
  EXPECT_EQ(content.problems.back().text, "has 4000 more problems like these");
}

TEST(Hostile, ManyPortsAndAddressesAreNotQuadratic) {
  std::string ports;
  std::string ips;
  for (int i = 1; i <= 60000; ++i) {
    absl::StrAppend(&ports, "{name: p", i, ", port: ", i, "},");
    absl::StrAppend(&ips, "10.1.", i / 256, ".", i % 256, ",");
  }
  const ManifestContent content =
      Parse(Svc("clusterIP: 10.96.0.1, externalIPs: [" + ips + "], ports: [" + ports + "]"));
  ASSERT_EQ(content.objects.size(), 1U);
  const auto& service = *std::get<std::shared_ptr<const Service>>(*content.objects[0].object);
  EXPECT_EQ(service.ports.size(), 60000U);
  EXPECT_EQ(service.external_ips.size(), 60000U);
  EXPECT_THAT(content.problems, IsEmpty());
}

TEST(Names, HaveUpstreamsLengths) {
  const auto unidentified = [](const std::string& kind, const std::string& version,
                               const std::string& name) {
    return Parse("apiVersion: " + version + "\nkind: " + kind + "\nmetadata: {name: " + name + "}")
        .unidentified;
  };
  const std::string label(63, 'a');
  const std::string subdomain = label + "." + label + "." + label + "." + std::string(61, 'a');
  EXPECT_EQ(unidentified("Service", "v1", label), 0U);
  EXPECT_EQ(unidentified("Service", "v1", label + "a"), 1U);
  EXPECT_EQ(unidentified("Node", "v1", subdomain), 0U);
  EXPECT_EQ(unidentified("Node", "v1", subdomain + "a"), 1U);
  for (const char* bad : {"-a", "a-", "a..b", ".a", "a.", "a.-b", "A", "a_b"}) {
    EXPECT_EQ(unidentified("Node", "v1", bad), 1U) << bad;
  }
}

}  // namespace
}  // namespace waggle::k8s
