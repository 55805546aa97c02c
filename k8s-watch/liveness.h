// Whether the servers behind silent connections live. One that hangs keeps its connections, and
// its kernel answers for it; so where nothing was heard from a server for a while, it is asked
// something over a new connection, once for all who wait for it.
#ifndef WAGGLE_K8S_WATCH_LIVENESS_H_
#define WAGGLE_K8S_WATCH_LIVENESS_H_

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace waggle::k8s {

// For several threads.
class Liveness {
 public:
  // With the time that a question may take, a hung server is noticed within 30 s.
  static constexpr std::chrono::milliseconds kSilence{15'000};

  using Clock = std::chrono::steady_clock;

  explicit Liveness(size_t servers, std::function<Clock::time_point()> now = Clock::now)
      : now_(std::move(now)), servers_(servers, Server{.heard = now_()}) {}
  Liveness(const Liveness&) = delete;
  Liveness& operator=(const Liveness&) = delete;

  // Bytes came from it.
  void Heard(size_t server);
  // OK where something was heard lately. Else what `ask` returns; who comes while another one
  // asks waits for that answer.
  absl::Status Check(size_t server, const std::function<absl::Status()>& ask);

 private:
  struct Server {
    Clock::time_point heard;
    bool asked = false;  // right now
    absl::Status answer = absl::OkStatus();
  };

  bool Silent(const Server& server) const { return now_() - server.heard >= kSilence; }

  const std::function<Clock::time_point()> now_;
  std::mutex mutex_;
  std::condition_variable answered_;
  std::vector<Server> servers_;
};

}  // namespace waggle::k8s

#endif
