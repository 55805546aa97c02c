#include "k8s-watch/stream_decoder.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "k8s-watch/fields.h"
#include "k8s-watch/quote.h"
#include "k8s-watch/tree_builder.h"

namespace waggle::k8s {
namespace {

using nlohmann::json;

constexpr const char* kOrigin = "apiserver";
constexpr const char* kInitialEventsEnd = "k8s.io/initial-events-end";
constexpr const char* kServiceNameLabel = "kubernetes.io/service-name";

// Reads one value into a TreeBuilder, but for what nobody here looks at: managedFields, near
// half of each object.
class PrunedReader : public nlohmann::json_sax<json> {
 public:
  PrunedReader() : builder_(&alias_budget_) {}

  bool null() override { return Scalar(nullptr); }
  bool boolean(bool value) override { return Scalar(value); }
  bool number_integer(number_integer_t value) override { return Scalar(value); }
  bool number_unsigned(number_unsigned_t value) override { return Scalar(value); }
  bool number_float(number_float_t value, const string_t&) override { return Scalar(value); }
  bool string(string_t& value) override { return Scalar(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return Skips(1) || Check(builder_.StartMapping(0)); }
  bool start_array(size_t) override { return Skips(1) || Check(builder_.StartList(0)); }
  bool end_object() override { return End(); }
  bool end_array() override { return End(); }
  bool key(string_t& value) override {
    if (skipped_ > 0) return true;
    if (value == "managedFields") {
      skip_next_ = true;
      return true;
    }
    return Check(builder_.Key(std::move(value), 0));
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    std::string_view what = error.what();
    const size_t colon = what.find(": ");
    if (colon != std::string_view::npos) what.remove_prefix(colon + 2);
    status_ = absl::InvalidArgumentError(absl::StrCat("not JSON: ", Printable(what, 200)));
    return false;
  }

  absl::StatusOr<json> Take() {
    if (!status_.ok()) return status_;
    return builder_.Take();
  }

 private:
  // True when the value that begins is not to be kept; `levels` it opens.
  bool Skips(size_t levels) {
    if (skipped_ == 0 && !skip_next_) return false;
    skip_next_ = false;
    skipped_ += levels;
    return true;
  }
  bool Scalar(json value) { return Skips(0) || Check(builder_.Scalar(std::move(value), 0)); }
  bool End() {
    if (skipped_ > 0) {
      --skipped_;
      return true;
    }
    return Check(builder_.End());
  }
  bool Check(absl::Status status) {
    status_ = std::move(status);
    return status_.ok();
  }

  size_t alias_budget_ = 0;
  TreeBuilder builder_;
  absl::Status status_;
  bool skip_next_ = false;
  size_t skipped_ = 0;  // levels within a value that is not kept
};

absl::StatusOr<json> ReadTree(std::string_view text) {
  PrunedReader reader;
  json::sax_parse(text, &reader);
  return reader.Take();
}

// The string at `keys`; empty when there is none.
std::string TextAt(const json& value, std::initializer_list<const char*> keys) {
  const json* at = &value;
  for (const char* key : keys) {
    if (!at->is_object()) return "";
    at = Member(*at, key);
    if (at == nullptr) return "";
  }
  return at->is_string() ? at->get<std::string>() : std::string();
}

const char* ApiVersionOf(ObjectKind kind) {
  return kind == ObjectKind::kEndpointSlice ? "discovery.k8s.io/v1" : "v1";
}

// `tree` as an object of `kind`: what was asked for; items of a list do not say what they are.
// `place` tells which it is when it has no readable name.
StreamObject DecodeObject(absl::StatusOr<json> tree, ObjectKind kind, const std::string& place) {
  StreamObject result;
  if (!tree.ok() || !tree->is_object()) {
    const std::string text =
        tree.ok() ? absl::StrCat("is ", Describe(*tree)) : std::string(tree.status().message());
    result.problems.push_back({{std::string(ObjectKindName(kind)), "", ""},
                               absl::StrCat(kOrigin, ", ", place),
                               "",
                               ProblemReason::kUnreadable,
                               absl::StrCat(text, "; this object is left out")});
    result.unidentified = true;
    return result;
  }
  (*tree)["kind"] = std::string(ObjectKindName(kind));
  (*tree)["apiVersion"] = ApiVersionOf(kind);
  DecodeResult decoded;
  DecodeDocument(*tree, kOrigin, &decoded);
  result.problems = std::move(decoded.problems);
  result.unidentified = decoded.unidentified > 0;
  if (!decoded.objects.empty()) {
    result.object = std::move(decoded.objects.front());
    result.name = result.object->key.name;
  } else if (const std::string name = TextAt(*tree, {"metadata", "name"}); !name.empty()) {
    result.name = ObjectName{TextAt(*tree, {"metadata", "namespace"}), name};
  }
  // The apiserver takes any label; one that can be no Service's name is nobody's.
  if (result.unidentified && result.object && kind == ObjectKind::kEndpointSlice &&
      !TextAt(*tree, {"metadata", "labels", kServiceNameLabel}).empty()) {
    result.unidentified = false;
    result.object.reset();
  }
  if (result.unidentified && !result.name) {
    for (Problem& problem : result.problems)
      absl::StrAppend(&problem.origin, ", ", place);
  }
  return result;
}

ApiStatus StatusOf(const json& tree) {
  ApiStatus status;
  status.reason = TextAt(tree, {"reason"});
  status.message = TextAt(tree, {"message"});
  if (const json* code = Member(tree, "code"); code != nullptr && code->is_number_integer()) {
    status.code = static_cast<int>(std::clamp<int64_t>(code->get<int64_t>(), 0, 999));
  }
  const json* details = Member(tree, "details");
  if (details == nullptr || !details->is_object()) return status;
  if (const json* after = Member(*details, "retryAfterSeconds");
      after != nullptr && after->is_number_integer()) {
    status.retry_after_s = static_cast<int>(std::clamp<int64_t>(after->get<int64_t>(), 0, 86'400));
  }
  if (const json* causes = Member(*details, "causes"); causes != nullptr && causes->is_array()) {
    status.too_large_version = std::any_of(causes->begin(), causes->end(), [](const json& cause) {
      return TextAt(cause, {"reason"}) == "ResourceVersionTooLarge";
    });
  }
  return status;
}

}  // namespace

ApiStatus ParseApiStatus(std::string_view body) {
  const auto tree = ReadTree(body);
  if (tree.ok() && tree->is_object() && TextAt(*tree, {"kind"}) == "Status") {
    return StatusOf(*tree);
  }
  ApiStatus status;
  status.message = std::string(body.substr(0, body.find_last_not_of(" \r\n\t") + 1));
  return status;
}

ListDecoder::ListDecoder(ObjectKind kind, std::function<void(StreamObject)> visit)
    : kind_(kind),
      visit_(std::move(visit)),
      splitter_(JsonSplitter::Shape::kList, [this](std::string_view part) {
        visit_(DecodeObject(ReadTree(part), kind_, absl::StrCat("items[", items_++, "]")));
        return absl::OkStatus();
      }) {}

absl::StatusOr<ListEnd> ListDecoder::Finish() const {
  if (auto status = splitter_.Finish(); !status.ok()) return status;
  const auto tree = ReadTree(splitter_.envelope());
  if (!tree.ok()) return tree.status();
  const std::string expected = absl::StrCat(std::string(ObjectKindName(kind_)), "List");
  if (const std::string kind = TextAt(*tree, {"kind"}); kind != expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("kind is ", Quote(kind), ", expected \"", expected, "\""));
  }
  ListEnd end = {TextAt(*tree, {"metadata", "resourceVersion"}),
                 TextAt(*tree, {"metadata", "continue"})};
  if (end.resource_version.empty()) {
    return absl::InvalidArgumentError("the list has no metadata.resourceVersion");
  }
  return end;
}

WatchDecoder::WatchDecoder(ObjectKind kind, bool skip_bad,
                           std::function<absl::Status(WatchEvent)> visit)
    : kind_(kind),
      visit_(std::move(visit)),
      splitter_(JsonSplitter::Shape::kValues, [this, skip_bad](std::string_view part) {
        const absl::Status status = Event(part);
        if (!skip_bad || !absl::IsInvalidArgument(status)) return status;
        WatchEvent nobody_knows;
        nobody_knows.object = DecodeObject(status, kind_, "an event");
        return visit_(std::move(nobody_knows));
      }) {}

absl::Status WatchDecoder::Event(std::string_view text) {
  auto tree = ReadTree(text);
  if (!tree.ok()) return tree.status();
  WatchEvent event;
  const std::string type = TextAt(*tree, {"type"});
  const json* object = Member(*tree, "object");
  if (object == nullptr || !object->is_object()) {
    return absl::InvalidArgumentError("an event without object");
  }
  event.resource_version = TextAt(*object, {"metadata", "resourceVersion"});
  if (type == "ADDED" || type == "MODIFIED") {
    event.type = WatchEvent::Type::kPut;
  } else if (type == "DELETED") {
    event.type = WatchEvent::Type::kDeleted;
  } else if (type == "BOOKMARK") {
    event.type = WatchEvent::Type::kBookmark;
    event.initial_events_end =
        TextAt(*object, {"metadata", "annotations", kInitialEventsEnd}) == "true";
    return visit_(std::move(event));
  } else if (type == "ERROR") {
    event.type = WatchEvent::Type::kError;
    event.error = StatusOf(*object);
    return visit_(std::move(event));
  } else {
    return absl::InvalidArgumentError(absl::StrCat("an event of the unknown type ", Quote(type)));
  }
  event.object = DecodeObject(std::move((*tree)["object"]), kind_,
                              absl::StrCat("resourceVersion ", Printable(event.resource_version)));
  return visit_(std::move(event));
}

}  // namespace waggle::k8s
