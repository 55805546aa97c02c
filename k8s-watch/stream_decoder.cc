#include "k8s-watch/stream_decoder.h"

#include <algorithm>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "k8s-watch/fields.h"
#include "k8s-watch/quote.h"

namespace waggle::k8s {
namespace {

constexpr const char* kOrigin = "apiserver";
constexpr const char* kInitialEventsEnd = "k8s.io/initial-events-end";
constexpr const char* kServiceNameLabel = "kubernetes.io/service-name";

// The string at `keys`; empty when there is none.
std::string_view TextAt(const Value& value, std::initializer_list<std::string_view> keys) {
  const Value* at = &value;
  for (const std::string_view key : keys) {
    at = at->is_mapping() ? at->Find(key) : nullptr;
    if (at == nullptr) return "";
  }
  return at->is_string() ? at->text() : "";
}

// Which one of a stream it is, in words; only for what goes wrong.
using Place = absl::FunctionRef<std::string()>;

StreamObject Unidentified(const std::string& why, ObjectKind kind, Place place) {
  StreamObject result;
  result.problems.push_back({{std::string(ObjectKindName(kind)), "", ""},
                             absl::StrCat(kOrigin, ", ", place()),
                             "",
                             ProblemReason::kUnreadable,
                             absl::StrCat(why, "; this object is left out")});
  result.unidentified = true;
  return result;
}

// `value` as an object of `kind`: what was asked for; items of a list do not say what they are.
// `place` tells which it is when it has no readable name.
StreamObject Decode(const Value& value, ObjectKind kind, Place place) {
  if (!value.is_mapping()) return Unidentified(absl::StrCat("is ", Describe(value)), kind, place);
  StreamObject result;
  DecodeResult decoded;
  DecodeObject(value, kind, kOrigin, &decoded);
  result.problems = std::move(decoded.problems);
  result.unidentified = decoded.unidentified > 0;
  if (!decoded.objects.empty()) {
    result.object = std::move(decoded.objects.front());
    result.name = result.object->key.name;
  } else if (const auto name = TextAt(value, {"metadata", "name"}); !name.empty()) {
    result.name =
        ObjectName{std::string(TextAt(value, {"metadata", "namespace"})), std::string(name)};
  }
  // The apiserver takes any label; one that can be no Service's name is nobody's.
  if (result.unidentified && result.object && kind == ObjectKind::kEndpointSlice &&
      !TextAt(value, {"metadata", "labels", kServiceNameLabel}).empty()) {
    result.unidentified = false;
    result.object.reset();
  }
  if (result.unidentified && !result.name) {
    for (Problem& problem : result.problems)
      absl::StrAppend(&problem.origin, ", ", place());
  }
  return result;
}

std::optional<int64_t> IntegerAt(const Value& value, std::string_view key) {
  const Value* const found = value.Find(key);
  if (found == nullptr) return std::nullopt;
  if (found->type() == Value::Type::kInteger) return found->integer();
  if (found->type() != Value::Type::kUnsigned) return std::nullopt;
  return static_cast<int64_t>(found->unsigned_integer());
}

// `value` is a mapping.
ApiStatus StatusOf(const Value& value) {
  ApiStatus status;
  status.reason = std::string(TextAt(value, {"reason"}));
  status.message = std::string(TextAt(value, {"message"}));
  if (const auto code = IntegerAt(value, "code")) {
    status.code = static_cast<int>(std::clamp<int64_t>(*code, 0, 999));
  }
  const Value* const details = value.Find("details");
  if (details == nullptr || !details->is_mapping()) return status;
  if (const auto after = IntegerAt(*details, "retryAfterSeconds")) {
    status.retry_after_s = static_cast<int>(std::clamp<int64_t>(*after, 0, 86'400));
  }
  if (const Value* causes = details->Find("causes"); causes != nullptr && causes->is_list()) {
    for (const Value& cause : *causes) {
      if (TextAt(cause, {"reason"}) == "ResourceVersionTooLarge") status.too_large_version = true;
    }
  }
  return status;
}

}  // namespace

ApiStatus ParseApiStatus(std::string_view body) {
  JsonReader reader;
  if (reader.Read(body).ok() && TextAt(reader.root(), {"kind"}) == "Status") {
    return StatusOf(reader.root());
  }
  ApiStatus status;
  status.message = std::string(body.substr(0, body.find_last_not_of(" \r\n\t") + 1));
  return status;
}

ListDecoder::ListDecoder(ObjectKind kind, std::function<void(StreamObject)> visit)
    : kind_(kind),
      visit_(std::move(visit)),
      splitter_(JsonSplitter::Shape::kList, [this](std::string_view part) {
        const auto place = [number = items_++] { return absl::StrCat("items[", number, "]"); };
        const absl::Status status = reader_.Read(part);
        visit_(status.ok() ? Decode(reader_.root(), kind_, place)
                           : Unidentified(std::string(status.message()), kind_, place));
        reader_.Forget();
        return absl::OkStatus();
      }) {}

absl::StatusOr<ListEnd> ListDecoder::Finish() const {
  if (auto status = splitter_.Finish(); !status.ok()) return status;
  JsonReader reader;
  if (auto status = reader.Read(splitter_.envelope()); !status.ok()) return status;
  const Value& list = reader.root();
  const std::string expected = absl::StrCat(std::string(ObjectKindName(kind_)), "List");
  if (const std::string_view kind = TextAt(list, {"kind"}); kind != expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("kind is ", Quote(kind), ", expected \"", expected, "\""));
  }
  ListEnd end = {std::string(TextAt(list, {"metadata", "resourceVersion"})),
                 std::string(TextAt(list, {"metadata", "continue"}))};
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
        absl::Status status = Event(part);
        reader_.Forget();
        if (!skip_bad || !absl::IsInvalidArgument(status)) return status;
        WatchEvent nobody_knows;
        nobody_knows.object = Unidentified(std::string(status.message()), kind_,
                                           [] { return std::string("an event"); });
        return visit_(std::move(nobody_knows));
      }) {}

absl::Status WatchDecoder::Event(std::string_view text) {
  if (auto status = reader_.Read(text); !status.ok()) return status;
  const Value& value = reader_.root();
  WatchEvent event;
  const std::string_view type = TextAt(value, {"type"});
  const Value* const object = value.Find("object");
  if (object == nullptr || !object->is_mapping()) {
    return absl::InvalidArgumentError("an event without object");
  }
  event.resource_version = std::string(TextAt(*object, {"metadata", "resourceVersion"}));
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
  event.object = Decode(*object, kind_, [&event] {
    return absl::StrCat("resourceVersion ", Printable(event.resource_version));
  });
  return visit_(std::move(event));
}

}  // namespace waggle::k8s
