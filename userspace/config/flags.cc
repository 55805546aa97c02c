#include "userspace/config/flags.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <type_traits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "k8s-watch/quote.h"
#include "userspace/config/defaults.h"

namespace waggle::config {
namespace {

constexpr const char* kSwitch = nullptr;

constexpr FlagInfo kFlags[] = {
    {"bind-address", "bindAddress", "IP", "The node's address in its family"},
    {"bind-address-hard-fail", "bindAddressHardFail", kSwitch,
     "End where a port of the HTTP server cannot be had"},
    {"boot-id-file", "", "FILE", ""},
    {"cluster-cidr", "clusterCIDR", "CIDR[,CIDR]", "Addresses of all pods"},
    {"config-sync-period", "configSyncPeriod", "DURATION", ""},
    {"conntrack-max-per-core", "conntrack.maxPerCore", "N", ""},
    {"conntrack-min", "conntrack.min", "N", ""},
    {"conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", kSwitch, ""},
    {"conntrack-tcp-timeout-close-wait", "conntrack.tcpCloseWaitTimeout", "DURATION", ""},
    {"conntrack-tcp-timeout-established", "conntrack.tcpEstablishedTimeout", "DURATION", ""},
    {"conntrack-udp-timeout", "conntrack.udpTimeout", "DURATION", ""},
    {"conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout", "DURATION", ""},
    {"detect-local-mode", "detectLocalMode", "MODE",
     "How this node's pods are known: ClusterCIDR, NodeCIDR, BridgeInterface or "
     "InterfaceNamePrefix"},
    {"feature-gates", "featureGates", "NAME=BOOL[,…]", ""},
    {"healthz-bind-address", "healthzBindAddress", "IP[:PORT]",
     "Where /healthz and /livez are served (default: 0.0.0.0:10256; empty: nowhere)"},
    {"healthz-port", "", "PORT",
     "Deprecated: the port where --healthz-bind-address has none; 0: nowhere"},
    {"iptables-localhost-nodeports", "iptables.localhostNodePorts", kSwitch,
     "NodePorts at 127.0.0.1"},
    {"iptables-masquerade-bit", "iptables.masqueradeBit", "N", ""},
    {"iptables-min-sync-period", "", "DURATION", ""},
    {"iptables-sync-period", "", "DURATION",
     "/healthz fails when a change waits for more than twice this time (default: 30s)"},
    {"ipvs-exclude-cidrs", "ipvs.excludeCIDRs", "CIDR[,…]", ""},
    {"ipvs-min-sync-period", "ipvs.minSyncPeriod", "DURATION", ""},
    {"ipvs-scheduler", "ipvs.scheduler", "NAME", ""},
    {"ipvs-strict-arp", "ipvs.strictARP", kSwitch, ""},
    {"ipvs-sync-period", "ipvs.syncPeriod", "DURATION", "The same with --proxy-mode=ipvs"},
    {"ipvs-tcp-timeout", "ipvs.tcpTimeout", "DURATION", ""},
    {"ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout", "DURATION", ""},
    {"ipvs-udp-timeout", "ipvs.udpTimeout", "DURATION", ""},
    {"kube-api-burst", "clientConnection.burst", "N", ""},
    {"kube-api-content-type", "clientConnection.contentType", "TYPE", ""},
    {"kube-api-qps", "clientConnection.qps", "N", ""},
    {"kubeconfig", "clientConnection.kubeconfig", "FILE[:FILE…]",
     "How to reach the apiserver (default: as a pod of the cluster)"},
    {"log-flush-frequency", "logging.flushFrequency", "DURATION", "", true},
    {"log-json-info-buffer-size", "logging.options.json.infoBufferSize", "BYTES", "", true},
    {"log-json-split-stream", "logging.options.json.splitStream", kSwitch, "", true},
    {"log-text-info-buffer-size", "logging.options.text.infoBufferSize", "BYTES", "", true},
    {"log-text-split-stream", "logging.options.text.splitStream", kSwitch, "", true},
    {"logging-format", "logging.format", "FORMAT", "", true},
    {"machine-id-file", "", "FILE", ""},
    {"masquerade-all", "", kSwitch, "Hide clients of cluster addresses behind the node"},
    {"metrics-bind-address", "metricsBindAddress", "IP[:PORT]",
     "Where /metrics is served (default: 127.0.0.1:10249; empty: nowhere)"},
    {"metrics-port", "", "PORT",
     "Deprecated: the port where --metrics-bind-address has none; 0: nowhere"},
    {"nodeport-addresses", "nodePortAddresses", "CIDR[,…]",
     "On which of the node's addresses NodePorts are served, or primary"},
    {"oom-score-adj", "oomScoreAdj", "N",
     "How little the kernel shall kill the agent for memory, -1000 to 1000 (default: -999)"},
    {"pod-bridge-interface", "detectLocal.bridgeInterface", "NAME",
     "This node's pods are behind that bridge"},
    {"pod-interface-name-prefix", "detectLocal.interfaceNamePrefix", "PREFIX",
     "This node's pods are behind devices with such names"},
    {"profiling", "enableProfiling", kSwitch, ""},
    {"proxy-mode", "mode", "MODE", "What /proxyMode answers: iptables, ipvs or nftables"},
    {"show-hidden-metrics-for-version", "showHiddenMetricsForVersion", "VERSION", ""},
    {"v", "logging.verbosity", "N", "Log more, from 4 on as --verbose does", true},
    {"vmodule", "logging.vmodule", "PATTERN=N[,…]", "", true},
};

std::string Is(std::string_view value, std::string_view expected) {
  return absl::StrCat("is ", k8s::Quote(value), ", expected ", std::string(expected));
}

// Puts a text into a field: empty, or why not. Words are those that Go's flags take.
class Setter {
 public:
  explicit Setter(const std::string& text) : text_(text) {}

