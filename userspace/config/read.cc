#include "userspace/config/read.h"

#include <yaml-cpp/yaml.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "k8s-watch/document.h"
#include "k8s-watch/fields.h"
#include "k8s-watch/quote.h"

namespace waggle::config {
namespace {

using nlohmann::json;

// Where the members of one mapping stand, and their values: what JSON does not tell.
class Places {
 public:
  explicit Places(const YAML::Node& mapping) {
    if (!mapping.IsDefined() || !mapping.IsMap()) return;
    for (const auto& member : mapping) {
      if (!member.first.IsScalar()) continue;
      members_.emplace(member.first.Scalar(), Member{LineOf(member.first), member.second});
    }
  }

  size_t Line(const std::string& key) const {
    const auto found = members_.find(key);
    return found == members_.end() ? 0 : found->second.line;
  }
  YAML::Node Value(const std::string& key) const {
    const auto found = members_.find(key);
    return found == members_.end() ? YAML::Node() : found->second.value;
  }
  static size_t LineOf(const YAML::Node& node) {
    if (!node.IsDefined() || node.Mark().is_null()) return 0;
    return static_cast<size_t>(node.Mark().line) + 1;
  }

 private:
  struct Member {
    size_t line;
    YAML::Node value;
  };
  std::map<std::string, Member> members_;
};

// A value, and where it stands.
struct Value {
  const nlohmann::json& tree;
  YAML::Node node;
  std::string path;
  size_t line;
};

class Reader {
 public:
  explicit Reader(ConfigFile* file) : file_(file) {}

  template <typename Mapping>
  void Read(const Value& value, Mapping& target) {
    if (!value.tree.is_object()) return Wrong(value, "a mapping");
    const Places places(value.node);
    std::set<std::string> known;
    if (value.path.find('.') == std::string::npos) known = {"apiVersion", "kind"};
    Mapping::Visit(target, [&](const char* key, auto& member) {
      known.insert(key);
      const json* found = k8s::Member(value.tree, key);
      if (found == nullptr) return;
      const Value inner = {*found, places.Value(key), absl::StrCat(value.path, ".", key),
                           places.Line(key)};
      file_->lines[inner.path] = inner.line;
      Read(inner, member);
    });
    for (const auto& [key, unused] : value.tree.items()) {
      if (known.count(key) != 0) continue;
      file_->unknown.push_back({absl::StrCat(value.path, ".", k8s::Printable(key)),
                                "is not a field of this version", places.Line(key)});
    }
  }

 private:
  void Wrong(const Value& value, std::string_view expected) {
    file_->errors.push_back(
        {value.path,
         absl::StrCat("is ", k8s::Describe(value.tree), ", expected ", std::string(expected)),
         value.line});
  }

  void Read(const Value& value, bool& target) {
    if (!value.tree.is_boolean()) return Wrong(value, "true or false");
    target = value.tree.get<bool>();
  }
  void Read(const Value& value, std::string& target) {
    if (!value.tree.is_string()) return Wrong(value, "a string");
    target = value.tree.get<std::string>();
  }
  void Read(const Value& value, int32_t& target) { ReadInteger(value, target); }
  void Read(const Value& value, uint32_t& target) { ReadInteger(value, target); }
  void Read(const Value& value, float& target) {
    const double number = value.tree.is_number() ? value.tree.get<double>() : NAN;
    if (!(std::fabs(number) <= std::numeric_limits<float>::max())) return Wrong(value, "a number");
    target = static_cast<float>(number);
  }
  void Read(const Value& value, Duration& target) {
    const auto* text = value.tree.get_ptr<const json::string_t*>();
    const auto duration = text == nullptr ? std::nullopt : ParseDuration(*text);
    if (!duration) return Wrong(value, "a duration such as 30s, 1m30s or 0s");
    target = *duration;
  }
  void Read(const Value& value, FlushFrequency& target) {
    if (value.tree.is_number_integer()) {
      target.value = Duration(value.tree.get<int64_t>());
      return;
    }
    Read(value, target.value);
  }
  void Read(const Value& value, Quantity& target) {
    if (value.tree.is_number_integer()) {
      target.text = value.tree.dump();
      return;
    }
    Read(value, target.text);
  }
  template <typename T>
  void Read(const Value& value, std::optional<T>& target) {
    T inner{};
    Read(value, inner);
    target = inner;
  }
  template <typename T>
  void Read(const Value& value, std::vector<T>& target) {
    if (!value.tree.is_array()) return Wrong(value, "a list");
    target.clear();
    for (size_t i = 0; i < value.tree.size(); ++i) {
      const bool known = value.node.IsDefined() && value.node.IsSequence() && i < value.node.size();
      const YAML::Node node = known ? value.node[i] : YAML::Node();
      const size_t line = Places::LineOf(node);
      const Value inner = {value.tree[i], node, absl::StrCat(value.path, "[", i, "]"),
                           line == 0 ? value.line : line};
      file_->lines[inner.path] = inner.line;
      const size_t errors = file_->errors.size();
      Read(inner, target.emplace_back());
      // What is no element is not complained about twice.
      if (file_->errors.size() > errors) target.pop_back();
    }
  }
  void Read(const Value& value, std::map<std::string, bool>& target) {
    if (!value.tree.is_object()) return Wrong(value, "a mapping");
    const Places places(value.node);
    for (const auto& [key, member] : value.tree.items()) {
      const Value inner = {member, places.Value(key),
                           absl::StrCat(value.path, ".", k8s::Printable(key)), places.Line(key)};
      file_->lines[inner.path] = inner.line;
      Read(inner, target[key]);
    }
  }
  template <typename Integer>
  void ReadInteger(const Value& value, Integer& target) {
    using Limits = std::numeric_limits<Integer>;
    // 80.0 is a whole number, as it is for kubectl; all of ours fit into a double.
    const double number = value.tree.is_number() ? value.tree.get<double>() : NAN;
    if (!(number >= Limits::min() && number <= Limits::max() && std::trunc(number) == number)) {
      return Wrong(value,
                   absl::StrCat("a whole number from ", Limits::min(), " to ", Limits::max()));
    }
    target = static_cast<Integer>(number);
  }

