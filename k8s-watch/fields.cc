#include "k8s-watch/fields.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "k8s-watch/quote.h"

namespace waggle::k8s {
namespace {

using nlohmann::json;

std::string Wrong(const json& value, std::string_view expected, std::string_view then) {
  return absl::StrCat("is ", Describe(value), ", expected ", std::string(expected), "; ",
                      std::string(then));
}

std::optional<int64_t> WholeNumber(const json& value) {
  if (const auto* number = value.get_ptr<const json::number_unsigned_t*>()) {
    if (*number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return std::numeric_limits<int64_t>::max();
    }
    return static_cast<int64_t>(*number);
  }
  if (const auto* number = value.get_ptr<const json::number_integer_t*>()) return *number;
  const auto* real = value.get_ptr<const json::number_float_t*>();
  if (real == nullptr || !(std::fabs(*real) < 1e15) || std::trunc(*real) != *real) {
    return std::nullopt;
  }
  return static_cast<int64_t>(*real);
}

Field<const json*> ReadTyped(const json& object, const Path& parent, const char* key,
                             json::value_t type, std::string_view expected, std::string_view then,
                             Reporter* report) {
  const json* value = Member(object, key);
  if (value == nullptr) return {};
  if (value->type() != type) {
    report->Invalid(Path(parent, key), Wrong(*value, expected, then));
    return {std::nullopt, true};
  }
  return {value, false};
}

}  // namespace

std::string Path::ToString() const {
  if (parent_ == nullptr) return "";
  std::string text = parent_->ToString();
  if (key_ == nullptr) return absl::StrCat(text, "[", index_, "]");
  if (!text.empty()) text += '.';
  return text + key_;
}

void Reporter::Add(const Path& path, ProblemReason reason, std::string text) {
  damaged_ = damaged_ || (reason == ProblemReason::kInvalid && !harmless_);
  if (problems_.size() >= kMaxProblems) {
    ++left_out_;
    return;
  }
  problems_.push_back({object_, origin_, path.ToString(), reason, std::move(text)});
}

bool Reporter::MoveTo(std::vector<Problem>* out) {
  if (left_out_ > 0) {
    problems_.push_back({object_, origin_, "", ProblemReason::kInvalid,
                         absl::StrCat("has ", left_out_, " more problems like these")});
  }
  const bool any = !problems_.empty();
  out->insert(out->end(), std::make_move_iterator(problems_.begin()),
              std::make_move_iterator(problems_.end()));
  problems_.clear();
  left_out_ = 0;
  return any;
}

std::string Describe(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return "null";
    case json::value_t::object:
      return "a mapping";
    case json::value_t::array:
      return "a list";
    case json::value_t::string:
      return "the string " + Quote(*value.get_ptr<const json::string_t*>());
    case json::value_t::boolean:
      return value.get<bool>() ? "the boolean true" : "the boolean false";
    case json::value_t::number_float:
      // dump() writes null for these.
      if (!std::isfinite(value.get<double>())) return "a number that is not finite";
      [[fallthrough]];
    default:
      return value.dump();
  }
}

std::string QuoteText(const json& string) {
  return Quote(*string.get_ptr<const json::string_t*>());
}

const json* Member(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Field<std::string> ReadString(const json& object, const Path& parent, const char* key,
                              std::string_view then, Reporter* report) {
  const auto field =
      ReadTyped(object, parent, key, json::value_t::string, "a string", then, report);
  if (!field.value) return {std::nullopt, field.bad};
  return {*(*field.value)->get_ptr<const json::string_t*>(), false};
}

Field<bool> ReadBool(const json& object, const Path& parent, const char* key, std::string_view then,
                     Reporter* report) {
  const auto field =
      ReadTyped(object, parent, key, json::value_t::boolean, "true or false", then, report);
  if (!field.value) return {std::nullopt, field.bad};
  return {(*field.value)->get<bool>(), false};
}

Field<int64_t> ReadInteger(const json& object, const Path& parent, const char* key, int64_t low,
                           int64_t high, std::string_view what, std::string_view then,
                           Reporter* report) {
  const json* value = Member(object, key);
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

Field<const json*> ReadObject(const json& object, const Path& parent, const char* key,
                              std::string_view then, Reporter* report) {
  return ReadTyped(object, parent, key, json::value_t::object, "a mapping", then, report);
}

Field<const json*> ReadList(const json& object, const Path& parent, const char* key,
                            std::string_view then, Reporter* report) {
  return ReadTyped(object, parent, key, json::value_t::array, "a list", then, report);
}

Field<absl::Time> ReadTime(const json& object, const Path& parent, const char* key,
                           std::string_view then, Reporter* report) {
  const auto text = ReadString(object, parent, key, then, report);
  if (!text.value) return {std::nullopt, text.bad};
  absl::Time time;
  std::string error;
  // ParseTime would also take "infinite-past" and spaces around.
  const bool shape = text.value->size() >= 20 && text.value->size() <= 40 &&
                     (*text.value)[4] == '-' && (*text.value)[10] == 'T' &&
                     text.value->find(' ') == std::string::npos;
  if (shape && absl::ParseTime(absl::RFC3339_full, *text.value, &time, &error)) {
    return {time, false};
  }
  report->Invalid(
      Path(parent, key),
      absl::StrCat("is ", Quote(*text.value), ", expected a time like \"2026-01-31T12:00:00Z\"; ",
                   std::string(then)));
  return {std::nullopt, true};
}

Field<net::Protocol> ReadProtocol(const json& object, const Path& parent, std::string_view then,
                                  Reporter* report) {
  const json* value = Member(object, "protocol");
  if (value == nullptr) return {net::Protocol::kTcp, false};
  const auto* text = value->get_ptr<const json::string_t*>();
  if (text != nullptr && text->empty()) return {net::Protocol::kTcp, false};
  const auto protocol = text == nullptr ? std::nullopt : net::ParseProtocol(*text);
  if (!protocol) {
    report->Invalid(Path(parent, "protocol"), Wrong(*value, "TCP, UDP or SCTP", then));
    return {std::nullopt, true};
  }
  return {*protocol, false};
}

Field<uint16_t> ReadPort(const json& object, const Path& parent, const char* key, bool zero_allowed,
                         std::string_view then, Reporter* report) {
  const json* value = Member(object, key);
  if (zero_allowed && value != nullptr && WholeNumber(*value) == 0) return {0, false};
  const auto number = ReadInteger(object, parent, key, 1, 65535, "a port number", then, report);
  if (!number.value) return {std::nullopt, number.bad};
  return {static_cast<uint16_t>(*number.value), false};
}

std::optional<net::Address> ToAddress(const json& value, const Path& path, std::string_view then,
                                      Reporter* report) {
  const auto* text = value.get_ptr<const json::string_t*>();
  const auto address = text == nullptr ? std::nullopt : net::Address::Parse(*text);
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
