#include "userspace/config/write.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "k8s-watch/yaml_scalar.h"

namespace waggle::config {
namespace {

using nlohmann::json;

template <typename T>
concept Mapping = requires(const T& value) {
  T::Visit(value, [](const char*, const auto&) {});
};

template <Mapping T>
json Members(const T& mapping);

// Go writes a float32 with as few digits as it takes.
json Value(float value) {
  std::array<char, 64> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return json::parse(text.data(), end);
}
json Value(bool value) {
  return value;
}
json Value(int32_t value) {
  return value;
}
json Value(uint32_t value) {
  return value;
}
json Value(const std::string& value) {
  return value;
}
json Value(Duration value) {
  return DurationText(value);
}
json Value(const FlushFrequency& value) {
  return DurationText(value.value);
}
json Value(const Quantity& value) {
  return value.text;
}
json Value(const std::map<std::string, bool>& value) {
  return value;
}
template <Mapping T>
json Value(const T& value) {
  return Members(value);
}
template <typename T>
json Value(const std::optional<T>& value) {
  return value ? Value(*value) : json();
}
// An empty list is null, as in Go.
template <typename T>
json Value(const std::vector<T>& value) {
  json list;
  for (const T& each : value)
    list.push_back(Value(each));
  return list;
}

template <Mapping T>
json Members(const T& mapping) {
  json object = json::object();
  T::Visit(mapping,
           [&object](const char* key, const auto& member) { object[key] = Value(member); });
  return object;
}

// Upstream leaves these away where they are empty.
json LoggingJson(const Logging& logging) {
  json object = Value(logging);
  if (logging.vmodule.empty()) object.erase("vmodule");
  for (auto& [name, output] : object["options"].items()) {
    if (output["splitStream"] == false) output.erase("splitStream");
  }
  return object;
}

json Configz(const KubeProxyConfigurationV1alpha1& config) {
  const Conntrack& conntrack = config.conntrack;
  const ClientConnection& client = config.client_connection;
  const bool nftables = config.mode == "nftables";
  const bool ipvs = config.mode == "ipvs";
  const Duration sync = nftables ? config.nftables.sync_period
                        : ipvs   ? config.ipvs.sync_period
                                 : config.iptables.sync_period;
  const Duration min_sync = nftables ? config.nftables.min_sync_period
                            : ipvs   ? config.ipvs.min_sync_period
                                     : config.iptables.min_sync_period;
  std::vector<std::string> cidrs;
  if (!config.cluster_cidr.empty()) cidrs = absl::StrSplit(config.cluster_cidr, ',');
  return {
      {"Linux",
       {{"Conntrack",
         {{"MaxPerCore", Value(conntrack.max_per_core)},
          {"Min", Value(conntrack.min)},
          {"TCPEstablishedTimeout", Value(conntrack.tcp_established_timeout)},
          {"TCPCloseWaitTimeout", Value(conntrack.tcp_close_wait_timeout)},
          {"TCPBeLiberal", conntrack.tcp_be_liberal},
          {"UDPTimeout", Value(conntrack.udp_timeout)},
          {"UDPStreamTimeout", Value(conntrack.udp_stream_timeout)}}},
        {"MasqueradeAll",
         nftables ? config.nftables.masquerade_all : config.iptables.masquerade_all},
        {"OOMScoreAdj", Value(config.oom_score_adj)}}},
      {"Windows", {{"RunAsService", config.windows_run_as_service}}},
      {"FeatureGates", Value(config.feature_gates)},
      {"ClientConnection",
       {{"Kubeconfig", client.kubeconfig},
        {"AcceptContentTypes", client.accept_content_types},
        {"ContentType", client.content_type},
        {"QPS", Value(client.qps)},
        {"Burst", client.burst}}},
      {"Logging", LoggingJson(config.logging)},
      {"HostnameOverride", config.hostname_override},
      {"BindAddress", config.bind_address},
      {"HealthzBindAddress", config.healthz_bind_address},
      {"MetricsBindAddress", config.metrics_bind_address},
      {"BindAddressHardFail", config.bind_address_hard_fail},
      {"EnableProfiling", config.enable_profiling},
      {"ShowHiddenMetricsForVersion", config.show_hidden_metrics_for_version},
      {"Mode", config.mode},
      {"IPTables",
       {{"MasqueradeBit", Value(config.iptables.masquerade_bit)},
        {"LocalhostNodePorts", Value(config.iptables.localhost_node_ports)}}},
      {"IPVS",
       {{"Scheduler", config.ipvs.scheduler},
        {"ExcludeCIDRs", Value(config.ipvs.exclude_cidrs)},
        {"StrictARP", config.ipvs.strict_arp},
        {"TCPTimeout", Value(config.ipvs.tcp_timeout)},
        {"TCPFinTimeout", Value(config.ipvs.tcp_fin_timeout)},
        {"UDPTimeout", Value(config.ipvs.udp_timeout)}}},
      {"Winkernel",
       {{"NetworkName", config.winkernel.network_name},
        {"SourceVip", config.winkernel.source_vip},
        {"EnableDSR", config.winkernel.enable_dsr},
        {"RootHnsEndpointName", config.winkernel.root_hns_endpoint_name},
        {"ForwardHealthCheckVip", config.winkernel.forward_health_check_vip}}},
      {"NFTables", {{"MasqueradeBit", Value(config.nftables.masquerade_bit)}}},
      {"DetectLocalMode", config.detect_local_mode},
      {"DetectLocal",
       {{"BridgeInterface", config.detect_local.bridge_interface},
        {"ClusterCIDRs", Value(cidrs)},
        {"InterfaceNamePrefix", config.detect_local.interface_name_prefix}}},
      {"NodePortAddresses", Value(config.node_port_addresses)},
      {"SyncPeriod", Value(sync)},
      {"MinSyncPeriod", Value(min_sync)},
      {"ConfigSyncPeriod", Value(config.config_sync_period)},
  };
}

// What kube-proxy writes is what it made of its own form, which holds these once, for the mode.
KubeProxyConfigurationV1alpha1 OfMode(KubeProxyConfigurationV1alpha1 config) {
  if (config.mode == "ipvs" || config.mode == "nftables") {
    config.iptables.sync_period = config.iptables.min_sync_period = {};
  }
  if (config.mode == "nftables") {
    config.iptables.masquerade_all = false;
  } else {
    config.nftables.masquerade_all = false;
    config.nftables.sync_period = config.nftables.min_sync_period = {};
  }
  if (config.mode != "ipvs") config.ipvs.sync_period = config.ipvs.min_sync_period = {};
  return config;
}

// A plain scalar where that is read back as this text, else with JSON's quotes, which are
// YAML's, too.
std::string YamlText(const std::string& text) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-:+µ";
  const bool plain = !text.empty() && text.find_first_not_of(kPlain) == std::string::npos &&
                     text.front() != '-' && text.front() != ':' && text.back() != ':' &&
                     k8s::PlainScalar(text).is_string();
  return plain ? text : json(text).dump();
}

void PutYaml(const json& value, const std::string& indent, std::string* out);

void PutMembers(const json& object, const std::string& indent, bool first_inline,
                std::string* out) {
  for (const auto& [key, member] : object.items()) {
    if (!std::exchange(first_inline, false)) *out += indent;
    *out += YamlText(key) + ":";
    PutYaml(member, indent, out);
  }
}

// Behind "key:".
void PutYaml(const json& value, const std::string& indent, std::string* out) {
  if (value.is_object() && !value.empty()) {
    *out += "\n";
    PutMembers(value, indent + "  ", false, out);
  } else if (value.is_array() && !value.empty()) {
    *out += "\n";
    for (const json& each : value) {
      *out += indent + "-";
      if (each.is_object()) {
        *out += " ";
        PutMembers(each, indent + "  ", true, out);
      } else {
        PutYaml(each, indent, out);
      }
    }
  } else {
    *out += " " + (value.is_string() ? YamlText(value.get<std::string>()) : value.dump()) + "\n";
  }
}

std::string Yaml(const json& object) {
  std::string text;
  PutMembers(object, "", false, &text);
  return text;
}

}  // namespace

