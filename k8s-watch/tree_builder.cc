#include "k8s-watch/tree_builder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "k8s-watch/quote.h"

namespace waggle::k8s {
namespace {

using nlohmann::json;

size_t ScalarCost(const json& value) {
  const auto* text = value.get_ptr<const json::string_t*>();
  return 1 + (text == nullptr ? 0 : text->size() / 32);
}

}  // namespace

bool TreeBuilder::AtKey() const {
  return !stack_.empty() && stack_.back().value.is_object() && !stack_.back().has_key;
}

absl::Status TreeBuilder::Key(std::string key, size_t anchor) {
  Frame& frame = stack_.back();
  if (anchor != 0) {
    const json value = key;
    if (auto status = Remember(anchor, value, {ScalarCost(value), 0}); !status.ok()) return status;
  }
  if (frame.value.contains(key) && frame.merged.erase(key) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the key ", Quote(key), " stands twice in one mapping"));
  }
  frame.key = std::move(key);
  frame.has_key = true;
  frame.merge_key = false;
  return absl::OkStatus();
}

absl::Status TreeBuilder::MergeKey() {
  Frame& frame = stack_.back();
  if (frame.merge_seen) {
    return absl::InvalidArgumentError("the key \"<<\" stands twice in one mapping");
  }
  frame.merge_seen = frame.has_key = frame.merge_key = true;
  return absl::OkStatus();
}

absl::Status TreeBuilder::Scalar(json value, size_t anchor) {
  const Measure measure = {ScalarCost(value), 0};
  if (anchor != 0) {
    if (auto status = Remember(anchor, value, measure); !status.ok()) return status;
  }
  if (++nodes_ > kMaxNodes) return Charge(0);
  return Add(std::move(value), measure);
}

absl::Status TreeBuilder::StartMapping(size_t anchor) {
  return Start(json::object(), anchor);
}
absl::Status TreeBuilder::StartList(size_t anchor) {
  return Start(json::array(), anchor);
}

absl::Status TreeBuilder::Start(json value, size_t anchor) {
  if (stack_.size() >= kMaxDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat("more than ", kMaxDepth, " levels of mappings and lists"));
  }
  if (++nodes_ > kMaxNodes) return Charge(0);
  Frame frame;
  frame.value = std::move(value);
  frame.anchor = anchor;
  frame.measure = {1, 1};
  stack_.push_back(std::move(frame));
  return absl::OkStatus();
}

absl::Status TreeBuilder::End() {
  Frame frame = std::move(stack_.back());
  stack_.pop_back();
  if (frame.anchor != 0) {
    if (auto status = Remember(frame.anchor, frame.value, frame.measure); !status.ok()) {
      return status;
    }
  }
  return Add(std::move(frame.value), frame.measure);
}

absl::Status TreeBuilder::Alias(size_t anchor) {
  const auto found = anchors_.find(anchor);
  // A collection is remembered when it ends: an alias within it comes too early.
  if (found == anchors_.end()) {
    return absl::InvalidArgumentError("an alias refers to a value that contains the alias");
  }
  const Anchored& target = found->second;
  if (AtKey()) {
    const auto* text = target.value.get_ptr<const json::string_t*>();
    if (text == nullptr) return absl::InvalidArgumentError("an alias as a key must name a string");
    if (auto status = Charge(target.measure.cost); !status.ok()) return status;
    return Key(*text, 0);
  }
  if (stack_.size() + target.measure.height > kMaxDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat("with its aliases more than ", kMaxDepth, " levels of mappings and lists"));
  }
  if (auto status = Charge(target.measure.cost); !status.ok()) return status;
  return Add(target.value, target.measure);
}

absl::Status TreeBuilder::Charge(size_t cost) {
  if (nodes_ > kMaxNodes) {
    return absl::InvalidArgumentError(
        absl::StrCat("more than ", kMaxNodes, " values in one document"));
  }
  if (cost > *alias_budget_) {
    return absl::InvalidArgumentError(
        absl::StrCat("aliases make this file larger by more than ", kMaxAliasNodes, " values"));
  }
  *alias_budget_ -= cost;
  nodes_ += cost;
  return absl::OkStatus();
}

// The copy is charged like an alias: anchors within anchors would else multiply for free.
absl::Status TreeBuilder::Remember(size_t anchor, const json& value, Measure measure) {
  if (auto status = Charge(measure.cost); !status.ok()) return status;
  anchors_[anchor] = {value, measure};
  return absl::OkStatus();
}

absl::Status TreeBuilder::Add(json value, Measure measure) {
  if (stack_.empty()) {
    root_ = std::move(value);
    return absl::OkStatus();
  }
  Frame& frame = stack_.back();
  frame.measure.cost += measure.cost;
  frame.measure.height = std::max(frame.measure.height, measure.height + 1);
  if (frame.value.is_array()) {
    frame.value.push_back(std::move(value));
    return absl::OkStatus();
  }
  frame.has_key = false;
  if (frame.merge_key) return Merge(&frame, std::move(value));
  frame.measure.cost += 1 + frame.key.size() / 32;
  frame.value[std::move(frame.key)] = std::move(value);
  return absl::OkStatus();
}

// Keys that are there already win, wherever they stand; of several mappings the first.
absl::Status TreeBuilder::Merge(Frame* frame, json value) {
  const auto merge_one = [frame](json& from) {
    if (!from.is_object()) {
      return absl::InvalidArgumentError("\"<<\" needs a mapping or a list of mappings");
    }
    for (auto entry = from.begin(); entry != from.end(); ++entry) {
      if (frame->value.contains(entry.key())) continue;
      frame->merged.insert(entry.key());
      frame->value[entry.key()] = std::move(entry.value());
    }
    return absl::OkStatus();
  };
  if (!value.is_array()) return merge_one(value);
  for (json& from : value) {
    if (auto status = merge_one(from); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace waggle::k8s
