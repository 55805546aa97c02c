// The fixture itself: real programs that behave as in a cluster, stop, come back, and
// forget the past when told to.
#include "tests/cluster/control_plane.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/cluster/objects.h"
#include "tests/lab/cluster.h"

namespace waggle::cluster {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

class ControlPlaneTest : public testing::Test {
 protected:
  ~ControlPlaneTest() override {
    control_.Repair();
    control_.Clear();
  }

  Api& api() { return control_.api(); }
  std::string ResourceVersion() {
    ApiReply reply = api().Get(PathOf("Service", "default", "") + "?limit=1");
    return reply.AsJson()["metadata"]["resourceVersion"];
  }
  // In the stream or as the HTTP status, as the apiserver likes.
  std::string WatchFrom(const std::string& resource_version) {
    std::string first;
    ApiReply reply =
        api().Watch(PathOf("Service", "", ""), resource_version, [&](const std::string& line) {
          first = line;
          return false;
        });
    return reply.ok() ? first : reply.ToString();
  }

  ControlPlane& control_ = ControlPlane::Shared();
};

TEST_F(ControlPlaneTest, AServiceGetsAnAddressOfEachFamily) {
  const Json service = api().Create(ServiceObject("web"));
  const lab::Addresses ips = ClusterIpsOf(service);
  EXPECT_THAT(ips.v4, StartsWith("10.96."));
  EXPECT_THAT(ips.v6, StartsWith("fd00:96::"));
  EXPECT_EQ(service["spec"]["ipFamilies"], Json({"IPv4", "IPv6"}));
}

TEST_F(ControlPlaneTest, PodsBecomeEndpointSlices) {
  lab::Nodes nodes(lab::Cni::kRouted);
  lab::Pod& b1 = nodes.node1.AddPod("b1");
  lab::Pod& b2 = nodes.node2.AddPod("b2");
  auto await = [&](const std::vector<const lab::Place*>& places) {
    std::vector<std::string> have;
    lab::WaitFor([&] { return (have = ReadyEndpoints(api(), "web")) == AddressesOf(places); });
    EXPECT_THAT(have, ElementsAreArray(AddressesOf(places)));
  };
  AddNode(api(), nodes.node1);
  AddNode(api(), nodes.node2);
  api().Create(ServiceObject("web"));
  AddPod(api(), nodes.node1, b1, "web");
  AddPod(api(), nodes.node2, b2, "web");
  await({&b1, &b2});
  SetReady(api(), b1, false);
  await({&b2});
  SetReady(api(), b1, true);
  await({&b1, &b2});
  api().Remove("Pod", "default", "b2");
  await({&b1});
  // A slice says where each endpoint is.
  for (const Json& slice : api().List("EndpointSlice", "default")) {
    if (slice["metadata"]["name"] == "kubernetes") continue;
    EXPECT_EQ(slice["endpoints"][0]["nodeName"], "node1") << slice;
  }
  // And goes with its Service.
  api().Remove("Service", "default", "web");
  EXPECT_TRUE(lab::WaitFor([&] { return api().List("EndpointSlice").size() == 1; }));
}

TEST_F(ControlPlaneTest, NodesAndPodsOfALabReachIt) {
  lab::Nodes nodes(lab::Cni::kRouted);
  lab::Pod& pod = nodes.node1.AddPod("pod");
  control_.Join(nodes.lab);
  nodes.lab.Settle();
  for (const lab::Place* place :
       {static_cast<const lab::Place*>(&nodes.node1), static_cast<const lab::Place*>(&pod)}) {
    lab::RunResult got = place->Run({KubernetesProgram("kubectl"), "--kubeconfig",
                                     control_.WriteKubeconfig(kAdmin), "get", "--raw", "/readyz"});
    EXPECT_EQ(got.out, "ok") << place->name() << got.ToString();
  }
  // By its other address, which stands in the certificate too.
  lab::RunResult got =
      nodes.node2.Run({KubernetesProgram("kubectl"), "--kubeconfig",
                       control_.WriteKubeconfig(kAdmin, 0, "https://[fd00:50::5]:6443"), "get",
                       "--raw", "/readyz"});
  EXPECT_EQ(got.out, "ok") << got.ToString();
}

TEST_F(ControlPlaneTest, EachTokenMayDoWhatItsOwnerMay) {
  struct Case {
    const char* token;
    int services, nodes, secrets;
  };
  for (const Case& one : {Case{kAdmin, 200, 200, 200}, Case{kKubeProxy, 200, 200, 403},
                          Case{kNobody, 403, 403, 403}, Case{"wrong", 401, 401, 401}}) {
    Api api = control_.NewApi(one.token);
    EXPECT_EQ(api.Get("/api/v1/services").status, one.services) << one.token;
    EXPECT_EQ(api.Get("/api/v1/nodes").status, one.nodes) << one.token;
    EXPECT_EQ(api.Get("/api/v1/secrets").status, one.secrets) << one.token;
  }
}

TEST_F(ControlPlaneTest, ObjectsOutlastTheApiserver) {
  const Json before = api().Create(ServiceObject("web"));
  control_.apiserver().Kill();
  EXPECT_EQ(api().Get("/readyz").status, 0);
  control_.apiserver().Start();
  EXPECT_EQ(api().Read("Service", "default", "web")["metadata"], before["metadata"]);
}

TEST_F(ControlPlaneTest, EverythingMayBeRestarted) {
  api().Create(ServiceObject("web"));
  control_.etcd().Kill();
  control_.controller_manager().Stop();
  control_.etcd().Start();
  control_.controller_manager().Start();
  control_.apiserver().AwaitReady();
  lab::Nodes nodes(lab::Cni::kRouted);
  lab::Pod& b1 = nodes.node1.AddPod("b1");
  AddNode(api(), nodes.node1);
  AddPod(api(), nodes.node1, b1, "web");
  EXPECT_TRUE(lab::WaitFor([&] { return ReadyEndpoints(api(), "web") == AddressesOf({&b1}); }));
}

TEST_F(ControlPlaneTest, TwoApiserversShareOneEtcd) {
  control_.apiserver(1).Start();
  Api second = control_.NewApi(kAdmin, 1);
  const Json made = api().Create(ServiceObject("web"));
  EXPECT_EQ(second.Read("Service", "default", "web")["metadata"], made["metadata"]);
  control_.apiserver(0).Kill();
  second.Remove("Service", "default", "web");
  control_.apiserver(0).Start();
  EXPECT_EQ(api().Get(PathOf("Service", "default", "web")).status, 404);
  // What the first one advertises stays as it is.
  EXPECT_EQ(api().Read("EndpointSlice", "default", "kubernetes")["ports"][0]["port"], 6443);
}

TEST_F(ControlPlaneTest, CompactionMakesThePastUnreadable) {
  const std::string past = ResourceVersion();
  const std::string exactly = absl::StrCat(PathOf("Service", "", ""), "?resourceVersion=", past,
                                           "&resourceVersionMatch=Exact");
  api().Create(ServiceObject("web"));
  EXPECT_EQ(api().Get(exactly).status, 200);
  EXPECT_THAT(WatchFrom(past), HasSubstr("\"ADDED\""));
  control_.Compact();
  // The apiserver still has it in its own memory; a new one has not.
  control_.apiserver().Kill();
  control_.apiserver().Start();
  ApiReply list = api().Get(exactly);
  EXPECT_EQ(list.status, 410) << list.ToString();
  EXPECT_THAT(WatchFrom(past), HasSubstr("\"code\":410"));
  EXPECT_THAT(WatchFrom(past), HasSubstr("\"reason\":\"Expired\""));
}

}  // namespace
}  // namespace waggle::cluster
