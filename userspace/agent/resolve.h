// Which endpoints serve which frontend on this node, and how: the kube-proxy
// contract as one pure function.
#ifndef WAGGLE_USERSPACE_AGENT_RESOLVE_H_
#define WAGGLE_USERSPACE_AGENT_RESOLVE_H_

#include <memory>
#include <string>
#include <vector>

#include "k8s-watch/types.h"
#include "maps/desired.h"
#include "userspace/status/problem.h"

namespace waggle::agent {

// What this node is to the rules of topology.
struct NodeFacts {
  std::string name;
  std::string zone;  // topology.kubernetes.io/zone; empty: unknown
};

struct ServiceInput {
  std::shared_ptr<const k8s::Service> service;  // never null
  // All slices of that Service, both families, in any order.
  std::vector<std::shared_ptr<const k8s::EndpointSlice>> slices;
  NodeFacts node;
};

struct Resolution {
  // No ports when the Service is not for us (headless, ExternalName, other proxy).
  ResolvedService service;
  std::vector<Problem> problems;
};

Resolution Resolve(const ServiceInput& input);

}  // namespace waggle::agent

#endif
