#include "k8s-watch/source.h"

namespace waggle::k8s {

std::string_view ObjectKindName(ObjectKind kind) {
  switch (kind) {
    case ObjectKind::kService:
      return "Service";
    case ObjectKind::kEndpointSlice:
      return "EndpointSlice";
    case ObjectKind::kNode:
      return "Node";
  }
  return "unknown";
}

}  // namespace waggle::k8s
