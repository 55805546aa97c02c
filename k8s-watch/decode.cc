#include "k8s-watch/decode.h"

#include <algorithm>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "k8s-watch/decode_kinds.h"
#include "k8s-watch/fields.h"
#include "k8s-watch/quote.h"

namespace waggle::k8s {
namespace {

struct Kind {
  ObjectKind kind;
  std::string_view name;
  std::string_view list;
  std::string_view api_version;
};
constexpr std::array<Kind, 3> kKinds = {{
    {ObjectKind::kService, "Service", "ServiceList", "v1"},
    {ObjectKind::kEndpointSlice, "EndpointSlice", "EndpointSliceList", "discovery.k8s.io/v1"},
    {ObjectKind::kNode, "Node", "NodeList", "v1"},
}};

// Kind and apiVersion of an object; a typed list gives them to items that lack them.
struct TypeMeta {
  std::string_view kind;
  std::string_view api_version;
};

// A kind of ours may be another's too (a Knative Service): only groups of Kubernetes
// itself are taken for a mistake in the version.
bool IsKubernetesGroup(std::string_view api_version) {
  const size_t slash = api_version.find('/');
  if (slash == std::string_view::npos) return true;
  const std::string_view group = api_version.substr(0, slash);
  constexpr std::string_view kSuffix = ".k8s.io";
  return group.find('.') == std::string_view::npos || group.ends_with(kSuffix);
}

// Equal but for case, or by one character that is missing, wrong or too much.
bool IsAlmost(std::string_view text, std::string_view word) {
  if (absl::EqualsIgnoreCase({text.data(), text.size()}, {word.data(), word.size()})) return true;
  const auto [left, right] = std::mismatch(text.begin(), text.end(), word.begin(), word.end());
  const std::string_view a = text.substr(static_cast<size_t>(left - text.begin()));
  const std::string_view b = word.substr(static_cast<size_t>(right - word.begin()));
  return (!a.empty() && a.substr(1) == b) || (!b.empty() && b.substr(1) == a) ||
         (!a.empty() && !b.empty() && a.substr(1) == b.substr(1));
}

// Which kind somebody had in mind who wrote one that is none of ours; empty when it is
// another's. A slip in it must not pass for an object that is gone.
std::string KindMeant(const TypeMeta& meta) {
  if (meta.api_version.starts_with("discovery.k8s.io/")) {
    return "\"EndpointSlice\" or \"EndpointSliceList\"";
  }
  if (meta.kind == "List" && IsKubernetesGroup(meta.api_version)) {
    return "another one, or the apiVersion \"v1\"";
  }
  if (meta.api_version != "v1") return "";
  for (const Kind& kind : kKinds) {
    for (const std::string_view name : {kind.name, kind.list, std::string_view("List")}) {
      if (IsAlmost(meta.kind, name)) return absl::StrCat("\"", std::string(name), "\"");
    }
  }
  return "";
}

class Decoder {
 public:
  explicit Decoder(DecodeResult* result) : result_(result) {}

  void Decode(const Value& value, const std::string& origin, bool in_list,
              const TypeMeta* inherited) {
    Reporter report("object", origin);
    DecodeAny(value, origin, in_list, inherited, &report);
    Finish(&report);
  }

  void DecodeAs(const Kind& kind, const Value& value, const std::string& origin) {
    Reporter report("object", origin);
    DecodeOne(value, origin, kind, kind.api_version, &report);
    Finish(&report);
  }

 private:
  void Finish(Reporter* report) {
    const bool told = report->MoveTo(&result_->problems);
    if (std::exchange(unidentified_, false)) {
      ++result_->unidentified;
      if (told) result_->causes.push_back(result_->problems.size() - 1);
    }
  }

