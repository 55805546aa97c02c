#include "userspace/agent/agent.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "loader/pin_lock.h"
#include "maps/grace.h"
#include "maps/pins.h"
#include "userspace/agent/event_queue.h"
#include "userspace/agent/reconciler.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/sd_notify.h"

namespace waggle::agent {
namespace {

// So many problems are logged one by one; the rest is counted. `waggle plan` shows all.
constexpr size_t kMaxProblemLines = 50;
constexpr size_t kMaxNames = 10;

uint64_t BoottimeNs() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void CopyText(const std::string& text, char* target, size_t size) {
  std::memset(target, 0, size);
  std::memcpy(target, text.data(), std::min(text.size(), size - 1));
}

class Agent {
 public:
  explicit Agent(const AgentOptions& options) : options_(options) {}

  absl::Status Start(k8s::Source* source);
  absl::Status Loop();
  // After an error: the pins shall not say that this agent is starting or was killed.
  void SayStopped() const;

 private:
  absl::Status Watch(int fd);
  absl::Status PutInForce();
  void AfterReconcile(const absl::Status& status);
  void LogNotes();
  void LogProblems();
  void LogWritten();
  void DescribeSelf();
  void Tick();
  loader::SocketLb mode() const { return options_.datapath.socket_lb; }

  const AgentOptions& options_;
  os::UniqueFd lock_;
  os::UniqueFd epoll_;
  os::UniqueFd signals_;
  os::UniqueFd timer_;
  EventQueue queue_;
  maps::GracePeriod grace_;
  std::unique_ptr<loader::Datapath> datapath_;
  std::unique_ptr<maps::MapStore> store_;
  std::unique_ptr<Reconciler> reconciler_;
  size_t notes_logged_ = 0;
  bool in_force_ = false;
  std::string refusal_;  // what the kernel said last, while it must be retried
};

absl::Status Agent::Watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return os::ErrnoStatus(errno, "epoll_ctl");
  }
  return absl::OkStatus();
}

