#include "userspace/text/shared_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace waggle::text {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(SharedText, EqualTextsAreOneCopyAndGoWithTheirLastOwner) {
  const size_t before = SharedText::Count();
  {
    const SharedText a("node-1");
    SharedText b(std::string("node-") + "1");
    const SharedText other("node-2");
    EXPECT_EQ(a, b);
    EXPECT_EQ(&a.str(), &b.str());
    EXPECT_FALSE(a == other);
    EXPECT_EQ(a, "node-1");
    EXPECT_EQ(SharedText::Count(), before + 2);
    const SharedText copy = b;
    b = other;
    EXPECT_EQ(b, "node-2");
    EXPECT_EQ(copy, "node-1");
    const SharedText moved = std::move(b);
    EXPECT_EQ(moved, "node-2");
    b = moved;
    EXPECT_EQ(b, moved);
  }
  EXPECT_EQ(SharedText::Count(), before);
}

TEST(SharedText, TheEmptyTextIsNoEntry) {
  const size_t before = SharedText::Count();
  const SharedText empty("");
  EXPECT_TRUE(empty.empty());
  EXPECT_EQ(empty, SharedText());
  EXPECT_EQ(empty.str(), "");
  EXPECT_EQ(SharedText::Count(), before);
  EXPECT_FALSE(SharedText("x").empty());
}

// Two threads make and drop the same texts, so that the last owner often goes while another
// one comes.
TEST(SharedText, ManyThreads) {
  const size_t before = SharedText::Count();
  const auto work = [] {
    for (int i = 0; i < 20'000; ++i) {
      const std::string name = "n" + std::to_string(i % 3);
      const SharedText one(name);
      const SharedText two = one;
      ASSERT_EQ(two.str(), name);
    }
  };
  std::thread first(work);
  std::thread second(work);
  first.join();
  second.join();
  EXPECT_EQ(SharedText::Count(), before);
}

TEST(SharedNames, HoldsNamesInOrder) {
  EXPECT_TRUE(SharedNames().empty());
  EXPECT_THAT(SharedNames().names(), IsEmpty());
  EXPECT_FALSE(SharedNames().contains(""));
  const SharedNames names(std::vector<std::string>{"z1", "z10", "", "z2"});
  EXPECT_THAT(names.names(), ElementsAre("z1", "z10", "", "z2"));
  for (const char* name : {"z1", "z10", "z2", ""})
    EXPECT_TRUE(names.contains(name)) << name;
  for (const char* name : {"z", "z100", "1", "10"})
    EXPECT_FALSE(names.contains(name)) << name;
  EXPECT_FALSE(SharedNames(std::vector<std::string>{""}).empty()) << "a name, if an empty one";
  EXPECT_EQ(names, SharedNames(names.names()));
}

}  // namespace
}  // namespace waggle::text
