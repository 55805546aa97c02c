// `waggle plan` says what `waggle service list` then reads from the kernel, byte for
// byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/lab/cluster.h"

namespace waggle::lab {
namespace {

using testing::HasSubstr;

// Every kind of Service that this version has to read, and what it ignores.
constexpr char kMixed[] = R"(
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: kubernetes, namespace: default}
  spec:
    clusterIP: 10.96.0.1
    ports: [{name: https, port: 443, protocol: TCP, targetPort: 6443}]
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
  addressType: IPv4
  ports: [{name: https, port: 6443, protocol: TCP}]
  endpoints: [{addresses: [192.168.50.11]}, {addresses: [192.168.50.12]}]
---
{"apiVersion":"v1","kind":"Service","metadata":{"name":"dns","namespace":"kube-system"},
 "spec":{"clusterIP":"10.96.0.53","clusterIPs":["10.96.0.53","fd00:96::53"],
 "ports":[{"name":"dns","port":53,"protocol":"UDP","targetPort":"dns"},
          {"name":"dns-tcp","port":53,"protocol":"TCP","targetPort":"dns-tcp"}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: dns, port: 5353, protocol: UDP}, {name: dns-tcp, port: 5353, protocol: TCP}]
endpoints:
- {addresses: [10.244.2.9], nodeName: node2}
- {addresses: [10.244.1.9], nodeName: node1}
- {addresses: [10.244.1.10], nodeName: node1, conditions: {ready: false}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-2, namespace: kube-system, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: dns, port: 5354, protocol: UDP}]
endpoints: [{addresses: [10.244.1.9], nodeName: node1}, {addresses: [10.244.2.10], nodeName: node2}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-v6, namespace: kube-system, labels: {kubernetes.io/service-name: dns}}
addressType: IPv6
ports: [{name: dns, port: 5353, protocol: UDP}, {name: dns-tcp, port: 5353, protocol: TCP}]
endpoints: [{addresses: ["FD00:244:0001:0::9"], nodeName: node1}]
---
apiVersion: v1
kind: Service
metadata: {name: six, namespace: default}
spec:
  clusterIP: fd00:96:0:0::6
  ports: [{port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: here-only, namespace: default}
spec:
  clusterIP: 10.96.0.20
  internalTrafficPolicy: Local
  ports: [{name: a, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: here-only, namespace: default, labels: {kubernetes.io/service-name: here-only}}
addressType: IPv4
ports: [{name: a, port: 8080}]
endpoints: [{addresses: [10.244.2.20], nodeName: node2}]
---
apiVersion: v1
kind: Service
metadata: {name: sticky, namespace: default}
spec:
  clusterIP: 10.96.0.21
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 77}}
  ports: [{name: a, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sticky, namespace: default, labels: {kubernetes.io/service-name: sticky}}
addressType: IPv4
ports: [{name: a, port: 8080}]
endpoints: [{addresses: [10.244.2.20], nodeName: node2}, {addresses: [10.244.1.20], nodeName: node1}]
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: default}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: default}
spec: {type: ExternalName, externalName: example.org}
---
apiVersion: v1
kind: Service
metadata: {name: theirs, namespace: default, labels: {service.kubernetes.io/service-proxy-name: other}}
spec: {clusterIP: 10.96.0.22, ports: [{port: 80}]}
---
apiVersion: v1
kind: Node
metadata: {name: node1}
status: {addresses: [{type: InternalIP, address: 192.168.50.11}]}
)";

class PlanTest : public testing::Test {
 protected:
  PlanTest() : nodes_(Cni::kRouted) {
    nodes_.lab.WriteManifest("mixed.yaml", kMixed);
    nodes_.lab.WriteManifest("long.yaml", Render(LongNames()));
  }

  static Service LongNames() {
    Service service =
        Cluster::Make(std::string(63, 'n'), 60, {{{"10.244.1.30", "fd00:244:1::30"}, "node1"}});
    service.ns = std::string(63, 's');
    service.ports = {{std::string(63, 'p'), "TCP", 65535, 1}, {"b", "UDP", 1, 65535}};
    return service;
  }

  Nodes nodes_;
};

TEST_F(PlanTest, TheKernelHoldsWhatThePlanSays) {
  RunResult plan = Plan(nodes_.lab, nodes_.node1);
  ASSERT_TRUE(plan.ok()) << plan.ToString();
  // Not by accident: the plan holds every fate, both families and both protocols.
  std::set<std::string> fates, families, protocols, policies;
  nlohmann::json rows = nlohmann::json::parse(plan.out);
  for (const nlohmann::json& row : rows) {
    fates.insert(row["fate"]);
    families.insert(row["family"]);
    protocols.insert(row["protocol"]);
    policies.insert(row["policy"]);
  }
  EXPECT_EQ(rows.size(), 12u) << plan.out;
  EXPECT_EQ(fates, (std::set<std::string>{"drop", "forward", "refuse"}));
  EXPECT_EQ(families, (std::set<std::string>{"IPv4", "IPv6"}));
  EXPECT_EQ(protocols, (std::set<std::string>{"TCP", "UDP"}));
  EXPECT_EQ(policies, (std::set<std::string>{"Cluster", "Local"}));
  EXPECT_THAT(plan.out, HasSubstr(std::string(63, 'p')));

  Agent agent(nodes_.lab, nodes_.node1);
  agent.AwaitReady();
  EXPECT_EQ(ServiceList(nodes_.node1).out, plan.out) << agent.Log();
  agent.Kill();
  EXPECT_EQ(ServiceList(nodes_.node1).out, plan.out);
  agent.Start();
  agent.AwaitReady();
  EXPECT_EQ(ServiceList(nodes_.node1).out, plan.out);

  // And after changes, with slots and ranges used a second time.
  nodes_.lab.RemoveManifest("long.yaml");
  agent.AwaitProgrammed();
  nodes_.lab.WriteManifest("long.yaml", Render(LongNames()));
  agent.AwaitProgrammed();
  EXPECT_EQ(ServiceList(nodes_.node1).out, plan.out);
}

TEST_F(PlanTest, NeedsNeitherRightsNorKernel) {
  RunResult plan = Plan(nodes_.lab, nodes_.node1);
  Surroundings nobody = AgentSurroundings(nodes_.node1, {.no_bpf_rights = true});
  RunResult unprivileged =
      RunProgram(nobody, {WAGGLE_BINARY, "plan", "--manifests", nodes_.lab.manifests(), "--node",
                          "node1", "-o", "json"});
  EXPECT_EQ(unprivileged.out, plan.out) << unprivileged.ToString();
}

// Another node sees other local endpoints.
TEST_F(PlanTest, DependsOnTheNode) {
  RunResult here = Plan(nodes_.lab, nodes_.node1), there = Plan(nodes_.lab, nodes_.node2);
  EXPECT_NE(here.out, there.out);
  Agent agent(nodes_.lab, nodes_.node2);
  agent.AwaitReady();
  EXPECT_EQ(ServiceList(nodes_.node2).out, there.out);
}

}  // namespace
}  // namespace waggle::lab
