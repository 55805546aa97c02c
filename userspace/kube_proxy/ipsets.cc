#include "userspace/kube_proxy/ipsets.h"

#include <algorithm>
#include <iterator>
#include <string>

namespace waggle::kube_proxy {
namespace {

constexpr std::string_view kPrefix = "KUBE-";
constexpr std::string_view kPrefixV6 = "KUBE-6-";
// The longest name that the kernel takes; kube-proxy cuts two of those for IPv6.
constexpr size_t kMaxName = 31;

// Without the prefix.
constexpr std::string_view kNames[] = {"LOOP-BACK",
                                       "CLUSTER-IP",
                                       "EXTERNAL-IP",
                                       "EXTERNAL-IP-LOCAL",
                                       "LOAD-BALANCER",
                                       "LOAD-BALANCER-LOCAL",
                                       "LOAD-BALANCER-FW",
                                       "LOAD-BALANCER-SOURCE-IP",
                                       "LOAD-BALANCER-SOURCE-CIDR",
                                       "NODE-PORT-TCP",
                                       "NODE-PORT-LOCAL-TCP",
                                       "NODE-PORT-UDP",
                                       "NODE-PORT-LOCAL-UDP",
                                       "NODE-PORT-SCTP-HASH",
                                       "NODE-PORT-LOCAL-SCTP-HASH",
                                       "HEALTH-CHECK-NODE-PORT",
                                       "IPVS-IPS"};

}  // namespace

bool IsKubeProxysSet(std::string_view name) {
  return std::any_of(std::begin(kNames), std::end(kNames), [name](std::string_view known) {
    const auto is = [&](std::string_view prefix) {
      return name == std::string(prefix).append(known).substr(0, kMaxName);
    };
    return is(kPrefix) || is(kPrefixV6);
  });
}

}  // namespace waggle::kube_proxy
