#include "userspace/config/duration.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"

namespace waggle::config {
namespace {

// "1.5", without zeros at its end: `value` thousandths, millionths or billionths of `unit`.
std::string Decimal(uint64_t value, uint64_t unit) {
  std::string text = std::to_string(value / unit);
  if (value % unit == 0) return text;
  std::string fraction = std::to_string(unit + value % unit).substr(1);
  fraction.erase(fraction.find_last_not_of('0') + 1);
  return text + "." + fraction;
}

}  // namespace

std::optional<Duration> ParseDuration(std::string_view text) {
  // Abseil's is Go's, but for infinity and for the micro sign, of which there are two.
  if (text.find("inf") != std::string_view::npos) return std::nullopt;
  const std::string plain = absl::StrReplaceAll(absl::string_view(text.data(), text.size()),
                                                {{"\xc2\xb5s", "us"}, {"\xce\xbcs", "us"}});
  absl::Duration parsed;
  if (!absl::ParseDuration(plain, &parsed)) return std::nullopt;
  if (parsed > absl::Nanoseconds(INT64_MAX) || parsed < absl::Nanoseconds(INT64_MIN)) {
    return std::nullopt;
  }
  return absl::ToChronoNanoseconds(parsed);
}

std::string DurationText(Duration duration) {
  const int64_t count = duration.count();
  // The lowest value has no positive counterpart.
  const uint64_t ns = count < 0 ? 0 - static_cast<uint64_t>(count) : static_cast<uint64_t>(count);
  const char* sign = count < 0 ? "-" : "";
  if (ns == 0) return "0s";
  if (ns < 1'000) return absl::StrCat(sign, ns, "ns");
  if (ns < 1'000'000) return absl::StrCat(sign, Decimal(ns, 1'000), "µs");
  if (ns < 1'000'000'000) return absl::StrCat(sign, Decimal(ns, 1'000'000), "ms");
  constexpr uint64_t kMinute = 60'000'000'000;
  const uint64_t minutes = ns / kMinute;
  const std::string seconds = Decimal(ns % kMinute, 1'000'000'000) + "s";
  if (minutes == 0) return sign + seconds;
  if (minutes < 60) return absl::StrCat(sign, minutes, "m", seconds);
  return absl::StrCat(sign, minutes / 60, "h", minutes % 60, "m", seconds);
}

}  // namespace waggle::config
