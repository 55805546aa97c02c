// The contract of 'Which endpoints' in one table: one row a rule, readable without
// the code. Rows give the endpoints of one Service port as short text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/resolve_testing.h"

namespace waggle::agent {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

const NodeFacts kNoZone = {"n1", ""};
const NodeFacts kNoName = {"", "z1"};

struct EndpointCase {
  const char* rule;
  k8s::TrafficPolicy policy;
  NodeFacts node;
  std::vector<std::string> endpoints;
  const char* expected;

  friend void PrintTo(const EndpointCase& row, std::ostream* out) { *out << row.rule; }
};

class WhichEndpoints : public testing::TestWithParam<EndpointCase> {};

TEST_P(WhichEndpoints, FollowTheContract) {
  const EndpointCase& row = GetParam();
  auto service = WebService();
  service->internal_policy = row.policy;
  const Resolution result = Resolve(
      {service, {Slice("web-1", {{"http", net::Protocol::kTcp, 8080}}, row.endpoints)}, row.node});
  ASSERT_THAT(result.service.ports, SizeIs(1));
  ASSERT_THAT(result.service.ports[0].lists, SizeIs(1));
  EXPECT_EQ(Describe(result.service.ports[0].lists[0]), row.expected) << row.rule;
  EXPECT_THAT(result.problems, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Conditions, WhichEndpoints,
    testing::Values(EndpointCase{"nothing: refused", kCluster, kNode, {}, "refuse Cluster"},
                    EndpointCase{"ready ones only",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1", "10.0.0.2 notready"},
                                 "forward Cluster 10.0.0.1:8080"},
                    EndpointCase{"sorted by address as bytes, not as text",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.10", "10.0.0.9", "9.0.0.1"},
                                 "forward Cluster 9.0.0.1:8080 10.0.0.9:8080 10.0.0.10:8080"},
                    EndpointCase{"not ready and not terminating is no fallback",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 notready"},
                                 "refuse Cluster"},
                    EndpointCase{"serving while terminating is the fallback",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 notready terminating"},
                                 "forward Cluster 10.0.0.1:8080(terminating)"},
                    EndpointCase{"terminating and no longer serving: refused",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 notready notserving terminating"},
                                 "refuse Cluster"},
                    EndpointCase{"one ready endpoint anywhere: no fallback",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 notready terminating node=n1", "10.0.0.2 node=n2"},
                                 "forward Cluster 10.0.0.2:8080"},
                    EndpointCase{"ready while terminating (publishNotReadyAddresses) is ready",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 terminating"},
                                 "forward Cluster 10.0.0.1:8080"},
                    EndpointCase{"ready counts, serving does not",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 notserving"},
                                 "forward Cluster 10.0.0.1:8080"},
                    EndpointCase{
                        "local by node name",
                        kCluster,
                        kNode,
                        {"10.0.0.1 node=n1", "10.0.0.2 node=n2", "10.0.0.3"},
                        "forward Cluster 10.0.0.1:8080(local) 10.0.0.2:8080 10.0.0.3:8080"},
                    EndpointCase{"node name is compared whole",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 node=n11"},
                                 "forward Cluster 10.0.0.1:8080"},
                    EndpointCase{"nothing is local to a node without a name",
                                 kCluster,
                                 kNoName,
                                 {"10.0.0.1"},
                                 "forward Cluster 10.0.0.1:8080"}));

INSTANTIATE_TEST_SUITE_P(
    ZoneHints, WhichEndpoints,
    testing::Values(EndpointCase{"all hinted, one for this zone: only that",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 zones=z1", "10.0.0.2 zones=z2"},
                                 "forward Cluster 10.0.0.1:8080"},
                    EndpointCase{"one of several zones of a hint",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 zones=z3,z1", "10.0.0.2 zones=z2"},
                                 "forward Cluster 10.0.0.1:8080"},
                    EndpointCase{"one ready endpoint without hint: all",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 zones=z1", "10.0.0.2"},
                                 "forward Cluster 10.0.0.1:8080 10.0.0.2:8080"},
                    EndpointCase{"one that is not ready has no vote",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 zones=z1", "10.0.0.2 notready", "10.0.0.3 zones=z2"},
                                 "forward Cluster 10.0.0.1:8080"},
                    EndpointCase{"none for this zone: all",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 zones=z2", "10.0.0.2 zones=z3"},
                                 "forward Cluster 10.0.0.1:8080 10.0.0.2:8080"},
                    EndpointCase{"the hinted one of this zone is not ready: all ready ones",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 notready zones=z1", "10.0.0.2 zones=z2"},
                                 "forward Cluster 10.0.0.2:8080"},
                    EndpointCase{"a node without a zone ignores hints",
                                 kCluster,
                                 kNoZone,
                                 {"10.0.0.1 zones=z1", "10.0.0.2 zones=z2"},
                                 "forward Cluster 10.0.0.1:8080 10.0.0.2:8080"},
                    EndpointCase{"fallback endpoints ignore hints",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 notready terminating zones=z2"},
                                 "forward Cluster 10.0.0.1:8080(terminating)"},
                    EndpointCase{"hints do not touch the Local set",
                                 kLocal,
                                 kNode,
                                 {"10.0.0.1 node=n1 zones=z2", "10.0.0.2 node=n2 zones=z1"},
                                 "forward Local 10.0.0.1:8080(local)"}));

INSTANTIATE_TEST_SUITE_P(
    NodeHints, WhichEndpoints,
    testing::Values(EndpointCase{"all hinted, one for this node: only that",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 nodes=n1", "10.0.0.2 nodes=n2"},
                                 "forward Cluster 10.0.0.1:8080"},
                    EndpointCase{"a hint is not a place",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 node=n2 nodes=n1", "10.0.0.2 node=n1 nodes=n2"},
                                 "forward Cluster 10.0.0.1:8080"},
                    EndpointCase{"node hints go before zone hints",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 nodes=n1 zones=z2", "10.0.0.2 nodes=n2 zones=z1"},
                                 "forward Cluster 10.0.0.1:8080"},
                    EndpointCase{"none for this node: zone hints decide",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 nodes=n3 zones=z2", "10.0.0.2 nodes=n2 zones=z1"},
                                 "forward Cluster 10.0.0.2:8080"},
                    EndpointCase{"one without node hint: zone hints decide",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 nodes=n1 zones=z2", "10.0.0.2 zones=z1"},
                                 "forward Cluster 10.0.0.2:8080"},
                    EndpointCase{"one without zone hint does not switch node hints off",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 nodes=n1 zones=z1", "10.0.0.2 nodes=n2"},
                                 "forward Cluster 10.0.0.1:8080"},
                    EndpointCase{"neither for us: all",
                                 kCluster,
                                 kNode,
                                 {"10.0.0.1 nodes=n3 zones=z3", "10.0.0.2 nodes=n2 zones=z2"},
                                 "forward Cluster 10.0.0.1:8080 10.0.0.2:8080"},
                    EndpointCase{"a node without a name ignores node hints",
                                 kCluster,
                                 kNoName,
                                 {"10.0.0.1 nodes=n1", "10.0.0.2 nodes=n2"},
                                 "forward Cluster 10.0.0.1:8080 10.0.0.2:8080"}));

INSTANTIATE_TEST_SUITE_P(
    LocalPolicy, WhichEndpoints,
    testing::Values(
        EndpointCase{"only this node's",
                     kLocal,
                     kNode,
                     {"10.0.0.1 node=n1", "10.0.0.2 node=n2"},
                     "forward Local 10.0.0.1:8080(local)"},
        EndpointCase{"none here, some elsewhere: dropped",
                     kLocal,
                     kNode,
                     {"10.0.0.2 node=n2"},
                     "drop Local"},
        EndpointCase{"none anywhere: refused", kLocal, kNode, {}, "refuse Local"},
        EndpointCase{"elsewhere only one that serves while terminating: dropped",
                     kLocal,
                     kNode,
                     {"10.0.0.2 node=n2 notready terminating"},
                     "drop Local"},
        EndpointCase{"elsewhere only one that is not ready: refused",
                     kLocal,
                     kNode,
                     {"10.0.0.2 node=n2 notready"},
                     "refuse Local"},
        EndpointCase{"here one that is not ready, elsewhere a ready one: dropped",
                     kLocal,
                     kNode,
                     {"10.0.0.1 node=n1 notready", "10.0.0.2 node=n2"},
                     "drop Local"},
        EndpointCase{"falls back on its own, whatever others have",
                     kLocal,
                     kNode,
                     {"10.0.0.1 node=n1 notready terminating", "10.0.0.2 node=n2"},
                     "forward Local 10.0.0.1:8080(local)(terminating)"},
        EndpointCase{"a ready one here: no fallback",
                     kLocal,
                     kNode,
                     {"10.0.0.1 node=n1 notready terminating", "10.0.0.3 node=n1"},
                     "forward Local 10.0.0.3:8080(local)"},
        EndpointCase{
            "an endpoint without node is nobody's", kLocal, kNoName, {"10.0.0.1"}, "drop Local"}));

}  // namespace
}  // namespace waggle::agent
