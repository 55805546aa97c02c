// JSON of an apiserver as a tree, but for what nobody here looks at: managedFields, near half of
// each object. Takes what is JSON within the limits of tree_builder.h, and says what is wrong
// with all else.
#ifndef WAGGLE_K8S_WATCH_PRUNED_JSON_H_
#define WAGGLE_K8S_WATCH_PRUNED_JSON_H_

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "absl/status/statusor.h"

namespace waggle::k8s {

inline constexpr std::string_view kPrunedKey = "managedFields";

absl::StatusOr<nlohmann::json> ReadPrunedJson(std::string_view text);

}  // namespace waggle::k8s

#endif
