// Two nodes and their pods as the apiserver knows them, a Service over both backends, and
// agents that follow the apiserver.
#ifndef WAGGLE_TESTS_CLUSTER_KUBE_CLUSTER_H_
#define WAGGLE_TESTS_CLUSTER_KUBE_CLUSTER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/cluster/control_plane.h"
#include "tests/cluster/objects.h"
#include "tests/lab/agent.h"
#include "tests/lab/cluster.h"

namespace waggle::cluster {

// For clusters of any shape. Starts an agent of this node with kube-proxy's rights and waits
// until it serves.
std::unique_ptr<lab::Agent> StartAgentOn(const lab::Node& node, const lab::Lab& lab,
                                         const ControlPlane& control, const lab::Argv& flags = {},
                                         const std::string& kubeconfig = "");
// The kernel of this node holds exactly what the apiserver's objects mean. Adds a test failure
// with both where it does not come to that.
void AwaitFollowedOn(const lab::Node& node, const lab::Lab& lab, Api& api,
                     std::chrono::milliseconds patience = lab::kPatience);
// The controller's endpoints of this Service are exactly these places. Else the test process
// ends.
void AwaitEndpointsOf(const std::string& service, const std::vector<const lab::Place*>& places,
                      Api& api);

// node1 with the pods `client` and `b1`, node2 with the pod `b2`; b1 and b2 answer on port
// 8080 and are registered with the label app=web. The control plane is as new before and
// after.
class KubeCluster : public lab::Nodes {
 public:
  KubeCluster();
  ~KubeCluster();

  lab::Pod& client;
  lab::Pod& b1;
  lab::Pod& b2;
  std::optional<lab::Server> server1;
  std::optional<lab::Server> server2;
  ControlPlane& control;
  // Of node1. Ends before the control plane is cleared.
  std::unique_ptr<lab::Agent> agent;

  Api& api() { return control.api(); }
  // Creates ServiceObject(name) and waits for the controller's endpoints: both backends.
  Json CreateWeb(const std::string& name = "web");
  // Starts the agent of node1 with kube-proxy's rights and waits until it serves.
  void StartAgent(const lab::Argv& flags = {}, const std::string& kubeconfig = "");

  // Of node1.
  void AwaitFollowed(std::chrono::milliseconds patience = lab::kPatience) {
    AwaitFollowedOn(node1, lab, api(), patience);
  }
  void AwaitEndpoints(const std::string& service, const std::vector<const lab::Place*>& places) {
    AwaitEndpointsOf(service, places, api());
  }
};

}  // namespace waggle::cluster

#endif
