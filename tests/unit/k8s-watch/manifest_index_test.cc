#include "k8s-watch/manifest_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace waggle::k8s {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string Svc(const std::string& name, const std::string& port) {
  return "{apiVersion: v1, kind: Service, metadata: {name: '" + name +
         "'}, spec: {clusterIP: 10.96.0.1, ports: [{port: " + port + "}]}}\n";
}
std::string Broken(const std::string& name) {
  return "{apiVersion: v1, kind: Service, metadata: {name: '" + name + "'}, spec: 5}\n";
}

class Index : public testing::Test {
 protected:
  void Set(const std::string& name, const std::string& text, const std::string& when = "noon") {
    index_.SetFile(name, ParseManifest(name, "/d/" + name, text), when);
  }
  std::vector<std::string> Changes() {
    std::vector<std::string> lines;
    for (const ObjectChange& change : index_.TakeChanges()) {
      std::string line = change.key.name.name;
      if (std::holds_alternative<Deleted>(change.state)) line += " deleted";
      if (const auto* unreadable = std::get_if<Unreadable>(&change.state)) {
        line += " unreadable of " + unreadable->service.name;
      }
      if (const auto* object = std::get_if<Object>(&change.state)) {
        const auto& service = *std::get<std::shared_ptr<const Service>>(*object);
        line += service.ports.empty() ? " -" : " " + std::to_string(service.ports[0].port);
      }
      lines.push_back(line);
    }
    return lines;
  }
  std::vector<std::string> Problems() {
    std::vector<std::string> lines;
    for (const Problem& problem : index_.Problems())
      lines.push_back(problem.ToString());
    return lines;
  }

  ManifestIndex index_;
};

