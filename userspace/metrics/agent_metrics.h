// What the agent counts about itself. Each value has one writer: the agent's owner, or the HTTP
// server's where it says so.
#ifndef WAGGLE_USERSPACE_METRICS_AGENT_METRICS_H_
#define WAGGLE_USERSPACE_METRICS_AGENT_METRICS_H_

#include <array>
#include <cstddef>
#include <span>

#include "maps/desired.h"
#include "userspace/health/health.h"
#include "userspace/metrics/values.h"
#include "userspace/status/problem.h"

namespace waggle::metrics {

using health::ByFamily;

// Buckets as kube-proxy has them: of a sync, and of a change's way through the cluster.
std::span<const double> SyncSeconds();
std::span<const double> ProgrammingSeconds();
// Our own, from 10 µs.
std::span<const double> SwitchSeconds();

inline constexpr size_t kProblemReasons = static_cast<size_t>(ProblemReason::kRefused) + 1;
// By Policy or Scope, and net::Family.
using ByScopeAndFamily = std::array<ByFamily<Gauge>, 2>;

// What one family's proxier would count.
struct FamilyMetrics {
  Histogram sync{SyncSeconds()};
  Histogram sync_full{SyncSeconds()};
  Histogram sync_partial{SyncSeconds()};
  Histogram programming{ProgrammingSeconds()};
  Counter failures;
  Gauge last_sync;    // Unix seconds
  Gauge last_queued;  // likewise
};

struct AgentMetrics {
  ByFamily<FamilyMetrics> families;
  Counter service_changes;
  Counter slice_changes;
  Gauge services_pending;  // taken from the queue and not in the kernel
  Gauge slices_pending;
  Histogram event_to_kernel{SwitchSeconds()};
  Histogram reconcile{SwitchSeconds()};
  ByScopeAndFamily no_local_endpoints;  // Service ports, by Scope
  std::array<Gauge, kProblemReasons> problems;
  Gauge services;  // in force
  struct MapUse {
    Gauge frontends, lists, backends, services;
  };
  MapUse used;

  // Of the HTTP server's thread: by answer, 200 and 503.
  std::array<Counter, 2> healthz;
  std::array<Counter, 2> livez;
};

}  // namespace waggle::metrics

#endif
