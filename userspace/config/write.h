// A configuration as text: for /configz, and as a file.
#ifndef WAGGLE_USERSPACE_CONFIG_WRITE_H_
#define WAGGLE_USERSPACE_CONFIG_WRITE_H_

#include <nlohmann/json.hpp>
#include <string>

#include "userspace/config/kube_proxy_v1alpha1.h"
#include "userspace/config/waggle_v1alpha1.h"

namespace waggle::config {

// All fields under their names, defaults included.
nlohmann::json ToJson(const KubeProxyConfigurationV1alpha1& config);
nlohmann::json ToJson(const WaggleConfigurationV1alpha1& config);

// What /configz of kube-proxy shows, with the names of Go's fields, under
// "kubeproxy.config.k8s.io"; what Waggle adds under "waggle.dev".
nlohmann::json ConfigzJson(const KubeProxyConfigurationV1alpha1& kube_proxy,
                           const WaggleConfigurationV1alpha1& waggle);

// A file that --config takes and that means the same: kube-proxy's document, as kube-proxy
// writes it, then Waggle's.
std::string ConfigYaml(const KubeProxyConfigurationV1alpha1& kube_proxy,
                       const WaggleConfigurationV1alpha1& waggle);

}  // namespace waggle::config

#endif
