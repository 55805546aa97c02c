// The parts of Kubernetes objects that decide where packets go, decoded and
// checked. Values are immutable once made and shared by pointer.
#ifndef WAGGLE_K8S_WATCH_TYPES_H_
#define WAGGLE_K8S_WATCH_TYPES_H_

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "userspace/net/address.h"
#include "userspace/text/shared_text.h"

namespace waggle::k8s {

struct ObjectName {
  std::string ns;  // empty for a Node
  std::string name;

  friend auto operator<=>(const ObjectName&, const ObjectName&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const ObjectName& value) {
    return H::combine(std::move(state), value.ns, value.name);
  }
};

enum class TrafficPolicy : uint8_t { kCluster, kLocal };

struct ServicePort {
  std::string name;  // RFC 1123 label or empty
  net::Protocol protocol = net::Protocol::kTcp;
  uint16_t port = 0;       // host order, never 0
  uint16_t node_port = 0;  // host order, 0: none

  friend bool operator==(const ServicePort&, const ServicePort&) = default;
};

// v1 Service.
struct Service {
  ObjectName name;             // both RFC 1123 labels of at most 63 characters
  int64_t created_s = 0;       // metadata.creationTimestamp, Unix seconds; 0 when absent
  bool headless = false;       // clusterIP: None, or label service.kubernetes.io/headless
  bool other_proxy = false;    // label service.kubernetes.io/service-proxy-name: not ours
  bool external_name = false;  // type: ExternalName
  // clusterIPs, one a family at most; clusterIP alone where clusterIPs is absent.
  std::vector<net::Address> cluster_ips;
  std::vector<ServicePort> ports;  // no two with one (port, protocol) or one (name)
  TrafficPolicy internal_policy = TrafficPolicy::kCluster;
  TrafficPolicy external_policy = TrafficPolicy::kCluster;
  uint32_t affinity_s = 0;  // sessionAffinity: ClientIP with its timeout; 0: none
  std::vector<net::Address> external_ips;
  std::vector<net::Address> load_balancer_ips;  // status ingress, ipMode VIP or unset
  // healthCheckNodePort where it counts: type LoadBalancer, externalTrafficPolicy Local. 0: none
  uint16_t health_check_port = 0;

  friend bool operator==(const Service&, const Service&) = default;
};

// One endpoint of a slice; conditions have their defaults filled in
// (nil ready: true, nil serving: true, nil terminating: false).
struct Endpoint {
  net::Address address;  // addresses[0]
  bool ready = true;
  bool serving = true;
  bool terminating = false;
  text::SharedText node_name;  // empty when absent
  text::SharedNames zones;     // hints.forZones
  text::SharedNames nodes;     // hints.forNodes

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

struct EndpointPort {
  std::string name;  // may be empty
  net::Protocol protocol = net::Protocol::kTcp;
  uint16_t port = 0;  // host order, never 0: ports without number are left out

  friend bool operator==(const EndpointPort&, const EndpointPort&) = default;
};

// When the change happened that a slice was last written for. Not part of its content: any two
// are equal.
struct TriggerTime {
  int64_t unix_ns = 0;  // 0: not known

  friend bool operator==(const TriggerTime&, const TriggerTime&) { return true; }
};

// discovery.k8s.io/v1 EndpointSlice of addressType IPv4 or IPv6.
struct EndpointSlice {
  ObjectName name;
  std::string service;  // label kubernetes.io/service-name, in the same namespace
  net::Family family = net::Family::kIpv4;
  std::vector<EndpointPort> ports;
  std::vector<Endpoint> endpoints;
  TriggerTime trigger;  // annotation endpoints.kubernetes.io/last-change-trigger-time

  friend bool operator==(const EndpointSlice&, const EndpointSlice&) = default;
};

// v1 Node.
struct Node {
  ObjectName name;
  std::string zone;                        // label topology.kubernetes.io/zone; empty when absent
  std::vector<net::Address> internal_ips;  // status.addresses of type InternalIP, in order
  std::vector<net::Address> external_ips;
  bool deleting = false;       // metadata.deletionTimestamp is set
  bool to_be_deleted = false;  // taint ToBeDeletedByClusterAutoscaler, of any value and effect

  friend bool operator==(const Node&, const Node&) = default;
};

}  // namespace waggle::k8s

#endif
