// A kube-proxy that runs on this node, as a process of its own or within another program (k3s,
// MicroK8s).
#ifndef WAGGLE_USERSPACE_KUBE_PROXY_RUNNING_H_
#define WAGGLE_USERSPACE_KUBE_PROXY_RUNNING_H_

#include <string>
#include <string_view>

namespace waggle::kube_proxy {

// Who would write kube-proxy's rules again in this network namespace, for people: a process of
// that name ("kube-proxy (pid 12)"), or whoever answers as kube-proxy does at port 10249 of the
// loopback addresses and is not Waggle. Empty: nobody that can be seen.
std::string RunningKubeProxy();

// A program that runs in this network namespace and may hold a kube-proxy, or may have been told
// not to: "k3s-server (pid 12)". Empty: none that can be seen.
std::string MayHoldKubeProxy();

// Is that an answer of kube-proxy to GET /proxyMode? Waggle's is no different. Pure.
bool IsProxyMode(std::string_view http_answer);
// Does an answer to GET /metrics come from Waggle? Pure.
bool IsWaggles(std::string_view http_answer);

}  // namespace waggle::kube_proxy

#endif
