#include "k8s-watch/fields.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "k8s-watch/quote.h"

namespace waggle::k8s {
namespace {

using nlohmann::json;

std::string Wrong(const Value& value, std::string_view expected, std::string_view then) {
  return absl::StrCat("is ", Describe(value), ", expected ", std::string(expected), "; ",
                      std::string(then));
}

std::optional<int64_t> WholeNumber(const Value& value) {
  switch (value.type()) {
    case Value::Type::kUnsigned:
      return static_cast<int64_t>(
          std::min<uint64_t>(value.unsigned_integer(), std::numeric_limits<int64_t>::max()));
    case Value::Type::kInteger:
      return value.integer();
    case Value::Type::kFloat: {
      const double real = value.real();
      if (!(std::fabs(real) < 1e15) || std::trunc(real) != real) return std::nullopt;
      return static_cast<int64_t>(real);
    }
    default:
      return std::nullopt;
  }
}

Field<const Value*> ReadTyped(const Value& object, const Path& parent, std::string_view key,
                              Value::Type type, std::string_view expected, std::string_view then,
                              Reporter* report) {
  const Value* value = Member(object, key);
  if (value == nullptr) return {};
  if (value->type() != type) {
    report->Invalid(Path(parent, key), Wrong(*value, expected, then));
    return {std::nullopt, true};
  }
  return {value, false};
}

// The common form of RFC 3339, "2026-01-31T12:00:00Z" with a fraction of a second or without; the
// general one is slow.
std::optional<absl::Time> ParseCommonTime(std::string_view text) {
  const auto number = [text](size_t at, size_t digits) {
    int value = 0;
    for (const char c : text.substr(at, digits))
      value = c < '0' || c > '9' || value < 0 ? -1 : value * 10 + (c - '0');
    return value;
  };
  const size_t fraction = text.size() - 20;  // its digits, with the point
  if (fraction == 1 || fraction > 10 || text[4] != '-' || text[7] != '-' || text[10] != 'T' ||
      text[13] != ':' || text[16] != ':' || text.back() != 'Z' ||
      (fraction > 0 && text[19] != '.')) {
    return std::nullopt;
  }
  const int year = number(0, 4), month = number(5, 2), day = number(8, 2);
  const int hour = number(11, 2), minute = number(14, 2), second = number(17, 2);
  int nanos = fraction > 0 ? number(20, fraction - 1) : 0;
  for (size_t digits = fraction; digits > 0 && digits < 10; ++digits)
    nanos *= 10;
  const std::chrono::year_month_day date(std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day)));
  if (year < 1970 || !date.ok() || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
      second < 0 || second > 59 || nanos < 0) {
    return std::nullopt;
  }
  const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  return absl::FromUnixSeconds(days * 86400 + hour * 3600 + minute * 60 + second) +
         absl::Nanoseconds(nanos);
}

std::optional<absl::Time> ParseTime(std::string_view text) {
  // absl would also take "infinite-past" and spaces around.
  if (text.size() < 20 || text.size() > 40 || text[4] != '-' || text[10] != 'T' ||
      text.find(' ') != std::string_view::npos) {
    return std::nullopt;
  }
  if (const auto time = ParseCommonTime(text)) return time;
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, absl::string_view(text.data(), text.size()), &time,
                       &error)) {
    return std::nullopt;
  }
  return time;
}

}  // namespace

std::string Path::ToString() const {
  if (parent_ == nullptr) return "";
  std::string text = parent_->ToString();
  if (key_.data() == nullptr) return absl::StrCat(text, "[", index_, "]");
  if (!text.empty()) text += '.';
  return text.append(key_);
}

ObjectRef Reporter::object() const {
  if (name_ == nullptr) return {std::string(kind_), "", ""};
  return {std::string(kind_), name_->ns, name_->name};
}

void Reporter::Add(const Path& path, ProblemReason reason, std::string text) {
  damaged_ = damaged_ || (reason == ProblemReason::kInvalid && !harmless_);
  if (problems_.size() >= kMaxProblems) {
    ++left_out_;
    return;
  }
  problems_.push_back({object(), std::string(origin_), path.ToString(), reason, std::move(text)});
}

bool Reporter::MoveTo(std::vector<Problem>* out) {
  if (left_out_ > 0) {
    problems_.push_back({object(), std::string(origin_), "", ProblemReason::kInvalid,
                         absl::StrCat("has ", left_out_, " more problems like these")});
  }
  const bool any = !problems_.empty();
  out->insert(out->end(), std::make_move_iterator(problems_.begin()),
              std::make_move_iterator(problems_.end()));
  problems_.clear();
  left_out_ = 0;
  return any;
}

std::string Describe(const Value& value) {
  switch (value.type()) {
    case Value::Type::kNull:
      return "null";
    case Value::Type::kBool:
      return value.boolean() ? "the boolean true" : "the boolean false";
    case Value::Type::kInteger:
      return absl::StrCat(value.integer());
    case Value::Type::kUnsigned:
      return absl::StrCat(value.unsigned_integer());
    case Value::Type::kFloat:
      // dump() writes null for these.
      if (!std::isfinite(value.real())) return "a number that is not finite";
      return json(value.real()).dump();
    case Value::Type::kString:
      return "the string " + Quote(value.text());
    case Value::Type::kList:
      return "a list";
    case Value::Type::kMapping:
      return "a mapping";
  }
  return "";
}

