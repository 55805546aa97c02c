#include "bench/path/proxy_rules.h"

#include <cstdio>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace waggle::bench {
namespace {

constexpr char kFilter[] = R"(*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
)";

constexpr char kNatHead[] = R"(*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
)";

constexpr char kNatRules[] =
    R"(-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
)";

// "10.244.1.3" of "10.244.1.3:8080", without brackets.
std::string HostOf(const std::string& endpoint) {
  std::string host = endpoint.substr(0, endpoint.rfind(':'));
  return host.front() == '[' ? host.substr(1, host.size() - 2) : host;
}

// KUBE-SVC-…, KUBE-SEP-…: 16 letters and digits after the prefix, as hashes have.
std::string Chain(const char* kind, size_t port, size_t endpoint) {
  char text[48];
  std::snprintf(text, sizeof(text), "KUBE-%s-%08zX%08zX", kind, port, endpoint);
  return text;
}

}  // namespace

std::string IptablesRules(net::Family family, const std::vector<RuledPort>& ports,
                          const std::string& pod_cidr) {
  const char* length = family == net::Family::kIpv4 ? "/32" : "/128";
  std::string chains, services, rules;
  for (size_t i = 0; i < ports.size(); ++i) {
    const RuledPort& port = ports[i];
    const std::string chain = Chain("SVC", i, 0);
    const std::string to = absl::StrCat("-d ", port.cluster_ip, length, " -p ", port.protocol,
                                        " -m comment --comment \"", port.service,
                                        " cluster IP\" -m ", port.protocol, " --dport ", port.port);
    absl::StrAppend(&chains, ":", chain, " - [0:0]\n");
    absl::StrAppend(&services, "-A KUBE-SERVICES ", to, " -j ", chain, "\n");
    absl::StrAppend(&rules, "-A ", chain, " ! -s ", pod_cidr, " ", to, " -j KUBE-MARK-MASQ\n");
    for (size_t k = 0; k < port.endpoints.size(); ++k) {
      const std::string& endpoint = port.endpoints[k];
      const std::string endpoint_chain = Chain("SEP", i, k + 1);
      const std::string comment =
          absl::StrCat("-m comment --comment \"", port.service, " -> ", endpoint, "\"");
      const size_t left = port.endpoints.size() - k;
      char chance[64] = "";
      if (left > 1) {
        std::snprintf(chance, sizeof(chance), " -m statistic --mode random --probability %.11f",
                      1.0 / static_cast<double>(left));
      }
      absl::StrAppend(&chains, ":", endpoint_chain, " - [0:0]\n");
      absl::StrAppend(&rules, "-A ", chain, " ", comment, chance, " -j ", endpoint_chain, "\n");
      absl::StrAppend(&rules, "-A ", endpoint_chain, " -s ", HostOf(endpoint), length,
                      " -m comment --comment \"", port.service, "\" -j KUBE-MARK-MASQ\n");
      absl::StrAppend(&rules, "-A ", endpoint_chain, " -p ", port.protocol,
                      " -m comment --comment \"", port.service, "\" -m ", port.protocol,
                      " -j DNAT --to-destination ", endpoint, "\n");
    }
  }
  return absl::StrCat(kFilter, kNatHead, chains, kNatRules, services,
                      "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: "
                      "this must be the last rule in this chain\" -m addrtype --dst-type LOCAL "
                      "-j KUBE-NODEPORTS\n",
                      rules, "COMMIT\n");
}

