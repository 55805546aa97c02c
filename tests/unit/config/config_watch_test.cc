// A configuration file that changes is noticed, however it changes, and nothing else is.
#include "userspace/config/config_watch.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace waggle::config {
namespace {

namespace fs = std::filesystem;

void Write(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text << std::flush;
}

class ConfigWatchTest : public testing::Test {
 protected:
  ConfigWatchTest() {
    std::string pattern = fs::temp_directory_path() / "waggle-config-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    file_ = folder_ / "config.conf";
  }
  ~ConfigWatchTest() override { fs::remove_all(folder_); }

  void Open() {
    const absl::Status status = watch_.Open(file_);
    ASSERT_TRUE(status.ok()) << status;
    // What the kernel still tells of the writing before is none.
    EXPECT_FALSE(Changed());
  }
  // All that the kernel has to tell is told.
  bool Changed() {
    bool changed = false;
    for (pollfd ready{watch_.fd(), POLLIN, 0}; poll(&ready, 1, 0) == 1;)
      changed = watch_.Check() || changed;
    return changed;
  }
  // A volume of a ConfigMap: the file is a link into `..data`, which is a link to a folder of
  // this version.
  void MountVersion(const std::string& version, const std::string& text) {
    const fs::path data = folder_ / ("..version-" + version);
    fs::create_directory(data);
    Write(data / "config.conf", text);
    fs::create_symlink(data.filename(), folder_ / "..data_tmp");
    fs::rename(folder_ / "..data_tmp", folder_ / "..data");
  }

  fs::path folder_;
  fs::path file_;
  ConfigWatch watch_;
};

TEST_F(ConfigWatchTest, HasTheText) {
  Write(file_, "a: 1\n");
  Open();
  EXPECT_EQ(watch_.text(), "a: 1\n");
}

TEST_F(ConfigWatchTest, WrittenInPlace) {
  Write(file_, "a");
  Open();
  Write(file_, "b");
  EXPECT_TRUE(Changed());
}

TEST_F(ConfigWatchTest, WaitsForItsWriter) {
  Write(file_, "a");
  Open();
  std::ofstream writer(file_, std::ios::binary | std::ios::trunc);
  writer << "half" << std::flush;
  EXPECT_FALSE(Changed());
  writer << " and half" << std::flush;
  // Something else in the folder is no reason to look.
  Write(folder_ / "other", "x");
  EXPECT_FALSE(Changed());
  writer.close();
  EXPECT_TRUE(Changed());
}

TEST_F(ConfigWatchTest, RenamedOver) {
  Write(file_, "a");
  Open();
  Write(folder_ / "new", "b");
  EXPECT_FALSE(Changed());
  fs::rename(folder_ / "new", file_);
  EXPECT_TRUE(Changed());
}

TEST_F(ConfigWatchTest, ConfigMapUpdated) {
  MountVersion("1", "a");
  fs::create_symlink("..data/config.conf", file_);
  Open();
  // The kubelet may write the same again.
  MountVersion("2", "a");
  EXPECT_FALSE(Changed());
  MountVersion("3", "b");
  EXPECT_TRUE(Changed());
}

TEST_F(ConfigWatchTest, LinkedFromElsewhere) {
  const fs::path elsewhere = folder_ / "elsewhere";
  fs::create_directory(elsewhere);
  Write(elsewhere / "real", "a");
  fs::create_symlink(elsewhere / "real", file_);
  Open();
  Write(elsewhere / "real", "b");
  EXPECT_TRUE(Changed());
}

TEST_F(ConfigWatchTest, AnotherLink) {
  Write(folder_ / "one", "a");
  Write(folder_ / "two", "b");
  fs::create_symlink("one", file_);
  Open();
  fs::remove(file_);
  EXPECT_FALSE(Changed());
  fs::create_symlink("two", file_);
  EXPECT_TRUE(Changed());
}

TEST_F(ConfigWatchTest, SameContentIsNoChange) {
  Write(file_, "a");
  Open();
  Write(file_, "a");
  EXPECT_FALSE(Changed());
  Write(folder_ / "new", "a");
  fs::rename(folder_ / "new", file_);
  EXPECT_FALSE(Changed());
  chmod(file_.c_str(), 0600);
  EXPECT_FALSE(Changed());
  // It is the new file that is watched.
  Write(file_, "b");
  EXPECT_TRUE(Changed());
}

TEST_F(ConfigWatchTest, GoneIsNoChangeUntilItComesBack) {
  Write(file_, "a");
  Open();
  fs::remove(file_);
  EXPECT_FALSE(Changed());
  Write(file_, "b");
  EXPECT_TRUE(Changed());
}

TEST_F(ConfigWatchTest, FolderReplaced) {
  const fs::path inner = folder_ / "inner";
  fs::create_directory(inner);
  file_ = inner / "config.conf";
  Write(file_, "a");
  Open();
  fs::create_directory(folder_ / "next");
  Write(folder_ / "next" / "config.conf", "b");
  fs::rename(inner, folder_ / "before");
  EXPECT_FALSE(Changed());
  fs::rename(folder_ / "next", inner);
  EXPECT_TRUE(Changed());
}

TEST_F(ConfigWatchTest, SaysWhatIsMissing) {
  EXPECT_EQ(watch_.Open(file_).message(),
            file_.string() + ": cannot be opened: No such file or directory");
  ConfigWatch other;
  EXPECT_EQ(other.Open(folder_ / "none" / "config.conf").message(),
            (folder_ / "none").string() + ": cannot be watched: No such file or directory");
}

}  // namespace
}  // namespace waggle::config