  ConfigFile* file_;
};

// What the text says where, document by document; empty where only the other parser
// understands it, as then no line can be told.
std::vector<YAML::Node> NodesOf(const std::string& text) {
  std::vector<YAML::Node> nodes;
  try {
    for (const YAML::Node& node : YAML::LoadAll(text)) {
      if (node.IsDefined() && !node.IsNull()) nodes.push_back(node);
    }
  } catch (const YAML::Exception&) {
    return {};
  }
  return nodes;
}

std::string TextOf(const json& document, const char* key) {
  const json* member = k8s::Member(document, key);
  return member != nullptr && member->is_string() ? member->get<std::string>() : "";
}

template <typename Configuration>
bool Is(const json& document) {
  return TextOf(document, "kind") == Configuration::kKind;
}

class DocumentReader {
 public:
  DocumentReader(ConfigFile* file, std::vector<YAML::Node> nodes)
      : file_(file), nodes_(std::move(nodes)) {}

  void Read(k8s::Document document) {
    const size_t index = count_++;
    if (!document.value.ok()) {
      Error("", std::string(document.value.status().message()), 0);
      return;
    }
    json tree = *std::move(document.value);
    const YAML::Node node = index < nodes_.size() ? nodes_[index] : YAML::Node();
    const size_t line = Places::LineOf(node);
    if (!tree.is_object()) {
      Error("", absl::StrCat("is ", k8s::Describe(tree), ", expected a mapping"), line);
    } else if (Is<KubeProxyConfigurationV1alpha1>(tree)) {
      ReadAs(tree, node, line, &file_->kube_proxy);
    } else if (Is<WaggleConfigurationV1alpha1>(tree)) {
      file_->waggle_first = index == 0;
      // YAML takes the word off for a boolean.
      if (tree.contains("socketLB") && tree["socketLB"] == false) tree["socketLB"] = "off";
      ReadAs(tree, node, line, &file_->waggle);
    } else {
      const json* kind = k8s::Member(tree, "kind");
      const size_t kind_line = Places(node).Line("kind");
      Error("kind",
            absl::StrCat(kind == nullptr ? "is missing" : "is " + k8s::Describe(*kind),
                         ", expected ", KubeProxyConfigurationV1alpha1::kKind, " or ",
                         WaggleConfigurationV1alpha1::kKind),
            kind_line == 0 ? line : kind_line);
    }
  }
  size_t count() const { return count_; }

 private:
  void Error(std::string path, std::string text, size_t line) {
    file_->errors.push_back({std::move(path), std::move(text), line});
  }

  template <typename Configuration>
  void ReadAs(const json& tree, const YAML::Node& node, size_t line,
              std::optional<Configuration>* target) {
    const std::string name = Configuration::kKind;
    if (target->has_value()) return Error(name, "stands twice in the file", line);
    target->emplace();
    const std::string version = TextOf(tree, "apiVersion");
    if (version != Configuration::kApiVersion) {
      const json* found = k8s::Member(tree, "apiVersion");
      const size_t version_line = Places(node).Line("apiVersion");
      return Error(name + ".apiVersion",
                   absl::StrCat(found == nullptr ? "is missing" : "is " + k8s::Describe(*found),
                                ", expected ", Configuration::kApiVersion),
                   version_line == 0 ? line : version_line);
    }
    Reader(file_).Read({tree, node, name, line}, **target);
  }

  ConfigFile* file_;
  std::vector<YAML::Node> nodes_;
  size_t count_ = 0;
};

}  // namespace

ConfigFile ReadConfig(std::string_view text) {
  ConfigFile file;
  DocumentReader reader(&file, NodesOf(std::string(text)));
  const absl::Status status =
      k8s::ForEachDocument(text, k8s::TextFormat::kAny,
                           [&](k8s::Document document) { reader.Read(std::move(document)); });
  if (!status.ok()) {
    file.errors.push_back({"", std::string(status.message()), 0});
  } else if (reader.count() == 0) {
    file.errors.push_back({"", "is empty, expected a KubeProxyConfiguration", 0});
  }
  return file;
}

}  // namespace waggle::config
