// KubeProxyConfiguration of kubeproxy.config.k8s.io/v1alpha1, as kube-proxy 1.34 has it: what a
// file may hold, under its names, before anybody has asked whether it makes sense.
#ifndef WAGGLE_USERSPACE_CONFIG_KUBE_PROXY_V1ALPHA1_H_
#define WAGGLE_USERSPACE_CONFIG_KUBE_PROXY_V1ALPHA1_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "userspace/config/duration.h"

namespace waggle::config {

// Each mapping names its fields to a visitor, in one place for all who read or write them:
// field("name", member). An optional is what upstream has as a pointer: null until defaulted.

struct ClientConnection {
  std::string kubeconfig;
  std::string accept_content_types;
  std::string content_type;
  float qps = 0;
  int32_t burst = 0;

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("kubeconfig", self.kubeconfig);
    field("acceptContentTypes", self.accept_content_types);
    field("contentType", self.content_type);
    field("qps", self.qps);
    field("burst", self.burst);
  }
};

// A number of bytes with an optional suffix, as Kubernetes writes quantities.
struct Quantity {
  std::string text = "0";

  friend bool operator==(const Quantity&, const Quantity&) = default;
};

// Like a duration, but a bare number of nanoseconds will do.
struct FlushFrequency {
  Duration value{};
};

struct LogOutput {
  bool split_stream = false;
  Quantity info_buffer_size;

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("splitStream", self.split_stream);
    field("infoBufferSize", self.info_buffer_size);
  }
};

struct LogOptions {
  LogOutput text;
  LogOutput json;

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("text", self.text);
    field("json", self.json);
  }
};

struct LogModule {
  std::string file_pattern;
  uint32_t verbosity = 0;

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("filePattern", self.file_pattern);
    field("verbosity", self.verbosity);
  }
  friend bool operator==(const LogModule&, const LogModule&) = default;
};

struct Logging {
  std::string format;
  FlushFrequency flush_frequency;
  uint32_t verbosity = 0;
  std::vector<LogModule> vmodule;
  LogOptions options;

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("format", self.format);
    field("flushFrequency", self.flush_frequency);
    field("verbosity", self.verbosity);
    field("vmodule", self.vmodule);
    field("options", self.options);
  }
};

struct Iptables {
  std::optional<int32_t> masquerade_bit;
  bool masquerade_all = false;
  std::optional<bool> localhost_node_ports;
  Duration sync_period{};
  Duration min_sync_period{};

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("masqueradeBit", self.masquerade_bit);
    field("masqueradeAll", self.masquerade_all);
    field("localhostNodePorts", self.localhost_node_ports);
    field("syncPeriod", self.sync_period);
    field("minSyncPeriod", self.min_sync_period);
  }
};

struct Ipvs {
  Duration sync_period{};
  Duration min_sync_period{};
  std::string scheduler;
  std::vector<std::string> exclude_cidrs;
  bool strict_arp = false;
  Duration tcp_timeout{};
  Duration tcp_fin_timeout{};
  Duration udp_timeout{};

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("syncPeriod", self.sync_period);
    field("minSyncPeriod", self.min_sync_period);
    field("scheduler", self.scheduler);
    field("excludeCIDRs", self.exclude_cidrs);
    field("strictARP", self.strict_arp);
    field("tcpTimeout", self.tcp_timeout);
    field("tcpFinTimeout", self.tcp_fin_timeout);
    field("udpTimeout", self.udp_timeout);
  }
};

struct Nftables {
  std::optional<int32_t> masquerade_bit;
  bool masquerade_all = false;
  Duration sync_period{};
  Duration min_sync_period{};

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("masqueradeBit", self.masquerade_bit);
    field("masqueradeAll", self.masquerade_all);
    field("syncPeriod", self.sync_period);
    field("minSyncPeriod", self.min_sync_period);
  }
};

struct Winkernel {
  std::string network_name;
  std::string source_vip;
  bool enable_dsr = false;
  std::string root_hns_endpoint_name;
  bool forward_health_check_vip = false;

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("networkName", self.network_name);
    field("sourceVip", self.source_vip);
    field("enableDSR", self.enable_dsr);
    field("rootHnsEndpointName", self.root_hns_endpoint_name);
    field("forwardHealthCheckVip", self.forward_health_check_vip);
  }
};

struct DetectLocal {
  std::string bridge_interface;
  std::string interface_name_prefix;

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("bridgeInterface", self.bridge_interface);
    field("interfaceNamePrefix", self.interface_name_prefix);
  }
};

struct Conntrack {
  std::optional<int32_t> max_per_core;
  std::optional<int32_t> min;
  std::optional<Duration> tcp_established_timeout;
  std::optional<Duration> tcp_close_wait_timeout;
  bool tcp_be_liberal = false;
  Duration udp_timeout{};
  Duration udp_stream_timeout{};

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("maxPerCore", self.max_per_core);
    field("min", self.min);
    field("tcpEstablishedTimeout", self.tcp_established_timeout);
    field("tcpCloseWaitTimeout", self.tcp_close_wait_timeout);
    field("tcpBeLiberal", self.tcp_be_liberal);
    field("udpTimeout", self.udp_timeout);
    field("udpStreamTimeout", self.udp_stream_timeout);
  }
};

struct KubeProxyConfigurationV1alpha1 {
  static constexpr char kApiVersion[] = "kubeproxy.config.k8s.io/v1alpha1";
  static constexpr char kKind[] = "KubeProxyConfiguration";

  std::map<std::string, bool> feature_gates;
  ClientConnection client_connection;
  Logging logging;
  std::string hostname_override;
  std::string bind_address;
  std::string healthz_bind_address;
  std::string metrics_bind_address;
  bool bind_address_hard_fail = false;
  bool enable_profiling = false;
  std::string show_hidden_metrics_for_version;
  std::string mode;
  Iptables iptables;
  Ipvs ipvs;
  Nftables nftables;
  Winkernel winkernel;
  std::string detect_local_mode;
  DetectLocal detect_local;
  std::string cluster_cidr;
  std::vector<std::string> node_port_addresses;
  std::optional<int32_t> oom_score_adj;
  Conntrack conntrack;
  Duration config_sync_period{};
  std::string port_range;
  bool windows_run_as_service = false;

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("featureGates", self.feature_gates);
    field("clientConnection", self.client_connection);
    field("logging", self.logging);
    field("hostnameOverride", self.hostname_override);
    field("bindAddress", self.bind_address);
    field("healthzBindAddress", self.healthz_bind_address);
    field("metricsBindAddress", self.metrics_bind_address);
    field("bindAddressHardFail", self.bind_address_hard_fail);
    field("enableProfiling", self.enable_profiling);
    field("showHiddenMetricsForVersion", self.show_hidden_metrics_for_version);
    field("mode", self.mode);
    field("iptables", self.iptables);
    field("ipvs", self.ipvs);
    field("nftables", self.nftables);
    field("winkernel", self.winkernel);
    field("detectLocalMode", self.detect_local_mode);
    field("detectLocal", self.detect_local);
    field("clusterCIDR", self.cluster_cidr);
    field("nodePortAddresses", self.node_port_addresses);
    field("oomScoreAdj", self.oom_score_adj);
    field("conntrack", self.conntrack);
    field("configSyncPeriod", self.config_sync_period);
    field("portRange", self.port_range);
    field("windowsRunAsService", self.windows_run_as_service);
  }
};

}  // namespace waggle::config

#endif
