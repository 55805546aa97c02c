// What holds where a KubeProxyConfiguration says nothing.
#ifndef WAGGLE_USERSPACE_CONFIG_DEFAULTS_H_
#define WAGGLE_USERSPACE_CONFIG_DEFAULTS_H_

#include <string>

#include "userspace/config/kube_proxy_v1alpha1.h"

namespace waggle::config {

// Of each field by itself; zero and empty count as not given, as upstream has it.
void SetDefaults(KubeProxyConfigurationV1alpha1* config);
// Of fields that depend on others, when flags have been heard too.
void SetDependentDefaults(KubeProxyConfigurationV1alpha1* config);

// "10.0.0.1" with the port, brackets where they are needed; all else as it is.
std::string WithPort(const std::string& address, int port);

inline constexpr int kHealthzPort = 10256;
inline constexpr int kMetricsPort = 10249;

}  // namespace waggle::config

#endif
