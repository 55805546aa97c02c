#include "userspace/agent/resolve.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bpf/abi.h"

namespace waggle::agent {
namespace {

// One endpoint of one Service port, after matching and before any policy.
struct Candidate {
  net::Endpoint endpoint;
  const k8s::Endpoint* source = nullptr;
  bool local = false;
};

// The sets that the two traffic policies choose from.
struct EndpointSets {
  std::vector<Backend> cluster;
  std::vector<Backend> local;
  bool any_usable = false;  // somewhere in the cluster
};

// A node without a name has no endpoints: an absent nodeName must not match it.
bool IsLocal(const k8s::Endpoint& endpoint, const NodeFacts& node) {
  return !node.name.empty() && endpoint.node_name.str() == node.name;
}

// Usable when nothing is ready: the pod still answers while it shuts down, which is
// better than refusing everybody during a rollout of the last pod.
bool ServesWhileTerminating(const k8s::Endpoint& endpoint) {
  return endpoint.serving && endpoint.terminating;
}

// A Service whose endpoints could be programmed: the others are not for us.
bool IsOurs(const k8s::Service& service) {
  return !service.headless && !service.external_name && !service.other_proxy &&
         !service.cluster_ips.empty();
}

// While the controller moves an endpoint from one slice to another both hold it, and
// one copy may be out of date. The copy that names this node wins, as upstream has it;
// then upstream's choice is random, ours is the copy that is more useful, so that an
// endpoint is not lost on the way. Slices come sorted, so the first of equals is
// always the same one.
bool BetterCopy(const Candidate& challenger, const Candidate& holder) {
  const auto rank = [](const Candidate& candidate) {
    return std::tuple(candidate.local, candidate.source->ready,
                      ServesWhileTerminating(*candidate.source));
  };
  return rank(challenger) > rank(holder);
}

// The endpoints of one Service port in one family. A Service port and a slice port
// belong together by name *and* protocol: DNS has one name for two protocols in the
// wild. Each slice brings its own target port number (named target ports differ from
// pod to pod), so the union counts.
std::vector<Candidate> Match(const std::vector<const k8s::EndpointSlice*>& slices,
                             const k8s::ServicePort& port, net::Family family,
                             const NodeFacts& node) {
  std::vector<Candidate> found;
  for (const k8s::EndpointSlice* slice : slices) {
    if (slice->family != family) continue;
    for (const k8s::EndpointPort& slice_port : slice->ports) {
      if (slice_port.name != port.name || slice_port.protocol != port.protocol) continue;
      for (const k8s::Endpoint& endpoint : slice->endpoints) {
        // No frontend can be translated to a backend of the other family.
        if (endpoint.address.family() != family) continue;
        found.push_back({{endpoint.address, slice_port.port}, &endpoint, IsLocal(endpoint, node)});
      }
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const Candidate& left, const Candidate& right) {
    return left.endpoint < right.endpoint;
  });
  std::vector<Candidate> unique;
  unique.reserve(found.size());
  for (const Candidate& candidate : found) {
    if (unique.empty() || unique.back().endpoint != candidate.endpoint) {
      unique.push_back(candidate);
    } else if (BetterCopy(candidate, unique.back())) {
      unique.back() = candidate;
    }
  }
  return unique;
}

enum class Topology { kAnywhere, kSameNode, kSameZone };

// Hints restrict the Cluster set only if the whole set agrees: one ready endpoint
// without a hint means that the controller is between two states, and one-sided hints
// would overload the hinted endpoints. And only if something is left for this node.
// Endpoints that are not ready have no vote.
Topology TopologyOf(const std::vector<Candidate>& candidates, const NodeFacts& node) {
  bool all_have_nodes = true;
  bool all_have_zones = true;
  bool one_for_node = false;
  bool one_for_zone = false;
  for (const Candidate& candidate : candidates) {
    if (!candidate.source->ready) continue;
    all_have_nodes &= !candidate.source->nodes.empty();
    all_have_zones &= !candidate.source->zones.empty();
    one_for_node |= !node.name.empty() && candidate.source->nodes.contains(node.name);
    one_for_zone |= !node.zone.empty() && candidate.source->zones.contains(node.zone);
  }
  if (all_have_nodes && one_for_node) return Topology::kSameNode;
  if (all_have_zones && one_for_zone) return Topology::kSameZone;
  return Topology::kAnywhere;
}

bool InTopology(const k8s::Endpoint& endpoint, Topology topology, const NodeFacts& node) {
  switch (topology) {
    case Topology::kAnywhere:
      return true;
    case Topology::kSameNode:
      return endpoint.nodes.contains(node.name);
    case Topology::kSameZone:
      return endpoint.zones.contains(node.zone);
  }
  return true;
}

template <typename Predicate>
std::vector<Backend> Select(const std::vector<Candidate>& candidates, Predicate wanted) {
  std::vector<Backend> backends;
  for (const Candidate& candidate : candidates) {
    if (!wanted(candidate)) continue;
    // A ready endpoint that terminates (publishNotReadyAddresses) is a ready one.
    backends.push_back({candidate.endpoint, candidate.local, !candidate.source->ready});
  }
  return backends;
}

// Ready endpoints as far as hints allow, else those that serve while terminating.
// Topology never empties a set that was not empty, so the fallback means that nothing
// is ready anywhere; hints play no part in it.
std::vector<Backend> ClusterSet(const std::vector<Candidate>& candidates, const NodeFacts& node) {
  const Topology topology = TopologyOf(candidates, node);
  auto ready = Select(candidates, [&](const Candidate& candidate) {
    return candidate.source->ready && InTopology(*candidate.source, topology, node);
  });
  if (!ready.empty()) return ready;
  return Select(candidates, [](const Candidate& candidate) {
    return ServesWhileTerminating(*candidate.source);
  });
}

// The same for the endpoints of this node alone. Hints say which *other* nodes may
// come here, so they play no part; and this set falls back when its own ready ones
// are gone, whatever other nodes have.
std::vector<Backend> LocalSet(const std::vector<Candidate>& candidates) {
  auto ready = Select(candidates, [](const Candidate& candidate) {
    return candidate.local && candidate.source->ready;
  });
  if (!ready.empty()) return ready;
  return Select(candidates, [](const Candidate& candidate) {
    return candidate.local && ServesWhileTerminating(*candidate.source);
  });
}

EndpointSets Categorize(const std::vector<Candidate>& candidates, const NodeFacts& node) {
  EndpointSets sets;
  sets.cluster = ClusterSet(candidates, node);
  sets.local = LocalSet(candidates);
  sets.any_usable = !sets.cluster.empty();
  return sets;
}

// Nothing usable anywhere: refuse, so that clients fail at once. Usable elsewhere but
// not here under policy Local: drop, because the answer depends on the node that was
// asked, and a refusal would tell a load balancer's client that the Service is down.
Fate FateOf(Policy policy, const EndpointSets& sets) {
  if (!(policy == Policy::kLocal ? sets.local : sets.cluster).empty()) return Fate::kForward;
  return policy == Policy::kLocal && sets.any_usable ? Fate::kDrop : Fate::kRefuse;
}

Problem ServiceProblem(const k8s::Service& service, std::string field, ProblemReason reason,
                       std::string text) {
  return {{"Service", service.name.ns, service.name.name},
          "",
          std::move(field),
          reason,
          std::move(text)};
}

// Ports are named by number and protocol: that is their key in the API, and an index
// would be wrong where the decoder left a broken port out.
std::string PortField(const k8s::ServicePort& port) {
  return absl::StrCat("spec.ports[port=", port.port,
                      ",protocol=", std::string(net::ProtocolName(port.protocol)), "]");
}

// One list for each family, even where both refuse: a list's frontends cannot move to
// another list without a gap, and the families get their endpoints one by one.
BackendList ClusterIpList(const k8s::Service& service, const k8s::ServicePort& port,
                          const net::Address& address,
                          const std::vector<const k8s::EndpointSlice*>& slices,
                          const NodeFacts& node, std::vector<Problem>& problems) {
  EndpointSets sets = Categorize(Match(slices, port, address.family(), node), node);
  BackendList list;
  list.policy =
      service.internal_policy == k8s::TrafficPolicy::kLocal ? Policy::kLocal : Policy::kCluster;
  list.fate = FateOf(list.policy, sets);
  list.backends = std::move(list.policy == Policy::kLocal ? sets.local : sets.cluster);
  if (list.backends.size() > WAGGLE_MAX_LIST) {
    problems.push_back(ServiceProblem(
        service, PortField(port), ProblemReason::kFull,
        absl::StrCat(std::string(net::FamilyName(address.family())), " has ", list.backends.size(),
                     " endpoints, and one frontend can have ", WAGGLE_MAX_LIST, ": the first ",
                     WAGGLE_MAX_LIST, " by address are used")));
    list.backends.resize(WAGGLE_MAX_LIST);
  }
  list.frontends = {{{address, port.port}, FrontendKind::kClusterIp, Scope::kInternal}};
  return list;
}

// Fields that are right but come with a later version. One problem for each Service:
// the user has to know which Services are served in part, not to read a page for each.
void ReportUnserved(const k8s::Service& service, std::vector<Problem>& problems) {
  std::vector<std::string> frontends;
  if (std::any_of(service.ports.begin(), service.ports.end(),
                  [](const k8s::ServicePort& port) { return port.node_port != 0; })) {
    frontends.emplace_back("spec.ports[].nodePort");
  }
  if (!service.external_ips.empty()) frontends.emplace_back("spec.externalIPs");
  if (!service.load_balancer_ips.empty()) frontends.emplace_back("status.loadBalancer.ingress");
  std::vector<std::string> fields = frontends;
  std::string text;
  if (!frontends.empty()) {
    text =
        "this version serves ClusterIPs only: connections to the other addresses are left as "
        "they are";
    // The policy says something about those addresses alone.
    if (service.external_policy == k8s::TrafficPolicy::kLocal) {
      fields.emplace_back("spec.externalTrafficPolicy");
    }
  }
  if (service.affinity_s != 0) {
    fields.emplace_back("spec.sessionAffinity");
    absl::StrAppend(&text, text.empty() ? "" : "; ",
                    "session affinity is not in effect: each connection goes to any backend");
  }
  if (fields.empty()) return;
  problems.push_back(ServiceProblem(service, absl::StrJoin(fields, ", "),
                                    ProblemReason::kUnsupported, std::move(text)));
}

// Sorted, so that the order in which slices arrived decides nothing.
std::vector<const k8s::EndpointSlice*> SortedSlices(const ServiceInput& input) {
  std::vector<const k8s::EndpointSlice*> slices;
  slices.reserve(input.slices.size());
  for (const auto& slice : input.slices)
    slices.push_back(slice.get());
  std::sort(slices.begin(), slices.end(),
            [](const k8s::EndpointSlice* left, const k8s::EndpointSlice* right) {
              return left->name < right->name;
            });
  return slices;
}

}  // namespace

Resolution Resolve(const ServiceInput& input) {
  const k8s::Service& service = *input.service;
  Resolution result;
  result.service.name = {service.name.ns, service.name.name};
  if (!IsOurs(service)) return result;

  const auto slices = SortedSlices(input);
  for (const k8s::ServicePort& port : service.ports) {
    if (port.protocol == net::Protocol::kSctp) {
      result.problems.push_back(ServiceProblem(
          service, PortField(port), ProblemReason::kUnsupported,
          "SCTP is not served by this version: the port is left out, the others work"));
      continue;
    }
    ResolvedPort resolved;
    resolved.name = port.name;
    resolved.protocol = port.protocol;
    for (const net::Address& address : service.cluster_ips) {
      resolved.lists.push_back(
          ClusterIpList(service, port, address, slices, input.node, result.problems));
    }
    std::sort(resolved.lists.begin(), resolved.lists.end(),
              [](const BackendList& left, const BackendList& right) {
                return left.frontends < right.frontends;
              });
    result.service.ports.push_back(std::move(resolved));
  }
  std::sort(result.service.ports.begin(), result.service.ports.end());
  ReportUnserved(service, result.problems);
  return result;
}

}  // namespace waggle::agent