  std::string Set(bool& target) const {
    constexpr std::array<std::string_view, 6> kTrue = {"1", "t", "T", "TRUE", "true", "True"};
    constexpr std::array<std::string_view, 6> kFalse = {"0", "f", "F", "FALSE", "false", "False"};
    target = std::find(kTrue.begin(), kTrue.end(), text_) != kTrue.end();
    if (target || std::find(kFalse.begin(), kFalse.end(), text_) != kFalse.end()) return "";
    return Is(text_, "true or false");
  }
  std::string Set(std::string& target) const {
    target = text_;
    return "";
  }
  std::string Set(int32_t& target) const {
    return absl::SimpleAtoi(text_, &target) ? "" : Is(text_, "a whole number");
  }
  std::string Set(uint32_t& target) const {
    int32_t value = 0;
    if (!absl::SimpleAtoi(text_, &value) || value < 0) return Is(text_, "a number from 0 on");
    target = static_cast<uint32_t>(value);
    return "";
  }
  std::string Set(float& target) const {
    return absl::SimpleAtof(text_, &target) ? "" : Is(text_, "a number");
  }
  std::string Set(Duration& target) const {
    const auto duration = ParseDuration(text_);
    if (!duration) return Is(text_, "a duration such as 30s, 1m30s or 0s");
    target = *duration;
    return "";
  }
  std::string Set(FlushFrequency& target) const { return Set(target.value); }
  std::string Set(Quantity& target) const { return Set(target.text); }
  template <typename T>
  std::string Set(std::optional<T>& target) const {
    T value{};
    std::string fault = Set(value);
    if (fault.empty()) target = value;
    return fault;
  }
  // What comes later is added.
  std::string Set(std::vector<std::string>& target) const {
    for (const absl::string_view each : absl::StrSplit(text_, ',', absl::SkipEmpty()))
      target.emplace_back(each);
    return "";
  }
  std::string Set(std::map<std::string, bool>& target) const {
    for (const absl::string_view each : absl::StrSplit(text_, ',', absl::SkipEmpty())) {
      const std::pair<std::string, std::string> parts =
          absl::StrSplit(absl::StripAsciiWhitespace(each), absl::MaxSplits('=', 1));
      if (!Setter(parts.second).Set(target[parts.first]).empty()) {
        return Is(text_, "NAME=true or NAME=false, separated by commas");
      }
    }
    return "";
  }
  std::string Set(std::vector<LogModule>& target) const {
    for (const absl::string_view each : absl::StrSplit(text_, ',', absl::SkipEmpty())) {
      const std::vector<std::string> parts = absl::StrSplit(each, '=');
      LogModule module{parts[0], 0};
      if (parts.size() != 2 || parts[0].empty() ||
          !Setter(parts[1]).Set(module.verbosity).empty()) {
        return Is(text_, "PATTERN=N, separated by commas");
      }
      target.push_back(std::move(module));
    }
    return "";
  }

