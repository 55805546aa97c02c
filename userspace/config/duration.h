// Durations as Go reads and writes them.
#ifndef WAGGLE_USERSPACE_CONFIG_DURATION_H_
#define WAGGLE_USERSPACE_CONFIG_DURATION_H_

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace waggle::config {

// Some 292 years to both sides, as Go's.
using Duration = std::chrono::nanoseconds;

// "30s", "1h30m", "1.5h", "-2ms", "0". nullopt: no duration, or one that is too long.
std::optional<Duration> ParseDuration(std::string_view text);
// "24h0m0s", "1.5s", "100µs", "0s".
std::string DurationText(Duration duration);

}  // namespace waggle::config

#endif