json ToJson(const KubeProxyConfigurationV1alpha1& config) {
  json object = Members(config);
  object["apiVersion"] = KubeProxyConfigurationV1alpha1::kApiVersion;
  object["kind"] = KubeProxyConfigurationV1alpha1::kKind;
  object["logging"] = LoggingJson(config.logging);
  if (config.feature_gates.empty()) object.erase("featureGates");
  if (!config.windows_run_as_service) object.erase("windowsRunAsService");
  return object;
}

json ToJson(const WaggleConfigurationV1alpha1& config) {
  json object = Members(config);
  object["apiVersion"] = WaggleConfigurationV1alpha1::kApiVersion;
  object["kind"] = WaggleConfigurationV1alpha1::kKind;
  return object;
}

json ConfigzJson(const KubeProxyConfigurationV1alpha1& kube_proxy,
                 const WaggleConfigurationV1alpha1& waggle) {
  return {{"kubeproxy.config.k8s.io", Configz(kube_proxy)}, {"waggle.dev", Members(waggle)}};
}

std::string ConfigYaml(const KubeProxyConfigurationV1alpha1& kube_proxy,
                       const WaggleConfigurationV1alpha1& waggle) {
  return Yaml(ToJson(OfMode(kube_proxy))) + "---\n" + Yaml(ToJson(waggle));
}

}  // namespace waggle::config