std::string Describe(const json& value) {
  if (value.is_object()) return "a mapping";
  if (value.is_array()) return "a list";
  return Describe(ToValues(value).front());
}

std::string QuoteText(const Value& string) {
  return Quote(string.text());
}

const Value* Member(const Value& object, std::string_view key) {
  const Value* const found = object.Find(key);
  return found == nullptr || found->is_null() ? nullptr : found;
}

const json* Member(const json& object, std::string_view key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Field<std::string_view> ReadString(const Value& object, const Path& parent, std::string_view key,
                                   std::string_view then, Reporter* report) {
  const auto field = ReadTyped(object, parent, key, Value::Type::kString, "a string", then, report);
  if (!field.value) return {std::nullopt, field.bad};
  return {(*field.value)->text(), false};
}

Field<bool> ReadBool(const Value& object, const Path& parent, std::string_view key,
                     std::string_view then, Reporter* report) {
  const auto field =
      ReadTyped(object, parent, key, Value::Type::kBool, "true or false", then, report);
  if (!field.value) return {std::nullopt, field.bad};
  return {(*field.value)->boolean(), false};
}

Field<int64_t> ReadInteger(const Value& object, const Path& parent, std::string_view key,
                           int64_t low, int64_t high, std::string_view what, std::string_view then,
                           Reporter* report) {
  const Value* value = Member(object, key);
  if (value == nullptr) return {};
  const auto number = WholeNumber(*value);
  if (!number || *number < low || *number > high) {
    const std::string expected =
        absl::StrCat(std::string(what), ", a whole number from ", low, " to ", high);
    report->Invalid(Path(parent, key), Wrong(*value, expected, then));
    return {std::nullopt, true};
  }
  return {*number, false};
}

Field<const Value*> ReadObject(const Value& object, const Path& parent, std::string_view key,
                               std::string_view then, Reporter* report) {
  return ReadTyped(object, parent, key, Value::Type::kMapping, "a mapping", then, report);
}

Field<const Value*> ReadList(const Value& object, const Path& parent, std::string_view key,
                             std::string_view then, Reporter* report) {
  return ReadTyped(object, parent, key, Value::Type::kList, "a list", then, report);
}

Field<absl::Time> ReadTime(const Value& object, const Path& parent, std::string_view key,
                           std::string_view then, Reporter* report) {
  const auto text = ReadString(object, parent, key, then, report);
  if (!text.value) return {std::nullopt, text.bad};
  if (const auto time = ParseTime(*text.value)) return {*time, false};
  report->Invalid(
      Path(parent, key),
      absl::StrCat("is ", Quote(*text.value), ", expected a time like \"2026-01-31T12:00:00Z\"; ",
                   std::string(then)));
  return {std::nullopt, true};
}

Field<net::Protocol> ReadProtocol(const Value& object, const Path& parent, std::string_view then,
                                  Reporter* report) {
  const Value* value = Member(object, "protocol");
  if (value == nullptr || value->Says("")) return {net::Protocol::kTcp, false};
  const auto protocol = value->is_string() ? net::ParseProtocol(value->text()) : std::nullopt;
  if (!protocol) {
    report->Invalid(Path(parent, "protocol"), Wrong(*value, "TCP, UDP or SCTP", then));
    return {std::nullopt, true};
  }
  return {*protocol, false};
}

Field<uint16_t> ReadPort(const Value& object, const Path& parent, std::string_view key,
                         bool zero_allowed, std::string_view then, Reporter* report) {
  const Value* value = Member(object, key);
  if (zero_allowed && value != nullptr && WholeNumber(*value) == 0) return {0, false};
  const auto number = ReadInteger(object, parent, key, 1, 65535, "a port number", then, report);
  if (!number.value) return {std::nullopt, number.bad};
  return {static_cast<uint16_t>(*number.value), false};
}

std::optional<net::Address> ToAddress(const Value& value, const Path& path, std::string_view then,
                                      Reporter* report) {
  const auto address = value.is_string() ? net::Address::Parse(value.text()) : std::nullopt;
  if (!address) report->Invalid(path, Wrong(value, "an IPv4 or IPv6 address", then));
  return address;
}

const char* SpecialAddress(const net::Address& address) {
  const auto& bytes = address.bytes();
  if (address.family() == net::Family::kIpv4) {
    if (bytes[12] == 0 && bytes[13] == 0 && bytes[14] == 0 && bytes[15] == 0)
      return "an unspecified";
    if (bytes[12] == 127) return "a loopback";
    if (bytes[12] == 169 && bytes[13] == 254) return "a link-local";
    if (bytes[12] >= 224 && bytes[12] <= 239) return "a multicast";
    return nullptr;
  }
  if (std::all_of(bytes.begin(), bytes.end() - 1, [](uint8_t byte) { return byte == 0; })) {
    if (bytes[15] == 0) return "an unspecified";
    if (bytes[15] == 1) return "a loopback";
  }
  if (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) return "a link-local";
  if (bytes[0] == 0xff) return "a multicast";
  return nullptr;
}

bool IsLabel(std::string_view text) {
  if (text.empty() || text.size() > 63 || text.front() == '-' || text.back() == '-') return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

// Upstream limits the whole name only, not its labels.
bool IsSubdomain(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  bool start = true;  // at the first character of a label
  char last = '.';
  for (const char c : text) {
    const bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (c == '.' ? last == '-' || start : !alphanumeric && (c != '-' || start)) return false;
    start = c == '.';
    last = c;
  }
  return !start && last != '-';
}

}  // namespace waggle::k8s
