// Builds a JSON tree from parser events within fixed limits, so that a hostile file
// costs bounded time, memory and stack, whichever parser reads it.
#ifndef WAGGLE_K8S_WATCH_TREE_BUILDER_H_
#define WAGGLE_K8S_WATCH_TREE_BUILDER_H_

#include <cstddef>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"

namespace waggle::k8s {

// Levels of mappings and lists within each other.
inline constexpr size_t kMaxDepth = 100;
// Values in one document: some 500 MB at worst, and 160 while it is decoded (value.h).
inline constexpr size_t kMaxNodes = 5'000'000;
// Values that aliases may add to one file; strings count once per 32 bytes too.
inline constexpr size_t kMaxAliasNodes = 1'000'000;

// One document. Every function gives InvalidArgument where a limit or a rule is broken;
// the builder must not be used after that. An anchor of 0 means none.
class TreeBuilder {
 public:
  // `alias_budget` starts at kMaxAliasNodes, is shared by the documents of a file and
  // must outlive the builder.
  explicit TreeBuilder(size_t* alias_budget) : alias_budget_(alias_budget) {}

  // The next event is the key of a mapping.
  bool AtKey() const;
  absl::Status Key(std::string key, size_t anchor);
  // The key `<<`: the value that follows is merged into the mapping.
  absl::Status MergeKey();
  absl::Status Scalar(nlohmann::json value, size_t anchor);
  absl::Status StartMapping(size_t anchor);
  absl::Status StartList(size_t anchor);
  absl::Status End();
  // What `anchor` names, once more, as a value or as a key.
  absl::Status Alias(size_t anchor);

  // The document; null where there were no events.
  nlohmann::json Take() { return std::move(root_); }

 private:
  struct Measure {
    size_t cost = 0;    // values below and at it, weighted for strings
    size_t height = 0;  // levels below and at it; 0 for a scalar
  };
  struct Anchored {
    nlohmann::json value;
    Measure measure;
  };
  struct Frame {
    nlohmann::json value;
    size_t anchor = 0;
    Measure measure;
    std::string key;
    bool has_key = false;
    bool merge_key = false;
    bool merge_seen = false;
    std::set<std::string> merged;  // keys that came by `<<`, which explicit ones override
  };

  absl::Status Start(nlohmann::json value, size_t anchor);
  absl::Status Add(nlohmann::json value, Measure measure);
  absl::Status Remember(size_t anchor, const nlohmann::json& value, Measure measure);
  absl::Status Charge(size_t cost);
  static absl::Status Merge(Frame* frame, nlohmann::json value);

  size_t* alias_budget_;
  size_t nodes_ = 0;
  nlohmann::json root_;
  std::vector<Frame> stack_;
  std::unordered_map<size_t, Anchored> anchors_;
};

}  // namespace waggle::k8s

#endif
