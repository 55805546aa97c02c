// Reading once: what counts as a manifest, and files that are no files.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <map>
#include <string>
#include <thread>
#include <vector>

#include "k8s-watch/document.h"
#include "k8s-watch/manifest_source.h"
#include "tests/unit/k8s-watch/manifest_fixture.h"

namespace waggle::k8s {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ReadOnce : public ManifestTest {
 protected:
  ManifestSnapshot Read(const std::string& path) {
    auto snapshot = ReadManifests(path);
    EXPECT_TRUE(snapshot.ok()) << snapshot.status();
    return snapshot.ok() ? *std::move(snapshot) : ManifestSnapshot();
  }
  static std::vector<std::string> Names(const ManifestSnapshot& snapshot) {
    std::vector<std::string> names;
    for (const ObjectChange& change : snapshot.changes)
      names.push_back(change.key.name.name);
    return names;
  }
};

TEST_F(ReadOnce, TakesManifestsOfAFolderByName) {
  Write("b.yml", Svc("b", 1));
  Write("a.yaml", Svc("a", 1));
  Write("c.json", R"({"apiVersion":"v1","kind":"Node","metadata":{"name":"c"}})");
  for (const char* name : {".hidden.yaml", "README.md", "a.yaml~", "a.yaml.swp", ".yaml", "yaml"}) {
    Write(name, "a: [");
  }
  std::filesystem::create_directory(dir_ / "sub");
  WriteFile(dir_ / "sub" / "x.yaml", Svc("x", 1));
  WriteFile(base_ / "elsewhere", Svc("linked", 1));
  std::filesystem::create_symlink(base_ / "elsewhere", dir_ / "l.yaml");
  const ManifestSnapshot snapshot = Read(dir_);
  EXPECT_THAT(Names(snapshot), ElementsAre("a", "b", "linked", "c"));
  EXPECT_THAT(snapshot.problems, IsEmpty());
  EXPECT_TRUE(snapshot.complete);
  EXPECT_THAT(Names(Read(dir_.string() + "//")), ElementsAre("a", "b", "linked", "c"));
}

TEST_F(ReadOnce, TakesASingleFileOfAnyName) {
  Write("objects", Svc("a", 1));
  EXPECT_THAT(Names(Read(dir_ / "objects")), ElementsAre("a"));
  Write("broken.json", "{");
  const ManifestSnapshot snapshot = Read(dir_ / "broken.json");
  EXPECT_FALSE(snapshot.complete);
  ASSERT_EQ(snapshot.problems.size(), 1U);
  EXPECT_THAT(snapshot.problems[0].ToString(),
              HasSubstr("broken.json: unreadable: line 1, column 2: not JSON: "));
}

// More likely the wrong folder, or one that is yet to be filled, than a wish to have nothing.
TEST_F(ReadOnce, NothingThatIsAManifestIsAProblem) {
  Write("README.md", Svc("a", 1));
  Write("comments", "# soon\n---\n");
  Write("blank", "\n \n");
  for (const auto& [path, text] : std::map<std::string, std::string>{
           {dir_, "holds no manifests; nothing is removed until it does"},
           {dir_ / "comments", "holds no manifests; nothing is removed until it does"},
           {dir_ / "blank",
            "is empty, expected manifests; nothing is removed from the node until all of the file "
            "can be read"}}) {
    const ManifestSnapshot snapshot = Read(path);
    EXPECT_THAT(snapshot.changes, IsEmpty());
    EXPECT_FALSE(snapshot.complete);
    ASSERT_EQ(snapshot.problems.size(), 1U);
    EXPECT_EQ(snapshot.problems[0].ToString(), "file " + path + ": unreadable: " + text);
  }
  Write("a.yaml", "{apiVersion: v1, kind: List, items: []}");
  EXPECT_TRUE(Read(dir_).complete);
  EXPECT_THAT(Read(dir_).problems, IsEmpty());
}

TEST_F(ReadOnce, NothingThereIsNotFound) {
  for (const std::string& path : {dir_.string() + "/none", std::string(), dir_.string() + "/a/b"}) {
    EXPECT_TRUE(absl::IsNotFound(ReadManifests(path).status())) << path;
  }
}

TEST_F(ReadOnce, WhatIsNoFileIsAProblemAndTheRestWorks) {
  Write("a.yaml", Svc("a", 1));
  std::filesystem::create_directory(dir_ / "dir.yaml");
  ASSERT_EQ(mkfifo((dir_ / "fifo.yaml").c_str(), 0600), 0);
  std::filesystem::create_symlink("nowhere", dir_ / "dangling.yaml");
  std::filesystem::create_symlink("loop.yaml", dir_ / "loop.yaml");
  std::filesystem::create_symlink("a.yaml/x", dir_ / "inside.yaml");
  std::filesystem::create_symlink("/dev/zero", dir_ / "zero.yaml");
  Write("sparse.yaml", "");
  std::filesystem::resize_file(dir_ / "sparse.yaml", kMaxFileBytes + 1);
  const ManifestSnapshot snapshot = Read(dir_);
  EXPECT_THAT(Names(snapshot), ElementsAre("a"));
  EXPECT_FALSE(snapshot.complete);
  std::vector<std::string> problems;
  for (const Problem& problem : snapshot.problems) {
    EXPECT_EQ(problem.reason, ProblemReason::kUnreadable);
    problems.push_back(problem.object.name.substr(dir_.string().size() + 1) + " " +
                       problem.text.substr(0, problem.text.find(';')));
  }
  EXPECT_THAT(problems, ElementsAre("dangling.yaml is a symbolic link that leads nowhere",
                                    "dir.yaml is a directory, expected a regular file",
                                    "fifo.yaml is a named pipe, expected a regular file",
                                    "inside.yaml is a symbolic link that leads nowhere",
                                    HasSubstr("loop.yaml cannot be opened: "),
                                    "sparse.yaml is 67108865 bytes long, at most 64 MiB are read",
                                    "zero.yaml is a device or socket, expected a regular file"));
}

// Root may read everything, so rights are taken away by giving them up in a child.
TEST_F(ReadOnce, AFileWithoutRightsIsAProblem) {
  Write("secret.yaml", Svc("a", 1));
  std::filesystem::permissions(dir_ / "secret.yaml", std::filesystem::perms::none);
  // Root opens everything; without capabilities it is an owner like any other.
  const auto without_capabilities = [this] {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
    if (syscall(SYS_capset, &header, none) != 0) _exit(1);
    const auto snapshot = ReadManifests(dir_);
    const bool right = snapshot.ok() && !snapshot->complete && snapshot->problems.size() == 1 &&
                       snapshot->problems[0].text.find("cannot be opened: Permission denied") == 0;
    _exit(right ? 0 : 2);
  };
  EXPECT_EXIT(without_capabilities(), testing::ExitedWithCode(0), "");
}

class StandardInput : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(pipe2(pipe_, O_CLOEXEC), 0); }
  void TearDown() override {
    close(pipe_[0]);
    if (pipe_[1] >= 0) close(pipe_[1]);
  }
  int pipe_[2] = {-1, -1};
};

