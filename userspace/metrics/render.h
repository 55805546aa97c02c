// Everything at /metrics, by name: docs/metrics.md lists the same, and a test compares.
#ifndef WAGGLE_USERSPACE_METRICS_RENDER_H_
#define WAGGLE_USERSPACE_METRICS_RENDER_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "k8s-watch/event_counts.h"
#include "k8s-watch/request_counts.h"
#include "maps/reader.h"
#include "userspace/metrics/agent_metrics.h"
#include "userspace/metrics/process.h"

namespace waggle::metrics {

struct Facts {
  const AgentMetrics* agent = nullptr;
  const maps::KernelCounters* kernel = nullptr;  // null: could not be read
  std::span<const k8s::RequestCounts> api;       // none: no apiserver is asked
  const k8s::EventCounts* events = nullptr;      // null: nobody can be told
  ProcessFacts process;
  // In the queue between sources and the owner.
  size_t queued_services = 0;
  size_t queued_slices = 0;
  size_t queued_others = 0;
  std::string_view version;
};

std::string Render(const Facts& facts);

}  // namespace waggle::metrics

#endif
