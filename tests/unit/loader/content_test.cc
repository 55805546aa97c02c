// Are the pinned maps of one generation?
#include <gtest/gtest.h>

#include <optional>

#include "maps/pins.h"

namespace waggle::maps {
namespace {

TEST(JudgeContent, KnowsAMixture) {
  const ContentIds none{};
  const ContentIds old{1, 2, 3, 4};
  const ContentIds fresh{5, 6, 7, 8};
  struct {
    const char* what;
    ContentIds pinned;
    std::optional<ContentIds> recorded;
    Content verdict;
  } const rows[] = {
      {"first start", none, std::nullopt, Content::kNone},
      {"all content removed", none, old, Content::kNone},
      {"as recorded", old, old, Content::kWhole},
      {"nothing recorded", old, none, Content::kWhole},
      {"no rename", old, fresh, Content::kMixed},
      {"one rename", {5, 2, 3, 4}, fresh, Content::kMixed},
      {"three renames", {5, 6, 7, 4}, fresh, Content::kMixed},
      {"all renames", fresh, fresh, Content::kWhole},
      {"one missing", {1, 0, 3, 4}, old, Content::kMixed},
      {"one missing, nothing recorded", {1, 2, 3, 0}, none, Content::kMixed},
      {"first start cut short", {5, 0, 0, 0}, std::nullopt, Content::kMixed},
      {"nobody to ask", old, std::nullopt, Content::kMixed},
      {"right ids, wrong places", {2, 1, 3, 4}, old, Content::kMixed},
  };
  for (const auto& row : rows)
    EXPECT_EQ(JudgeContent(row.pinned, row.recorded), row.verdict) << row.what;
}

}  // namespace
}  // namespace waggle::maps
