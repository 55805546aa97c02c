// What an agent was told, typed and checked: the one value that leaves config/. Where it came
// from (a file, flags, defaults) does not matter to whom it is given.
#ifndef WAGGLE_USERSPACE_CONFIG_AGENT_CONFIG_H_
#define WAGGLE_USERSPACE_CONFIG_AGENT_CONFIG_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/abi.h"
#include "k8s-watch/client_config.h"
#include "loader/datapath.h"
#include "userspace/net/address.h"
#include "userspace/net/prefix.h"

namespace waggle::config {

// The mode that was asked for. All are served alike; it decides what some defaults are, and
// what a cluster that asks for the mode is told.
enum class ProxyMode : uint8_t { kIptables, kIpvs, kNftables };
// "iptables", "ipvs", "nftables".
std::string_view ProxyModeName(ProxyMode mode);

// How traffic of this node's pods is told from other traffic.
enum class DetectLocalMode : uint8_t {
  kClusterCidr,
  kNodeCidr,
  kBridgeInterface,
  kInterfaceNamePrefix
};

// On which of the node's addresses NodePorts are served.
struct NodePortAddresses {
  bool primary = false;             // one address of each family, the Node's first
  std::vector<net::Prefix> ranges;  // those in one of these; empty and not primary: all
};

struct AgentConfig {
  std::string node_name;
  // Where objects come from: manifests, unless empty, else an apiserver.
  std::string manifests;
  k8s::ClientFlags client;
  loader::DatapathOptions datapath;
  waggle_forwarding forwarding = WAGGLE_FORWARDING_AUTO;

  ProxyMode proxy_mode = ProxyMode::kIptables;

  // Where HTTP is served; nullopt: not at all. 0.0.0.0 stands for IPv6 too, as with Go.
  std::optional<net::Endpoint> healthz_bind_address =
      net::Endpoint{*net::Address::Parse("0.0.0.0"), 10256};
  std::optional<net::Endpoint> metrics_bind_address =
      net::Endpoint{*net::Address::Parse("127.0.0.1"), 10249};
  // A port that cannot be had ends the agent; else it is tried again and again.
  bool bind_address_hard_fail = false;
  // The answer of /configz: what is in effect, as JSON.
  std::string configz_json = "{}";

  // A change that waits for longer than twice this time makes the node unhealthy.
  std::chrono::nanoseconds sync_period = std::chrono::seconds(30);
  std::chrono::nanoseconds min_sync_period = std::chrono::seconds(1);
  std::chrono::nanoseconds config_sync_period = std::chrono::minutes(15);

  // The address of the node in its family, where it was given; the unspecified one was not.
  std::optional<net::Address> bind_address;
  DetectLocalMode detect_local_mode = DetectLocalMode::kClusterCidr;
  std::vector<net::Prefix> cluster_cidrs;  // at most one of each family
  std::string bridge_interface;
  std::string interface_name_prefix;
  NodePortAddresses node_port_addresses;
  bool localhost_node_ports = true;
  bool masquerade_all = false;

  int oom_score_adj = -999;
  uint32_t verbosity = 0;  // as kube-proxy's -v
};

}  // namespace waggle::config

#endif
