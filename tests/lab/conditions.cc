#include "tests/lab/conditions.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace waggle::lab {

void DropForwarded(const Node& node, bool cni_accepts_its_pods) {
  for (net::Family family : {net::Family::kIpv4, net::Family::kIpv6}) {
    std::string ip = family == net::Family::kIpv4 ? "ip" : "ip6";
    std::string pods = node.pod_cidrs().Of(family);
    std::string accept = absl::StrCat("    ", ip, " saddr ", pods, " accept\n    ", ip, " daddr ",
                                      pods, " accept\n");
    node.Nft(absl::StrCat("table ", ip, " filter {\n  chain FORWARD {\n",
                          "    type filter hook forward priority 0; policy drop;\n",
                          cni_accepts_its_pods ? accept : "", "  }\n}\n"));
  }
}

void AcceptForwarded(const Node& node) {
  node.Nft("delete table ip filter\ndelete table ip6 filter\n");
}

void DropInvalid(const Node& node) {
  node.Nft(
      "table inet firewall {\n  counter invalid { }\n  chain forward {\n"
      "    type filter hook forward priority 0;\n"
      "    ct state invalid counter name invalid drop\n  }\n}\n");
}

void WatchForwarded(const Node& node) {
  node.Nft(
      "table inet watch {\n  counter forwarded { }\n  chain forward {\n"
      "    type filter hook forward priority -200;\n"
      "    meta l4proto { tcp, udp } counter name forwarded\n  }\n}\n");
}

void SetBridgeNfCall(const Node& node, bool on) {
  for (const char* key :
       {"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"}) {
    node.Sysctl(key, on ? "1" : "0");
  }
}

uint64_t Count(const Place& place, const std::string& counter) {
  RunResult listed = place.Run({"nft", "-j", "list", "counters"});
  const nlohmann::json rules = nlohmann::json::parse(listed.out, nullptr, false);
  if (!rules.is_discarded() && rules.contains("nftables")) {
    for (const nlohmann::json& item : rules["nftables"]) {
      if (item.contains("counter") && item["counter"]["name"] == counter) {
        return item["counter"]["packets"];
      }
    }
  }
  Fail(absl::StrCat("no counter ", counter, " in ", place.name(), ": ", listed.ToString()));
}

}  // namespace waggle::lab
