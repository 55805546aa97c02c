// What of kube-proxy's configuration does nothing here, and why.
#ifndef WAGGLE_USERSPACE_CONFIG_EFFECTS_H_
#define WAGGLE_USERSPACE_CONFIG_EFFECTS_H_

#include <string>
#include <string_view>
#include <vector>

#include "userspace/config/flags.h"

namespace waggle::config {

// Why the field (or flag, where it has no field) does nothing; empty: it acts.
std::string_view WhyNoEffect(std::string_view path);

// "no effect: conntrack.min, conntrack.maxPerCore (…); ipvs.scheduler (…)": fields that differ
// from what an empty configuration means, or, of flags, those that were given. Empty where
// everything acts.
std::string NoEffectLine(const KubeProxyConfigurationV1alpha1& effective);
std::string NoEffectLine(const std::vector<FlagValue>& flags);

}  // namespace waggle::config

#endif
