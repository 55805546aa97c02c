// What the agent's HTTP server serves: probes, metrics, and what load balancers ask.
#ifndef WAGGLE_USERSPACE_AGENT_HTTP_SITES_H_
#define WAGGLE_USERSPACE_AGENT_HTTP_SITES_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "k8s-watch/source.h"
#include "maps/reader.h"
#include "userspace/agent/event_queue.h"
#include "userspace/agent/progress.h"
#include "userspace/config/agent_config.h"
#include "userspace/health/board.h"
#include "userspace/http/server.h"
#include "userspace/metrics/agent_metrics.h"

namespace waggle::agent {

// Of the agent's owner; its handlers run on the server's and only read what is shared with
// them: atomics, and values behind a lock that is held for the copy of a pointer.
class HttpSites {
 public:
  // All outlive it. `metrics` but for the counters of answers are only read.
  HttpSites(const config::AgentConfig& config, health::Board* board, const EventQueue* queue,
            metrics::AgentMetrics* metrics, const k8s::Source* source);

  // Listens and serves. An error: no thread or descriptor is left, or with
  // bind_address_hard_fail a port that cannot be had.
  absl::Status Start();
  // The Services with a health check, and the addresses where their ports are opened.
  void SetChecks(health::ServiceChecks checks, std::vector<net::Address> addresses);
  // What happened to sites since the last call, to be logged.
  std::vector<http::SiteNews> TakeNews();

 private:
  std::vector<http::Site> Sites();
  http::Response OnHealth(const http::Request& request);
  http::Response OnMetrics(const http::Request& request);
  http::Response OnCheck(const http::Request& request) const;
  http::Response Metrics();
  health::State ReadState() const;

  const config::AgentConfig& config_;
  health::Board* board_;
  const EventQueue* queue_;
  metrics::AgentMetrics* metrics_;
  const k8s::Source* source_;
  // Where the ports of health checks are opened now. Of the owner.
  std::vector<net::Address> check_addresses_;
  std::map<uint16_t, std::string> check_names_;
  std::vector<http::SiteNews> news_;  // from the start
  // Of the server's thread: entries of maps that must be walked, by name.
  std::map<std::string, uint64_t> walked_;
  health::Time walked_at_;
  // The last, as its thread uses the others.
  http::Server server_;
};

}  // namespace waggle::agent

#endif
