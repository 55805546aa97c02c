#include "k8s-watch/source.h"

#include <type_traits>

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

const ObjectName& NameOf(const Object& object) {
  return std::visit([](const auto& value) -> const ObjectName& { return value->name; }, object);
}

bool SameContent(const Object& a, const Object& b) {
  if (a.index() != b.index()) return false;
  return std::visit(
      [&b](const auto& left) {
        const auto& right = std::get<std::decay_t<decltype(left)>>(b);
        return left == right || *left == *right;
      },
      a);
}

}  // namespace waggle::k8s
