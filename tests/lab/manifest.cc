#include "tests/lab/manifest.h"

#include "absl/strings/str_cat.h"

namespace waggle::lab {
namespace {

std::string RenderSlice(const Service& service, net::Family family) {
  std::string out = absl::StrCat(
      "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: ",
      service.name, family == net::Family::kIpv4 ? "-v4" : "-v6", "\n  namespace: ", service.ns,
      "\n  labels: {kubernetes.io/service-name: ", service.name,
      "}\naddressType: ", family == net::Family::kIpv4 ? "IPv4" : "IPv6", "\nports:\n");
  for (const ServicePort& port : service.ports) {
    absl::StrAppend(&out, "- {name: \"", port.name, "\", protocol: ", port.protocol,
                    ", port: ", port.target, "}\n");
  }
  std::string endpoints;
  for (const Endpoint& endpoint : service.endpoints) {
    const std::string& address = endpoint.addresses.Of(family);
    if (address.empty()) continue;
    absl::StrAppend(&endpoints, "- {addresses: [\"", address,
                    "\"], conditions: {ready: ", endpoint.ready ? "true" : "false",
                    "}, nodeName: ", endpoint.node, "}\n");
  }
  absl::StrAppend(&out, endpoints.empty() ? "endpoints: []\n" : "endpoints:\n", endpoints);
  return out;
}

}  // namespace

Endpoint EndpointOf(const Node& node, const Place& place) {
  return {place.addresses(), node.name(), true};
}

std::string Render(const Service& service) {
  std::string out =
      absl::StrCat("apiVersion: v1\nkind: Service\nmetadata:\n  name: ", service.name,
                   "\n  namespace: ", service.ns, "\nspec:\n  type: ClusterIP\n  clusterIP: \"",
                   service.cluster_ips.v4, "\"\n  clusterIPs: [\"", service.cluster_ips.v4,
                   "\", \"", service.cluster_ips.v6, "\"]\n  ipFamilies: [IPv4, IPv6]\n",
                   "  ipFamilyPolicy: RequireDualStack\n");
  if (service.internal_local) absl::StrAppend(&out, "  internalTrafficPolicy: Local\n");
  absl::StrAppend(&out, "  ports:\n");
  for (const ServicePort& port : service.ports) {
    absl::StrAppend(&out, "  - {name: \"", port.name, "\", protocol: ", port.protocol,
                    ", port: ", port.port, ", targetPort: ", port.target, "}\n");
  }
  absl::StrAppend(&out, RenderSlice(service, net::Family::kIpv4),
                  RenderSlice(service, net::Family::kIpv6));
  return out;
}

Addresses ClusterIps(int host) {
  return {absl::StrCat("10.96.0.", host), absl::StrCat("fd00:96::", host)};
}

}  // namespace waggle::lab