  void DecodeAny(const Value& value, const std::string& origin, bool in_list,
                 const TypeMeta* inherited, Reporter* report) {
    if (!value.is_mapping()) {
      unidentified_ = true;
      return report->Add(Path(), ProblemReason::kUnreadable,
                         absl::StrCat("is ", Describe(value),
                                      ", expected a Kubernetes object (a mapping with apiVersion, "
                                      "kind, metadata); it is left out"));
    }
    if (!in_list && Member(value, "kind") == nullptr && Member(value, "apiVersion") == nullptr) {
      ++result_->strays;
      return report->Invalid(Path(),
                             "has neither apiVersion nor kind, so it is no Kubernetes object; it "
                             "is ignored");
    }
    const std::optional<TypeMeta> meta = ReadTypeMeta(value, inherited, report);
    if (!meta) {
      unidentified_ = true;
      return;
    }
    if (meta->kind == "List" && meta->api_version == "v1") {
      return DecodeItems(value, origin, "List", nullptr, report);
    }
    for (const Kind& kind : kKinds) {
      const bool list = meta->kind == kind.list;
      if (!list && meta->kind != kind.name) continue;
      if (meta->api_version != kind.api_version && !IsKubernetesGroup(meta->api_version) &&
          !IsAlmost(meta->api_version, kind.api_version)) {
        break;
      }
      if (!list) return DecodeOne(value, origin, kind, meta->api_version, report);
      const TypeMeta item = {kind.name, meta->api_version};
      return DecodeItems(value, origin, kind.list, &item, report);
    }
    if (const std::string meant = KindMeant(*meta); !meant.empty()) {
      unidentified_ = true;
      return report->Add(Path(Path(), "kind"), ProblemReason::kUnreadable,
                         absl::StrCat("is ", Quote(meta->kind), ", expected ", meant,
                                      "; this object is left out"));
    }
    ++result_->ignored;
  }

  static std::optional<TypeMeta> ReadTypeMeta(const Value& value, const TypeMeta* inherited,
                                              Reporter* report) {
    constexpr std::string_view kThen = "this object is left out";
    auto kind = ReadString(value, Path(), "kind", kThen, report);
    auto version = ReadString(value, Path(), "apiVersion", kThen, report);
    if (kind.bad || version.bad) return std::nullopt;
    if (inherited != nullptr) {
      if (!kind.value) kind.value = inherited->kind;
      if (!version.value) version.value = inherited->api_version;
    }
    const auto missing = [&](const char* field, std::string_view example) {
      report->Add(Path(Path(), field), ProblemReason::kUnreadable,
                  absl::StrCat("is missing, expected one like ", std::string(example), "; ",
                               std::string(kThen)));
      return std::nullopt;
    };
    if (!kind.value || kind.value->empty()) return missing("kind", "\"Service\"");
    if (!version.value || version.value->empty()) return missing("apiVersion", "\"v1\"");
    return TypeMeta{*kind.value, *version.value};
  }

  void DecodeItems(const Value& value, const std::string& origin, std::string_view kind,
                   const TypeMeta* item_meta, Reporter* report) {
    report->set_kind(kind);
    const auto items = ReadList(value, Path(), "items", "the list is left out", report);
    if (items.bad) unidentified_ = true;
    if (!items.value) return;
    for (size_t i = 0; const Value& item : **items.value) {
      Decode(item, absl::StrCat(origin, ", items[", i++, "]"), true, item_meta);
    }
  }

