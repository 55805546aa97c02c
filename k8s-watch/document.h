// The text of a manifest file as JSON documents: YAML, of one or several documents,
// or JSON. Pure: reads no files.
#ifndef WAGGLE_K8S_WATCH_DOCUMENT_H_
#define WAGGLE_K8S_WATCH_DOCUMENT_H_

#include <cstddef>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace waggle::k8s {

inline constexpr size_t kMaxFileBytes = size_t{64} << 20;

enum class TextFormat {
  kAny,   // JSON where it parses as JSON or as several objects of it in a row, else YAML
  kJson,  // the file's name says so: an error is told in terms of JSON
};

struct Document {
  size_t number = 1;  // from 1, counting what `---` separates, empty ones too
  size_t count = 1;   // documents in the file, counted likewise
  // InvalidArgument with line and column (from 1, in the file) where the parser knows
  // them. Limits are those of tree_builder.h.
  absl::StatusOr<nlohmann::json> value;
};

// Calls `visit` for each document that is not empty, in order; one at a time, so that only
// one tree is in memory. A bad document does not keep the others from being read:
// a document marker at the start of a line ends a document in YAML whatever stands
// before it. InvalidArgument without a call when the text as a whole cannot be read:
// longer than kMaxFileBytes, not UTF-8, or with NUL bytes.
absl::Status ForEachDocument(std::string_view text, TextFormat format,
                             const std::function<void(Document)>& visit);

}  // namespace waggle::k8s

#endif
