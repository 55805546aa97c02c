// The feature gates that kube-proxy 1.34 knows. Waggle has none of its own: they are read so
// that a configuration which kube-proxy refuses is refused here too.
#ifndef WAGGLE_USERSPACE_CONFIG_FEATURE_GATES_H_
#define WAGGLE_USERSPACE_CONFIG_FEATURE_GATES_H_

#include <map>
#include <string>
#include <string_view>

namespace waggle::config {

enum class Gate : unsigned char { kUnknown, kFree, kLockedOn, kLockedOff };
Gate FindGate(std::string_view name);

// Empty, or why `name` cannot have this value: a sentence that goes behind its path.
std::string GateFault(std::string_view name, bool value);

// An alpha gate that is off unless it, or AllAlpha, is set.
bool AlphaGateEnabled(const std::map<std::string, bool>& gates, const std::string& name);

}  // namespace waggle::config

#endif
