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
#include <chrono>
#include <cstring>
#include <ctime>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "loader/other_proxy.h"
#include "loader/pin_lock.h"
#include "loader/policy_engines.h"
#include "maps/device_table.h"
#include "maps/flow_collector.h"
#include "maps/grace.h"
#include "maps/pins.h"
#include "userspace/agent/event_queue.h"
#include "userspace/agent/health_checks.h"
#include "userspace/agent/http_sites.h"
#include "userspace/agent/progress.h"
#include "userspace/agent/reconciler.h"
#include "userspace/agent/turn.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/sd_notify.h"

namespace waggle::agent {
namespace {

// So many problems are logged one by one; the rest is counted. `waggle plan` shows all.
constexpr size_t kMaxProblemLines = 50;
constexpr size_t kMaxNames = 10;

// What auto has chosen, and what devices carry, is asked again so often: in seconds.
constexpr int kChooseEvery = 10;
// Entries of `flows` that are looked at in a second, at least.
constexpr uint32_t kCollectBudget = 20'000;
// For so long after the first start, and after kube-proxy's last connection was seen open, packets
// of connections that began before pass untouched: connection tracking translates them.
constexpr uint64_t kLostFlowsPassNs = 600ull * 1'000'000'000;

// Connection tracking may be large: it is looked at ever more seldom, and well before kube-proxy's
// last connection would have been seen too long ago.
constexpr uint64_t kFirstLookNs = 10ull * 1'000'000'000;
constexpr uint64_t kSeldomLookNs = 300ull * 1'000'000'000;

uint64_t NowNs(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t BoottimeNs() {
  return NowNs(CLOCK_BOOTTIME);
}

std::string_view ForwardingName(uint32_t forwarding) {
  return forwarding == WAGGLE_FORWARDING_REDIRECT ? "redirect" : "stack";
}

void CopyText(const std::string& text, char* target, size_t size) {
  std::memset(target, 0, size);
  std::memcpy(target, text.data(), std::min(text.size(), size - 1));
}

class Agent {
 public:
  Agent(const config::AgentConfig& options, const std::vector<Watched>& watched)
      : options_(options),
        watched_(watched),
        started_(Moment::Now()),
        queue_([this] { return HandleNow(); }),
        board_(started_.steady),
        progress_(&board_, &metrics_, started_.wall) {}

  absl::Status Start(k8s::Source* source);
  absl::Status Loop();
  // After an error: the pins shall not say that this agent is starting or was killed.
  void SayStopped() const;

 private:
  absl::Status Watch(int fd);
  absl::Status PutInForce();
  absl::Status Follow();
  void HandleEvents();
  // On a source's thread.
  bool HandleNow();
  void LookAtNode(const EventQueue::Batch& batch);
  void UpdateHealth();
  // `began`: when the attempt did whose result this is.
  void AfterReconcile(const Moment& began, const absl::Status& status);
  void LogSites();
  void LogNotes();
  void LogProblems();
  void LogWritten(const Moment& when);
  void LogDevices();
  void LogDeviceNews();
  void DescribeSelf();
  absl::Status PreparePacketPath();
  void ChooseForwarding();
  void LookForOldConnection();
  void UpdateDevices();
  void CollectFlows(uint32_t budget);
  void Tick();
  loader::SocketLb mode() const { return options_.datapath.socket_lb; }

  const config::AgentConfig& options_;
  const std::vector<Watched>& watched_;
  const Moment started_;
  // Whoever has it may touch what stands below: the main thread whenever it does not wait for
  // events, or a source's thread that brings its news into force. queue_, board_, metrics_, grace_
  // and the handlers of sites_ are for other threads too. No other lock is held when it is taken.
  Turn turn_;
  bool following_ = false;  // a source's thread may bring its news into force
  k8s::Source* source_ = nullptr;
  os::UniqueFd lock_;
  os::UniqueFd epoll_;
  os::UniqueFd signals_;
  os::UniqueFd timer_;
  EventQueue queue_;
  health::Board board_;
  metrics::AgentMetrics metrics_;
  Progress progress_;
  health::Time read_at_;        // when the change that is being handled had come, if it is alone
  bool node_required_ = false;  // there is one, and its word counts
  std::shared_ptr<const k8s::Node> node_;  // as it was seen last
  std::vector<net::Address> health_check_addresses_;
  maps::GracePeriod grace_;
  std::unique_ptr<loader::Datapath> datapath_;
  std::unique_ptr<maps::MapStore> store_;
  maps::SettingsRow settings_;
  std::unique_ptr<maps::FlowCollector> collector_;
  loader::PolicyEngineFinder policy_engines_;
  std::unique_ptr<Reconciler> reconciler_;
  int ticks_ = 0;
  bool forgetting_ = false;      // flows of gone devices are being removed, slice by slice
  std::string conntrack_error_;  // what was said last
  std::string old_connection_;   // of kube-proxy, that was open when it was looked for last
  uint64_t look_for_old_at_ns_ = 0;
  uint64_t look_interval_ns_ = kFirstLookNs;
  std::string device_error_;     // likewise
  std::string collector_error_;  // likewise
  size_t notes_logged_ = 0;
  bool in_force_ = false;
  std::string refusal_;               // what the kernel said last, while it must be retried
  std::unique_ptr<HttpSites> sites_;  // reads what stands above
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
  source_ = source;
  // The file system first: a folder must not be made where no pin can be.
  if (absl::Status status = maps::CheckBpffs(options_.datapath.pin_path); !status.ok()) {
    return status;
  }
  // Its events wait in the queue; a path that is not there must not touch the pins.
  if (absl::Status status = source->Start(&queue_); !status.ok()) return status;
  // Who asks from now on shall not take the last agent's word for this one's.
  absl::StatusOr<os::UniqueFd> lock = loader::LockPins(options_.datapath.pin_path, [this] {
    return maps::MarkAgent(options_.datapath.pin_path, WAGGLE_AGENT_STARTING);
  });
  if (!lock.ok()) return lock.status();
  lock_ = *std::move(lock);

  absl::StatusOr<std::unique_ptr<loader::Datapath>> datapath =
      loader::Datapath::Load(options_.datapath);
  if (!datapath.ok()) return datapath.status();
  datapath_ = *std::move(datapath);
  LogNotes();
  absl::StatusOr<std::unique_ptr<maps::MapStore>> store = datapath_->OpenStore();
  if (!store.ok()) return store.status();
  store_ = *std::move(store);
  DescribeSelf();
  if (absl::Status status = PreparePacketPath(); !status.ok()) return status;

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
  for (const int fd : {signals_.get(), timer_.get(), queue_.event_fd(), grace_.event_fd(),
                       datapath_->packet_path().event_fd()}) {
    if (absl::Status status = Watch(fd); !status.ok()) return status;
  }
  for (const Watched& each : watched_) {
    if (absl::Status status = Watch(each.fd); !status.ok()) return status;
  }
  board_.Beat(Moment::Now().steady);
  node_required_ = !source->counts().empty();
  sites_ = std::make_unique<HttpSites>(options_, &board_, &queue_, &metrics_, source);
  if (absl::Status status = sites_->Start(); !status.ok()) return status;
  LogSites();
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
  if (features.skip_neigh) fresh.features |= WAGGLE_FEATURE_SKIP_NEIGH;
  if (features.tcx) fresh.features |= WAGGLE_FEATURE_TCX;
  if (features.coarse_clock) fresh.features |= WAGGLE_FEATURE_COARSE_CLOCK;
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

absl::Status Agent::PreparePacketPath() {
  absl::StatusOr<maps::SettingsRow> settings = datapath_->OpenSettings();
  if (!settings.ok()) return settings.status();
  settings_ = *std::move(settings);
  collector_ = datapath_->OpenCollector();
  return absl::OkStatus();
}

absl::Status Agent::PutInForce() {
  if (settings_.Get().lost_flows_pass_until_ns == 0) {
    settings_.SetLostFlowsPassUntil(NowNs(CLOCK_MONOTONIC) + kLostFlowsPassNs);
  }
  absl::Status committed = datapath_->Commit();
  LogNotes();
  if (!committed.ok()) return committed;
  // Until here flows took the host's stack, or the way that the last agent had chosen.
  ChooseForwarding();
  in_force_ = true;
  waggle_agent& row = *store_->agent();
  row.ready_ns = BoottimeNs();
  row.state = WAGGLE_AGENT_READY;
  spdlog::info("ready: {} Services in force on node {} after {:.1f} ms",
               reconciler_->services_in_force(), options_.node_name,
               static_cast<double>(row.ready_ns - row.started_ns) / 1e6);
  if (mode() == loader::SocketLb::kOff) {
    spdlog::warn(
        "--socket-lb=off: pods are served by the packet path; processes of the node itself are "
        "not: without a route to a Service their connect() fails before any packet, and with one "
        "the source address is chosen for the wrong device. --socket-lb=host serves them");
  } else {
    spdlog::info("socket programs attached to cgroup {}", datapath_->cgroup_path());
  }
  LogDevices();
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

// Where the packets of pods are translated, and how.
void Agent::LogDevices() {
  loader::PacketPath& path = datapath_->packet_path();
  spdlog::info("packet path: {} pods, {} uplinks and tunnels, by {}; forwarding by {}: {}",
               path.Covered({WAGGLE_ROLE_POD}).size(),
               path.Covered({WAGGLE_ROLE_UPLINK, WAGGLE_ROLE_TUNNEL}).size(),
               datapath_->tc_attach() == WAGGLE_TC_TCX ? "tcx" : "clsact",
               ForwardingName(settings_.Get().forwarding),
               std::string(settings_.Get().forwarding_reason));
  LogDeviceNews();
}

void Agent::LogDeviceNews() {
  using What = loader::DeviceNews::What;
  for (const loader::DeviceNews& news : datapath_->packet_path().TakeNews()) {
    const std::string_view role = loader::RoleName(news.role);
    switch (news.what) {
      case What::kCovered:
        // Pods come and go all day long.
        spdlog::log(news.role == WAGGLE_ROLE_POD ? spdlog::level::debug : spdlog::level::info,
                    "device {} ({}) is known as {}: {}", news.name, news.ifindex, role, news.text);
        break;
      case What::kLetGo:
        spdlog::info("device {} ({}) is let go: no {} any more", news.name, news.ifindex, role);
        break;
      case What::kGone:
        spdlog::debug("device {} ({}) is gone", news.name.empty() ? "<unknown>" : news.name,
                      news.ifindex);
        collector_->ForgetDevice(news.ifindex, news.when_ns);
        break;
      case What::kFailed:
        spdlog::error("device {} ({}, {}) cannot be covered, trying again each second: {}",
                      news.name, news.ifindex, role, news.text);
        break;
      case What::kNoSockets:
        spdlog::warn(
            "device {} ({}) has an XDP program in its driver: at tc its packets have no socket, so "
            "that connections translated at the socket take the host's stack",
            news.name, news.ifindex);
        break;
    }
  }
}

// A TCP connection that kube-proxy has translated and that is still open; looked for only as
// long as there may be one. While there is, all of them have time.
void Agent::LookForOldConnection() {
  const uint64_t now = NowNs(CLOCK_MONOTONIC);
  if (settings_.Get().lost_flows_pass_until_ns <= now) {
    old_connection_.clear();
    return;
  }
  if (now < look_for_old_at_ns_) return;
  // Ticks come a little early, too.
  look_for_old_at_ns_ = now + look_interval_ns_ - kFirstLookNs / 2;
  look_interval_ns_ = std::min(2 * look_interval_ns_, kSeldomLookNs);
  const absl::StatusOr<std::string> open = loader::FindOldConnection(options_.datapath.pin_path);
  const std::string error = open.ok() ? "" : std::string(open.status().message());
  if (!error.empty() && error != conntrack_error_) {
    spdlog::warn("whether connections of kube-proxy are still open cannot be seen: {}", error);
  }
  conntrack_error_ = error;
  old_connection_ = open.ok() ? *open : "";
  if (!old_connection_.empty()) settings_.SetLostFlowsPassUntil(now + kLostFlowsPassNs);
}

// Stores what shall be done with new flows, and says so when it has changed.
void Agent::ChooseForwarding() {
  absl::StatusOr<std::vector<loader::PolicyEngine>> found = std::vector<loader::PolicyEngine>{};
  if (options_.forwarding != WAGGLE_FORWARDING_STACK) {
    const loader::PacketPath& path = datapath_->packet_path();
    found = policy_engines_.Find({.pods = path.Covered({WAGGLE_ROLE_POD}),
                                  .uplinks = path.Covered({WAGGLE_ROLE_UPLINK, WAGGLE_ROLE_TUNNEL}),
                                  .own_programs = datapath_->PacketProgramIds()});
  }
  LookForOldConnection();
  if (!old_connection_.empty() && found.ok()) {
    found->push_back({absl::StrCat("an open connection of kube-proxy (", old_connection_, ")"),
                      "new ones may have the same ports, and conntrack must see both"});
  }
  const loader::ForwardingChoice choice = loader::ChooseForwarding(options_.forwarding, found);
  const waggle_settings before = settings_.Get();
  settings_.SetForwarding(choice.forwarding, options_.forwarding, choice.reason);
  if (in_force_ && before.forwarding != choice.forwarding) {
    spdlog::warn("forwarding changes from {} to {}, for new flows: {}",
                 ForwardingName(before.forwarding), ForwardingName(choice.forwarding),
                 choice.reason);
  }
}

void Agent::UpdateDevices() {
  const absl::Status status = datapath_->packet_path().Update();
  const std::string error = status.ok() ? "" : std::string(status.message());
  if (!error.empty() && error != device_error_) {
    spdlog::error("{}; trying again each second", error);
  }
  device_error_ = error;
  LogDeviceNews();
}

void Agent::CollectFlows(uint32_t budget) {
  const absl::Status status = collector_->Tick(NowNs(CLOCK_MONOTONIC), budget);
  forgetting_ = status.ok() && collector_->urgent();
  const std::string error = status.ok() ? "" : std::string(status.message());
  if (!error.empty() && error != collector_error_) {
    spdlog::error("old flows are not removed: {}; trying again each second", error);
  }
  collector_error_ = error;
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
  source_->Report(changes.appeared);
}

void Agent::LogWritten(const Moment& when) {
  const Reconciler::Written written = reconciler_->TakeWritten();
  std::string took;
  if (read_at_ != health::Time()) {
    const std::chrono::duration<double, std::micro> micros = when.steady - read_at_;
    took = fmt::format(" {:.1f} us after it was read", micros.count());
  }
  for (const ServiceName& name : written.changed)
    spdlog::debug("in force{}: {}", took, name.ToString());
  if (written.removed.empty()) return;
  std::string names;
  for (size_t i = 0; i < std::min(written.removed.size(), kMaxNames); ++i) {
    names += " " + written.removed[i].ToString();
  }
  if (written.removed.size() > kMaxNames) names += " …";
  spdlog::info("removed {} Services:{}", written.removed.size(), names);
}

void Agent::LookAtNode(const EventQueue::Batch& batch) {
  for (const k8s::ObjectChange& change : batch.changes) {
    if (change.key.kind != k8s::ObjectKind::kNode || change.key.name.name != options_.node_name) {
      continue;
    }
    // What was seen last counts, whatever becomes of the object.
    const auto* object = std::get_if<k8s::Object>(&change.state);
    if (object != nullptr) node_ = std::get<std::shared_ptr<const k8s::Node>>(*object);
  }
}

void Agent::UpdateHealth() {
  health::NodeState node;
  if (node_ != nullptr) node = {true, node_->deleting, node_->to_be_deleted};
  // Manifests need not tell of the node.
  const bool no_node = node_ == nullptr && !node_required_ && reconciler_->ready();
  board_.SetNodeEligible(node.eligible() || no_node);
  // `primary` are the Node's addresses: ports that are for one shall not open on all of them.
  if (node_ == nullptr && node_required_ && options_.node_port_addresses.primary) return;
  auto checks = reconciler_->TakeHealthChecks();
  if (!checks) return;
  // Where a first port is opened, as kube-proxy looks at its start only.
  if (health_check_addresses_.empty()) {
    health_check_addresses_ = HealthCheckAddresses(options_, node_.get(), LocalAddresses());
  }
  sites_->SetChecks(*std::move(checks), health_check_addresses_);
}

void Agent::HandleEvents() {
  EventQueue::Batch batch = queue_.Drain();
  // A source's thread may have been faster.
  if (batch.empty()) return;
  const Moment began = Moment::Now();
  progress_.Took(batch, began);
  LookAtNode(batch);
  if (batch.changes.size() == 1) read_at_ = batch.changes.front().read_at;
  AfterReconcile(began, reconciler_->Handle(std::move(batch)));
  read_at_ = {};
}

// Where the main thread is busy it deals with the news itself, right after; the source reads on. So
// it does where a write was refused: to read the maps again and wait for a grace period takes long.
bool Agent::HandleNow() {
  const std::unique_lock turn(turn_, std::try_to_lock);
  if (!turn.owns_lock() || !following_ || reconciler_->must_retry()) return false;
  HandleEvents();
  return true;
}

void Agent::AfterReconcile(const Moment& began, const absl::Status& status) {
  const Moment ended = Moment::Now();
  progress_.Tried({.began = began,
                   .ended = ended,
                   .ready = reconciler_->ready(),
                   .done = status.ok() && !reconciler_->must_retry(),
                   .full = reconciler_->TakeFull()});
  UpdateHealth();
  const Reconciler::Census census = reconciler_->CountAll();
  metrics_.services.Set(static_cast<double>(census.services));
  metrics_.used.frontends.Set(census.frontends);
  metrics_.used.lists.Set(census.lists);
  metrics_.used.backends.Set(census.backends);
  metrics_.used.services.Set(census.service_ports);
  for (size_t i = 0; i < census.problems.size(); ++i)
    metrics_.problems[i].Set(static_cast<double>(census.problems[i]));
  for (size_t scope = 0; scope < census.no_local_endpoints.size(); ++scope) {
    for (size_t family = 0; family < census.no_local_endpoints[scope].size(); ++family) {
      metrics_.no_local_endpoints[scope][family].Set(
          static_cast<double>(census.no_local_endpoints[scope][family]));
    }
  }
  LogWritten(ended);
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

void Agent::LogSites() {
  for (const http::SiteNews& news : sites_->TakeNews()) {
    if (news.status.ok()) {
      spdlog::info("serving {} at {}", news.name, news.at.ToString());
    } else {
      spdlog::warn("cannot serve {} at {}: {}; trying again every {} s", news.name,
                   news.at.ToString(), std::string(news.status.message()),
                   http::Times().bind_again / std::chrono::seconds(1));
    }
  }
}

void Agent::Tick() {
  uint64_t expirations = 0;
  [[maybe_unused]] const ssize_t ignored = read(timer_.get(), &expirations, sizeof(expirations));
  store_->agent()->heartbeat_ns = BoottimeNs();
  const Moment now = Moment::Now();
  board_.Beat(now.steady);
  LogSites();
  // Of a source that forgot to say that it waits, nothing rests for longer than this.
  HandleEvents();
  if (reconciler_->must_retry()) AfterReconcile(now, reconciler_->Retry());
  if (!in_force_) return;
  const bool look = ++ticks_ % kChooseEvery == 0;
  // Who removes a filter cannot do it in silence.
  if (look && datapath_->tc_attach() == WAGGLE_TC_TCX) datapath_->packet_path().Inspect();
  UpdateDevices();
  CollectFlows(kCollectBudget);
  if (look) ChooseForwarding();
}

absl::Status Agent::Loop() {
  const std::lock_guard turn(turn_);
  absl::Status status = Follow();
  following_ = false;
  return status;
}

// turn_ is held, but for the waiting.
absl::Status Agent::Follow() {
  while (true) {
    std::array<epoll_event, 8> events{};
    // Between two slices everything else has its turn.
    const int patience = forgetting_ ? 0 : -1;
    turn_.unlock();
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), patience);
    const int error = errno;
    turn_.lock();
    if (count < 0 && error != EINTR) return os::ErrnoStatus(error, "epoll_wait");
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == signals_.get()) {
        store_->agent()->state = WAGGLE_AGENT_STOPPED;
        spdlog::info("stopping; programs and maps stay in force (waggle cleanup removes them)");
        return absl::OkStatus();
      }
      if (fd == timer_.get()) Tick();
      if (fd == datapath_->packet_path().event_fd()) UpdateDevices();
      if (fd == queue_.event_fd()) HandleEvents();
      if (fd == grace_.event_fd()) {
        grace_.ClearEvent();
        // While a write must be tried again, nothing is done about it.
        if (!reconciler_->must_retry()) {
          const Moment began = Moment::Now();
          AfterReconcile(began, reconciler_->GraceOver(grace_.completed()));
        }
      }
      for (const Watched& each : watched_) {
        if (fd != each.fd) continue;
        if (absl::Status status = each.on_readable(); !status.ok()) return status;
      }
    }
    if (forgetting_) CollectFlows(0);
    // Maps whose content was lost are put in force only when they are whole again.
    const bool whole = !datapath_->content_lost() || reconciler_->complete();
    if (!in_force_ && reconciler_->ready() && whole) {
      if (absl::Status status = PutInForce(); !status.ok()) return status;
      following_ = true;
    }
  }
}

}  // namespace

absl::Status RunAgent(const config::AgentConfig& options, std::unique_ptr<k8s::Source> source,
                      const std::vector<Watched>& watched) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  // Before any thread starts, so that all inherit it.
  if (pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) {
    return absl::InternalError("cannot block signals");
  }
  Agent agent(options, watched);
  absl::Status status = agent.Start(source.get());
  if (status.ok()) status = agent.Loop();
  source->Stop();
  if (!status.ok()) agent.SayStopped();
  return status;
}

}  // namespace waggle::agent
