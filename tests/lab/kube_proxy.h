// Rules of the shape that kube-proxy writes in nftables mode, for the failing half
// of a scenario.
#ifndef WAGGLE_TESTS_LAB_KUBE_PROXY_H_
#define WAGGLE_TESTS_LAB_KUBE_PROXY_H_

#include "tests/lab/lab.h"
#include "tests/lab/manifest.h"

namespace waggle::lab {

// Without --cluster-cidr there is no local-traffic detector: only a backend's
// connection to itself is masqueraded. A Service without endpoints is rejected.
void InstallKubeProxyRules(const Node& node, const Service& service);
void RemoveKubeProxyRules(const Node& node);

}  // namespace waggle::lab

#endif
