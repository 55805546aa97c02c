#include "k8s-watch/yaml_scalar.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "k8s-watch/quote.h"

namespace waggle::k8s {
namespace {

using nlohmann::json;

constexpr std::string_view kTagPrefix = "tag:yaml.org,2002:";

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

template <size_t N>
bool OneOf(std::string_view text, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

// Go's ParseInt and ParseUint with base 0: 0x, 0o, 0b, a leading 0 for octal. The value
// of digits beyond 64 bits is kept as a float, for the message that refuses it.
std::optional<json> ParseInteger(std::string_view text) {
  bool negative = false;
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  int base = 10;
  if (text.size() > 1 && text[0] == '0') {
    const char mark = static_cast<char>(text[1] | 0x20);
    base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
    text.remove_prefix(mark == 'x' || mark == 'b' || mark == 'o' ? 2 : 1);
  }
  if (text.empty() || text[0] == '+' || text[0] == '-') return std::nullopt;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (end != text.data() + text.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range) {
    const double huge = std::numeric_limits<double>::max();
    return json(negative ? -huge : huge);
  }
  if (error != std::errc()) return std::nullopt;
  if (!negative) return json(value);
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return json(-static_cast<double>(value));
  }
  return json(-static_cast<int64_t>(value));
}

// ^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$
bool LooksLikeFloat(std::string_view text) {
  size_t at = 0;
  const auto digits = [&] {
    const size_t start = at;
    while (at < text.size() && IsDigit(text[at]))
      ++at;
    return at > start;
  };
  const auto sign = [&] {
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
  };
  sign();
  if (at < text.size() && text[at] == '.') {
    ++at;
    if (!digits()) return false;
  } else {
    if (!digits()) return false;
    if (at < text.size() && text[at] == '.') {
      ++at;
      digits();
    }
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    sign();
    if (!digits()) return false;
  }
  return at == text.size();
}

std::optional<json> ParseFloat(std::string_view text) {
  if (!LooksLikeFloat(text)) return std::nullopt;
  if (text[0] == '+') text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // Go refuses what is out of range, and the text stays a string.
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return json(value);
}

}  // namespace

json PlainScalar(std::string_view text) {
  static constexpr std::array<std::string_view, 5> kNull = {"", "~", "null", "Null", "NULL"};
  static constexpr std::array<std::string_view, 11> kTrue = {
      "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"};
  static constexpr std::array<std::string_view, 11> kFalse = {
      "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"};
  static constexpr std::array<std::string_view, 3> kNan = {".nan", ".NaN", ".NAN"};
  static constexpr std::array<std::string_view, 6> kInf = {".inf",  ".Inf",  ".INF",
                                                           "+.inf", "+.Inf", "+.INF"};
  static constexpr std::array<std::string_view, 3> kMinusInf = {"-.inf", "-.Inf", "-.INF"};
  if (OneOf(text, kNull)) return nullptr;
  if (OneOf(text, kTrue)) return true;
  if (OneOf(text, kFalse)) return false;
  if (OneOf(text, kNan)) return std::numeric_limits<double>::quiet_NaN();
  if (OneOf(text, kInf)) return std::numeric_limits<double>::infinity();
  if (OneOf(text, kMinusInf)) return -std::numeric_limits<double>::infinity();
  if (text[0] == '.') return ParseFloat(text).value_or(json(std::string(text)));
  // No number is longer; a megabyte of digits is a string to us.
  if ((!IsDigit(text[0]) && text[0] != '+' && text[0] != '-') || text.size() > 400) {
    return std::string(text);
  }
  std::string plain(text);
  plain.erase(std::remove(plain.begin(), plain.end(), '_'), plain.end());
  if (auto integer = ParseInteger(plain)) return *integer;
  if (auto real = ParseFloat(plain)) return *real;
  return std::string(text);
}

absl::StatusOr<json> TaggedScalar(std::string_view tag, std::string_view text) {
  if (tag == "?" || tag.empty()) return PlainScalar(text);
  if (tag.substr(0, kTagPrefix.size()) != kTagPrefix) return json(std::string(text));
  const std::string_view type = tag.substr(kTagPrefix.size());
  const json value = PlainScalar(text);
  if ((type == "int" && value.is_number_integer()) || (type == "bool" && value.is_boolean()) ||
      (type == "null" && value.is_null()) || (type == "float" && value.is_number())) {
    return value;
  }
  if (type == "int" || type == "bool" || type == "null" || type == "float") {
    return absl::InvalidArgumentError(
        absl::StrCat(Quote(text), " is not what its tag !!", std::string(type), " says"));
  }
  return json(std::string(text));
}

absl::StatusOr<std::string> KeyText(const json& scalar) {
  if (const auto* text = scalar.get_ptr<const json::string_t*>()) return *text;
  if (scalar.is_null()) return absl::InvalidArgumentError("null cannot be the key of a mapping");
  return scalar.dump();
}

}  // namespace waggle::k8s
