#include "userspace/agent/reconciler.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "maps/compile.h"
#include "maps/plan.h"
#include "maps/reader.h"

namespace waggle::agent {

Reconciler::Reconciler(std::string node_name, const maps::Sizes& sizes, maps::MapStore* store,
                       GraceHooks grace)
    : objects_(std::move(node_name)),
      sizes_(sizes),
      store_(store),
      writer_(store),
      slots_(sizes),
      grace_(std::move(grace)) {}

absl::Status Reconciler::Adopt() {
  absl::StatusOr<maps::RawTables> raw = store_->Read();
  if (!raw.ok()) return raw.status();
  maps::CheckedTables checked = maps::CheckTables(*raw, store_->arrays());
  tables_ = std::move(checked.tables);
  pin_problems_ = std::move(checked.problems);
  problems_changed_ = true;
  slots_ = maps::Slots(sizes_);
  slots_.Adopt(tables_);
  // What was in quarantine is forgotten now; a reader must not hold it any more when it
  // is used again.
  grace_.wait(grace_.request());
  must_adopt_ = false;
  return absl::OkStatus();
}

absl::Status Reconciler::CarryOver(const std::vector<ResolvedService>& services) {
  maps::WritePlan total;
  for (const ResolvedService& service : services) {
    absl::StatusOr<maps::Planned> planned = maps::Plan(
        maps::Compile(service), nullptr, store_->arrays(), maps::PlanMode::kExact, slots_);
    if (!planned.ok()) return planned.status();
    total.Append(std::move(planned->plan));
    tables_.services[service.name] = std::move(planned->after);
  }
  return Apply(total);
}

absl::Status Reconciler::Handle(EventQueue::Batch batch) {
  store_->agent()->events += batch.changes.size();
  for (const k8s::ObjectChange& change : batch.changes) {
    for (ServiceName& name : objects_.Apply(change))
      dirty_.insert(std::move(name));
  }
  if (batch.problems) {
    source_problems_ = *std::move(batch.problems);
    problems_changed_ = true;
  }
  if (batch.synced && (!synced_ || *batch.synced != complete_)) {
    synced_ = true;
    complete_ = *batch.synced;
    MarkAll();
  }
  return Reconcile();
}

absl::Status Reconciler::Retry() {
  return Reconcile();
}

absl::Status Reconciler::GraceOver(uint64_t epoch) {
  if (must_adopt_) return absl::OkStatus();
  writer_.ClearLists(slots_.Reclaim(epoch));
  if (left_out_.empty()) return absl::OkStatus();
  dirty_.insert(left_out_.begin(), left_out_.end());
  return Reconcile();
}

// Everything that is known and everything that is in force.
void Reconciler::MarkAll() {
  for (ServiceName& name : objects_.Services())
    dirty_.insert(std::move(name));
  for (const auto& [name, state] : tables_.services)
    dirty_.insert(name);
}

absl::Status Reconciler::RemoveStrays() {
  if (tables_.stray_frontends.empty() && tables_.stray_services.empty()) return absl::OkStatus();
  absl::Status status = Apply(maps::PlanStrays(tables_));
  if (!status.ok()) return status;
  tables_.stray_frontends.clear();
  tables_.stray_services.clear();
  pin_problems_.clear();
  problems_changed_ = true;
  return absl::OkStatus();
}

absl::Status Reconciler::Apply(const maps::WritePlan& plan) {
  if (plan.empty()) return absl::OkStatus();
  if (absl::Status status = writer_.Apply(plan); !status.ok()) {
    must_adopt_ = true;
    return status;
  }
  if (!plan.retired.empty()) slots_.Retire(plan.retired, grace_.request());
  return absl::OkStatus();
}

// Who has which frontend is settled for all first, as one Service can take a frontend
// from another; then each is planned once.
absl::btree_map<ServiceName, Reconciler::Decided> Reconciler::Decide(ServiceSet work) {
  absl::btree_map<ServiceName, Decided> decided;
  while (!work.empty()) {
    const ServiceName name = *work.begin();
    work.erase(work.begin());
    Decided& entry = decided[name];
    const std::optional<ServiceInput> input = objects_.Find(name);
    if (!input) {
      entry = Decided{};
      for (ServiceName& other : claims_.Release(name))
        work.insert(std::move(other));
      continue;
    }
    ++store_->agent()->services_resolved;
    Resolution resolution = Resolve(*input);
    Claims::Outcome outcome =
        claims_.Claim(std::move(resolution.service), input->service->created_s);
    entry.known = true;
    entry.service = std::move(outcome.service);
    entry.problems = std::move(resolution.problems);
    entry.problems.insert(entry.problems.end(), outcome.problems.begin(), outcome.problems.end());
    for (ServiceName& other : outcome.affected)
      work.insert(std::move(other));
  }
  return decided;
}

absl::Status Reconciler::Reconcile() {
  if (!synced_) return absl::OkStatus();
  if (must_adopt_) {
    if (absl::Status status = Adopt(); !status.ok()) return status;
    MarkAll();
  }
  if (absl::Status status = RemoveStrays(); !status.ok()) return status;

  maps::WritePlan total;
  std::vector<std::pair<ServiceName, maps::ServiceState>> after;
  for (auto& [name, entry] : Decide(std::exchange(dirty_, {}))) {
    const auto in_force = tables_.services.find(name);
    const maps::ServiceState* state =
        in_force == tables_.services.end() ? nullptr : &in_force->second;
    const bool exact = complete_ && !objects_.Incomplete(name);
    left_out_.erase(name);
    if (!entry.known) {
      SetProblems(name, {});
      if (!state || !exact) continue;
      total.Append(maps::PlanRemoval(*state));
      after.emplace_back(name, maps::ServiceState{});
      continue;
    }
    const maps::ServiceRows rows = maps::Compile(entry.service);
    absl::StatusOr<maps::Planned> planned =
        maps::Plan(rows, state, store_->arrays(),
                   exact ? maps::PlanMode::kExact : maps::PlanMode::kAdditive, slots_);
    if (!planned.ok()) {
      left_out_.insert(name);
      if (state && exact) {
        maps::Planned shrunk = maps::PlanShrink(rows, *state);
        total.Append(std::move(shrunk.plan));
        after.emplace_back(name, std::move(shrunk.after));
      }
      entry.problems.push_back({{"Service", name.ns, name.name},
                                "",
                                "",
                                ProblemReason::kFull,
                                std::string(planned.status().message())});
      SetProblems(name, std::move(entry.problems));
      continue;
    }
    SetProblems(name, std::move(entry.problems));
    total.Append(std::move(planned->plan));
    after.emplace_back(name, std::move(planned->after));
  }
  const bool freed = !total.retired.empty();
  if (absl::Status status = Apply(total); !status.ok()) return status;
  for (auto& [name, state] : after) {
    if (state.ports.empty()) {
      tables_.services.erase(name);
    } else {
      tables_.services[name] = std::move(state);
    }
  }
  ready_ = true;
  PublishCounts();
  // Hash rows are free at once; slots and ranges come with the grace period. Each round
  // that goes on frees something, so this ends.
  if (freed && !left_out_.empty()) {
    dirty_ = left_out_;
    return Reconcile();
  }
  return absl::OkStatus();
}

void Reconciler::SetProblems(const ServiceName& name, std::vector<Problem> problems) {
  const auto known = service_problems_.find(name);
  if (known == service_problems_.end() ? problems.empty() : known->second == problems) return;
  problems_changed_ = true;
  if (problems.empty()) {
    service_problems_.erase(known);
  } else {
    service_problems_[name] = std::move(problems);
  }
}

std::vector<Problem> Reconciler::problems() const {
  std::vector<Problem> all = source_problems_;
  all.insert(all.end(), pin_problems_.begin(), pin_problems_.end());
  for (const auto& [name, problems] : service_problems_) {
    all.insert(all.end(), problems.begin(), problems.end());
  }
  std::sort(all.begin(), all.end());
  return all;
}

ProblemChanges Reconciler::TakeProblemChanges() {
  ProblemChanges changes;
  if (!problems_changed_) return changes;
  problems_changed_ = false;
  std::vector<Problem> now = problems();
  std::set_difference(now.begin(), now.end(), reported_.begin(), reported_.end(),
                      std::back_inserter(changes.appeared));
  std::set_difference(reported_.begin(), reported_.end(), now.begin(), now.end(),
                      std::back_inserter(changes.cleared));
  reported_ = std::move(now);
  PublishCounts();
  return changes;
}

void Reconciler::PublishCounts() {
  waggle_agent& row = *store_->agent();
  row.services_left_out = static_cast<uint32_t>(left_out_.size());
  size_t count = source_problems_.size() + pin_problems_.size();
  for (const auto& [name, problems] : service_problems_)
    count += problems.size();
  row.problems = static_cast<uint32_t>(count);
  row.sources_incomplete = complete_ ? 0 : 1;
}

}  // namespace waggle::agent
