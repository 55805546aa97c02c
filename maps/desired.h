// The seam between Kubernetes and the kernel: what each Service shall do on this
// node, in host types. Made by resolve(), read by compile(). No Kubernetes types,
// no ABI types.
#ifndef WAGGLE_MAPS_DESIRED_H_
#define WAGGLE_MAPS_DESIRED_H_

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "userspace/net/address.h"

namespace waggle {

struct ServiceName {
  std::string ns;
  std::string name;

  std::string ToString() const { return ns + "/" + name; }
  friend auto operator<=>(const ServiceName&, const ServiceName&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const ServiceName& value) {
    return H::combine(std::move(state), value.ns, value.name);
  }
};

// The values of these enums are those of bpf/abi.h (asserted in compile.cc).
enum class FrontendKind : uint8_t { kClusterIp, kNodePort, kLoadBalancerIp, kExternalIp };
enum class Scope : uint8_t { kInternal, kExternal };
enum class Policy : uint8_t { kCluster, kLocal };
enum class Fate : uint8_t { kForward = 1, kRefuse = 2, kDrop = 3 };

// "ClusterIP", "internal", "Cluster", "forward" and so on: as the CLI prints them.
std::string_view KindName(FrontendKind kind);
std::string_view ScopeName(Scope scope);
std::string_view PolicyName(Policy policy);
std::string_view FateName(Fate fate);

struct Backend {
  net::Endpoint endpoint;
  bool local = false;        // on this node
  bool terminating = false;  // serving while terminating

  friend auto operator<=>(const Backend&, const Backend&) = default;
};

struct Frontend {
  net::Endpoint endpoint;
  FrontendKind kind = FrontendKind::kClusterIp;
  Scope scope = Scope::kInternal;

  friend auto operator<=>(const Frontend&, const Frontend&) = default;
};

// Frontends that share one fate and one set of backends.
struct BackendList {
  Fate fate = Fate::kRefuse;
  Policy policy = Policy::kCluster;
  uint32_t affinity_s = 0;          // session affinity timeout in seconds, 0: none
  std::vector<Backend> backends;    // sorted by endpoint, each endpoint once; empty unless kForward
  std::vector<Frontend> frontends;  // sorted, never empty

  friend auto operator<=>(const BackendList&, const BackendList&) = default;
};

struct ResolvedPort {
  std::string name;  // of the Service port; may be empty
  net::Protocol protocol = net::Protocol::kTcp;
  std::vector<BackendList> lists;  // sorted by their first frontend

  friend auto operator<=>(const ResolvedPort&, const ResolvedPort&) = default;
};

// Sorted and free of duplicates throughout: equal inputs give equal values.
struct ResolvedService {
  ServiceName name;
  std::vector<ResolvedPort> ports;  // sorted by (name, protocol)

  friend auto operator<=>(const ResolvedService&, const ResolvedService&) = default;
};

}  // namespace waggle

#endif