TEST_F(StandardInput, IsReadToItsEnd) {
  const std::string node = R"({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "m"}})";
  ASSERT_EQ(write(pipe_[1], node.data(), node.size()), static_cast<ssize_t>(node.size()));
  close(std::exchange(pipe_[1], -1));
  const auto snapshot = ReadManifests("-", pipe_[0]);
  ASSERT_TRUE(snapshot.ok());
  EXPECT_EQ(snapshot->changes.size(), 1U);
  EXPECT_TRUE(snapshot->complete);
}

TEST_F(StandardInput, NothingIsAProblem) {
  close(std::exchange(pipe_[1], -1));
  const auto snapshot = ReadManifests("-", pipe_[0]);
  ASSERT_TRUE(snapshot.ok());
  EXPECT_FALSE(snapshot->complete);
  ASSERT_EQ(snapshot->problems.size(), 1U);
  EXPECT_THAT(snapshot->problems[0].ToString(),
              HasSubstr("file standard input: unreadable: is empty, expected manifests"));
}

TEST_F(StandardInput, GarbageIsNamed) {
  ASSERT_EQ(write(pipe_[1], "a: [", 4), 4);
  close(std::exchange(pipe_[1], -1));
  const auto snapshot = ReadManifests("-", pipe_[0]);
  ASSERT_TRUE(snapshot.ok());
  EXPECT_FALSE(snapshot->complete);
  EXPECT_THAT(snapshot->problems[0].ToString(),
              HasSubstr("file standard input: unreadable: line "));
}

}  // namespace
}  // namespace waggle::k8s
