// What a YAML scalar means to Kubernetes: the rules of go-yaml v2, through which
// kubectl reads manifests.
#ifndef WAGGLE_K8S_WATCH_YAML_SCALAR_H_
#define WAGGLE_K8S_WATCH_YAML_SCALAR_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace waggle::k8s {

// A plain scalar without tag: null, a boolean, a number or a string. (`no`, `on` and `y`
// are booleans, 010 and 0o10 are 8, 1_000 is 1000, 2026-01-01 is a string.)
nlohmann::json PlainScalar(std::string_view text);
// A scalar with yaml-cpp's tag: "?" plain, "!" quoted, else as written. InvalidArgument
// where the text is not what its tag says.
absl::StatusOr<nlohmann::json> TaggedScalar(std::string_view tag, std::string_view text);
// A scalar as the key of a mapping, as sigs.k8s.io/yaml writes it into JSON.
// InvalidArgument for null.
absl::StatusOr<std::string> KeyText(const nlohmann::json& scalar);

}  // namespace waggle::k8s

#endif
