// Whether a configuration makes sense. Pure.
#ifndef WAGGLE_USERSPACE_CONFIG_VALIDATE_H_
#define WAGGLE_USERSPACE_CONFIG_VALIDATE_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "userspace/config/read.h"
#include "userspace/net/address.h"
#include "userspace/net/prefix.h"

namespace waggle::config {

// All that is wrong, in order of the fields; `config` has its defaults. Empty addresses of the
// servers switch them off. Rules are upstream's.
std::vector<Remark> Validate(const KubeProxyConfigurationV1alpha1& config);
std::vector<Remark> Validate(const WaggleConfigurationV1alpha1& config);
// What kube-proxy of one release does not know, or does not let one choose.
std::vector<Remark> ValidateGates(const KubeProxyConfigurationV1alpha1& config);

// "127.0.0.1:80", "[::1]:80"; nullopt for anything else, port 0 too.
std::optional<net::Endpoint> ParseHostPort(std::string_view text);
// What hostnameOverride means as the name of a Node; empty where it is not given.
std::string NodeNameOf(const KubeProxyConfigurationV1alpha1& config);
// A comma-separated list; what cannot be read is left out.
std::vector<net::Prefix> ClusterCidrsOf(const std::string& text);

}  // namespace waggle::config

#endif
