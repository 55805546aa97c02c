#include "k8s-watch/manifest_source.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "k8s-watch/file_text.h"
#include "k8s-watch/folder_watch.h"
#include "k8s-watch/manifest_content.h"
#include "k8s-watch/manifest_folder.h"
#include "k8s-watch/manifest_index.h"
#include "userspace/os/unique_fd.h"

namespace waggle::k8s {
namespace {

using Clock = std::chrono::steady_clock;
using FileId = std::pair<uint64_t, uint64_t>;  // device and inode

// How often a path that is gone, or a link that leads nowhere, is looked at again.
constexpr auto kRetry = std::chrono::seconds(1);
// How long a writer may take before it is told that one is waited for.
constexpr auto kWriterPatience = std::chrono::seconds(1);
// How long a folder that has come back may take to fill before what it lacks is gone.
constexpr auto kRefillTime = std::chrono::seconds(1);

constexpr const char* kStdinName = "standard input";

ManifestContent ParseInput(const absl::StatusOr<std::string>& text) {
  return text.ok() ? ParseManifest(kStdinName, kStdinName, *text)
                   : UnreadableManifest(kStdinName, text.status());
}

// True for a new name that no writer is going to close: links, pipes, second names of a
// file, and a file that had its content before it had this name.
bool WasBornWhole(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_nlink > 1 ||
         info.st_size > 0;
}

std::optional<FileId> IdOf(const std::string& path) {
  const auto stamp = StampOf(path);
  if (!stamp) return std::nullopt;
  return FileId(stamp->device, stamp->inode);
}

std::string Now() {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone());
}

}  // namespace

absl::StatusOr<ManifestSnapshot> ReadManifests(const std::string& path, int input) {
  ManifestSnapshot snapshot;
  if (path == "-") {
    ManifestIndex index;
    index.SetFile(kStdinName, ParseInput(ReadDescriptor(input, -1)), "now");
    return ManifestSnapshot{index.TakeChanges(), ProblemsOf(index, kStdinName), index.complete()};
  }
  ManifestFolder folder(path);
  if (auto status = folder.Open(); !status.ok()) return status;
  ScanGuard guard;
  const absl::Status scanned = folder.ScanAll(false, true, &guard);
  snapshot.changes = folder.index().TakeChanges();
  if (!scanned.ok()) {
    snapshot.problems.push_back(FileProblem(path, "", std::string(scanned.message())));
  }
  for (Problem& problem : folder.Problems())
    snapshot.problems.push_back(std::move(problem));
  snapshot.complete = scanned.ok() && folder.complete();
  return snapshot;
}

