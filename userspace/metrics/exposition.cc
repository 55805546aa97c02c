#include "userspace/metrics/exposition.h"

#include <array>
#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace waggle::metrics {
namespace {

absl::string_view View(std::string_view text) {
  return {text.data(), text.size()};
}

std::string_view TypeName(Type type) {
  switch (type) {
    case Type::kCounter:
      return "counter";
    case Type::kGauge:
      return "gauge";
    case Type::kHistogram:
      return "histogram";
  }
  return "untyped";
}

// The shortest text that reads as the same number.
std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Inf" : "+Inf";
  std::array<char, 32> text{};
  // Counters of integers stay integers, as far as a double holds them.
  constexpr double kExact = 9007199254740992.0;  // 2^53
  if (std::fabs(value) < kExact && value == std::trunc(value)) {
    return absl::StrCat(static_cast<int64_t>(value));
  }
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

}  // namespace

Exposition& Exposition::Family(std::string_view name, Type type, std::string_view help) {
  name_ = std::string(name);
  absl::StrAppend(&text_, "# HELP ", name_, " ",
                  absl::StrReplaceAll(View(help), {{"\\", "\\\\"}, {"\n", "\\n"}}), "\n# TYPE ",
                  name_, " ", View(TypeName(type)), "\n");
  return *this;
}

Exposition& Exposition::Sample(Labels labels, double value) {
  Line("", labels, "", value);
  return *this;
}

Exposition& Exposition::Buckets(Labels labels, std::span<const double> bounds,
                                const std::vector<uint64_t>& counts, double sum) {
  uint64_t total = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    total += counts[i];
    Line("_bucket", labels, i < bounds.size() ? Number(bounds[i]) : "+Inf",
         static_cast<double>(total));
  }
  Line("_sum", labels, "", sum);
  Line("_count", labels, "", static_cast<double>(total));
  return *this;
}

void Exposition::Line(std::string_view suffix, Labels labels, std::string_view le, double value) {
  absl::StrAppend(&text_, name_, View(suffix));
  const char* separator = "{";
  const auto add = [&](std::string_view name, std::string_view text) {
    absl::StrAppend(
        &text_, separator, View(name), "=\"",
        absl::StrReplaceAll(View(text), {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}), "\"");
    separator = ",";
  };
  for (const auto& [name, text] : labels)
    add(name, text);
  if (!le.empty()) add("le", le);
  absl::StrAppend(&text_, *separator == ',' ? "} " : " ", Number(value), "\n");
}

}  // namespace waggle::metrics
