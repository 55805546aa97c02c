#include "k8s-watch/liveness.h"

namespace waggle::k8s {

void Liveness::Heard(size_t server) {
  const std::lock_guard lock(mutex_);
  servers_[server].heard = now_();
}

absl::Status Liveness::Check(size_t server, const std::function<absl::Status()>& ask) {
  std::unique_lock lock(mutex_);
  Server& one = servers_[server];
  if (!Silent(one)) return absl::OkStatus();
  if (one.asked) {
    answered_.wait(lock, [&] { return !one.asked; });
    return one.answer;
  }
  one.asked = true;
  lock.unlock();
  absl::Status answer = ask();
  lock.lock();
  one.asked = false;
  if (answer.ok()) one.heard = now_();
  // It spoke to somebody meanwhile.
  if (!Silent(one)) answer = absl::OkStatus();
  one.answer = answer;
  answered_.notify_all();
  return answer;
}

}  // namespace waggle::k8s
