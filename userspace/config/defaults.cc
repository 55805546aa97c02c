#include "userspace/config/defaults.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "userspace/net/address.h"

namespace waggle::config {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

template <typename T>
void Default(T* value, T fallback) {
  if (*value == T{}) *value = std::move(fallback);
}

template <typename T, typename U>
void Default(std::optional<T>* value, U fallback) {
  if (!value->has_value()) *value = fallback;
}

}  // namespace

std::string WithPort(const std::string& address, int port) {
  const auto parsed = net::Address::Parse(address);
  if (!parsed) return address;
  const bool v6 = address.find(':') != std::string::npos;
  return absl::StrCat(v6 ? "[" : "", address, v6 ? "]" : "", ":", port);
}

void SetDefaults(KubeProxyConfigurationV1alpha1* config) {
  Default(&config->bind_address, std::string("0.0.0.0"));
  const auto bind = net::Address::Parse(config->bind_address);
  const bool v4 = bind && bind->family() == net::Family::kIpv4;
  Default(&config->healthz_bind_address, std::string(v4 ? "0.0.0.0" : "::"));
  Default(&config->metrics_bind_address, std::string(v4 ? "127.0.0.1" : "::1"));
  config->healthz_bind_address = WithPort(config->healthz_bind_address, kHealthzPort);
  config->metrics_bind_address = WithPort(config->metrics_bind_address, kMetricsPort);

  Default(&config->oom_score_adj, -999);
  Default(&config->iptables.masquerade_bit, 14);
  Default(&config->iptables.localhost_node_ports, true);
  Default(&config->iptables.sync_period, Duration(seconds(30)));
  Default(&config->iptables.min_sync_period, Duration(seconds(1)));
  Default(&config->ipvs.sync_period, Duration(seconds(30)));
  Default(&config->nftables.masquerade_bit, 14);
  Default(&config->nftables.sync_period, Duration(seconds(30)));
  Default(&config->nftables.min_sync_period, Duration(seconds(1)));
  Default(&config->conntrack.max_per_core, 32 * 1024);
  Default(&config->conntrack.min, 128 * 1024);
  Default(&config->conntrack.tcp_established_timeout, hours(24));
  Default(&config->conntrack.tcp_close_wait_timeout, hours(1));
  Default(&config->config_sync_period, Duration(minutes(15)));
  Default(&config->client_connection.content_type,
          std::string("application/vnd.kubernetes.protobuf"));
  Default(&config->client_connection.qps, 5.0F);
  Default(&config->client_connection.burst, 10);
  Default(&config->logging.format, std::string("text"));
  Default(&config->logging.flush_frequency.value, Duration(seconds(5)));
}

void SetDependentDefaults(KubeProxyConfigurationV1alpha1* config) {
  Default(&config->mode, std::string("iptables"));
  Default(&config->detect_local_mode, std::string("ClusterCIDR"));
  if (config->mode == "nftables" && config->node_port_addresses.empty()) {
    config->node_port_addresses = {"primary"};
  }
}

}  // namespace waggle::config
