#include "k8s-watch/api_source.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <random>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "k8s-watch/api_client.h"
#include "k8s-watch/connection.h"
#include "k8s-watch/event_recorder.h"
#include "k8s-watch/reflector.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

namespace waggle::k8s {
namespace {

constexpr size_t kWatches = 3;
constexpr size_t kNodeWatch = 2;
// Of those who may have problems: the watches, and who makes Events.
constexpr size_t kEvents = kWatches;

// What several reflectors tell, as if there were one.
class Joint {
 public:
  explicit Joint(EventSink* sink) : sink_(sink) {}

  void OnChange(ObjectChange change) {
    const std::lock_guard lock(mutex_);
    sink_->OnChange(std::move(change));
  }
  // Not one at a time: whoever brings news into force keeps nobody from reading.
  void OnPause() { sink_->OnPause(); }
  void OnSynced(size_t watch, bool complete) {
    const std::lock_guard lock(mutex_);
    // What was complete once is known well enough: nothing that a later list keeps back is lost.
    complete_[watch] = complete || complete_[watch].value_or(false);
    TellSynced();
  }
  void OnProblems(size_t watch, std::vector<Problem> problems) {
    const std::lock_guard lock(mutex_);
    problems_[watch] = std::move(problems);
    TellSynced();
    std::vector<Problem> all;
    for (const auto& each : problems_)
      all.insert(all.end(), each.begin(), each.end());
    // An apiserver that is away is so for all of them.
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    sink_->OnProblems(std::move(all));
  }

 private:
  void TellSynced() {
    bool all = true;
    for (size_t i = 0; i < kWatches; ++i) {
      // The Node says where we are (zones, hints). Services do not wait for it when it cannot be
      // had.
      if (i == kNodeWatch && !complete_[i] && !problems_[i].empty()) continue;
      if (!complete_[i]) return;
      all = all && *complete_[i];
    }
    if (told_ && (*told_ || !all)) return;
    told_ = all;
    sink_->OnSynced(all);
  }

  EventSink* const sink_;
  std::mutex mutex_;
  std::array<std::optional<bool>, kWatches> complete_;
  std::optional<bool> told_;
  std::array<std::vector<Problem>, kWatches + 1> problems_;
};

class OneOf final : public EventSink {
 public:
  OneOf(Joint* joint, size_t watch) : joint_(joint), watch_(watch) {}
  void OnChange(ObjectChange change) override { joint_->OnChange(std::move(change)); }
  void OnPause() override { joint_->OnPause(); }
  void OnSynced(bool complete) override { joint_->OnSynced(watch_, complete); }
  void OnProblems(std::vector<Problem> problems) override {
    joint_->OnProblems(watch_, std::move(problems));
  }

 private:
  Joint* const joint_;
  const size_t watch_;
};

}  // namespace

class ApiSource::Workers {
 public:
  Workers(ApiSource& source, EventSink* sink, os::UniqueFd stop_fd)
      : source_(source),
        joint_(sink),
        stop_fd_(std::move(stop_fd)),
        event_client_(MakeClient()),
        recorder_(RecorderOptions(), &event_client_, &source.event_counts_, stop_fd_.get()) {}
  ~Workers() {
    const uint64_t one = 1;
    // An eventfd takes a 1 unless it is full, and then it is readable as well.
    [[maybe_unused]] const ssize_t written = write(stop_fd_.get(), &one, sizeof(one));
    for (std::thread& thread : threads_)
      thread.join();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  absl::Status Start() {
    const std::string& node = source_.options_.node_name;
    const std::array<Resource, kWatches> resources = {
        Resource::Services(), Resource::EndpointSlices(), Resource::OneNode(node)};
    try {
      for (size_t i = 0; i < kWatches; ++i) {
        threads_.emplace_back([this, i, resource = resources[i]] { Run(i, resource); });
      }
      threads_.emplace_back([this] {
        BlockPipe();
        recorder_.Run();
      });
    } catch (const std::system_error& error) {
      return absl::ResourceExhaustedError(absl::StrCat("no thread for a watch: ", error.what()));
    }
    return absl::OkStatus();
  }

  void Report(const std::vector<Problem>& appeared) { recorder_.Report(appeared); }

 private:
  // OpenSSL writes to sockets that may be closed on the other side.
  static void BlockPipe() {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  }

  static std::function<double()> Random() {
    return [engine = std::mt19937_64(std::random_device()())]() mutable {
      return std::uniform_real_distribution<double>(0, 1)(engine);
    };
  }

  ApiClient MakeClient() const {
    const ApiSourceOptions& options = source_.options_;
    ApiClient::Options client_options;
    client_options.user_agent = options.user_agent;
    // Each node begins with another apiserver, and always with the same.
    client_options.first_endpoint = std::hash<std::string>()(options.node_name);
    if (source_.config_.service_address) client_options.advice = options.service_address_advice;
    client_options.liveness = liveness_;
    return {source_.config_, client_options, source_.surroundings_, stop_fd_.get()};
  }

  EventRecorder::Options RecorderOptions() {
    EventRecorder::Options options;
    options.node_name = source_.options_.node_name;
    options.random = Random();
    options.on_trouble = [this](std::vector<Problem> problems) {
      joint_.OnProblems(kEvents, std::move(problems));
    };
    return options;
  }

  void Run(size_t watch, const Resource& resource) {
    BlockPipe();
    const ApiSourceOptions& options = source_.options_;
    ApiClient client = MakeClient();

    OneOf sink(&joint_, watch);
    Reflector::Options reflector_options;
    reflector_options.streaming_list = options.streaming_list;
    reflector_options.counts = &source_.counts_[watch];
    reflector_options.random = Random();
    Reflector reflector(resource, std::move(reflector_options), &client, &sink);
    do {
      const Deadline next = std::chrono::steady_clock::now() + reflector.Step();
      if (!SleepUntil(next)) return;
    } while (true);
  }

  // False when it is time to stop.
  bool SleepUntil(Deadline next) const {
    return absl::IsDeadlineExceeded(WaitFor(-1, 0, stop_fd_.get(), next));
  }

  ApiSource& source_;
  Joint joint_;
  // Of all watches: what one hears spares the others a question.
  const std::shared_ptr<Liveness> liveness_ =
      std::make_shared<Liveness>(source_.config_.endpoints.size());
  const os::UniqueFd stop_fd_;
  ApiClient event_client_;
  EventRecorder recorder_;
  std::vector<std::thread> threads_;
};

ApiSource::ApiSource(ClientConfig config, ApiSourceOptions options, ClientSurroundings surroundings)
    : config_(std::move(config)),
      options_(std::move(options)),
      surroundings_(std::move(surroundings)) {
  counts_[0].resource = "services";
  counts_[1].resource = "endpointslices";
  counts_[2].resource = "nodes";
}
ApiSource::~ApiSource() = default;

absl::Status ApiSource::Start(EventSink* sink) {
  if (workers_ != nullptr) return absl::FailedPreconditionError("started already");
  if (auto tls = TlsContext::Make(config_, surroundings_); !tls.ok()) return tls.status();
  os::UniqueFd stop_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_fd) return os::ErrnoStatus(errno, "eventfd");
  workers_ = std::make_unique<Workers>(*this, sink, std::move(stop_fd));
  absl::Status status = workers_->Start();
  if (!status.ok()) workers_.reset();
  return status;
}

void ApiSource::Report(const std::vector<Problem>& appeared) {
  if (workers_ != nullptr) workers_->Report(appeared);
}

void ApiSource::Stop() {
  workers_.reset();
}

}  // namespace waggle::k8s
