// Objects as users and kubelets write them, for the apiserver.
#ifndef WAGGLE_TESTS_CLUSTER_OBJECTS_H_
#define WAGGLE_TESTS_CLUSTER_OBJECTS_H_

#include <string>
#include <vector>

#include "tests/cluster/api.h"
#include "tests/lab/lab.h"
#include "tests/lab/manifest.h"

namespace waggle::cluster {

Json NamespaceObject(const std::string& name);

// A dual-stack Service (its address is the apiserver's to give) that selects the Pods with
// the label app=<name>.
Json ServiceObject(const std::string& name, const std::string& ns = "default",
                   const std::vector<lab::ServicePort>& ports = {{"tcp", "TCP", 80, 8080},
                                                                 {"udp", "UDP", 80, 8080}});
// spec.clusterIPs, each in its family's place.
lab::Addresses ClusterIpsOf(const Json& service);

// Registers a node as its kubelet does: the Node with its addresses, ready.
void AddNode(Api& api, const lab::Node& node);

// Registers a pod that runs on this node, with the label app=<app>, as scheduler and
// kubelet do. Ready at once; a place of the node's own addresses is a host-network pod.
void AddPod(Api& api, const lab::Node& node, const lab::Place& pod, const std::string& app,
            const std::string& ns = "default");
// Its readiness probe says so. Returns the resourceVersion of the change.
std::string SetReady(Api& api, const lab::Place& pod, bool ready,
                     const std::string& ns = "default");

// The addresses of ready endpoints in all EndpointSlices of a Service, sorted.
std::vector<std::string> ReadyEndpoints(Api& api, const std::string& service,
                                        const std::string& ns = "default");

// Both addresses of each place, sorted, as ReadyEndpoints() gives them.
std::vector<std::string> AddressesOf(const std::vector<const lab::Place*>& places);

}  // namespace waggle::cluster

#endif