// The thread and all that only it touches.
class ManifestSource::Worker : private ScanGuard {
 public:
  Worker(std::string path, int input, EventSink* sink, os::UniqueFd stop_fd)
      : path_(std::move(path)),
        input_(input),
        sink_(sink),
        stop_fd_(std::move(stop_fd)),
        folder_(path_) {}
  ~Worker() override {
    stopping_ = true;
    const uint64_t one = 1;
    // An eventfd takes a 1 unless it is full, and then it is readable as well.
    [[maybe_unused]] const ssize_t written = write(stop_fd_.get(), &one, sizeof(one));
    if (thread_.joinable()) thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  absl::Status Start() {
    if (path_ == "-") {
      thread_ = std::thread([this] { RunInput(); });
      return absl::OkStatus();
    }
    if (auto status = folder_.Open(); !status.ok()) return status;
    watch_status_ = watch_.Open();
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }

 private:
  // What is to be looked at in the next scan.
  struct Work {
    bool all = false;
    bool force = false;                 // with `all`: read whether changed or not
    std::map<std::string, bool> names;  // to `force`
  };
  // Somebody who writes to a file.
  struct Writer {
    std::string since;
    Clock::time_point tell_at;
    bool told = false;
    std::optional<FileId> file;  // which file that is: a link may lead to another meanwhile
  };

  bool Stopped() override { return stopping_; }
  Whole IsWhole(const std::string& name) override {
    Collect();
    if (writers_.count(name) != 0) return Whole::kNo;
    const auto unclosed = unclosed_.find(name);
    if (unclosed == unclosed_.end()) return Whole::kYes;
    return unclosed->second == IdOf(folder_.PathOf(name)) ? Whole::kUnknown : Whole::kYes;
  }

  void RunInput() {
    const auto text = ReadDescriptor(input_, stop_fd_.get());
    if (absl::IsCancelled(text.status())) return;
    ManifestIndex index;
    index.SetFile(kStdinName, ParseInput(text), "now");
    for (ObjectChange& change : index.TakeChanges())
      sink_->OnChange(std::move(change));
    if (auto problems = ProblemsOf(index, kStdinName); !problems.empty()) {
      sink_->OnProblems(std::move(problems));
    }
    sink_->OnSynced(index.complete());
    sink_->OnPause();
  }

  void Run() {
    while (!stopping_) {
      if (!attached_) Attach();
      if (attached_) Scan();
      if (stopping_) return;
      Publish();
      Wait();
    }
  }

  // Watches the folder that now stands at the path, before the first look at it.
  void Attach() {
    // Nothing more may be heard from writers in the folder that stood here before.
    ForgetWriters();
    const auto stamp = StampOf(folder_.folder());
    missing_ = !stamp;
    if (missing_) {
      folder_status_ = absl::UnavailableError("is gone");
      return;
    }
    Watch();
    attached_ = IdOf(folder_.folder());
    if (was_attached_) keep_until_ = Clock::now() + kRefillTime;
    was_attached_ = true;
    work_.all = work_.force = true;
  }

  void Watch() {
    watch_status_ = watch_.fd() < 0 ? watch_.Open() : absl::OkStatus();
    if (watch_status_.ok()) watch_status_ = watch_.WatchFolder(folder_.folder());
  }

  void Scan() {
    // What held it up may be over; this scan looks at everything anyway.
    if (work_.all && !watch_status_.ok()) Watch();
    Work work = std::exchange(work_, Work());
    const bool may_remove = !keep_until_ || Clock::now() >= *keep_until_;
    if (may_remove && std::exchange(keep_until_, std::nullopt)) work.all = true;
    if (work.all) {
      folder_status_ = folder_.ScanAll(work.force, may_remove, this);
    } else if (!work.names.empty()) {
      folder_status_ = absl::OkStatus();
    }
    for (const auto& [name, force] : work.names) {
      if (stopping_) return;
      if (work.all && (work.force || !force)) continue;
      if (writers_.count(name) != 0) continue;
      if (auto status = folder_.ScanName(name, force, may_remove, this); !status.ok()) {
        folder_status_ = status;
      }
    }
    WatchLinks();
    ForgetStrangersWriters();
    // The folder may have been swapped for another since it was attached.
    if (IdOf(folder_.folder()) != attached_) attached_.reset();
  }

  // A link that leads elsewhere now: its old target's writer has nothing to do with it.
  void ForgetStrangersWriters() {
    for (const std::string& name : folder_.links()) {
      const auto writer = writers_.find(name);
      if (writer == writers_.end() || writer->second.file == IdOf(folder_.PathOf(name))) continue;
      writers_.erase(writer);
      work_.names[name] = true;
    }
  }

  void WatchLinks() {
    link_status_ = absl::OkStatus();
    if (watch_.fd() < 0) return;
    for (const std::string& name : watched_links_) {
      if (folder_.links().count(name) == 0) watch_.ForgetTarget(name);
    }
    watched_links_ = folder_.links();
    for (const std::string& name : watched_links_) {
      const absl::Status status = watch_.WatchTarget(name, folder_.PathOf(name));
      if (!status.ok() && !absl::IsNotFound(status)) link_status_ = status;
    }
  }

  void Publish() {
    for (ObjectChange& change : folder_.index().TakeChanges())
      sink_->OnChange(std::move(change));
    std::vector<Problem> problems;
    if (!folder_status_.ok()) {
      problems.push_back(
          FileProblem(path_, "",
                      absl::StrCat(std::string(folder_status_.message()),
                                   "; the last state stays in force until it is back")));
    }
    const absl::Status& watched = watch_status_.ok() ? link_status_ : watch_status_;
    if (!watched.ok() && !absl::IsNotFound(watched)) {
      problems.push_back(FileProblem(
          path_, "",
          absl::StrCat(std::string(watched.message()), "; changes are looked for once a second")));
    }
    for (Problem& problem : folder_.Problems())
      problems.push_back(std::move(problem));
    for (const auto& [name, writer] : writers_) {
      if (!writer.told || folder_.MustBeReadAgain(name)) continue;
      problems.push_back(FileProblem(
          folder_.PathOf(name), "",
          absl::StrCat("is being written since ", writer.since,
                       folder_.Knows(name) ? "; its last readable state stays in force"
                                           : "; it is read when its writer closes it")));
    }
    if (problems != reported_) {
      reported_ = problems;
      sink_->OnProblems(std::move(problems));
    }
    const bool complete = folder_.complete();
    if (!synced_ || (complete && !*synced_)) {
      synced_ = complete;
      sink_->OnSynced(complete);
    }
    sink_->OnPause();
  }

  // Until there is something to look at.
  void Wait() {
    pollfd polls[2] = {{watch_.fd(), POLLIN, 0}, {stop_fd_.get(), POLLIN, 0}};
    Collect();
    while (!stopping_ && attached_ && !work_.all && work_.names.empty() && !TellOfWriters()) {
      const auto now = Clock::now();
      std::optional<Clock::time_point> wake;
      const auto no_later_than = [&wake](Clock::time_point time) {
        wake = wake ? std::min(*wake, time) : time;
      };
      const bool blind = !watch_status_.ok() || !link_status_.ok();
      if (blind || !folder_.dangling().empty() || !folder_status_.ok()) no_later_than(now + kRetry);
      if (keep_until_) no_later_than(*keep_until_);
      for (const auto& [name, writer] : writers_) {
        if (!writer.told) no_later_than(writer.tell_at);
      }
      if (PollUntil(polls, wake)) {
        Collect();
        continue;
      }
      if (blind || !folder_status_.ok() || keep_until_) work_.all = true;
      for (const std::string& name : folder_.dangling())
        work_.names.emplace(name, false);
    }
    // Swapped for another, it is looked at now; gone, after a while.
    if (!attached_ && missing_ && !stopping_) {
      PollUntil(polls, Clock::now() + kRetry);
      Collect();
    }
  }

  // False when the time is over.
  static bool PollUntil(pollfd (&polls)[2], std::optional<Clock::time_point> wake) {
    int timeout_ms = -1;
    if (wake) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(*wake - Clock::now());
      timeout_ms = static_cast<int>(std::max<int64_t>(0, left.count()));
    }
    return poll(polls, 2, timeout_ms) != 0;
  }

