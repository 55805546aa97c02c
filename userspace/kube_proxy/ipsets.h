// Which ipsets are kube-proxy's. Pure.
#ifndef WAGGLE_USERSPACE_KUBE_PROXY_IPSETS_H_
#define WAGGLE_USERSPACE_KUBE_PROXY_IPSETS_H_

#include <string_view>

namespace waggle::kube_proxy {

// Those that it makes in mode ipvs, by their whole names. Others begin with KUBE-, too:
// kube-router's network policies have KUBE-SRC-… and KUBE-DST-….
bool IsKubeProxysSet(std::string_view name);

}  // namespace waggle::kube_proxy

#endif
