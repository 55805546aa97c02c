// Keeps the maps true to the store: takes batches of events, resolves the Services
// that they concern, plans, writes, remembers what is in force.
#ifndef WAGGLE_USERSPACE_AGENT_RECONCILER_H_
#define WAGGLE_USERSPACE_AGENT_RECONCILER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/status/status.h"
#include "maps/map_store.h"
#include "maps/slots.h"
#include "maps/writer.h"
#include "userspace/agent/claims.h"
#include "userspace/agent/event_queue.h"
#include "userspace/agent/health_checks.h"
#include "userspace/agent/local_gaps.h"
#include "userspace/agent/protection.h"
#include "userspace/agent/settle.h"
#include "userspace/agent/store.h"

namespace waggle::agent {

// How the reconciler asks for grace periods (maps/grace.h does it for the real maps).
struct GraceHooks {
  std::function<uint64_t()> request;   // begins one now, returns its epoch
  std::function<void(uint64_t)> wait;  // blocks until it is over
};

// What changed in the list of problems, to be logged once.
struct ProblemChanges {
  std::vector<Problem> appeared;
  std::vector<Problem> cleared;
};

// Used by one thread at a time. Not restartable after destruction of `store`.
class Reconciler {
 public:
  // `store` is not owned.
  Reconciler(std::string node_name, const maps::Sizes& sizes, maps::MapStore* store,
             GraceHooks grace);

  Reconciler(const Reconciler&) = delete;
  Reconciler& operator=(const Reconciler&) = delete;

  // Reads what the kernel holds and takes it as in force, and as protected until the
  // sources are complete. Once, before anything else.
  absl::Status Adopt();
  // Writes Services as they are, without a store: maps that were made anew in another
  // size get the content of the old ones. ResourceExhausted names what is too small.
  absl::Status CarryOver(const std::vector<ResolvedService>& services);

  // Takes the batch and, once a source has handed over all it had at the start, makes
  // the maps follow. An error means that the kernel refused a write: the caller calls
  // Retry() after a pause, as long as must_retry() says so.
  absl::Status Handle(EventQueue::Batch batch);
  absl::Status Retry();
  bool must_retry() const { return must_read_; }
  // A grace period is over.
  absl::Status GraceOver(uint64_t epoch);

  // True once everything known was tried for the first time; what found no room, or was
  // refused by the kernel, is a problem of its Service.
  bool ready() const { return ready_; }
  // Every source has delivered a complete list: what is not in it may be removed.
  bool complete() const { return complete_; }
  size_t services_in_force() const { return tables_.services.size(); }

  // Since the last call all Services were looked at, not only those with changes.
  bool TakeFull() { return std::exchange(full_, false); }
  // Services with a port for health checks, where that has changed since the last call.
  std::optional<health::ServiceChecks> TakeHealthChecks() { return health_checks_.TakeChanged(); }
  // What is so now, for metrics: a few numbers that are kept up to date.
  struct Census {
    size_t services = 0;                                                 // in force
    uint32_t frontends = 0, lists = 0, backends = 0, service_ports = 0;  // rows in use
    std::array<size_t, static_cast<size_t>(ProblemReason::kRefused) + 1> problems{};
    LocalGaps::Counts no_local_endpoints{};
  };
  Census CountAll();

  // All problems in force, sorted, and what changed since the last call.
  std::vector<Problem> problems() const;
  ProblemChanges TakeProblemChanges();
  // Services that were changed and removed in the kernel since the last call.
  struct Written {
    std::vector<ServiceName> changed;
    std::vector<ServiceName> removed;
  };
  Written TakeWritten() { return std::exchange(written_, {}); }

 private:
  using ServiceSet = absl::btree_set<ServiceName>;

  struct ServicePlan {
    ServiceName name;
    maps::WritePlan plan;
    maps::ServiceState after;
  };

  bool ForwardsFromOutside(const ServiceName& name) const;
  ServiceSet TakeDirty(bool all);
  absl::Status Reconcile();
  void AdoptServices();
  ResolvedService InForce(const ServiceName& name) const;
  absl::Status ReadKernel();
  ServicePlan PlanService(const ServiceName& name, Settled settled);
  absl::Status ApplyTogether(std::vector<ServicePlan> plans);
  absl::Status ApplyOneByOne(std::vector<ServicePlan> plans);
  absl::Status Apply(const maps::WritePlan& plan);
  void Accept(ServicePlan plan);
  void MarkAll();
  absl::Status RemoveStrays();
  void SetProblems(const ServiceName& name, std::vector<Problem> problems);
  void ReplaceProblems(std::vector<Problem>& known, std::vector<Problem> now);
  void PublishCounts();

  Store objects_;
  Claims claims_;
  maps::Sizes sizes_;
  maps::MapStore* store_;
  maps::Writer writer_;
  maps::Slots slots_;
  maps::Tables tables_;
  GraceHooks grace_;
  Protection protection_;
  ServiceSet dirty_;
  ServiceSet left_out_;  // found no room
  HealthChecks health_checks_;
  LocalGaps local_gaps_;
  bool synced_ = false;
  bool complete_ = false;
  bool ready_ = false;
  bool full_ = false;
  bool must_read_ = false;  // a write failed: what is in force is not known
  Written written_;
  uint64_t resolved_ = 0;

  std::vector<Problem> source_problems_;
  std::vector<Problem> pin_problems_;
  absl::btree_map<ServiceName, std::vector<Problem>> service_problems_;
  size_t service_problem_count_ = 0;
  std::array<size_t, static_cast<size_t>(ProblemReason::kRefused) + 1> problems_by_reason_{};
  ProblemChanges problem_changes_;
};

}  // namespace waggle::agent

#endif