  // True when there are writers to be told of that were not before.
  bool TellOfWriters() {
    const auto now = Clock::now();
    bool news = false;
    for (auto& [name, writer] : writers_) {
      if (writer.told || writer.tell_at > now) continue;
      writer.told = news = true;
    }
    return news;
  }

  // That they are done may not be heard: nobody is waited for in vain.
  void ForgetWriters() {
    for (const auto& [name, writer] : writers_)
      unclosed_[name] = writer.file;
    writers_.clear();
  }

  void AddWriter(const std::string& name) {
    unclosed_.erase(name);
    const auto [writer, is_new] = writers_.try_emplace(name);
    if (!is_new) return;
    writer->second.since = Now();
    writer->second.tell_at = Clock::now() + kWriterPatience;
    writer->second.file = IdOf(folder_.PathOf(name));
  }

  // Turns events into work and writers.
  void Collect() {
    const FolderEvents events = watch_.Read();
    if (events.lost) {
      work_.all = work_.force = true;
      ForgetWriters();
    }
    if (events.folder_changed) work_.all = true;
    if (events.root_changed) {
      if (IdOf(folder_.folder()) != attached_) attached_.reset();
    }
    for (const std::string& name : events.touched) {
      if (!folder_.Wants(name)) {
        // Links may lead through it: this is how the kubelet updates a ConfigMap.
        if (!folder_.links().empty()) work_.all = true;
        continue;
      }
      if (events.replaced.count(name) != 0) {
        writers_.erase(name);
        unclosed_.erase(name);
      }
      if (events.created.count(name) == 0 || WasBornWhole(folder_.PathOf(name))) {
        work_.names.emplace(name, false);
      } else {
        AddWriter(name);
      }
    }
    for (const std::string& name : events.written) {
      if (!folder_.Wants(name)) continue;
      work_.names[name] = true;
      unclosed_.erase(name);
      if (events.created.count(name) == 0) writers_.erase(name);
    }
    for (const std::string& name : events.modified) {
      if (folder_.Wants(name)) AddWriter(name);
    }
  }

  const std::string path_;
  const int input_;
  EventSink* const sink_;
  const os::UniqueFd stop_fd_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;

  ManifestFolder folder_;
  FolderWatch watch_;
  absl::Status watch_status_;  // of the folder
  absl::Status link_status_;   // of what links lead to
  absl::Status folder_status_;
  std::optional<FileId> attached_;  // the folder
  bool was_attached_ = false;
  bool missing_ = false;  // nothing stood at the path at the last look
  // A folder that came back removes nothing before this.
  std::optional<Clock::time_point> keep_until_;
  Work work_;
  // Files that are not read until they are closed.
  std::map<std::string, Writer> writers_;
  // Files that may have been closed unseen.
  std::map<std::string, std::optional<FileId>> unclosed_;
  std::set<std::string> watched_links_;
  std::vector<Problem> reported_;
  std::optional<bool> synced_;
};

ManifestSource::ManifestSource(std::string path, int input)
    : path_(std::move(path)), input_(input) {}
ManifestSource::~ManifestSource() = default;

absl::Status ManifestSource::Start(EventSink* sink) {
  if (worker_ != nullptr) return absl::FailedPreconditionError("started already");
  os::UniqueFd stop_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_fd) {
    return absl::UnavailableError(absl::StrCat("eventfd: ", std::strerror(errno)));
  }
  auto worker = std::make_unique<Worker>(path_, input_, sink, std::move(stop_fd));
  if (auto status = worker->Start(); !status.ok()) return status;
  worker_ = std::move(worker);
  return absl::OkStatus();
}

void ManifestSource::Stop() {
  worker_.reset();
}

}  // namespace waggle::k8s
