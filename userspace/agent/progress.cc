#include "userspace/agent/progress.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/hash/hash.h"

namespace waggle::agent {
namespace {

double Seconds(health::Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

double UnixSeconds(health::WallTime time) {
  return Seconds(time.time_since_epoch());
}

}  // namespace

Moment Moment::Now() {
  return {std::chrono::steady_clock::now(), std::chrono::system_clock::now()};
}

void Progress::Took(const EventQueue::Batch& batch, const Moment& now) {
  for (const k8s::ObjectChange& change : batch.changes)
    Add(change);
  for (size_t i = 0; i < concerned_.size(); ++i) {
    if (concerned_[i] && !batch.changes.empty()) {
      metrics_->families[i].last_queued.Set(UnixSeconds(now.wall));
    }
  }
  Publish();
}

void Progress::Add(const k8s::ObjectChange& change) {
  Waiting waiting;
  waiting.read_at = change.read_at;
  waiting.families = FamiliesOf(change);
  switch (change.key.kind) {
    case k8s::ObjectKind::kService:
      ++services_;
      metrics_->service_changes.Add();
      break;
    case k8s::ObjectKind::kEndpointSlice: {
      ++slices_;
      metrics_->slice_changes.Add();
      waiting.slice = absl::Hash<k8s::ObjectKey>()(change.key) | 1;
      if (const auto* object = std::get_if<k8s::Object>(&change.state)) {
        waiting.trigger_ns =
            std::get<std::shared_ptr<const k8s::EndpointSlice>>(*object)->trigger.unix_ns;
      } else {
        // What it waited for will not come any more.
        if (!waiting_slices_.contains(waiting.slice)) break;
        for (Waiting& each : waiting_) {
          if (each.slice == waiting.slice) each.trigger_ns = 0;
        }
      }
      break;
    }
    case k8s::ObjectKind::kNode:
      waiting.measured = false;
      break;
  }
  for (size_t i = 0; i < oldest_.size(); ++i) {
    if (!waiting.families[i]) continue;
    concerned_[i] = true;
    oldest_[i] = health::Earlier(oldest_[i], waiting.read_at);
  }
  // What was there at the start is a list, and has waited for somebody to come.
  if (!ready_ || waiting_.size() >= kMaxWaiting) return;
  waiting_.push_back(waiting);
  if (waiting.trigger_ns != 0) waiting_slices_.insert(waiting.slice);
}

void Progress::Tried(const Attempt& attempt) {
  // Not all lists have come; a kernel that refuses is late from then on all the same.
  if (!attempt.ready && attempt.done) return;
  const bool first = !std::exchange(ready_, true);
  if (first) concerned_ = {true, true};
  const double took = Seconds(attempt.ended.steady - attempt.began.steady);
  const bool any = concerned_[0] || concerned_[1];
  if (any) metrics_->reconcile.Observe(took);
  for (size_t i = 0; i < concerned_.size(); ++i) {
    if (!concerned_[i] && attempt.done) continue;
    metrics::FamilyMetrics& family = metrics_->families[i];
    family.sync.Observe(took);
    (attempt.full ? family.sync_full : family.sync_partial).Observe(took);
    if (attempt.done) {
      family.last_sync.Set(UnixSeconds(attempt.ended.wall));
      board_->SetUpdated(health::kFamilies[i], attempt.ended.wall);
    } else {
      family.failures.Add();
      // Whatever was tried waits, even if no change had asked for it.
      concerned_[i] = true;
      if (!oldest_[i]) oldest_[i] = attempt.began.steady;
    }
  }
  if (attempt.done) {
    Measure(attempt);
    waiting_.clear();
    waiting_slices_.clear();
    oldest_ = {};
    concerned_ = {};
    services_ = slices_ = 0;
  }
  Publish();
}

void Progress::Measure(const Attempt& attempt) {
  for (const Waiting& waiting : waiting_) {
    if (waiting.measured) {
      metrics_->event_to_kernel.Observe(Seconds(attempt.ended.steady - waiting.read_at));
    }
    const health::WallTime trigger{health::Duration(waiting.trigger_ns)};
    if (trigger < started_) continue;
    for (size_t i = 0; i < waiting.families.size(); ++i) {
      if (!waiting.families[i]) continue;
      // Another machine's clock may be ahead.
      metrics_->families[i].programming.Observe(
          std::max(Seconds(attempt.ended.wall - trigger), 0.0));
    }
  }
}

void Progress::Publish() {
  metrics_->services_pending.Set(static_cast<double>(services_));
  metrics_->slices_pending.Set(static_cast<double>(slices_));
  if (ready_) board_->SetPending(oldest_);
}

}  // namespace waggle::agent
