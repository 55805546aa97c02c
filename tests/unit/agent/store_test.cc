#include "userspace/agent/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace waggle::agent {
namespace {

using k8s::ObjectChange;
using k8s::ObjectKind;
using testing::ElementsAre;
using testing::IsEmpty;

const ServiceName kWeb = {"default", "web"};
const ServiceName kApi = {"default", "api"};

k8s::ObjectName ToObjectName(const ServiceName& name) {
  return {name.ns, name.name};
}

ObjectChange ServiceIs(const ServiceName& name, uint16_t port = 80) {
  auto service = std::make_shared<k8s::Service>();
  service->name = ToObjectName(name);
  service->ports = {{"http", net::Protocol::kTcp, port, 0}};
  return {{ObjectKind::kService, service->name},
          k8s::Object(std::shared_ptr<const k8s::Service>(service))};
}

ObjectChange SliceIs(const std::string& name, const std::string& owner,
                     const std::string& ns = "default") {
  auto slice = std::make_shared<k8s::EndpointSlice>();
  slice->name = {ns, name};
  slice->service = owner;
  return {{ObjectKind::kEndpointSlice, slice->name},
          k8s::Object(std::shared_ptr<const k8s::EndpointSlice>(slice))};
}

ObjectChange NodeIs(const std::string& name, const std::string& zone) {
  auto node = std::make_shared<k8s::Node>();
  node->name = {"", name};
  node->zone = zone;
  return {{ObjectKind::kNode, node->name}, k8s::Object(std::shared_ptr<const k8s::Node>(node))};
}

ObjectChange ServiceGone(const ServiceName& name) {
  return {{ObjectKind::kService, ToObjectName(name)}, k8s::Deleted{}};
}
ObjectChange SliceGone(const std::string& name) {
  return {{ObjectKind::kEndpointSlice, {"default", name}}, k8s::Deleted{}};
}
ObjectChange SliceUnreadable(const std::string& name, const ServiceName& owner) {
  return {{ObjectKind::kEndpointSlice, {"default", name}}, k8s::Unreadable{ToObjectName(owner)}};
}
ObjectChange ServiceUnreadable(const ServiceName& name) {
  return {{ObjectKind::kService, ToObjectName(name)}, k8s::Unreadable{ToObjectName(name)}};
}

std::vector<std::string> SliceNames(const Store& store, const ServiceName& service) {
  std::vector<std::string> names;
  if (const auto input = store.Find(service)) {
    for (const auto& slice : input->slices)
      names.push_back(slice->name.name);
  }
  return names;
}

TEST(Store, AServiceAndItsSlicesAreFoundTogether) {
  Store store("n1");
  EXPECT_THAT(store.Apply(ServiceIs(kWeb)), ElementsAre(kWeb));
  EXPECT_THAT(store.Apply(SliceIs("web-2", "web")), ElementsAre(kWeb));
  EXPECT_THAT(store.Apply(SliceIs("web-1", "web")), ElementsAre(kWeb));
  EXPECT_THAT(SliceNames(store, kWeb), ElementsAre("web-1", "web-2"));
  EXPECT_EQ(store.Find(kWeb)->node.name, "n1");
  EXPECT_FALSE(store.Find(kApi).has_value());
}

TEST(Store, ASliceBeforeItsServiceWaitsForIt) {
  Store store("n1");
  EXPECT_THAT(store.Apply(SliceIs("web-1", "web")), IsEmpty());
  EXPECT_FALSE(store.Find(kWeb).has_value());
  EXPECT_THAT(store.Services(), IsEmpty());
  EXPECT_THAT(store.Apply(ServiceIs(kWeb)), ElementsAre(kWeb));
  EXPECT_THAT(SliceNames(store, kWeb), ElementsAre("web-1"));
}

TEST(Store, ASliceThatChangesItsLabelConcernsBothServices) {
  Store store("n1");
  store.Apply(ServiceIs(kWeb));
  store.Apply(ServiceIs(kApi));
  store.Apply(SliceIs("s", "web"));
  EXPECT_THAT(store.Apply(SliceIs("s", "api")), ElementsAre(kWeb, kApi));
  EXPECT_THAT(SliceNames(store, kWeb), IsEmpty());
  EXPECT_THAT(SliceNames(store, kApi), ElementsAre("s"));
  // The label is taken away: the slice belongs to nobody.
  EXPECT_THAT(store.Apply(SliceIs("s", "")), ElementsAre(kApi));
  EXPECT_THAT(SliceNames(store, kApi), IsEmpty());
  EXPECT_THAT(store.Apply(SliceGone("s")), IsEmpty());
}

TEST(Store, SlicesBelongToServicesOfTheirNamespace) {
  Store store("n1");
  store.Apply(ServiceIs(kWeb));
  EXPECT_THAT(store.Apply(SliceIs("web-1", "web", "other")), IsEmpty());
  EXPECT_THAT(SliceNames(store, kWeb), IsEmpty());
}

TEST(Store, DeletedSlicesAndServicesAreForgotten) {
  Store store("n1");
  store.Apply(ServiceIs(kWeb));
  store.Apply(SliceIs("web-1", "web"));
  EXPECT_THAT(store.Apply(SliceGone("web-1")), ElementsAre(kWeb));
  EXPECT_THAT(SliceNames(store, kWeb), IsEmpty());
  EXPECT_THAT(store.Apply(ServiceGone(kWeb)), ElementsAre(kWeb));
  EXPECT_FALSE(store.Find(kWeb).has_value());
  // What is unknown is nobody's work.
  EXPECT_THAT(store.Apply(ServiceGone(kWeb)), IsEmpty());
  EXPECT_THAT(store.Apply(SliceGone("web-1")), IsEmpty());
}

TEST(Store, ARecreatedServiceFindsTheSlicesThatStayed) {
  Store store("n1");
  store.Apply(ServiceIs(kWeb, 80));
  store.Apply(SliceIs("web-1", "web"));
  EXPECT_THAT(store.Apply(ServiceGone(kWeb)), ElementsAre(kWeb));
  EXPECT_THAT(store.Apply(ServiceIs(kWeb, 81)), ElementsAre(kWeb));
  EXPECT_THAT(SliceNames(store, kWeb), ElementsAre("web-1"));
  EXPECT_EQ(store.Find(kWeb)->service->ports[0].port, 81);
}

TEST(Store, AChangeOfThisNodesZoneConcernsEveryService) {
  Store store("n1");
  store.Apply(ServiceIs(kWeb));
  store.Apply(ServiceIs(kApi));
  store.Apply(SliceIs("orphan-1", "orphan"));
  EXPECT_THAT(store.Apply(NodeIs("n1", "z1")), ElementsAre(kApi, kWeb));
  EXPECT_EQ(store.Find(kWeb)->node.zone, "z1");
  EXPECT_THAT(store.Apply(NodeIs("n1", "z1")), IsEmpty()) << "the same zone again";
  EXPECT_THAT(store.Apply(NodeIs("n2", "z9")), IsEmpty()) << "another node";
  EXPECT_EQ(store.Find(kWeb)->node.zone, "z1");
  EXPECT_THAT(store.Apply({{ObjectKind::kNode, {"", "n1"}}, k8s::Deleted{}}), IsEmpty());
  EXPECT_EQ(store.Find(kWeb)->node.zone, "z1") << "a deleted Node keeps its last zone";
  EXPECT_THAT(store.Apply({{ObjectKind::kNode, {"", "n1"}}, k8s::Unreadable{}}), IsEmpty());
  EXPECT_EQ(store.Find(kWeb)->node.zone, "z1");
  EXPECT_THAT(store.Apply(NodeIs("n1", "")), ElementsAre(kApi, kWeb)) << "label removed";
}

TEST(Store, ServicesAreSorted) {
  Store store("n1");
  for (const char* name : {"b", "a", "c"}) {
    store.Apply(ServiceIs({"x", name}));
    store.Apply(ServiceIs({"w", name}));
  }
  EXPECT_THAT(store.Services(),
              ElementsAre(ServiceName{"w", "a"}, ServiceName{"w", "b"}, ServiceName{"w", "c"},
                          ServiceName{"x", "a"}, ServiceName{"x", "b"}, ServiceName{"x", "c"}));
}

TEST(Unreadable, ASliceMakesItsServiceIncompleteUntilItIsRead) {
  Store store("n1");
  store.Apply(ServiceIs(kWeb));
  EXPECT_FALSE(store.Incomplete(kWeb));
  EXPECT_THAT(store.Apply(SliceUnreadable("web-1", kWeb)), ElementsAre(kWeb));
  EXPECT_THAT(store.Apply(SliceUnreadable("web-2", kWeb)), ElementsAre(kWeb));
  EXPECT_TRUE(store.Incomplete(kWeb));
  EXPECT_THAT(store.Apply(SliceIs("web-1", "web")), ElementsAre(kWeb));
  EXPECT_TRUE(store.Incomplete(kWeb)) << "web-2 is still missing";
  EXPECT_THAT(store.Apply(SliceGone("web-2")), ElementsAre(kWeb));
  EXPECT_FALSE(store.Incomplete(kWeb));
  EXPECT_THAT(SliceNames(store, kWeb), ElementsAre("web-1"));
}

TEST(Unreadable, AServiceIsUnknownAndIncomplete) {
  Store store("n1");
  EXPECT_THAT(store.Apply(ServiceUnreadable(kWeb)), ElementsAre(kWeb));
  EXPECT_TRUE(store.Incomplete(kWeb));
  EXPECT_FALSE(store.Find(kWeb).has_value());
  EXPECT_THAT(store.Services(), IsEmpty());
  // Deleted while it was unreadable: what stayed in force has to go.
  EXPECT_THAT(store.Apply(ServiceGone(kWeb)), ElementsAre(kWeb));
  EXPECT_FALSE(store.Incomplete(kWeb));
}

TEST(Unreadable, ASliceReadAsAnothersReleasesTheFirstService) {
  Store store("n1");
  store.Apply(ServiceIs(kWeb));
  store.Apply(ServiceIs(kApi));
  store.Apply(SliceUnreadable("s", kWeb));
  EXPECT_THAT(store.Apply(SliceIs("s", "api")), ElementsAre(kWeb, kApi));
  EXPECT_FALSE(store.Incomplete(kWeb));
  EXPECT_FALSE(store.Incomplete(kApi));
}

TEST(Unreadable, TheOwnerMayChangeWhileUnreadable) {
  Store store("n1");
  store.Apply(ServiceIs(kWeb));
  store.Apply(ServiceIs(kApi));
  store.Apply(SliceUnreadable("s", kWeb));
  EXPECT_THAT(store.Apply(SliceUnreadable("s", kApi)), ElementsAre(kWeb, kApi));
  EXPECT_FALSE(store.Incomplete(kWeb));
  EXPECT_TRUE(store.Incomplete(kApi));
}

TEST(Unreadable, AKnownVersionStaysAndItsOwnerIsRemembered) {
  Store store("n1");
  store.Apply(ServiceIs(kWeb));
  store.Apply(SliceIs("web-1", "web"));
  EXPECT_THAT(store.Apply(SliceUnreadable("web-1", {"default", ""})), ElementsAre(kWeb));
  EXPECT_TRUE(store.Incomplete(kWeb));
  EXPECT_THAT(SliceNames(store, kWeb), ElementsAre("web-1"));
  // Of a slice that nobody knows not even the owner is known: nothing to mark.
  EXPECT_THAT(store.Apply(SliceUnreadable("unknown", {"default", ""})), IsEmpty());
}

TEST(Unreadable, DeletingTheServiceKeepsTheMarkOfItsSlice) {
  Store store("n1");
  store.Apply(ServiceIs(kWeb));
  store.Apply(SliceUnreadable("web-1", kWeb));
  EXPECT_THAT(store.Apply(ServiceGone(kWeb)), ElementsAre(kWeb));
  EXPECT_TRUE(store.Incomplete(kWeb)) << "the slice still cannot be read";
  EXPECT_FALSE(store.Find(kWeb).has_value());
  EXPECT_THAT(store.Apply(ServiceIs(kWeb)), ElementsAre(kWeb));
  EXPECT_TRUE(store.Incomplete(kWeb));
}

}  // namespace
}  // namespace waggle::agent
