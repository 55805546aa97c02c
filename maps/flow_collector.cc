#include "maps/flow_collector.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "maps/kernel_map_store.h"
#include "maps/pins.h"

namespace waggle::maps {
namespace {

constexpr uint32_t kBatch = 4096;
constexpr uint64_t kSecond = 1'000'000'000;

// The programs take a flow for absent when its lifetime is over; it is removed this much
// later, so that none of them is about to use it.
constexpr uint64_t kMarginNs = 2 * kSecond;
// No flow is over after less than this, whatever the other direction has seen.
constexpr uint64_t kShortestLifeNs = WAGGLE_TCP_CLOSED_S * kSecond;
// An entry without the other direction: may be one that is just being moved.
constexpr uint64_t kOrphanNs = 60 * kSecond;
// Entries of one map that a Tick() looks at for the devices that are gone: some 10 ms.
constexpr uint32_t kForgetBudget = 65536;

constexpr char kFlows[] = "flows";
constexpr char kHalfOpen[] = "half_open";

HashWalk WalkOf(int fd, const char* name) {
  return {fd, sizeof(waggle_flow_key), sizeof(waggle_flow), name};
}

FlowEntry EntryOf(const HashWalk& walk, uint32_t i) {
  FlowEntry entry;
  std::memcpy(&entry.key, walk.key(i), sizeof(entry.key));
  std::memcpy(&entry.value, walk.value(i), sizeof(entry.value));
  return entry;
}

}  // namespace

FlowCollector::FlowCollector(os::UniqueFd flows, os::UniqueFd half_open)
    : flows_(std::move(flows)),
      half_open_(std::move(half_open)),
      round_(WalkOf(flows_.get(), kFlows)),
      leaving_flows_(WalkOf(flows_.get(), kFlows)),
      leaving_half_open_(WalkOf(half_open_.get(), kHalfOpen)) {}

absl::Status FlowCollector::Tick(uint64_t now_ns, uint32_t budget) {
  absl::Status forgotten = Forget();
  absl::Status collected = Collect(now_ns, budget);
  last_tick_ns_ = now_ns;
  return forgotten.ok() ? collected : forgotten;
}

absl::Status FlowCollector::Collect(uint64_t now_ns, uint32_t budget) {
  if (capacity_ == 0) {
    const absl::StatusOr<uint32_t> capacity = MapCapacity(flows_.get());
    if (!capacity.ok()) return capacity.status();
    capacity_ = *capacity;
  }
  if (!in_round_) {
    if (rounds_begun_ > 0 && now_ns - round_began_ns_ < kMinRoundNs) return absl::OkStatus();
    round_.Restart();
    in_round_ = true;
    ++rounds_begun_;
    round_began_ns_ = now_ns;
    last_tick_ns_ = now_ns;
  }
  const uint64_t elapsed = std::min(now_ns - last_tick_ns_, kRoundNs);
  uint64_t left = std::max<uint64_t>(budget, capacity_ * (elapsed / 1000) / (kRoundNs / 1000) + 1);
  while (left > 0 && !round_.done()) {
    absl::Status status = round_.Next(static_cast<uint32_t>(std::min<uint64_t>(left, kBatch)));
    if (!status.ok()) return status;
    left -= std::min<uint64_t>(left, std::max(round_.count(), 1u));
    for (uint32_t i = 0; i < round_.count(); ++i) {
      if (status = Judge(EntryOf(round_, i), now_ns); !status.ok()) return status;
    }
  }
  if (round_.done()) {
    in_round_ = false;
    ++counts_.rounds;
  }
  return absl::OkStatus();
}

absl::Status FlowCollector::Judge(const FlowEntry& seen, uint64_t now_ns) {
  const uint64_t idle = FlowIdleNs(seen, nullptr, now_ns);
  const bool reply = seen.value.kind == WAGGLE_FLOW_REPLY;
  if (idle <= (reply ? kOrphanNs : kShortestLifeNs)) return absl::OkStatus();

  std::optional<FoundPartner> partner;
  if (IsFlowEntry(seen)) {
    absl::StatusOr<std::optional<FoundPartner>> found = FindPartner(fds(), seen, true);
    if (!found.ok()) return found.status();
    partner = *std::move(found);
  }
  if (!partner) {
    if (idle <= kOrphanNs) return absl::OkStatus();
    const absl::StatusOr<bool> removed = Remove(seen);
    if (removed.ok() && *removed) ++counts_.orphans;
    return removed.status();
  }
  // The FORWARD entry stands for both, unless it is elsewhere.
  if (reply && partner->in_flows) return absl::OkStatus();
  const auto over = [&](const FlowEntry& entry, const FlowEntry& other) {
    return FlowIsOver(entry, &other, now_ns - std::min(now_ns, kMarginNs));
  };
  if (!over(seen, partner->entry)) return absl::OkStatus();

  // A new flow may have taken the place since, or take it now.
  const auto again = ReadFlowEntry(flows_.get(), seen.key);
  if (!again.ok()) return again.status();
  const auto partner_again =
      ReadFlowEntry(partner->in_flows ? flows_.get() : half_open_.get(), partner->entry.key);
  if (!partner_again.ok()) return partner_again.status();
  if (!*again || !IsFlowEntry(**again)) return absl::OkStatus();
  if (*partner_again && !over(**again, **partner_again)) return absl::OkStatus();
  absl::StatusOr<bool> removed = Remove(**again);
  if (!removed.ok() || !*removed) return removed.status();
  ++counts_.expired;
  // What stands in `half_open` is evicted there.
  if (partner->in_flows && *partner_again) removed = Remove(**partner_again);
  return removed.status();
}

absl::StatusOr<bool> FlowCollector::Remove(const FlowEntry& entry) {
  return DeleteIfEqual(flows_.get(), &entry.key, &entry.value, sizeof(entry.value), kFlows);
}

void FlowCollector::ForgetDevice(uint32_t ifindex, uint64_t when_ns) {
  leaving_next_[ifindex] = when_ns;
}

bool FlowCollector::HasLeft(const FlowEntry& entry) const {
  const auto found = leaving_.find(entry.value.ifindex);
  return found != leaving_.end() && entry.value.created_ns < found->second;
}

absl::Status FlowCollector::Forget() {
  if (leaving_.empty()) {
    if (leaving_next_.empty()) return absl::OkStatus();
    std::swap(leaving_, leaving_next_);
    leaving_flows_.Restart();
    leaving_half_open_.Restart();
  }
  absl::Status status = ForgetIn(leaving_half_open_, half_open_.get(), kHalfOpen);
  if (status.ok()) status = ForgetIn(leaving_flows_, flows_.get(), kFlows);
  if (!status.ok()) {
    // What was read and not removed yet is looked for again.
    leaving_flows_.Restart();
    leaving_half_open_.Restart();
    return status;
  }
  if (leaving_flows_.done() && leaving_half_open_.done()) leaving_.clear();
  return absl::OkStatus();
}

absl::Status FlowCollector::ForgetIn(HashWalk& walk, int fd, std::string_view name) {
  for (uint32_t looked_at = 0; looked_at < kForgetBudget && !walk.done(); looked_at += kBatch) {
    if (absl::Status status = walk.Next(kBatch); !status.ok()) return status;
    for (uint32_t i = 0; i < walk.count(); ++i) {
      const FlowEntry seen = EntryOf(walk, i);
      if (!HasLeft(seen)) continue;
      const auto again = ReadFlowEntry(fd, seen.key);
      if (!again.ok()) return again.status();
      if (!*again || !HasLeft(**again)) continue;
      if (absl::Status status = DeleteElement(fd, &seen.key, name); !status.ok()) return status;
      ++counts_.forgotten;
    }
  }
  return absl::OkStatus();
}

}  // namespace waggle::maps