TEST_F(Index, OnlyRealChangesAreGivenOut) {
  Set("a.yaml", Svc("x", "1") + "---\n" + Svc("y", "2"));
  EXPECT_THAT(Changes(), ElementsAre("x 1", "y 2"));
  Set("a.yaml", "# comment\n" + Svc("y", "2") + "---\n" + Svc("x", "3"));
  EXPECT_THAT(Changes(), ElementsAre("x 3"));
  Set("a.yaml", Svc("x", "3"));
  EXPECT_THAT(Changes(), ElementsAre("y deleted"));
  index_.RemoveFile("a.yaml");
  index_.RemoveFile("b.yaml");
  EXPECT_THAT(Changes(), ElementsAre("x deleted"));
  EXPECT_THAT(Changes(), IsEmpty());
  EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(Index, TheFirstOfTwoCopiesWinsAndTheOtherTakesOver) {
  Set("b.yaml", Svc("x", "2"));
  EXPECT_THAT(Changes(), ElementsAre("x 2"));
  Set("a.yaml", Svc("x", "1") + "---\n" + Svc("x", "9"));
  EXPECT_THAT(Changes(), ElementsAre("x 1"));
  EXPECT_THAT(
      Problems(),
      ElementsAre(
          "Service default/x (a.yaml, document 2): conflict: is also in a.yaml, document 1, which "
          "comes first and wins; this copy is not used",
          "Service default/x (b.yaml): conflict: is also in a.yaml, document 1, which comes first "
          "and wins; this copy is not used"));
  Set("a.yaml", Svc("x", "9"));
  EXPECT_THAT(Changes(), ElementsAre("x 9"));
  index_.RemoveFile("a.yaml");
  EXPECT_THAT(Changes(), ElementsAre("x 2"));
  EXPECT_THAT(Problems(), IsEmpty());
  // Coming and going within one look is no change.
  Set("a.yaml", Svc("x", "7"));
  index_.RemoveFile("a.yaml");
  EXPECT_THAT(Changes(), IsEmpty());
}

TEST_F(Index, ABrokenFileKeepsItsLastGoodState) {
  Set("a.yaml", Svc("x", "1"), "10:00");
  EXPECT_THAT(Changes(), ElementsAre("x 1"));
  for (int i = 0; i < 2; ++i) {  // broken twice is not worse
    Set("a.yaml", "a: [", "11:00");
    EXPECT_THAT(Changes(), IsEmpty());
    EXPECT_THAT(
        Problems(),
        ElementsAre("file /d/a.yaml: unreadable: line 2, column 1: not YAML: end of sequence "
                    "flow not found; the state of 10:00 stays in force (1 object)"));
  }
  EXPECT_TRUE(index_.complete());
  Set("a.yaml", Svc("y", "1"));
  EXPECT_THAT(Changes(), ElementsAre("x deleted", "y 1"));
  EXPECT_THAT(Problems(), IsEmpty());
  Set("a.yaml", "a: [");
  index_.RemoveFile("a.yaml");
  EXPECT_THAT(Changes(), ElementsAre("y deleted"));
}

TEST_F(Index, ABrokenDocumentKeepsWhatOnlyItMayHold) {
  Set("a.yaml", Svc("x", "1") + "---\n" + Svc("y", "1") + "---\n" + Svc("z", "1"), "10:00");
  EXPECT_EQ(Changes().size(), 3U);
  Set("a.yaml", Svc("x", "2") + "---\na: [\n---\n" + Svc("w", "1"));
  EXPECT_THAT(Changes(), ElementsAre("w 1", "x 2"));
  EXPECT_THAT(
      Problems(),
      ElementsAre(
          "file /d/a.yaml (document 2): unreadable: line 4, column 1: not YAML: end of sequence "
          "flow not found; the state of 10:00 stays in force (2 objects)"));
  // An object without its name is as unknown as a document that does not parse.
  Set("a.yaml", Svc("x", "2") + "---\n{apiVersion: v1, kind: Service}\n");
  EXPECT_THAT(Changes(), IsEmpty());
  EXPECT_THAT(Problems(), ElementsAre("Service (a.yaml, document 2): metadata: invalid: is "
                                      "missing, expected a mapping with name; this object is left "
                                      "out; the state of 10:00 stays in force (3 objects)"));
  Set("a.yaml", Svc("x", "2"));
  EXPECT_THAT(Changes(), ElementsAre("w deleted", "y deleted", "z deleted"));
}

TEST_F(Index, ABrokenObjectKeepsItsLastGoodVersion) {
  Set("a.yaml", Svc("x", "1"));
  Changes();
  Set("a.yaml", Broken("x") + "---\n" + Broken("y"));
  EXPECT_THAT(Changes(), ElementsAre("y unreadable of y"));
  EXPECT_THAT(
      Problems(),
      ElementsAre(
          "Service default/x (a.yaml, document 1): spec: invalid: is 5, expected a mapping; this "
          "object is left out",
          "Service default/y (a.yaml, document 2): spec: invalid: is 5, expected a mapping; this "
          "object is left out",
          "Service default/x (a.yaml, document 1): unreadable: its last readable version stays in "
          "force",
          "Service default/y (a.yaml, document 2): unreadable: no earlier version of it is known; "
          "what the node has for it stays in force"));
  EXPECT_TRUE(index_.complete());
  Set("a.yaml", Svc("x", "1") + "---\n" + Svc("y", "2"));
  EXPECT_THAT(Changes(), ElementsAre("y 2"));
  Set("a.yaml", Broken("y"));
  EXPECT_THAT(Changes(), ElementsAre("x deleted"));
  Set("a.yaml", Svc("z", "1"));
  EXPECT_THAT(Changes(), ElementsAre("y deleted", "z 1"));
}

TEST_F(Index, AMistypedKindKeepsWhatOnlyItMayHold) {
  Set("a.yaml", Svc("x", "1") + "---\n" + Svc("y", "1"), "10:00");
  EXPECT_EQ(Changes().size(), 2U);
  Set("a.yaml", Svc("x", "1") + "---\n{apiVersion: v1, kind: Servce, metadata: {name: y}}");
  EXPECT_THAT(Changes(), IsEmpty());
  EXPECT_THAT(Problems(),
              ElementsAre("object (a.yaml, document 2): kind: unreadable: is \"Servce\", expected "
                          "\"Service\"; this object is left out; the state of 10:00 stays in force "
                          "(1 object)"));
}

TEST_F(Index, AStrayFileIsToldAndHoldsUpNothing) {
  Set("values.yaml", "replicas: 3");
  EXPECT_FALSE(index_.complete());
  EXPECT_TRUE(index_.NeverHeldAny());
  Set("a.yaml", Svc("x", "1"));
  EXPECT_TRUE(index_.complete());
  EXPECT_THAT(Problems(), ElementsAre(testing::HasSubstr("so it is no Kubernetes object")));
  EXPECT_THAT(Changes(), ElementsAre("x 1"));
  Set("a.yaml", "replicas: 3");
  EXPECT_THAT(Changes(), ElementsAre("x deleted"));
}

TEST_F(Index, AnEmptiedFileKeepsItsLastGoodState) {
  for (const auto& [text, problem] :
       std::map<std::string, std::string>{{"", "is empty, expected manifests"},
                                          {"\n", "is empty, expected manifests"},
                                          {"# off\n---\n", "holds no manifests any more"}}) {
    Set("a.yaml", Svc("x", "1"), "10:00");
    Changes();
    Set("a.yaml", text, "11:00");
    EXPECT_THAT(Changes(), IsEmpty());
    EXPECT_THAT(Problems(), ElementsAre("file /d/a.yaml: unreadable: " + problem +
                                        "; the state of 10:00 stays in force (1 object)"));
  }
  EXPECT_TRUE(index_.complete());
  Set("a.yaml", "{apiVersion: v1, kind: List, items: []}");  // said in so many words
  EXPECT_THAT(Changes(), ElementsAre("x deleted"));
  Set("a.yaml", "# nothing was there, and nothing is");
  EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(Index, IsNotCompleteBeforeItHeldAManifest) {
  EXPECT_FALSE(index_.complete());
  EXPECT_TRUE(index_.NeverHeldAny());
  Set("a.yaml", "# soon");
  Set("b.yaml", "a: [");
  index_.RemoveFile("b.yaml");
  EXPECT_FALSE(index_.complete());
  Set("a.yaml", "{apiVersion: apps/v1, kind: Deployment}");
  EXPECT_TRUE(index_.complete());
  index_.RemoveFile("a.yaml");
  EXPECT_TRUE(index_.complete());
}

const char kKept[] =
    ": invalid: is not taken over because of its other problems; its last readable version stays "
    "in force";

struct DamageCase {
  const char* name;
  std::string good;
  std::string from;  // in `good`, replaced by `to`
  std::string to;
  std::string kept;  // the object; empty: the damage is harmless and the rest taken over
};
void PrintTo(const DamageCase& test, std::ostream* out) {
  *out << test.name;
}

class Damage : public Index, public testing::WithParamInterface<DamageCase> {};

TEST_P(Damage, KeepsTheObjectWholeUnlessNoTrafficDependsOnIt) {
  const DamageCase& test = GetParam();
  std::string bad = test.good;
  ASSERT_NE(bad.find(test.from), std::string::npos);
  bad.replace(bad.find(test.from), test.from.size(), test.to);
  Set("a.yaml", test.good);
  ASSERT_EQ(index_.TakeChanges().size(), 1U);
  ASSERT_THAT(Problems(), IsEmpty());
  Set("a.yaml", bad);
  const auto changes = index_.TakeChanges();
  if (test.kept.empty()) {
    EXPECT_THAT(Problems(), testing::Not(testing::Contains(testing::HasSubstr("stays in force"))));
  } else {
    EXPECT_TRUE(changes.empty());
    EXPECT_THAT(Problems(), testing::Contains(test.kept + " (a.yaml)" + kKept));
  }
  EXPECT_THAT(Problems(), testing::Not(IsEmpty()));
  Set("a.yaml", test.good);
  EXPECT_EQ(index_.TakeChanges().empty(), changes.empty());
  EXPECT_THAT(Problems(), IsEmpty());
}

const std::string kService =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, creationTimestamp: "
    "'2026-01-31T12:00:00Z'}\nspec: {clusterIP: 10.96.0.1, type: ClusterIP, sessionAffinity: "
    "ClientIP, internalTrafficPolicy: Cluster, externalTrafficPolicy: Cluster, externalIPs: "
    "[192.0.2.1], ports: [{port: 80, nodePort: 30080}]}\nstatus: {loadBalancer: {ingress: [{ip: "
    "192.0.2.2}]}}\n";
const std::string kSlice =
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1, labels: "
    "{kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{port: 8080, protocol: "
    "TCP}]\nendpoints: [{addresses: [10.1.0.1], conditions: {ready: true}, nodeName: node-1, "
    "hints: "
    "{forZones: [{name: z}]}}]\n";
const std::string kNode =
    "apiVersion: v1\nkind: Node\nmetadata: {name: node-1, labels: {topology.kubernetes.io/zone: "
    "z}}\n"
    "status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}\n";
const char kOfService[] = "Service default/web";
const char kOfSlice[] = "EndpointSlice default/web-1";

INSTANTIATE_TEST_SUITE_P(
    Table, Damage,
    testing::Values(DamageCase{"cluster_ip", kService, "10.96.0.1", "10.96.0.300", kOfService},
                    DamageCase{"service_port", kService, "port: 80,", "port: '80',", kOfService},
                    DamageCase{"type", kService, "type: ClusterIP", "type: Cluster", kOfService},
                    DamageCase{"affinity", kService, "ClientIP", "yes", kOfService},
                    DamageCase{"internal_policy", kService, "internalTrafficPolicy: Cluster",
                               "internalTrafficPolicy: local", kOfService},
                    DamageCase{"created", kService, "2026-01-31", "2026-13-31", kOfService},
                    DamageCase{"slice_port", kSlice, "8080", "\"8080\"", kOfSlice},
                    DamageCase{"slice_protocol", kSlice, "TCP", "tcp", kOfSlice},
                    DamageCase{"endpoint", kSlice, "10.1.0.1", "10.1.0.l", kOfSlice},
                    DamageCase{"ready", kSlice, "true", "\"true\"", kOfSlice},
                    DamageCase{"hint", kSlice, "[{name: z}]", "z", kOfSlice},
                    DamageCase{"zone", kNode, "zone: z", "zone: 5", "Node node-1"},
                    DamageCase{"node_address", kNode, "10.0.0.1", "10.0.0", ""},
                    DamageCase{"node_port", kService, "30080", "300800", ""},
                    DamageCase{"external_ip", kService, "192.0.2.1", "192.0.2", ""},
                    DamageCase{"load_balancer", kService, "192.0.2.2", "x", ""},
                    DamageCase{"external_policy", kService, "externalTrafficPolicy: Cluster",
                               "externalTrafficPolicy: local", ""}),
    [](const auto& test) { return test.param.name; });

TEST_F(Index, ADamagedObjectIsUsedOnlyWhenNoBetterOneIsKnown) {
  const std::string damaged = Svc("x", "1}, {name: b, port: 2");
  Set("a.yaml", damaged);  // the port without name is left out
  EXPECT_THAT(Changes(), ElementsAre("x 2"));
  EXPECT_THAT(Problems(), ElementsAre(testing::HasSubstr("this port is left out")));
  Set("a.yaml", Svc("x", "1}, {name: b, port: 3"));
  EXPECT_THAT(Changes(), ElementsAre("x 3"));
  Set("a.yaml", Svc("x", "4"));
  EXPECT_THAT(Changes(), ElementsAre("x 4"));
  Set("a.yaml", damaged);
  EXPECT_THAT(Changes(), IsEmpty());
  Set("a.yaml", "a: [");
  EXPECT_THAT(Changes(), IsEmpty());
  Set("a.yaml", damaged);
  EXPECT_THAT(Changes(), IsEmpty());
  EXPECT_THAT(Problems(), testing::Contains("Service default/x (a.yaml)" + std::string(kKept)));
  // A typo is no reason for another copy to take over.
  Set("b.yaml", Svc("x", "9"));
  EXPECT_THAT(Changes(), IsEmpty());
  index_.RemoveFile("a.yaml");
  EXPECT_THAT(Changes(), ElementsAre("x 9"));
}

TEST_F(Index, AReadableCopyWinsOverOneThatIsNot) {
  Set("a.yaml", Broken("x"));
  EXPECT_THAT(Changes(), ElementsAre("x unreadable of x"));
  Set("c.yaml", Svc("x", "1}, {name: b, port: 3"));  // damaged
  EXPECT_THAT(Changes(), ElementsAre("x 3"));
  Set("b.yaml", Svc("x", "2"));
  EXPECT_THAT(Changes(), ElementsAre("x 2"));
  EXPECT_THAT(Problems(),
              testing::Contains("Service default/x (a.yaml): conflict: is also in b.yaml, which "
                                "comes later but can be read and wins; this copy is not used"));
  Set("a.yaml", Svc("x", "1"));
  EXPECT_THAT(Changes(), ElementsAre("x 1"));
  // What was read just now wins over what was read before.
  Set("a.yaml", "a: [");
  EXPECT_THAT(Changes(), ElementsAre("x 2"));
  Set("b.yaml", "a: [");
  EXPECT_THAT(Changes(), IsEmpty());  // only the damaged one is left
}

TEST_F(Index, IsCompleteWhenEveryFileWasReadOnceOrIsGone) {
  Set("a.yaml", "a: [");
  Set("b.yaml", Svc("x", "1") + "---\n7\n");
  EXPECT_THAT(Changes(), ElementsAre("x 1"));
  EXPECT_FALSE(index_.complete());
  EXPECT_THAT(
      Problems()[0],
      testing::HasSubstr("nothing is removed from the node until all of the file can be read"));
  Set("a.yaml", "");
  EXPECT_FALSE(index_.complete());
  Set("a.yaml", Svc("y", "1"));
  EXPECT_THAT(Changes(), ElementsAre("y 1"));
  index_.RemoveFile("b.yaml");
  EXPECT_TRUE(index_.complete());
  EXPECT_THAT(Changes(), ElementsAre("x deleted"));
}

TEST_F(Index, AThousandCopiesGiveABoundedReport) {
  std::string text;
  for (int i = 0; i < 1000; ++i)
    text += Svc("x", "1") + "---\n";
  Set("a.yaml", text);
  EXPECT_THAT(Changes(), ElementsAre("x 1"));
  EXPECT_EQ(Problems().size(), 11U);
  EXPECT_EQ(Problems().back(), "Service default/x: conflict: has 989 more copies");
}

}  // namespace
}  // namespace waggle::k8s
