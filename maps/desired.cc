#include "maps/desired.h"

namespace waggle {

std::string_view KindName(FrontendKind kind) {
  switch (kind) {
    case FrontendKind::kClusterIp:
      return "ClusterIP";
    case FrontendKind::kNodePort:
      return "NodePort";
    case FrontendKind::kLoadBalancerIp:
      return "LoadBalancerIP";
    case FrontendKind::kExternalIp:
      return "ExternalIP";
  }
  return "unknown";
}

std::string_view ScopeName(Scope scope) {
  switch (scope) {
    case Scope::kInternal:
      return "internal";
    case Scope::kExternal:
      return "external";
  }
  return "unknown";
}

std::string_view PolicyName(Policy policy) {
  switch (policy) {
    case Policy::kCluster:
      return "Cluster";
    case Policy::kLocal:
      return "Local";
  }
  return "unknown";
}

std::string_view FateName(Fate fate) {
  switch (fate) {
    case Fate::kForward:
      return "forward";
    case Fate::kRefuse:
      return "refuse";
    case Fate::kDrop:
      return "drop";
  }
  return "unknown";
}

}  // namespace waggle