std::string NftablesRules(net::Family family, const std::vector<RuledPort>& ports,
                          const std::string& pod_cidr) {
  const char* ip = family == net::Family::kIpv4 ? "ip" : "ip6";
  const char* type = family == net::Family::kIpv4 ? "ipv4_addr" : "ipv6_addr";
  std::string chains;
  std::vector<std::string> elements;
  std::map<std::string, bool> cluster_ips;
  for (size_t i = 0; i < ports.size(); ++i) {
    const RuledPort& port = ports[i];
    const std::string chain = absl::StrCat("service-", i, "-", port.protocol);
    std::vector<std::string> choices;
    for (size_t k = 0; k < port.endpoints.size(); ++k) {
      const std::string& endpoint = port.endpoints[k];
      const std::string endpoint_chain = absl::StrCat("endpoint-", i, "-", k, "-", port.protocol);
      absl::StrAppend(&chains, "  chain ", endpoint_chain, " {\n    ", ip, " saddr ",
                      HostOf(endpoint), " jump mark-for-masquerade\n    meta l4proto ",
                      port.protocol, " dnat to ", endpoint, "\n  }\n");
      choices.push_back(absl::StrCat(k, " : goto ", endpoint_chain));
    }
    absl::StrAppend(&chains, "  chain ", chain, " {\n    ", ip, " daddr ", port.cluster_ip, " ",
                    port.protocol, " dport ", port.port, " ", ip, " saddr != ", pod_cidr,
                    " jump mark-for-masquerade\n    numgen random mod ", choices.size(), " vmap { ",
                    absl::StrJoin(choices, ", "), " }\n  }\n");
    elements.push_back(
        absl::StrCat(port.cluster_ip, " . ", port.protocol, " . ", port.port, " : goto ", chain));
    cluster_ips[port.cluster_ip] = true;
  }
  std::vector<std::string> addresses;
  for (const auto& [address, unused] : cluster_ips)
    addresses.push_back(address);
  const std::string key = absl::StrCat("type ", type, " . inet_proto . inet_service : verdict");
  const std::string look = absl::StrCat(ip, " daddr . meta l4proto . th dport vmap @");
  const auto filled = [](const char* what, const std::vector<std::string>& all) {
    return all.empty() ? std::string()
                       : absl::StrCat("; ", what, " = { ", absl::StrJoin(all, ", "), " }");
  };
  return absl::StrCat(
      "table ", ip, " kube-proxy {\n", "  set cluster-ips { type ", type,
      filled("elements", addresses), "; }\n", "  set nodeport-ips { type ", type, "; }\n",
      "  map firewall-ips { ", key, "; }\n", "  map no-endpoint-services { ", key, "; }\n",
      "  map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }\n",
      "  map service-nodeports { type inet_proto . inet_service : verdict; }\n",
      "  chain mark-for-masquerade {\n    meta mark set meta mark or 0x4000\n  }\n", chains,
      "  map service-ips { ", key, filled("elements", elements), "; }\n",
      "  chain services {\n    ", look, "service-ips\n    ", ip,
      " daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports\n  }\n",
      "  chain masquerading {\n    meta mark and 0x4000 == 0 return\n"
      "    meta mark set meta mark xor 0x4000\n    masquerade fully-random\n  }\n",
      "  chain cluster-ips-check {\n    ", ip, " daddr @cluster-ips reject\n  }\n",
      "  chain firewall-check {\n    ", look, "firewall-ips\n  }\n",
      "  chain nodeport-endpoints-check {\n    ", ip,
      " daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports\n  }\n",
      "  chain service-endpoints-check {\n    ", look, "no-endpoint-services\n  }\n",
      R"(  chain filter-prerouting {
    type filter hook prerouting priority -110; policy accept;
    ct state new jump firewall-check
  }
  chain filter-input {
    type filter hook input priority -110; policy accept;
    ct state new jump nodeport-endpoints-check
    ct state new jump service-endpoints-check
  }
  chain filter-forward {
    type filter hook forward priority -110; policy accept;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain filter-output {
    type filter hook output priority -110; policy accept;
    ct state new jump service-endpoints-check
    ct state new jump firewall-check
  }
  chain filter-output-post-dnat {
    type filter hook output priority -90; policy accept;
    ct state new jump cluster-ips-check
  }
  chain nat-prerouting {
    type nat hook prerouting priority -100; policy accept;
    jump services
  }
  chain nat-output {
    type nat hook output priority -100; policy accept;
    jump services
  }
  chain nat-postrouting {
    type nat hook postrouting priority 100; policy accept;
    jump masquerading
  }
}
)");
}

}  // namespace waggle::bench