 private:
  const std::string& text_;
};

template <typename T>
concept Mapping = requires(T& value) {
  T::Visit(value, [](const char*, auto&) {});
};

// Sets the field that `path` leads to. Empty, or why the text cannot be its value.
template <Mapping T>
std::string SetField(T& mapping, std::string_view path, const std::string& text) {
  const size_t dot = path.find('.');
  const std::string_view key = path.substr(0, dot);
  std::string fault;
  T::Visit(mapping, [&](const char* name, auto& member) {
    if (key != name) return;
    if constexpr (Mapping<std::remove_reference_t<decltype(member)>>) {
      fault = SetField(member, path.substr(dot + 1), text);
    } else {
      fault = Setter(text).Set(member);
    }
  });
  return fault;
}

// What one flag alone does not say.
struct Together {
  std::optional<Duration> sync_period;  // of the mode, unless that is ipvs
  std::optional<Duration> min_sync_period;
  int32_t healthz_port = kHealthzPort;
  int32_t metrics_port = kMetricsPort;
};

std::string Apply(const FlagInfo& info, const std::string& value, Together* together,
                  KubeProxyConfigurationV1alpha1* config) {
  const Setter setter(value);
  if (!info.path.empty()) return SetField(*config, info.path, value);
  if (info.name == "iptables-sync-period") return setter.Set(together->sync_period);
  if (info.name == "iptables-min-sync-period") return setter.Set(together->min_sync_period);
  if (info.name == "healthz-port") return setter.Set(together->healthz_port);
  if (info.name == "metrics-port") return setter.Set(together->metrics_port);
  if (info.name == "masquerade-all") {
    const std::string fault = setter.Set(config->iptables.masquerade_all);
    config->nftables.masquerade_all = config->iptables.masquerade_all;
    return fault;
  }
  return "";
}

// A port of 0 switches a server off; else it stands behind an address without one.
void SetPort(int32_t port, std::string* address) {
  *address = port == 0 || address->empty() ? "" : WithPort(*address, port);
}

void Finish(const Together& together, KubeProxyConfigurationV1alpha1* config) {
  SetPort(together.healthz_port, &config->healthz_bind_address);
  SetPort(together.metrics_port, &config->metrics_bind_address);
  if (config->mode == "ipvs") return;
  const bool nftables = config->mode == "nftables";
  Duration& sync = nftables ? config->nftables.sync_period : config->iptables.sync_period;
  Duration& min_sync =
      nftables ? config->nftables.min_sync_period : config->iptables.min_sync_period;
  sync = together.sync_period.value_or(sync);
  min_sync = together.min_sync_period.value_or(min_sync);
}

}  // namespace

std::span<const FlagInfo> KubeProxyFlags() {
  return kFlags;
}

const FlagInfo* FindFlag(std::string_view name) {
  const auto* found = std::find_if(std::begin(kFlags), std::end(kFlags),
                                   [name](const FlagInfo& info) { return info.name == name; });
  return found == std::end(kFlags) ? nullptr : found;
}

std::vector<Remark> ApplyFlags(const std::vector<FlagValue>& flags,
                               KubeProxyConfigurationV1alpha1* config) {
  std::vector<Remark> faults;
  Together together;
  for (const FlagValue& flag : flags) {
    const FlagInfo* info = FindFlag(flag.name);
    if (info == nullptr) continue;
    std::string fault = Apply(*info, flag.value, &together, config);
    if (!fault.empty()) faults.push_back({"--" + std::string(info->name), std::move(fault)});
  }
  Finish(together, config);
  return faults;
}

}  // namespace waggle::config
