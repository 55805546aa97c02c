// One holder at a time, also when the folder was removed and made again.
#include "loader/pin_lock.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "maps/pins.h"

namespace waggle::loader {
namespace {

using testing::HasSubstr;

class PinLockTest : public testing::Test {
 protected:
  PinLockTest() {
    std::string folder = testing::TempDir() + "/pin_lock_XXXXXX";
    if (!mkdtemp(folder.data())) std::abort();
    folder_ = folder;
  }
  ~PinLockTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  std::string folder_;
};

TEST_F(PinLockTest, TheSecondIsRefusedUntilTheFirstEnds) {
  const std::string path = folder_ + "/a/b";
  {
    const auto first = LockPins(path);
    ASSERT_TRUE(first.ok()) << first.status();
    const auto second = LockPins(path);
    EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(second.status().message()), HasSubstr(path));
    EXPECT_THAT(std::string(second.status().message()), HasSubstr("agent or cleanup"));
  }
  EXPECT_TRUE(LockPins(path).ok());
}

TEST_F(PinLockTest, AFileInTheWayIsNamed) {
  EXPECT_FALSE(LockPins("/dev/null").ok());
  EXPECT_THAT(std::string(LockPins("/dev/null").status().message()), HasSubstr("/dev/null"));
}

// Another's cleanup came between our opening and our locking: the lock of a folder that
// is gone keeps nobody out.
TEST_F(PinLockTest, TheLockOfARemovedFolderIsNone) {
  const std::string path = folder_ + "/pins";
  ASSERT_EQ(mkdir(path.c_str(), 0700), 0);
  const os::UniqueFd stale(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(rmdir(path.c_str()), 0);
  const auto nowhere = TryLockPins(stale.get(), path);
  ASSERT_TRUE(nowhere.ok()) << nowhere.status();
  EXPECT_FALSE(*nowhere);

  const auto holder = LockPins(path);
  ASSERT_TRUE(holder.ok()) << holder.status();
  const auto elsewhere = TryLockPins(stale.get(), path);
  ASSERT_TRUE(elsewhere.ok()) << elsewhere.status();
  EXPECT_FALSE(*elsewhere);

  const os::UniqueFd second(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_FALSE(TryLockPins(second.get(), path).ok());
}

// Whoever sees that the pins are taken sees what the new holder has written.
TEST_F(PinLockTest, TheFirstDeedIsDoneBeforeOthersCanSee) {
  const std::string path = folder_ + "/pins";
  bool seen = true;
  {
    const auto lock = LockPins(path, [&] {
      seen = maps::PinsLocked(path).value();
      EXPECT_FALSE(LockPins(path).ok());
      return absl::OkStatus();
    });
    ASSERT_TRUE(lock.ok()) << lock.status();
    EXPECT_FALSE(seen);
    EXPECT_TRUE(maps::PinsLocked(path).value());
  }
  const auto fails = LockPins(path, [] { return absl::InternalError("no deed"); });
  EXPECT_EQ(fails.status(), absl::InternalError("no deed"));
  EXPECT_FALSE(maps::PinsLocked(path).value());
  EXPECT_TRUE(LockPins(path).ok());
}

}  // namespace
}  // namespace waggle::loader
