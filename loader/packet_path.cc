#include "loader/packet_path.h"

#include <algorithm>
#include <array>
#include <ctime>

#include "absl/strings/str_cat.h"

namespace waggle::loader {
namespace {

using Clock = std::chrono::steady_clock;

// A little less than the time between two calls of Update() where nothing happens.
constexpr auto kRetry = std::chrono::milliseconds(900);

// In which order devices are covered; pods come last.
constexpr std::array<waggle_role, 4> kOrder = {WAGGLE_ROLE_BRIDGE, WAGGLE_ROLE_UPLINK,
                                               WAGGLE_ROLE_TUNNEL, WAGGLE_ROLE_POD};

bool SameRow(const waggle_device& left, const waggle_device& right) {
  return std::equal(reinterpret_cast<const char*>(&left), reinterpret_cast<const char*>(&left + 1),
                    reinterpret_cast<const char*>(&right));
}

// The same programs at the same hooks.
bool SamePrograms(const RoleDecision& left, const RoleDecision& right) {
  const auto kind = [](const RoleDecision& decision) {
    return decision.role == WAGGLE_ROLE_TUNNEL ? WAGGLE_ROLE_UPLINK : decision.role;
  };
  return kind(left) == kind(right) && left.row.layer3 == right.row.layer3;
}

bool HasPrograms(waggle_role role) {
  return role != WAGGLE_ROLE_NONE && role != WAGGLE_ROLE_BRIDGE;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PacketPath>> PacketPath::Open(std::string_view pin_path,
                                                             RoleRules rules) {
  absl::StatusOr<std::unique_ptr<DeviceWatch>> watch = DeviceWatch::Open();
  if (!watch.ok()) return watch.status();
  std::unique_ptr<PacketPath> path(new PacketPath(*std::move(watch), std::move(rules)));
  path->pin_path_ = std::string(pin_path);
  return path;
}

absl::Status PacketPath::Start(const PacketPrograms& programs, maps::DeviceTable table,
                               waggle_tc_attach attach) {
  links_.emplace(pin_path_, attach);
  table_ = std::move(table);
  programs_ = programs;
  const absl::StatusOr<std::vector<NetPin>> pins = ListNetPins(pin_path_);
  if (!pins.ok()) return pins.status();
  for (const NetPin& pin : *pins)
    pinned_before_.insert(pin.ifindex);
  if (absl::Status status = Update(); !status.ok()) return status;
  const absl::StatusOr<std::set<uint32_t>> failed = links_->Finish();
  if (!failed.ok()) return failed.status();
  // Tried again, and told of, by Update().
  for (const uint32_t ifindex : *failed)
    states_[ifindex].in_force = false;

  // What the last agent left of devices that are gone, or have no role any more.
  const absl::StatusOr<maps::Devices> rows = table_->Read();
  if (!rows.ok()) return rows.status();
  std::set<uint32_t> old = pinned_before_;
  for (const auto& [ifindex, row] : *rows)
    old.insert(ifindex);
  for (const uint32_t ifindex : old) {
    const auto state = states_.find(ifindex);
    if (state != states_.end() && state->second.in_force) continue;
    const bool here = watch_->devices().contains(ifindex);
    absl::Status status = here ? links_->Remove(ifindex) : links_->Forget(ifindex);
    if (status.ok()) status = table_->Delete(ifindex);
    if (!status.ok()) return status;
    // Nobody else would ever hear of its flows.
    if (!here) Tell(DeviceNews::What::kGone, ifindex, State{}, "");
  }

  absl::Status first_failure;
  for (const auto& [ifindex, state] : states_) {
    if (!HasPrograms(state.decision.role)) continue;
    if (state.in_force) return absl::OkStatus();
    if (first_failure.ok()) first_failure = absl::FailedPreconditionError(state.failure);
  }
  return first_failure;
}

void PacketPath::TakeBack() {
  if (!links_) return;
  for (auto order = kOrder.rbegin(); order != kOrder.rend(); ++order) {
    for (auto& [ifindex, state] : states_) {
      if (state.decision.role != *order || pinned_before_.contains(ifindex)) continue;
      links_->Remove(ifindex).IgnoreError();
      table_->Delete(ifindex).IgnoreError();
      state.in_force = false;
    }
  }
}

absl::Status PacketPath::Update() {
  const absl::StatusOr<DeviceChanges> changes = watch_->Read();
  if (!changes.ok()) return changes.status();
  if (!links_) return absl::OkStatus();
  // First, as another device may have the index by now.
  for (const uint32_t ifindex : changes->gone)
    Gone(ifindex);
  if (changes->resynced) {
    Verify(All(), /*as_new_devices=*/true);
  } else {
    Verify({changes->stripped.begin(), changes->stripped.end()}, /*as_new_devices=*/false);
  }
  return Sync();
}

void PacketPath::Inspect() {
  if (links_) Verify(All(), /*as_new_devices=*/false);
}

std::set<uint32_t> PacketPath::All() const {
  std::set<uint32_t> all;
  for (const auto& [ifindex, state] : states_)
    all.insert(ifindex);
  return all;
}

void PacketPath::Verify(const std::set<uint32_t>& suspects, bool as_new_devices) {
  for (const uint32_t ifindex : suspects) {
    const auto found = states_.find(ifindex);
    if (found == states_.end() || !found->second.in_force) continue;
    const waggle_role role = found->second.decision.role;
    if (!HasPrograms(role)) continue;
    bool intact = true;
    for (const TcHook hook : {TcHook::kIngress, TcHook::kEgress}) {
      if (hook == TcHook::kEgress && role != WAGGLE_ROLE_POD) continue;
      const absl::StatusOr<bool> in_force = links_->InForce(ifindex, hook);
      intact &= in_force.ok() && *in_force;
    }
    if (intact) continue;
    if (as_new_devices) {
      Gone(ifindex);
    } else {
      found->second.in_force = false;
    }
  }
}

absl::Status PacketPath::Sync() {
  const std::map<uint32_t, RoleDecision> decisions = AssignRoles(watch_->devices(), rules_);
  std::vector<uint32_t> unwanted;
  for (const auto& [ifindex, state] : states_) {
    const auto decision = decisions.find(ifindex);
    if (decision == decisions.end() || decision->second.role == WAGGLE_ROLE_NONE) {
      unwanted.push_back(ifindex);
    }
  }
  for (const uint32_t ifindex : unwanted)
    LetGo(ifindex);
  for (const waggle_role role : kOrder) {
    for (const auto& [ifindex, decision] : decisions) {
      if (decision.role == role) Cover(ifindex, decision);
    }
  }
  for (const auto& [ifindex, device] : watch_->devices()) {
    const auto state = states_.find(ifindex);
    const bool matters = state != states_.end() && state->second.decision.role == WAGGLE_ROLE_POD;
    if (!device.native_xdp || !matters) {
      without_sockets_.erase(ifindex);
    } else if (without_sockets_.insert(ifindex).second) {
      Tell(DeviceNews::What::kNoSockets, ifindex, state->second, "");
    }
  }
  return absl::OkStatus();
}

void PacketPath::Cover(uint32_t ifindex, const RoleDecision& decision) {
  const auto known = states_.find(ifindex);
  const State* before = known == states_.end() ? nullptr : &known->second;
  if (before && before->in_force && SameRow(before->decision.row, decision.row)) {
    known->second.name = watch_->devices().at(ifindex).name;
    known->second.decision.reason = decision.reason;
    return;
  }
  // What failed is tried again each second, or as soon as the device is another one.
  if (before && !before->failure.empty() && SameRow(before->decision.row, decision.row) &&
      Clock::now() < before->retry_at) {
    return;
  }
  State state;
  state.name = watch_->devices().at(ifindex).name;
  state.decision = decision;
  absl::Status status = Attach(ifindex, decision, before);
  state.in_force = status.ok();
  if (status.ok()) {
    if (!before || !before->in_force || before->decision.role != decision.role) {
      Tell(DeviceNews::What::kCovered, ifindex, state, decision.reason);
    }
  } else {
    // A row says that the device carries programs: none without them.
    links_->Remove(ifindex).IgnoreError();
    table_->Delete(ifindex).IgnoreError();
    state.failure = std::string(status.message());
    state.retry_at = Clock::now() + kRetry;
    // One that is not there any more has an event on its way that says so.
    if (!absl::IsNotFound(status) && !(before && before->failure == state.failure)) {
      Tell(DeviceNews::What::kFailed, ifindex, state, state.failure);
    }
  }
  states_[ifindex] = std::move(state);
}

absl::Status PacketPath::Attach(uint32_t ifindex, const RoleDecision& decision,
                                const State* before) {
  // The row first: the programs ask for it.
  if (absl::Status status = table_->Put(ifindex, decision.row); !status.ok()) return status;
  if (before && before->in_force && SamePrograms(before->decision, decision)) {
    return absl::OkStatus();
  }
  if (!HasPrograms(decision.role)) return links_->Remove(ifindex);
  if (decision.role == WAGGLE_ROLE_POD) {
    // Answers are translated before requests are.
    absl::Status status = links_->Set(ifindex, TcHook::kEgress, programs_.pod_out);
    if (status.ok()) status = links_->Set(ifindex, TcHook::kIngress, programs_.pod_in);
    return status;
  }
  const int program = decision.row.layer3 != 0 ? programs_.net_l3 : programs_.net_in;
  absl::Status status = links_->Set(ifindex, TcHook::kIngress, program);
  if (status.ok()) status = links_->Clear(ifindex, TcHook::kEgress);
  return status;
}

void PacketPath::LetGo(uint32_t ifindex) {
  const State state = states_[ifindex];
  absl::Status status = links_->Remove(ifindex);
  if (status.ok()) status = table_->Delete(ifindex);
  if (!status.ok()) {
    if (state.failure != status.message()) {
      states_[ifindex].failure = std::string(status.message());
      Tell(DeviceNews::What::kFailed, ifindex, state, std::string(status.message()));
    }
    return;  // still there: once more next time
  }
  if (state.in_force) Tell(DeviceNews::What::kLetGo, ifindex, state, "");
  states_.erase(ifindex);
}

void PacketPath::Gone(uint32_t ifindex) {
  const auto found = states_.find(ifindex);
  if (found == states_.end()) return;
  links_->Forget(ifindex).IgnoreError();
  table_->Delete(ifindex).IgnoreError();
  Tell(DeviceNews::What::kGone, ifindex, found->second, "");
  states_.erase(found);
  without_sockets_.erase(ifindex);
}

std::vector<int> PacketPath::Covered(std::initializer_list<waggle_role> roles) const {
  std::vector<int> covered;
  for (const auto& [ifindex, state] : states_) {
    const bool wanted = std::find(roles.begin(), roles.end(), state.decision.role) != roles.end();
    if (state.in_force && wanted) covered.push_back(static_cast<int>(ifindex));
  }
  return covered;
}

void PacketPath::Tell(DeviceNews::What what, uint32_t ifindex, const State& state,
                      std::string text) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  const uint64_t when_ns =
      static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  news_.push_back({what, ifindex, state.name, state.decision.role, std::move(text), when_ns});
}

}  // namespace waggle::loader
