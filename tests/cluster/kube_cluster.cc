#include "tests/cluster/kube_cluster.h"

#include <gtest/gtest.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace waggle::cluster {
namespace {

lab::RunResult PlanOfApiserver(const lab::Node& node, const lab::Lab& lab, Api& api) {
  Json all = {{"apiVersion", "v1"}, {"kind", "List"}, {"items", Json::array()}};
  for (const char* kind : {"Service", "EndpointSlice", "Node"}) {
    for (Json& object : api.List(kind))
      all["items"].push_back(std::move(object));
  }
  const std::string file = lab.scratch() + "/apiserver.json";
  std::ofstream(file) << all.dump() << std::flush;
  return lab::Waggle(node, {"plan", "--manifests", file, "--node", node.name(), "-o", "json"});
}

}  // namespace

KubeCluster::KubeCluster()
    : lab::Nodes(lab::Cni::kRouted),
      client(node1.AddPod("client")),
      b1(node1.AddPod("b1")),
      b2(node2.AddPod("b2")),
      control(ControlPlane::Shared()) {
  control.Join(lab);
  lab.Settle();
  server1.emplace(lab::ServeAll(b1));
  server2.emplace(lab::ServeAll(b2));
  for (const lab::Node* node : {&node1, &node2})
    AddNode(api(), *node);
  AddPod(api(), node1, b1, "web");
  AddPod(api(), node2, b2, "web");
}

KubeCluster::~KubeCluster() {
  agent.reset();
  control.Repair();
  control.Clear();
  control.Leave();
}

Json KubeCluster::CreateWeb(const std::string& name) {
  Json object = ServiceObject(name);
  object["spec"]["selector"]["app"] = "web";
  Json web = api().Create(object);
  AwaitEndpoints(name, {&b1, &b2});
  return web;
}

void KubeCluster::StartAgent(const lab::Argv& flags, const std::string& kubeconfig) {
  agent = StartAgentOn(node1, lab, control, flags, kubeconfig);
}

std::unique_ptr<lab::Agent> StartAgentOn(const lab::Node& node, const lab::Lab& lab,
                                         const ControlPlane& control, const lab::Argv& flags,
                                         const std::string& kubeconfig) {
  lab::AgentOptions options;
  options.flags = {"--kubeconfig",
                   kubeconfig.empty() ? control.WriteKubeconfig(kKubeProxy) : kubeconfig};
  options.flags.insert(options.flags.end(), flags.begin(), flags.end());
  auto agent = std::make_unique<lab::Agent>(lab, node, options);
  agent->AwaitReady();
  return agent;
}

void AwaitFollowedOn(const lab::Node& node, const lab::Lab& lab, Api& api,
                     std::chrono::milliseconds patience) {
  lab::RunResult want, have;
  bool followed = lab::WaitFor(
      [&] {
        want = PlanOfApiserver(node, lab, api);
        have = lab::ServiceList(node);
        return want.ok() && have.ok() && want.out == have.out;
      },
      patience);
  EXPECT_TRUE(followed) << node.name() << ": plan of the apiserver's objects: " << want.ToString()
                        << "\nkernel: " << have.ToString();
}

void AwaitEndpointsOf(const std::string& service, const std::vector<const lab::Place*>& places,
                      Api& api) {
  std::vector<std::string> have;
  const std::vector<std::string> want = AddressesOf(places);
  bool there = lab::WaitFor([&] { return (have = ReadyEndpoints(api, service)) == want; },
                            std::chrono::seconds(60));  // controllers may have lost their apiserver

  if (!there) {
    lab::Fail(absl::StrCat("the controller's endpoints of ", service, ": ",
                           absl::StrJoin(have, " "), "; expected: ", absl::StrJoin(want, " ")));
  }
}

}  // namespace waggle::cluster
