// Single fields of an object.
#include "k8s-watch/fields.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace waggle::k8s {
namespace {

// The time that is read from a member with this text.
Field<absl::Time> TimeOf(const std::string& text) {
  const nlohmann::json object = {{"time", text}};
  const std::vector<Value> values = ToValues(object);
  Reporter report("object", "");
  return ReadTime(values.front(), Path(), "time", "", &report);
}

TEST(ReadTime, CommonTimesAreThoseOfTheGeneralParser) {
  std::mt19937 random(20261121);
  const std::string seeds[] = {"2026-01-31T12:00:00Z", "2024-02-29T23:59:59.123456789Z",
                               "1970-01-01T00:00:00.5Z", "2100-12-31T00:00:60Z",
                               "2026-11-21T10:11:12.000001+01:30"};
  int good = 0;
  constexpr int kRounds = 50'000;
  for (int i = 0; i < kRounds; ++i) {
    std::string text = seeds[random() % std::size(seeds)];
    for (size_t edits = random() % 3; edits > 0; --edits)
      text[random() % text.size()] = "0123456789-:.TZ+z"[random() % 17];
    absl::Time expected;
    std::string error;
    const bool shape = text[4] == '-' && text[10] == 'T';
    const bool valid = shape && absl::ParseTime(absl::RFC3339_full, text, &expected, &error);
    const auto time = TimeOf(text);
    ASSERT_EQ(time.value.has_value(), valid) << text;
    ASSERT_EQ(time.bad, !valid) << text;
    if (valid) {
      ASSERT_EQ(*time.value, expected) << text;
    }
    good += valid;
  }
  EXPECT_GT(good, kRounds / 4);
  EXPECT_LT(good, kRounds);
}

}  // namespace
}  // namespace waggle::k8s