absl::Status Agent::Start(k8s::Source* source) {
  // The file system first: a folder must not be made where no pin can be.
  if (absl::Status status = maps::CheckBpffs(options_.datapath.pin_path); !status.ok()) {
    return status;
  }
  absl::StatusOr<os::UniqueFd> lock = loader::LockPins(options_.datapath.pin_path);
  if (!lock.ok()) return lock.status();
  lock_ = *std::move(lock);
  // Its events wait in the queue; a path that is not there must not touch the pins.
  if (absl::Status status = source->Start(&queue_); !status.ok()) return status;
  if (absl::Status status = maps::MarkAgent(options_.datapath.pin_path, WAGGLE_AGENT_STARTING);
      !status.ok()) {
    return status;
  }

  absl::StatusOr<std::unique_ptr<loader::Datapath>> datapath =
      loader::Datapath::Load(options_.datapath);
  if (!datapath.ok()) return datapath.status();
  datapath_ = *std::move(datapath);
  LogNotes();
  absl::StatusOr<std::unique_ptr<maps::MapStore>> store = datapath_->OpenStore();
  if (!store.ok()) return store.status();
  store_ = *std::move(store);
  DescribeSelf();

  reconciler_ =
      std::make_unique<Reconciler>(options_.node_name, options_.datapath.sizes, store_.get(),
                                   GraceHooks{[this] { return grace_.Request(); },
                                              [this](uint64_t epoch) { grace_.Wait(epoch); }});
  if (absl::Status status = reconciler_->Adopt(); !status.ok()) return status;
  if (absl::Status status = reconciler_->CarryOver(datapath_->carried_over()); !status.ok()) {
    return absl::Status(
        status.code(),
        absl::StrCat("the Services in force do not fit into the new size: ", status.message()));
  }

  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  signals_.Reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  timer_.Reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  const itimerspec second = {{1, 0}, {1, 0}};
  if (!signals_ || !timer_ || !epoll_ || timerfd_settime(timer_.get(), 0, &second, nullptr) != 0) {
    return os::ErrnoStatus(errno, "event loop");
  }
  for (const int fd : {signals_.get(), timer_.get(), queue_.event_fd(), grace_.event_fd()}) {
    if (absl::Status status = Watch(fd); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// The counters say what this agent does from now on.
void Agent::DescribeSelf() {
  waggle_agent& row = *store_->agent();
  waggle_agent fresh{};
  fresh.layout_version = WAGGLE_LAYOUT_VERSION;
  fresh.pid = static_cast<__u32>(getpid());
  fresh.state = WAGGLE_AGENT_STARTING;
  fresh.socket_lb = static_cast<__u32>(mode());
  const loader::Features& features = datapath_->features();
  if (features.set_retval) fresh.features |= WAGGLE_FEATURE_SET_RETVAL;
  if (features.mptcp_sock) fresh.features |= WAGGLE_FEATURE_MPTCP_SOCK;
  fresh.started_ns = BoottimeNs();
  fresh.heartbeat_ns = fresh.started_ns;
  fresh.node_netns = datapath_->node_netns();
  fresh.cgroup_id = datapath_->cgroup_id();
  fresh.sources_incomplete = 1;
  // Says which maps belong together; the loader's.
  std::memcpy(fresh.content_ids, row.content_ids, sizeof(fresh.content_ids));
  CopyText(options_.node_name, fresh.node, sizeof(fresh.node));
  CopyText(WAGGLE_VERSION, fresh.version, sizeof(fresh.version));
  row = fresh;
}

absl::Status Agent::PutInForce() {
  absl::Status committed = datapath_->Commit();
  LogNotes();
  if (!committed.ok()) return committed;
  in_force_ = true;
  waggle_agent& row = *store_->agent();
  row.ready_ns = BoottimeNs();
  row.state = WAGGLE_AGENT_READY;
  spdlog::info("ready: {} Services in force on node {} after {:.1f} ms",
               reconciler_->services_in_force(), options_.node_name,
               static_cast<double>(row.ready_ns - row.started_ns) / 1e6);
  if (mode() == loader::SocketLb::kOff) {
    spdlog::warn("--socket-lb=off: no program is attached; nothing translates Services here");
  } else {
    spdlog::info("socket programs attached to cgroup {}", datapath_->cgroup_path());
  }
  if (!datapath_->features().set_retval) {
    spdlog::warn(
        "this kernel has no bpf_set_retval(): connections without endpoints are refused by way of "
        "a closed loopback port; unconnected UDP sockets see silence");
  }
  if (absl::Status status = os::SdNotify("READY=1"); !status.ok()) {
    spdlog::warn("sd_notify: {}", std::string(status.message()));
  }
  return absl::OkStatus();
}

void Agent::SayStopped() const {
  if (!lock_) return;  // the pins are somebody else's
  const absl::Status status = maps::MarkAgent(options_.datapath.pin_path, WAGGLE_AGENT_STOPPED);
  if (!status.ok()) spdlog::warn("{}", std::string(status.message()));
}

void Agent::LogNotes() {
  for (; notes_logged_ < datapath_->notes().size(); ++notes_logged_) {
    spdlog::info("{}", datapath_->notes()[notes_logged_]);
  }
}

void Agent::LogProblems() {
  const ProblemChanges changes = reconciler_->TakeProblemChanges();
  size_t lines = 0;
  for (const Problem& problem : changes.appeared) {
    if (++lines <= kMaxProblemLines) spdlog::warn("{}", problem.ToString());
  }
  for (const Problem& problem : changes.cleared) {
    if (++lines <= kMaxProblemLines) spdlog::info("no longer: {}", problem.ToString());
  }
  if (lines > kMaxProblemLines) spdlog::warn("… and {} more", lines - kMaxProblemLines);
}

void Agent::LogWritten() {
  const Reconciler::Written written = reconciler_->TakeWritten();
  for (const ServiceName& name : written.changed)
    spdlog::debug("in force: {}", name.ToString());
  if (written.removed.empty()) return;
  std::string names;
  for (size_t i = 0; i < std::min(written.removed.size(), kMaxNames); ++i) {
    names += " " + written.removed[i].ToString();
  }
  if (written.removed.size() > kMaxNames) names += " …";
  spdlog::info("removed {} Services:{}", written.removed.size(), names);
}

void Agent::AfterReconcile(const absl::Status& status) {
  LogWritten();
  LogProblems();
  const std::string refusal = status.ok() ? "" : std::string(status.message());
  if (!refusal.empty() && refusal != refusal_) {
    spdlog::error("{}; what is in force stays, trying again each second", refusal);
    refusal_ = refusal;
  }
  if (!refusal_.empty() && !reconciler_->must_retry()) {
    spdlog::info("the maps can be written again");
    refusal_.clear();
  }
}

void Agent::Tick() {
  uint64_t expirations = 0;
  [[maybe_unused]] const ssize_t ignored = read(timer_.get(), &expirations, sizeof(expirations));
  store_->agent()->heartbeat_ns = BoottimeNs();
  if (reconciler_->must_retry()) AfterReconcile(reconciler_->Retry());
}

absl::Status Agent::Loop() {
  while (true) {
    std::array<epoll_event, 8> events{};
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    if (count < 0 && errno != EINTR) return os::ErrnoStatus(errno, "epoll_wait");
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == signals_.get()) {
        store_->agent()->state = WAGGLE_AGENT_STOPPED;
        spdlog::info("stopping; programs and maps stay in force (waggle cleanup removes them)");
        return absl::OkStatus();
      }
      if (fd == timer_.get()) Tick();
      if (fd == queue_.event_fd()) AfterReconcile(reconciler_->Handle(queue_.Drain()));
      if (fd == grace_.event_fd()) {
        grace_.ClearEvent();
        AfterReconcile(reconciler_->GraceOver(grace_.completed()));
      }
    }
    // Maps whose content was lost are put in force only when they are whole again.
    const bool whole = !datapath_->content_lost() || reconciler_->complete();
    if (!in_force_ && reconciler_->ready() && whole) {
      if (absl::Status status = PutInForce(); !status.ok()) return status;
    }
  }
}

}  // namespace

absl::Status RunAgent(const AgentOptions& options, std::unique_ptr<k8s::Source> source) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  // Before any thread starts, so that all inherit it.
  if (pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) {
    return absl::InternalError("cannot block signals");
  }
  Agent agent(options);
  absl::Status status = agent.Start(source.get());
  if (status.ok()) status = agent.Loop();
  source->Stop();
  if (!status.ok()) agent.SayStopped();
  return status;
}

}  // namespace waggle::agent
