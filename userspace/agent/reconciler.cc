#include "userspace/agent/reconciler.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "maps/compile.h"
#include "maps/plan.h"
#include "maps/reader.h"

namespace waggle::agent {
namespace {

// So many Services are planned and written together. Some hundred fill the kernel's batches.
constexpr size_t kTogether = 512;

}  // namespace

Reconciler::Reconciler(std::string node_name, const maps::Sizes& sizes, maps::MapStore* store,
                       GraceHooks grace)
    : objects_(std::move(node_name)),
      sizes_(sizes),
      store_(store),
      writer_(store),
      slots_(sizes),
      grace_(std::move(grace)),
      protection_([this](const ServiceName& name) { return InForce(name); }) {}

absl::Status Reconciler::Adopt() {
  if (absl::Status status = ReadKernel(); !status.ok()) return status;
  AdoptServices();
  return absl::OkStatus();
}

// What is in force is protected, and claimed, so that a frontend is in no plan but that of the
// Service that holds it.
void Reconciler::AdoptServices() {
  for (const auto& [name, state] : tables_.services) {
    protection_.Adopt(name);
    claims_.Adopt(InForce(name));
  }
}

ResolvedService Reconciler::InForce(const ServiceName& name) const {
  const auto found = tables_.services.find(name);
  if (found == tables_.services.end()) return {name, {}};
  return maps::DecompileService(name, found->second, store_->arrays());
}

absl::Status Reconciler::ReadKernel() {
  absl::StatusOr<maps::RawTables> raw = store_->Read();
  if (!raw.ok()) return raw.status();
  maps::CheckedTables checked = maps::CheckTables(*raw, store_->arrays());
  tables_ = std::move(checked.tables);
  ReplaceProblems(pin_problems_, std::move(checked.problems));
  slots_ = maps::Slots(sizes_);
  slots_.Adopt(tables_);
  // What was in quarantine is forgotten now; a reader must not hold it any more when it
  // is used again.
  grace_.wait(grace_.request());
  must_read_ = false;
  return absl::OkStatus();
}

absl::Status Reconciler::CarryOver(const std::vector<ResolvedService>& services) {
  if (services.empty()) return absl::OkStatus();
  maps::WritePlan total;
  for (const ResolvedService& service : services) {
    absl::StatusOr<maps::Planned> planned =
        maps::Plan(maps::Compile(service), nullptr, store_->arrays(), slots_);
    if (!planned.ok()) return planned.status();
    total.Append(std::move(planned->plan));
    tables_.services[service.name] = std::move(planned->after);
  }
  if (absl::Status status = Apply(total); !status.ok()) return status;
  AdoptServices();
  return absl::OkStatus();
}

absl::Status Reconciler::Handle(EventQueue::Batch batch) {
  store_->agent()->events += batch.changes.size();
  for (const k8s::ObjectChange& change : batch.changes) {
    for (ServiceName& name : objects_.Apply(change))
      dirty_.insert(std::move(name));
  }
  if (batch.problems) ReplaceProblems(source_problems_, *std::move(batch.problems));
  if (batch.synced && (!synced_ || (*batch.synced && !complete_))) {
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
  if (must_read_) return absl::OkStatus();
  const auto used = [this] { return slots_.backends().used() + slots_.lists().used(); };
  const uint32_t before = used();
  writer_.ClearLists(slots_.Reclaim(epoch));
  if (left_out_.empty() || used() == before) return absl::OkStatus();
  dirty_.insert(left_out_.begin(), left_out_.end());
  return Reconcile();
}

// Everything that is known and everything that is in force.
void Reconciler::MarkAll() {
  full_ = true;
  for (ServiceName& name : objects_.Services())
    dirty_.insert(std::move(name));
  for (const auto& [name, state] : tables_.services)
    dirty_.insert(name);
}

absl::Status Reconciler::RemoveStrays() {
  if (tables_.stray_frontends.empty() && tables_.stray_services.empty()) return absl::OkStatus();
  if (absl::Status status = Apply(maps::PlanStrays(tables_)); !status.ok()) return status;
  tables_.stray_frontends.clear();
  tables_.stray_services.clear();
  ReplaceProblems(pin_problems_, {});
  // Their slots count as free already.
  grace_.wait(grace_.request());
  return absl::OkStatus();
}

absl::Status Reconciler::Apply(const maps::WritePlan& plan) {
  if (plan.empty()) return absl::OkStatus();
  if (absl::Status status = writer_.Apply(plan); !status.ok()) {
    must_read_ = true;
    return status;
  }
  if (!plan.retired.empty()) slots_.Retire(plan.retired, grace_.request());
  return absl::OkStatus();
}

Reconciler::ServicePlan Reconciler::PlanService(const ServiceName& name, Settled settled) {
  ServicePlan result;
  result.name = name;
  const auto in_force = tables_.services.find(name);
  const maps::ServiceState* state =
      in_force == tables_.services.end() ? nullptr : &in_force->second;
  left_out_.erase(name);
  if (settled.service.ports.empty()) {
    if (state) result.plan = maps::PlanRemoval(*state);
    SetProblems(name, std::move(settled.problems));
    return result;
  }
  const maps::ServiceRows rows = maps::Compile(settled.service);
  absl::StatusOr<maps::Planned> planned = maps::Plan(rows, state, store_->arrays(), slots_);
  if (planned.ok()) {
    result.plan = std::move(planned->plan);
    result.after = std::move(planned->after);
  } else {
    left_out_.insert(name);
    settled.problems.push_back({{"Service", name.ns, name.name},
                                "",
                                "",
                                ProblemReason::kFull,
                                std::string(planned.status().message())});
    if (state) {
      maps::Planned shrunk = maps::PlanShrink(rows, *state, store_->arrays());
      result.plan = std::move(shrunk.plan);
      result.after = std::move(shrunk.after);
    }
  }
  SetProblems(name, std::move(settled.problems));
  return result;
}

void Reconciler::Accept(ServicePlan plan) {
  const bool removed = plan.after.ports.empty();
  if (removed) {
    if (tables_.services.erase(plan.name) == 0) return;
  } else {
    tables_.services[plan.name] = std::move(plan.after);
  }
  (removed ? written_.removed : written_.changed).push_back(std::move(plan.name));
}

absl::Status Reconciler::ApplyTogether(std::vector<ServicePlan> plans) {
  maps::WritePlan total;
  for (ServicePlan& plan : plans)
    total.Append(std::move(plan.plan));
  if (absl::Status status = Apply(total); !status.ok()) return status;
  for (ServicePlan& plan : plans)
    Accept(std::move(plan));
  return absl::OkStatus();
}

// After a refusal: one Service that the kernel will not have must not stop the others.
// What gives up frontends goes first, as others may take them.
absl::Status Reconciler::ApplyOneByOne(std::vector<ServicePlan> plans) {
  std::stable_partition(plans.begin(), plans.end(), [](const ServicePlan& plan) {
    return !plan.plan.frontend_deletes.empty();
  });
  absl::Status first;
  for (ServicePlan& plan : plans) {
    absl::Status status = Apply(plan.plan);
    if (status.ok()) {
      Accept(std::move(plan));
      continue;
    }
    left_out_.insert(plan.name);
    std::vector<Problem> problems;
    if (const auto known = service_problems_.find(plan.name); known != service_problems_.end()) {
      problems = known->second;
    }
    problems.push_back({{"Service", plan.name.ns, plan.name.name},
                        "",
                        "",
                        ProblemReason::kRefused,
                        std::string(status.message())});
    SetProblems(plan.name, std::move(problems));
    if (first.ok()) first = std::move(status);
  }
  return first;
}

// What a load balancer sends to this node for the Service finds a frontend, as far as the kernel
// has acknowledged it.
bool Reconciler::ForwardsFromOutside(const ServiceName& name) const {
  const auto found = tables_.services.find(name);
  if (found == tables_.services.end() || left_out_.contains(name)) return false;
  const std::vector<maps::PortState>& ports = found->second.ports;
  return std::any_of(ports.begin(), ports.end(), [](const maps::PortState& port) {
    return std::any_of(port.lists.begin(), port.lists.end(), [](const maps::ListState& list) {
      return std::any_of(
          list.frontends.begin(), list.frontends.end(),
          [](const maps::FrontendRow& row) { return row.key.scope == WAGGLE_SCOPE_EXTERNAL; });
    });
  });
}

// Some of what is dirty, or all: what is planned and written together is in memory together.
Reconciler::ServiceSet Reconciler::TakeDirty(bool all) {
  if (all || dirty_.size() <= kTogether) return std::exchange(dirty_, {});
  const auto end = std::next(dirty_.begin(), kTogether);
  ServiceSet part(dirty_.begin(), end);
  dirty_.erase(dirty_.begin(), end);
  return part;
}

absl::Status Reconciler::Reconcile() {
  if (!synced_) return absl::OkStatus();
  const bool careful = must_read_;
  if (must_read_) {
    if (absl::Status status = ReadKernel(); !status.ok()) {
      must_read_ = true;
      return status;
    }
    MarkAll();
  }
  if (complete_) {
    if (absl::Status status = RemoveStrays(); !status.ok()) return status;
  }

  bool freed = false;
  absl::Status status;
  do {
    std::vector<ServicePlan> plans;
    std::vector<ServiceName> checked;
    for (auto& [name, settled] :
         Settle({objects_, claims_, protection_, complete_}, TakeDirty(careful), &resolved_)) {
      if (health_checks_.Concerns(name, objects_)) checked.push_back(name);
      local_gaps_.Update(settled.service);
      ServicePlan plan = PlanService(name, std::move(settled));
      if (plan.plan.empty()) continue;
      freed = freed || !plan.plan.retired.empty();
      plans.push_back(std::move(plan));
    }
    store_->agent()->services_resolved = resolved_;
    status = careful ? ApplyOneByOne(std::move(plans)) : ApplyTogether(std::move(plans));
    for (const ServiceName& name : checked)
      health_checks_.Update(name, objects_, ForwardsFromOutside(name));
    if (!status.ok() && !careful) return status;
  } while (!dirty_.empty());
  ready_ = true;
  PublishCounts();
  if (!status.ok()) return status;
  // Hash rows are free at once; slots and ranges come with the grace period. Ends: what
  // found no room gives up only what it no longer wants, and that but once.
  if (freed && !left_out_.empty()) {
    dirty_ = left_out_;
    return Reconcile();
  }
  return absl::OkStatus();
}

void Reconciler::ReplaceProblems(std::vector<Problem>& known, std::vector<Problem> now) {
  std::sort(known.begin(), known.end());
  std::sort(now.begin(), now.end());
  std::set_difference(now.begin(), now.end(), known.begin(), known.end(),
                      std::back_inserter(problem_changes_.appeared));
  std::set_difference(known.begin(), known.end(), now.begin(), now.end(),
                      std::back_inserter(problem_changes_.cleared));
  for (const Problem& problem : known)
    --problems_by_reason_[static_cast<size_t>(problem.reason)];
  for (const Problem& problem : now)
    ++problems_by_reason_[static_cast<size_t>(problem.reason)];
  known = std::move(now);
}

void Reconciler::SetProblems(const ServiceName& name, std::vector<Problem> problems) {
  const auto found = service_problems_.find(name);
  if (found == service_problems_.end() && problems.empty()) return;
  std::vector<Problem>& known =
      found == service_problems_.end() ? service_problems_[name] : found->second;
  service_problem_count_ += problems.size();
  service_problem_count_ -= known.size();
  ReplaceProblems(known, std::move(problems));
  if (known.empty()) service_problems_.erase(name);
}

Reconciler::Census Reconciler::CountAll() {
  Census census;
  census.services = tables_.services.size();
  census.frontends = slots_.frontends_used();
  census.lists = slots_.lists().used();
  census.backends = slots_.backends().used();
  census.service_ports = slots_.services().used();
  census.problems = problems_by_reason_;
  census.no_local_endpoints = local_gaps_.total();
  return census;
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

// A problem that went and came back in between is none of both.
ProblemChanges Reconciler::TakeProblemChanges() {
  ProblemChanges all = std::exchange(problem_changes_, {});
  std::sort(all.appeared.begin(), all.appeared.end());
  std::sort(all.cleared.begin(), all.cleared.end());
  ProblemChanges changes;
  std::set_difference(all.appeared.begin(), all.appeared.end(), all.cleared.begin(),
                      all.cleared.end(), std::back_inserter(changes.appeared));
  std::set_difference(all.cleared.begin(), all.cleared.end(), all.appeared.begin(),
                      all.appeared.end(), std::back_inserter(changes.cleared));
  if (!all.appeared.empty() || !all.cleared.empty()) PublishCounts();
  return changes;
}

void Reconciler::PublishCounts() {
  waggle_agent& row = *store_->agent();
  row.services_left_out = static_cast<uint32_t>(left_out_.size());
  row.problems = static_cast<uint32_t>(source_problems_.size() + service_problem_count_);
  row.sources_incomplete = complete_ ? 0 : 1;
}

}  // namespace waggle::agent
