// Services with their EndpointSlices as the YAML that the agent watches.
#ifndef WAGGLE_TESTS_LAB_MANIFEST_H_
#define WAGGLE_TESTS_LAB_MANIFEST_H_

#include <string>
#include <vector>

#include "tests/lab/lab.h"

namespace waggle::lab {

struct ServicePort {
  std::string name;
  std::string protocol;  // "TCP" or "UDP"
  uint16_t port = 80;
  uint16_t target = 8080;
};

struct Endpoint {
  Addresses addresses;  // an empty one is left out of its family's slice
  std::string node;     // nodeName
  bool ready = true;
};

// An endpoint on this pod or, as of a host-network pod, on this node.
Endpoint EndpointOf(const Node& node, const Place& place);

struct Service {
  std::string name;
  Addresses cluster_ips;
  std::vector<Endpoint> endpoints;
  std::vector<ServicePort> ports = {{"tcp", "TCP", 80, 8080}, {"udp", "UDP", 80, 8080}};
  std::string ns = "default";
  bool internal_local = false;  // internalTrafficPolicy: Local
};

// The Service and one EndpointSlice for each family.
std::string Render(const Service& service);

// 10.96.0.<host> and fd00:96::<host>.
Addresses ClusterIps(int host);

}  // namespace waggle::lab

#endif