  void DecodeOne(const Value& value, const std::string& origin, const Kind& kind,
                 std::string_view api_version, Reporter* report) {
    report->set_kind(kind.name);
    std::optional<ObjectName> read = ReadName(value, kind, report);
    if (!read) {
      unidentified_ = true;
      return;
    }
    name_ = *std::move(read);
    const ObjectName* const name = &name_;
    report->set_name(name);
    DecodedObject decoded = {{kind.kind, *name}, std::nullopt, {}, origin, false};
    if (api_version != kind.api_version) {
      report->Add(Path(Path(), "apiVersion"), ProblemReason::kUnsupported,
                  absl::StrCat("is ", Quote(api_version), ", expected \"",
                               std::string(kind.api_version), "\"; this object is left out"));
      if (kind.kind == ObjectKind::kService) decoded.service = *name;
      if (kind.kind == ObjectKind::kEndpointSlice) decoded.service = SliceOwner(value, *name);
      return Put(std::move(decoded));
    }
    switch (kind.kind) {
      case ObjectKind::kService:
        decoded.service = *name;
        if (auto service = DecodeService(value, *name, report)) {
          decoded.object = std::make_shared<const Service>(std::move(*service));
        }
        break;
      case ObjectKind::kEndpointSlice: {
        SliceResult slice = DecodeSlice(value, *name, report);
        if (slice.ignored) {
          ++result_->ignored;
          return;
        }
        decoded.service = std::move(slice.service);
        if (slice.slice) {
          decoded.object = std::make_shared<const EndpointSlice>(std::move(*slice.slice));
        }
        break;
      }
      case ObjectKind::kNode:
        if (auto node = DecodeNode(value, *name, report)) {
          decoded.object = std::make_shared<const Node>(std::move(*node));
        }
        break;
    }
    decoded.damaged = decoded.object.has_value() && report->damaged();
    Put(std::move(decoded));
  }

  void Put(DecodedObject decoded) {
    // A slice that may be any Service's: nobody can tell what to keep for it.
    if (!decoded.object && decoded.key.kind == ObjectKind::kEndpointSlice &&
        decoded.service.name.empty()) {
      unidentified_ = true;
    }
    result_->objects.push_back(std::move(decoded));
  }

  // The name is what everything else hangs on: when it is bad, the object is left out.
  static std::optional<ObjectName> ReadName(const Value& value, const Kind& kind,
                                            Reporter* report) {
    constexpr std::string_view kThen = "this object is left out";
    const Path root;
    const Path path(root, "metadata");
    const auto metadata = ReadObject(value, root, "metadata", kThen, report);
    if (metadata.bad) return std::nullopt;
    if (!metadata.value) {
      report->Invalid(path, "is missing, expected a mapping with name; this object is left out");
      return std::nullopt;
    }
    const Value& object = **metadata.value;
    const auto name = ReadString(object, path, "name", kThen, report);
    if (name.bad) return std::nullopt;
    if (!name.value) {
      report->Invalid(Path(path, "name"), "is missing; this object is left out");
      return std::nullopt;
    }
    const bool label = kind.kind == ObjectKind::kService;
    if (label ? !IsLabel(*name.value) : !IsSubdomain(*name.value)) {
      report->Invalid(Path(path, "name"),
                      absl::StrCat("is ", Quote(*name.value), ", expected ",
                                   label ? "at most 63 lower-case letters, digits and '-'"
                                         : "at most 253 lower-case letters, digits, '-' and '.'",
                                   ", with a letter or digit at both ends; ", std::string(kThen)));
      return std::nullopt;
    }
    if (kind.kind == ObjectKind::kNode) return ObjectName{"", std::string(*name.value)};
    const auto ns = ReadString(object, path, "namespace", kThen, report);
    if (ns.bad) return std::nullopt;
    if (!ns.value || ns.value->empty()) return ObjectName{"default", std::string(*name.value)};
    if (!IsLabel(*ns.value)) {
      report->Invalid(
          Path(path, "namespace"),
          absl::StrCat("is ", Quote(*ns.value),
                       ", expected at most 63 lower-case letters, digits and '-', with a letter or "
                       "digit at both ends; ",
                       std::string(kThen)));
      return std::nullopt;
    }
    return ObjectName{std::string(*ns.value), std::string(*name.value)};
  }

  DecodeResult* result_;
  // Of the object that is being decoded.
  bool unidentified_ = false;
  ObjectName name_;
};

}  // namespace

void DecodeDocument(const nlohmann::json& document, const std::string& origin,
                    DecodeResult* result) {
  const std::vector<Value> values = ToValues(document);
  Decoder(result).Decode(values.front(), origin, false, nullptr);
}

void DecodeObject(const Value& object, ObjectKind kind, const std::string& origin,
                  DecodeResult* result) {
  for (const Kind& each : kKinds) {
    if (each.kind == kind) Decoder(result).DecodeAs(each, object, origin);
  }
}

}  // namespace waggle::k8s
