// A ManifestSource on a folder of its own, and what it tells, with a deadline for each
// thing that is waited for.
#ifndef WAGGLE_TESTS_UNIT_K8S_WATCH_SOURCE_FIXTURE_H_
#define WAGGLE_TESTS_UNIT_K8S_WATCH_SOURCE_FIXTURE_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "k8s-watch/manifest_source.h"
#include "tests/unit/k8s-watch/manifest_fixture.h"
#include "userspace/os/unique_fd.h"

namespace waggle::k8s {

// What the source has told so far.
struct Seen {
  std::map<std::string, std::string> objects;  // name: first port, or "unreadable"
  std::vector<std::string> log;                // "name port", "name deleted", …
  std::vector<bool> synced;
  std::vector<std::string> problems;
};

class Sink : public EventSink {
 public:
  void OnChange(ObjectChange change) override {
    std::unique_lock<std::mutex> lock(mutex_);
    blocked_ = held_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !held_; });
    const std::string& name = change.key.name.name;
    std::string state = "deleted";
    if (std::holds_alternative<Unreadable>(change.state)) state = "unreadable";
    if (const auto* object = std::get_if<Object>(&change.state)) {
      const auto* service = std::get_if<std::shared_ptr<const Service>>(object);
      state = service == nullptr ? "there" : std::to_string((*service)->ports.at(0).port);
    }
    if (state == "deleted") {
      seen_.objects.erase(name);
    } else {
      seen_.objects[name] = state;
    }
    seen_.log.push_back(name + " " + state);
    ++resting_;
    changed_.notify_all();
  }
  void OnPause() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    resting_ = 0;
    changed_.notify_all();
  }
  void OnSynced(bool complete) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    seen_.synced.push_back(complete);
    changed_.notify_all();
  }
  void OnProblems(std::vector<Problem> problems) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    seen_.problems.clear();
    for (const Problem& problem : problems)
      seen_.problems.push_back(problem.ToString());
    changed_.notify_all();
  }

  // Keeps the source's thread in its next OnChange() until Release().
  void Hold() {
    const std::lock_guard<std::mutex> lock(mutex_);
    held_ = true;
  }
  bool WaitUntilBlocked() {
    return Await([this] { return blocked_; });
  }
  void Release() {
    const std::lock_guard<std::mutex> lock(mutex_);
    held_ = false;
    changed_.notify_all();
  }

  // True as soon as `condition` holds and no change is kept back.
  bool WaitFor(const std::function<bool(const Seen&)>& condition) {
    return Await([&] { return resting_ == 0 && condition(seen_); });
  }
  Seen seen() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return seen_;
  }

 private:
  bool Await(const std::function<bool()>& condition) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), condition);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  size_t resting_ = 0;  // changes since the last pause
  bool held_ = false;
  bool blocked_ = false;
  Seen seen_;
};

// A writer that takes its time.
class OpenFile {
 public:
  OpenFile(const std::filesystem::path& path, int flags)
      : fd_(open(path.c_str(), flags | O_CLOEXEC, 0600)) {
    EXPECT_TRUE(fd_) << path;
  }
  void Write(const std::string& text) {
    EXPECT_EQ(write(fd_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void Close() { fd_.Reset(); }

 private:
  os::UniqueFd fd_;
};

class SourceTest : public ManifestTest {
 protected:
  using Objects = std::map<std::string, std::string>;

  void Start(const std::string& path) {
    source_ = std::make_unique<ManifestSource>(path);
    const absl::Status status = source_->Start(&sink_);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_TRUE(sink_.WaitFor([](const Seen& seen) { return !seen.synced.empty(); }));
  }
  void Start() { Start(dir_); }
  void TearDown() override {
    if (source_ != nullptr) source_->Stop();
  }
  // Waits until exactly these objects are there.
  void ExpectObjects(const Objects& objects) {
    EXPECT_TRUE(sink_.WaitFor([&](const Seen& seen) { return seen.objects == objects; }))
        << testing::PrintToString(sink_.seen().objects) << " problems "
        << testing::PrintToString(sink_.seen().problems);
  }
  void ExpectProblem(const std::string& text) {
    EXPECT_TRUE(sink_.WaitFor([&](const Seen& seen) {
      return !seen.problems.empty() && seen.problems[0].find(text) != std::string::npos;
    })) << testing::PrintToString(sink_.seen().problems);
  }
  void ExpectNoProblems() {
    EXPECT_TRUE(sink_.WaitFor([&](const Seen& seen) { return seen.problems.empty(); }))
        << testing::PrintToString(sink_.seen().problems);
  }
  // Everything done before this has been seen when this returns: the source looks at
  // events in their order.
  void Barrier() {
    const std::string name = "barrier" + std::to_string(++barriers_);
    Replace("zz-" + name + ".yaml", Svc(name, 1));
    ASSERT_TRUE(sink_.WaitFor([&](const Seen& seen) { return seen.objects.count(name) != 0; }));
    Remove("zz-" + name + ".yaml");
    ASSERT_TRUE(sink_.WaitFor([&](const Seen& seen) { return seen.objects.count(name) == 0; }));
  }

  Sink sink_;
  std::unique_ptr<ManifestSource> source_;
  int barriers_ = 0;
};

}  // namespace waggle::k8s

#endif
