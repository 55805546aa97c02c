#include "k8s-watch/decode.h"

#include <array>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "k8s-watch/decode_kinds.h"
#include "k8s-watch/fields.h"
#include "k8s-watch/quote.h"

namespace waggle::k8s {
namespace {

using nlohmann::json;

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
  std::string kind;
  std::string api_version;
};

// A kind of ours may be another's too (a Knative Service): only groups of Kubernetes
// itself are taken for a mistake in the version.
bool IsKubernetesGroup(std::string_view api_version) {
  const size_t slash = api_version.find('/');
  if (slash == std::string_view::npos) return true;
  const std::string_view group = api_version.substr(0, slash);
  constexpr std::string_view kSuffix = ".k8s.io";
  return group.find('.') == std::string_view::npos ||
         (group.size() > kSuffix.size() && group.substr(group.size() - kSuffix.size()) == kSuffix);
}

class Decoder {
 public:
  explicit Decoder(DecodeResult* result) : result_(result) {}

  void Decode(const json& value, const std::string& origin, const TypeMeta* inherited) {
    Reporter report(ObjectRef{"object", "", ""}, origin);
    DecodeAny(value, origin, inherited, &report);
    report.MoveTo(&result_->problems);
  }

 private:
  void DecodeAny(const json& value, const std::string& origin, const TypeMeta* inherited,
                 Reporter* report) {
    if (!value.is_object()) {
      ++result_->unidentified;
      return report->Add(Path(), ProblemReason::kUnreadable,
                         absl::StrCat("is ", Describe(value),
                                      ", expected a Kubernetes object (a mapping with apiVersion, "
                                      "kind, metadata); it is left out"));
    }
    const std::optional<TypeMeta> meta = ReadTypeMeta(value, inherited, report);
    if (!meta) {
      ++result_->unidentified;
      return;
    }
    if (meta->kind == "List" && meta->api_version == "v1") {
      return DecodeItems(value, origin, nullptr, *meta, report);
    }
    for (const Kind& kind : kKinds) {
      const bool list = meta->kind == kind.list;
      if (!list && meta->kind != kind.name) continue;
      if (meta->api_version != kind.api_version && !IsKubernetesGroup(meta->api_version)) break;
      if (!list) return DecodeOne(value, origin, kind, *meta, report);
      const TypeMeta item = {std::string(kind.name), meta->api_version};
      return DecodeItems(value, origin, &item, *meta, report);
    }
    ++result_->ignored;
  }

  static std::optional<TypeMeta> ReadTypeMeta(const json& value, const TypeMeta* inherited,
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
    return TypeMeta{std::move(*kind.value), std::move(*version.value)};
  }

  void DecodeItems(const json& value, const std::string& origin, const TypeMeta* item_meta,
                   const TypeMeta& meta, Reporter* report) {
    report->set_object({meta.kind, "", ""});
    const auto items = ReadList(value, Path(), "items", "the list is left out", report);
    if (items.bad) ++result_->unidentified;
    if (!items.value) return;
    const json& list = **items.value;
    for (size_t i = 0; i < list.size(); ++i) {
      Decode(list[i], absl::StrCat(origin, ", items[", i, "]"), item_meta);
    }
  }

  void DecodeOne(const json& value, const std::string& origin, const Kind& kind,
                 const TypeMeta& meta, Reporter* report) {
    report->set_object({std::string(kind.name), "", ""});
    const std::optional<ObjectName> name = ReadName(value, kind, report);
    if (!name) {
      ++result_->unidentified;
      return;
    }
    report->set_object({std::string(kind.name), name->ns, name->name});
    DecodedObject decoded = {{kind.kind, *name}, std::nullopt, {}, origin, false};
    if (meta.api_version != kind.api_version) {
      report->Add(Path(Path(), "apiVersion"), ProblemReason::kUnsupported,
                  absl::StrCat("is ", Quote(meta.api_version), ", expected \"",
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
      ++result_->unidentified;
    }
    result_->objects.push_back(std::move(decoded));
  }

  // The name is what everything else hangs on: when it is bad, the object is left out.
  static std::optional<ObjectName> ReadName(const json& value, const Kind& kind, Reporter* report) {
    constexpr std::string_view kThen = "this object is left out";
    const Path root;
    const Path path(root, "metadata");
    const auto metadata = ReadObject(value, root, "metadata", kThen, report);
    if (metadata.bad) return std::nullopt;
    if (!metadata.value) {
      report->Invalid(path, "is missing, expected a mapping with name; this object is left out");
      return std::nullopt;
    }
    const json& object = **metadata.value;
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
    if (kind.kind == ObjectKind::kNode) return ObjectName{"", *name.value};
    const auto ns = ReadString(object, path, "namespace", kThen, report);
    if (ns.bad) return std::nullopt;
    if (!ns.value || ns.value->empty()) return ObjectName{"default", *name.value};
    if (!IsLabel(*ns.value)) {
      report->Invalid(
          Path(path, "namespace"),
          absl::StrCat("is ", Quote(*ns.value),
                       ", expected at most 63 lower-case letters, digits and '-', with a letter or "
                       "digit at both ends; ",
                       std::string(kThen)));
      return std::nullopt;
    }
    return ObjectName{*ns.value, *name.value};
  }

  DecodeResult* result_;
};

}  // namespace

void DecodeDocument(const json& document, const std::string& origin, DecodeResult* result) {
  Decoder(result).Decode(document, origin, nullptr);
}

}  // namespace waggle::k8s
