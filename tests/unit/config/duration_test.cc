#include "userspace/config/duration.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

namespace waggle::config {
namespace {

// What Go's time.ParseDuration makes of it, and how Go writes that.
TEST(Duration, IsReadAndWrittenAsInGo) {
  const struct {
    const char* text;
    const char* written;  // empty: no duration
  } kCases[] = {
      {"30s", "30s"},
      {"1m30s", "1m30s"},
      {"90s", "1m30s"},
      {"1h", "1h0m0s"},
      {"1.5h", "1h30m0s"},
      {"24h", "24h0m0s"},
      {"100ms", "100ms"},
      {"1500ms", "1.5s"},
      {"1h0m0.25s", "1h0m0.25s"},
      {"100us", "100µs"},
      {"100µs", "100µs"},
      {"100μs", "100µs"},  // the Greek letter
      {"1001ns", "1.001µs"},
      {"7ns", "7ns"},
      {"0", "0s"},
      {"0s", "0s"},
      {"+3m", "3m0s"},
      {"-1s", "-1s"},
      {"-1h1ns", "-1h0m0.000000001s"},
      {".5s", "500ms"},
      {"1.s", "1s"},
      {"2562047h47m16.854775807s", "2562047h47m16.854775807s"},
      {"9999999h", ""},
      {"", ""},
      {"5", ""},
      {"s", ""},
      {"3d", ""},
      {"1 s", ""},
      {" 1s", ""},
      {"1s1", ""},
      {"inf", ""},
      {"-inf", ""},
      {"1s\n", ""},
      {"--1s", ""},
  };
  for (const auto& test : kCases) {
    const auto duration = ParseDuration(test.text);
    EXPECT_EQ(duration ? DurationText(*duration) : "", test.written) << test.text;
  }
}

TEST(Duration, WritesTheLowest) {
  EXPECT_EQ(DurationText(Duration(std::numeric_limits<int64_t>::min())),
            "-2562047h47m16.854775808s");
}

}  // namespace
}  // namespace waggle::config
