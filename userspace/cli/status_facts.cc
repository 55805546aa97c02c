#include "userspace/cli/status_facts.h"

namespace waggle::cli {
namespace {

constexpr std::string_view kTRANSLATED = "translated";
constexpr std::string_view kREFUSED = "refused";
constexpr std::string_view kDROPPED = "dropped";
constexpr std::string_view kPASSED = "passed";
constexpr std::string_view kDEGRADED = "degraded";

}  // namespace

const std::vector<ReasonInfo>& Reasons() {
  static const auto* const reasons = new std::vector<ReasonInfo>{
#define WAGGLE_REASON(identifier, label, class_, text) {label, k##class_, text},
#include "bpf/reasons.def"
#undef WAGGLE_REASON
  };
  return *reasons;
}

SocketLbFacts SocketLbOf(uint32_t socket_lb) {
  switch (socket_lb) {
    case WAGGLE_SOCKET_LB_ALL:
      return {"all", "processes of the node and of its pods are served"};
    case WAGGLE_SOCKET_LB_HOST:
      return {"host",
              "only processes in the node's network namespace are served; pods are left to "
              "whatever else serves them"};
    case WAGGLE_SOCKET_LB_OFF:
      return {"off",
              "no process is served: a node process can only be served at the socket, before its "
              "source address is chosen"};
    default:
      return {"unknown", "the pins hold a number that this version does not know"};
  }
}

std::vector<FeatureFacts> FeaturesOf(uint32_t features) {
  return {{"bpf_set_retval", (features & WAGGLE_FEATURE_SET_RETVAL) != 0,
           "a refused or dropped connection goes to closed port 1 of the loopback instead: "
           "ECONNREFUSED for TCP and connected UDP, silence for other datagrams"},
          {"bpf_skc_to_mptcp_sock", (features & WAGGLE_FEATURE_MPTCP_SOCK) != 0,
           "getpeername() of an MPTCP socket shows the backend in place of the Service"}};
}

std::vector<WorkFacts> WorkOf(const waggle_agent& agent) {
  return {{"events", agent.events},
          {"servicesResolved", agent.services_resolved},
          {"plansApplied", agent.plans_applied},
          {"hashInserts", agent.hash_inserts},
          {"hashDeletes", agent.hash_deletes},
          {"listStores", agent.list_stores},
          {"backendStores", agent.backend_stores},
          {"writeErrors", agent.write_errors}};
}

Totals TotalsOf(const std::vector<ResolvedService>& services) {
  Totals totals;
  totals.services = services.size();
  for (const ResolvedService& service : services) {
    for (const ResolvedPort& port : service.ports) {
      for (const BackendList& list : port.lists) {
        totals.frontends += list.frontends.size();
        totals.backends += list.backends.size();
      }
    }
  }
  return totals;
}

}  // namespace waggle::cli
