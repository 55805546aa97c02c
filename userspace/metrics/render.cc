#include "userspace/metrics/render.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bpf/abi.h"
#include "loader/roles.h"
#include "userspace/metrics/exposition.h"

namespace waggle::metrics {
namespace {

using enum Type;

// The behaviour that is kept, as kube-proxy's own build information would say it.
constexpr std::string_view kContract = "v1.34.4";

std::string_view Of(net::Family family) {
  return net::FamilyName(family);
}

// One histogram, counter or gauge of both families.
template <typename Metric>
void PerFamily(Exposition& out, const AgentMetrics& agent, Metric FamilyMetrics::*metric) {
  for (const net::Family family : health::kFamilies) {
    out.Sample({{"ip_family", Of(family)}}, agent.families[health::Index(family)].*metric);
  }
}

void RenderKubeProxy(Exposition& out, const Facts& facts) {
  const AgentMetrics& agent = *facts.agent;
  out.Family("kubeproxy_sync_proxy_rules_duration_seconds", kHistogram,
             "Time to bring the kernel up to date, by family that had changes");
  PerFamily(out, agent, &FamilyMetrics::sync);
  out.Family("kubeproxy_sync_full_proxy_rules_duration_seconds", kHistogram,
             "The same, when all Services were looked at");
  PerFamily(out, agent, &FamilyMetrics::sync_full);
  out.Family("kubeproxy_sync_partial_proxy_rules_duration_seconds", kHistogram,
             "The same, when only Services with changes were looked at");
  PerFamily(out, agent, &FamilyMetrics::sync_partial);
  out.Family("kubeproxy_sync_proxy_rules_last_timestamp_seconds", kGauge,
             "When the kernel last held all that had come");
  PerFamily(out, agent, &FamilyMetrics::last_sync);
  out.Family("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", kGauge,
             "When changes were last taken up");
  PerFamily(out, agent, &FamilyMetrics::last_queued);
  out.Family("kubeproxy_network_programming_duration_seconds", kHistogram,
             "From the change of a Pod or Service, as the EndpointSlice says, to the kernel");
  PerFamily(out, agent, &FamilyMetrics::programming);
  out.Family("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", kCounter,
             "Times that the kernel refused to be brought up to date");
  PerFamily(out, agent, &FamilyMetrics::failures);

  out.Family("kubeproxy_sync_proxy_rules_endpoint_changes_pending", kGauge,
             "Changes of EndpointSlices that are not in the kernel yet")
      .Sample({}, agent.slices_pending.value() + static_cast<double>(facts.queued_slices));
  out.Family("kubeproxy_sync_proxy_rules_endpoint_changes_total", kCounter,
             "Changes of EndpointSlices")
      .Sample({}, agent.slice_changes);
  out.Family("kubeproxy_sync_proxy_rules_service_changes_pending", kGauge,
             "Changes of Services that are not in the kernel yet")
      .Sample({}, agent.services_pending.value() + static_cast<double>(facts.queued_services));
  out.Family("kubeproxy_sync_proxy_rules_service_changes_total", kCounter, "Changes of Services")
      .Sample({}, agent.service_changes);

  out.Family("kubeproxy_sync_proxy_rules_no_local_endpoints_total", kGauge,
             "Service ports with a Local policy that have endpoints, but none on this node");
  for (const Scope scope : {Scope::kInternal, Scope::kExternal}) {
    for (const net::Family family : health::kFamilies) {
      out.Sample({{"traffic_policy", ScopeName(scope)}, {"ip_family", Of(family)}},
                 agent.no_local_endpoints[static_cast<size_t>(scope)][health::Index(family)]);
    }
  }
  out.Family("kubeproxy_proxy_healthz_total", kCounter, "Answers at /healthz, by status")
      .Sample({{"code", "200"}}, agent.healthz[0])
      .Sample({{"code", "503"}}, agent.healthz[1]);
  out.Family("kubeproxy_proxy_livez_total", kCounter, "Answers at /livez, by status")
      .Sample({{"code", "200"}}, agent.livez[0])
      .Sample({{"code", "503"}}, agent.livez[1]);
}

template <typename Value>
std::vector<uint64_t> Loaded(const Value& counts) {
  std::vector<uint64_t> values;
  for (const auto& count : counts)
    values.push_back(count.load());
  return values;
}

void RenderApi(Exposition& out, const Facts& facts) {
  out.Family("rest_client_requests_total", kCounter,
             "Requests to the apiserver, by status; <error>: without an answer");
  std::map<size_t, uint64_t> answers;
  uint64_t unanswered = 0;
  for (const k8s::RequestCounts& counts : facts.api) {
    for (size_t status = 0; status < counts.answers.size(); ++status) {
      if (const uint64_t count = counts.answers[status]; count > 0) answers[status] += count;
    }
    unanswered += counts.unanswered;
  }
  for (const auto& [status, count] : answers) {
    out.Sample({{"code", absl::StrCat(status)}, {"method", "GET"}}, static_cast<double>(count));
  }
  out.Sample({{"code", "<error>"}, {"method", "GET"}}, static_cast<double>(unanswered));

  out.Family("rest_client_request_duration_seconds", kHistogram,
             "From a request to the apiserver to the head of its answer");
  std::vector<uint64_t> times(k8s::RequestCounts::kHeadSeconds.size() + 1);
  double seconds = 0;
  for (const k8s::RequestCounts& counts : facts.api) {
    const std::vector<uint64_t> each = Loaded(counts.head_times);
    for (size_t i = 0; i < times.size(); ++i)
      times[i] += each[i];
    seconds += static_cast<double>(counts.head_ns) / 1e9;
  }
  out.Buckets({{"verb", "GET"}}, k8s::RequestCounts::kHeadSeconds, times, seconds);

  const auto each = [&](std::string_view name, Type type, std::string_view help, auto value) {
    out.Family(name, type, help);
    for (const k8s::RequestCounts& counts : facts.api) {
      out.Sample({{"resource", counts.resource}}, static_cast<double>(value(counts)));
    }
  };
  using Counts = const k8s::RequestCounts&;
  each("waggle_apiserver_connected", kGauge,
       "1 while the apiserver answers the list or watch of this resource as it should",
       [](Counts counts) { return counts.connected ? 1 : 0; });
  each("waggle_apiserver_lists_total", kCounter, "Lists that came to their end",
       [](Counts counts) { return counts.lists.load(); });
  each("waggle_apiserver_watches_total", kCounter, "Watches that were answered",
       [](Counts counts) { return counts.watches.load(); });
  each("waggle_apiserver_events_total", kCounter, "Events of watches, bookmarks included",
       [](Counts counts) { return counts.events.load(); });
  each("waggle_apiserver_failures_total", kCounter,
       "Requests that were not answered as they should be",
       [](Counts counts) { return counts.failures.load(); });
  each("waggle_apiserver_received_bytes_total", kCounter, "Bytes of answers",
       [](Counts counts) { return counts.bytes.load(); });
}

void RenderEvents(Exposition& out, const Facts& facts) {
  out.Family("waggle_kubernetes_events_total", kCounter,
             "Problems that were to be told as Kubernetes Events, by what became of them");
  if (facts.events == nullptr) return;
  const k8s::EventCounts& counts = *facts.events;
  const std::pair<std::string_view, const k8s::EventCounts::Count*> results[] = {
      {"created", &counts.created},
      {"repeated", &counts.repeated},
      {"known", &counts.known},
      {"rate_limited", &counts.rate_limited},
      {"queue_full", &counts.queue_full},
      {"forbidden", &counts.forbidden},
      {"gone", &counts.gone},
      {"failed", &counts.failed}};
  for (const auto& [result, count] : results)
    out.Sample({{"result", result}}, static_cast<double>(count->load()));
}

struct Reason {
  std::string_view label;
  std::string_view effect;
};
constexpr std::string_view kTRANSLATED = "translated";
constexpr std::string_view kREFUSED = "refused";
constexpr std::string_view kDROPPED = "dropped";
constexpr std::string_view kPASSED = "passed";
constexpr std::string_view kDEGRADED = "degraded";
constexpr Reason kReasons[] = {
#define WAGGLE_REASON(identifier, label, class_, text) {label, k##class_},
#include "bpf/reasons.def"
#undef WAGGLE_REASON
};

void RenderKernel(Exposition& out, const Facts& facts) {
  out.Family("waggle_kernel_readable", kGauge, "1 when the pinned maps could be read just now")
      .Sample({}, facts.kernel == nullptr ? 0 : 1);
  // Nothing is better than counters that fall to 0 and come back.
  if (facts.kernel == nullptr) return;
  const maps::KernelCounters& kernel = *facts.kernel;
  out.Family(
      "waggle_packets_total", kCounter,
      "Fates of connections, datagrams and packets, by reason (waggle status explains them)");
  for (size_t i = 0; i < kernel.stats.size() && i < std::size(kReasons); ++i) {
    out.Sample({{"reason", kReasons[i].label}, {"effect", kReasons[i].effect}},
               static_cast<double>(kernel.stats[i]));
  }
  const AgentMetrics::MapUse& used = facts.agent->used;
  const std::map<std::string_view, const Gauge*> own = {{"frontends", &used.frontends},
                                                        {"lists", &used.lists},
                                                        {"backends", &used.backends},
                                                        {"services", &used.services}};
  std::vector<std::pair<std::string_view, double>> entries;
  std::vector<std::pair<std::string_view, double>> capacities;
  for (const maps::MapUsage& map : kernel.maps) {
    // Arrays with a meaning for each row, and socket storage, have no use to speak of.
    if (map.name == "settings" || map.name == "icmp_budget" || map.name == "stats" ||
        map.name == "agent" || map.name == "sock_state") {
      continue;
    }
    const auto found = own.find(map.name);
    entries.emplace_back(
        map.name, found == own.end() ? static_cast<double>(map.used) : found->second->value());
    capacities.emplace_back(map.name, static_cast<double>(map.max));
  }
  out.Family("waggle_map_entries", kGauge,
             "Entries of a map in use; of those that programs fill, at most a minute old");
  for (const auto& [name, value] : entries)
    out.Sample({{"map", name}}, value);
  out.Family("waggle_map_capacity", kGauge, "Entries that a map has room for");
  for (const auto& [name, value] : capacities)
    out.Sample({{"map", name}}, value);

  std::map<std::string, double> devices;
  for (const waggle_role role :
       {WAGGLE_ROLE_POD, WAGGLE_ROLE_BRIDGE, WAGGLE_ROLE_UPLINK, WAGGLE_ROLE_TUNNEL}) {
    devices[std::string(loader::RoleName(role))] = 0;
  }
  for (const auto& [_, device] : kernel.devices) {
    if (device.role >= WAGGLE_ROLE_POD && device.role <= WAGGLE_ROLE_TUNNEL) {
      ++devices[std::string(loader::RoleName(static_cast<waggle_role>(device.role)))];
    }
  }
  out.Family("waggle_devices", kGauge, "Devices that the packet path covers, by role");
  for (const auto& [role, count] : devices)
    out.Sample({{"role", role}}, count);

  const auto work = [&](std::string_view name, std::string_view help, uint64_t value) {
    out.Family(name, kCounter, help).Sample({}, static_cast<double>(value));
  };
  const waggle_agent& agent = kernel.agent;
  work("waggle_events_total", "Changes of objects taken from the source", agent.events);
  work("waggle_services_resolved_total", "Times that a Service's backends were worked out",
       agent.services_resolved);
  work("waggle_plans_applied_total", "Times that the kernel's maps were changed",
       agent.plans_applied);
  work("waggle_hash_inserts_total", "Rows put into frontends and services", agent.hash_inserts);
  work("waggle_hash_deletes_total", "Rows removed from frontends and services", agent.hash_deletes);
  work("waggle_list_stores_total", "Stores into lists", agent.list_stores);
  work("waggle_backend_stores_total", "Rows stored into backends", agent.backend_stores);
  work("waggle_write_errors_total", "Steps that the kernel refused", agent.write_errors);
  out.Family("waggle_services_left_out", kGauge,
             "Services that are not, or not wholly, in the kernel")
      .Sample({}, agent.services_left_out);
  out.Family("waggle_sources_incomplete", kGauge,
             "1 while the source never gave a complete list: nothing is removed")
      .Sample({}, agent.sources_incomplete);
  out.Family("waggle_ready", kGauge, "1 when everything known has been programmed once")
      .Sample({}, agent.state == WAGGLE_AGENT_READY ? 1 : 0);
}

void RenderOwn(Exposition& out, const Facts& facts) {
  const AgentMetrics& agent = *facts.agent;
  out.Family("waggle_build_info", kGauge, "1; the version is a label")
      .Sample({{"version", facts.version}}, 1);
  out.Family("waggle_event_to_kernel_seconds", kHistogram,
             "From the last byte of a change of a Service or EndpointSlice to the kernel")
      .Sample({}, agent.event_to_kernel);
  out.Family("waggle_reconcile_seconds", kHistogram, "Time to bring the kernel up to date")
      .Sample({}, agent.reconcile);
  out.Family("waggle_queue_length", kGauge, "Changes that nobody has taken up yet")
      .Sample({}, static_cast<double>(facts.queued_services + facts.queued_slices +
                                      facts.queued_others));
  out.Family("waggle_services", kGauge, "Services in the kernel").Sample({}, agent.services);
  out.Family("waggle_problems", kGauge, "Problems in force, by reason (waggle plan names them)");
  for (size_t i = 0; i < agent.problems.size(); ++i) {
    out.Sample({{"reason", ProblemReasonName(static_cast<ProblemReason>(i))}}, agent.problems[i]);
  }
}

void RenderProcess(Exposition& out, const Facts& facts) {
  const ProcessFacts& process = facts.process;
  out.Family("process_cpu_seconds_total", kCounter, "CPU time of user and system")
      .Sample({}, process.cpu_seconds);
  out.Family("process_resident_memory_bytes", kGauge, "Resident memory")
      .Sample({}, process.resident_bytes);
  out.Family("process_virtual_memory_bytes", kGauge, "Virtual memory")
      .Sample({}, process.virtual_bytes);
  out.Family("process_start_time_seconds", kGauge, "When the process started, Unix time")
      .Sample({}, process.start_time);
  out.Family("process_open_fds", kGauge, "Open file descriptors").Sample({}, process.open_fds);
  out.Family("process_max_fds", kGauge, "File descriptors that may be open")
      .Sample({}, process.max_fds);
  out.Family("kubernetes_build_info", kGauge,
             "1; git_version is the kube-proxy whose behaviour is kept")
      .Sample({{"git_version", kContract}, {"major", "1"}, {"minor", "34"}, {"platform", "linux"}},
              1);
}

}  // namespace

std::string Render(const Facts& facts) {
  Exposition out;
  RenderKubeProxy(out, facts);
  RenderApi(out, facts);
  RenderEvents(out, facts);
  RenderOwn(out, facts);
  RenderKernel(out, facts);
  RenderProcess(out, facts);
  return out.text();
}

}  // namespace waggle::metrics
