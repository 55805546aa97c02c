#include "tests/lab/kube_proxy.h"

#include "absl/strings/str_cat.h"

namespace waggle::lab {
namespace {

std::string Lower(const std::string& protocol) {
  return protocol == "TCP" ? "tcp" : "udp";
}

std::string Table(const Service& service, net::Family family) {
  bool v4 = family == net::Family::kIpv4;
  std::string ip = v4 ? "ip" : "ip6";
  std::string endpoint_chains, service_chains, service_rules, reject_rules;
  for (const ServicePort& port : service.ports) {
    std::string protocol = Lower(port.protocol);
    std::string id = absl::StrCat(service.name, "-", protocol);
    std::string choices;
    int n = 0;
    for (const Endpoint& endpoint : service.endpoints) {
      const std::string& address = endpoint.addresses.Of(family);
      std::string chain = absl::StrCat("endpoint-", id, "-", n);
      absl::StrAppend(&endpoint_chains, "  chain ", chain, " {\n    ", ip, " saddr ", address,
                      " jump mark-for-masquerade\n    meta l4proto ", protocol, " dnat to ",
                      At(address, port.target), "\n  }\n");
      absl::StrAppend(&choices, n == 0 ? "" : ", ", n, " : goto ", chain);
      ++n;
    }
    if (n == 0) {
      absl::StrAppend(&reject_rules, "    ", ip, " daddr ", service.cluster_ips.Of(family), " ",
                      protocol, " dport ", port.port, " reject\n");
      continue;
    }
    absl::StrAppend(&service_chains, "  chain service-", id, " {\n    numgen random mod ", n,
                    " vmap { ", choices, " }\n  }\n");
    absl::StrAppend(&service_rules, "    ", ip, " daddr ", service.cluster_ips.Of(family), " ",
                    protocol, " dport ", port.port, " goto service-", id, "\n");
  }
  return absl::StrCat(
      "table ", ip, " kube-proxy {\n",
      "  chain mark-for-masquerade {\n    mark set mark or 0x4000\n  }\n", endpoint_chains,
      service_chains, "  chain services {\n", service_rules, "  }\n",
      "  chain masquerading {\n    mark and 0x4000 == 0 return\n    mark set mark xor 0x4000\n"
      "    masquerade fully-random\n  }\n",
      "  chain no-endpoints {\n", reject_rules, "  }\n",
      "  chain filter-forward {\n    type filter hook forward priority -110; policy accept;\n"
      "    jump no-endpoints\n  }\n",
      "  chain filter-output {\n    type filter hook output priority -110; policy accept;\n"
      "    jump no-endpoints\n  }\n",
      "  chain nat-output {\n    type nat hook output priority -100; policy accept;\n"
      "    jump services\n  }\n",
      "  chain nat-prerouting {\n    type nat hook prerouting priority -100; policy accept;\n"
      "    jump services\n  }\n",
      "  chain nat-postrouting {\n    type nat hook postrouting priority 100; policy accept;\n"
      "    jump masquerading\n  }\n}\n");
}

}  // namespace

void InstallKubeProxyRules(const Node& node, const Service& service) {
  node.Nft(Table(service, net::Family::kIpv4) + Table(service, net::Family::kIpv6));
}

void RemoveKubeProxyRules(const Node& node) {
  node.Nft("delete table ip kube-proxy\ndelete table ip6 kube-proxy\n");
}

}  // namespace waggle::lab
