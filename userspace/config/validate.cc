#include "userspace/config/validate.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "k8s-watch/client_config.h"
#include "k8s-watch/fields.h"
#include "k8s-watch/quote.h"
#include "userspace/config/feature_gates.h"

namespace waggle::config {
namespace {

using k8s::Quote;

class Checker {
 public:
  explicit Checker(std::string root) : root_(std::move(root)) {}

  void Wrong(std::string_view field, std::string text) {
    faults_.push_back({absl::StrCat(root_, ".", std::string(field)), std::move(text)});
  }
  // `shown` is the value as a message has it.
  void Expect(bool right, std::string_view field, std::string_view shown,
              std::string_view expected) {
    if (right) return;
    Wrong(field, absl::StrCat("is ", std::string(shown), ", expected ", std::string(expected)));
  }
  void InRange(std::string_view field, const std::optional<int32_t>& value, int32_t low,
               int32_t high) {
    if (!value) return;
    Expect(*value >= low && *value <= high, field, std::to_string(*value),
           absl::StrCat("a number from ", low, " to ", high));
  }
  void NotNegative(std::string_view field, const std::optional<int32_t>& value) {
    if (value) Expect(*value >= 0, field, std::to_string(*value), "0 or more");
  }
  void NotNegative(std::string_view field, const std::optional<Duration>& value) {
    if (value) Expect(*value >= Duration::zero(), field, DurationText(*value), "0s or more");
  }
  void Positive(std::string_view field, Duration value) {
    Expect(value > Duration::zero(), field, DurationText(value), "more than 0s");
  }
  void Cidr(const std::string& field, const std::string& value) {
    Expect(net::Prefix::Parse(value).has_value(), field, Quote(value),
           "a CIDR such as 10.0.0.0/16 or fd00::/64");
  }
  template <size_t N>
  void OneOf(std::string_view field, const std::string& value,
             const std::array<std::string_view, N>& words) {
    if (std::find(words.begin(), words.end(), value) != words.end()) return;
    const std::vector<std::string> all(words.begin(), words.end());
    Wrong(field, absl::StrCat("is ", Quote(value), ", expected one of ", absl::StrJoin(all, ", ")));
  }

  std::vector<Remark> Take() { return std::move(faults_); }

 private:
  std::string root_;
  std::vector<Remark> faults_;
};

std::string At(std::string_view field, size_t index) {
  return absl::StrCat(std::string(field), "[", index, "]");
}

// "1.33"
bool IsMinorVersion(std::string_view text) {
  const size_t dot = text.find('.');
  const auto number = [](std::string_view part) {
    return !part.empty() && part.size() <= 6 &&
           std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  return dot != std::string_view::npos && number(text.substr(0, dot)) &&
         number(text.substr(dot + 1));
}

bool IsZero(const Quantity& quantity) {
  return quantity.text.find_first_of("123456789") == std::string::npos;
}

// Digits, at most one point, a suffix.
bool IsQuantity(std::string_view text) {
  constexpr std::array<std::string_view, 15> kSuffixes = {
      "", "k", "K", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "m"};
  const size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string_view digits = text.substr(0, end);
  return digits.find_first_of("0123456789") != std::string_view::npos &&
         std::count(digits.begin(), digits.end(), '.') <= 1 &&
         std::find(kSuffixes.begin(), kSuffixes.end(), text.substr(end)) != kSuffixes.end();
}

// splitStream needs the gate, too, but kube-proxy forgets it before it looks.
void CheckLogOutput(const std::string& field, const LogOutput& output, bool alpha, Checker* check) {
  const std::string size = field + ".infoBufferSize";
  check->Expect(IsQuantity(output.info_buffer_size.text), size, Quote(output.info_buffer_size.text),
                "a number of bytes such as 0 or 64Ki");
  if (!IsZero(output.info_buffer_size) && !alpha) {
    check->Wrong(size, "is set, which needs the feature gate LoggingAlphaOptions");
  }
}

void CheckLogging(const KubeProxyConfigurationV1alpha1& config, Checker* check) {
  constexpr uint32_t kMax = std::numeric_limits<int32_t>::max();
  const Logging& logging = config.logging;
  check->OneOf("logging.format", logging.format, std::array<std::string_view, 2>{"text", "json"});
  check->Expect(logging.verbosity <= kMax, "logging.verbosity", std::to_string(logging.verbosity),
                absl::StrCat("a number from 0 to ", kMax));
  if (!logging.vmodule.empty() && logging.format == "json") {
    check->Wrong("logging.vmodule", "is set, which needs logging.format text");
  }
  for (size_t i = 0; i < logging.vmodule.size(); ++i) {
    const std::string& pattern = logging.vmodule[i].file_pattern;
    check->Expect(!pattern.empty() && pattern.find_first_of("=,") == std::string::npos,
                  At("logging.vmodule", i) + ".filePattern", Quote(pattern),
                  "a pattern without '=' and ','");
    check->Expect(logging.vmodule[i].verbosity <= kMax, At("logging.vmodule", i) + ".verbosity",
                  std::to_string(logging.vmodule[i].verbosity),
                  absl::StrCat("a number from 0 to ", kMax));
  }
  const bool alpha = AlphaGateEnabled(config.feature_gates, "LoggingAlphaOptions");
  CheckLogOutput("logging.options.text", logging.options.text, alpha, check);
  CheckLogOutput("logging.options.json", logging.options.json, alpha, check);
}

void CheckPeriods(const std::string& section, Duration sync, Duration min_sync, Checker* check) {
  check->Positive(section + ".syncPeriod", sync);
  check->NotNegative(section + ".minSyncPeriod", min_sync);
  check->Expect(min_sync <= sync || sync <= Duration::zero(), section + ".minSyncPeriod",
                DurationText(min_sync),
                absl::StrCat("at most ", section, ".syncPeriod, ", DurationText(sync)));
}

// Of the three sections, that of the mode is looked at; a bit is looked at for iptables always.
void CheckMode(const KubeProxyConfigurationV1alpha1& config, Checker* check) {
  check->OneOf("mode", config.mode,
               std::array<std::string_view, 3>{"iptables", "ipvs", "nftables"});
  check->InRange("iptables.masqueradeBit", config.iptables.masquerade_bit, 0, 31);
  if (config.mode == "ipvs") {
    CheckPeriods("ipvs", config.ipvs.sync_period, config.ipvs.min_sync_period, check);
    for (size_t i = 0; i < config.ipvs.exclude_cidrs.size(); ++i)
      check->Cidr(At("ipvs.excludeCIDRs", i), config.ipvs.exclude_cidrs[i]);
    check->NotNegative("ipvs.tcpTimeout", config.ipvs.tcp_timeout);
    check->NotNegative("ipvs.tcpFinTimeout", config.ipvs.tcp_fin_timeout);
    check->NotNegative("ipvs.udpTimeout", config.ipvs.udp_timeout);
  } else if (config.mode == "nftables") {
    CheckPeriods("nftables", config.nftables.sync_period, config.nftables.min_sync_period, check);
    check->InRange("nftables.masqueradeBit", config.nftables.masquerade_bit, 0, 31);
  } else {
    CheckPeriods("iptables", config.iptables.sync_period, config.iptables.min_sync_period, check);
  }
}

void CheckClusterCidr(const std::string& text, Checker* check) {
  if (text.empty()) return;
  const std::vector<std::string> parts = absl::StrSplit(text, ',');
  bool v4 = false;
  bool v6 = false;
  for (const std::string& part : parts) {
    check->Cidr("clusterCIDR", part);
    const auto prefix = net::Prefix::Parse(part);
    if (prefix) (prefix->family() == net::Family::kIpv4 ? v4 : v6) = true;
  }
  const bool readable = ClusterCidrsOf(text).size() == parts.size();
  check->Expect(parts.size() <= 2 && (parts.size() < 2 || !readable || (v4 && v6)), "clusterCIDR",
                Quote(text), "one CIDR, or two, of IPv4 and IPv6");
}

void CheckDetectLocal(const KubeProxyConfigurationV1alpha1& config, Checker* check) {
  const std::string& mode = config.detect_local_mode;
  check->OneOf("detectLocalMode", mode,
               std::array<std::string_view, 4>{"ClusterCIDR", "NodeCIDR", "BridgeInterface",
                                               "InterfaceNamePrefix"});
  if (mode == "ClusterCIDR") CheckClusterCidr(config.cluster_cidr, check);
  if (mode == "BridgeInterface" && config.detect_local.bridge_interface.empty()) {
    check->Wrong("detectLocal.bridgeInterface",
                 "is missing, which detectLocalMode BridgeInterface needs");
  }
  if (mode == "InterfaceNamePrefix" && config.detect_local.interface_name_prefix.empty()) {
    check->Wrong("detectLocal.interfaceNamePrefix",
                 "is missing, which detectLocalMode InterfaceNamePrefix needs");
  }
}

void CheckNodePortAddresses(const std::vector<std::string>& list, Checker* check) {
  if (list == std::vector<std::string>{"primary"}) return;
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i] == "primary") {
      check->Wrong(At("nodePortAddresses", i), "is primary, which has to stand alone");
    } else {
      check->Cidr(At("nodePortAddresses", i), list[i]);
    }
  }
}

}  // namespace

std::optional<net::Endpoint> ParseHostPort(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const bool brackets = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (brackets) host = host.substr(1, host.size() - 2);
  if (!brackets && host.find(':') != std::string_view::npos) return std::nullopt;
  const auto address = net::Address::Parse(host);
  const std::string_view digits = text.substr(colon + 1);
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (!address || error != std::errc() || end != digits.data() + digits.size() || port == 0) {
    return std::nullopt;
  }
  return net::Endpoint{*address, port};
}

std::vector<net::Prefix> ClusterCidrsOf(const std::string& text) {
  std::vector<net::Prefix> found;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    if (auto prefix = net::Prefix::Parse({part.data(), part.size()})) found.push_back(*prefix);
  }
  return found;
}

std::string NodeNameOf(const KubeProxyConfigurationV1alpha1& config) {
  return absl::AsciiStrToLower(absl::StripAsciiWhitespace(config.hostname_override));
}

std::vector<Remark> Validate(const KubeProxyConfigurationV1alpha1& config) {
  Checker check(KubeProxyConfigurationV1alpha1::kKind);
  check.Expect(config.client_connection.burst >= 0, "clientConnection.burst",
               std::to_string(config.client_connection.burst), "0 or more");
  CheckLogging(config, &check);
  if (!config.hostname_override.empty()) {
    check.Expect(k8s::IsSubdomain(NodeNameOf(config)), "hostnameOverride",
                 Quote(config.hostname_override),
                 "a node name (RFC 1123: letters, digits, '-' and '.', at most 253)");
  }
  check.Expect(net::Address::Parse(config.bind_address).has_value(), "bindAddress",
               Quote(config.bind_address), "an IPv4 or IPv6 address");
  for (const auto& [field, value] :
       {std::pair{"healthzBindAddress", &config.healthz_bind_address},
        std::pair{"metricsBindAddress", &config.metrics_bind_address}}) {
    if (value->empty()) continue;
    check.Expect(ParseHostPort(*value).has_value(), field, Quote(*value),
                 "an address, or an address and a port such as 0.0.0.0:10256 or [::]:10256");
  }
  const std::string& hidden = config.show_hidden_metrics_for_version;
  check.Expect(hidden.empty() || IsMinorVersion(hidden), "showHiddenMetricsForVersion",
               Quote(hidden), "a version such as 1.33");
  CheckMode(config, &check);
  CheckDetectLocal(config, &check);
  CheckNodePortAddresses(config.node_port_addresses, &check);
  check.InRange("oomScoreAdj", config.oom_score_adj, -1000, 1000);
  check.NotNegative("conntrack.maxPerCore", config.conntrack.max_per_core);
  check.NotNegative("conntrack.min", config.conntrack.min);
  check.NotNegative("conntrack.tcpEstablishedTimeout", config.conntrack.tcp_established_timeout);
  check.NotNegative("conntrack.tcpCloseWaitTimeout", config.conntrack.tcp_close_wait_timeout);
  check.NotNegative("conntrack.udpTimeout", config.conntrack.udp_timeout);
  check.NotNegative("conntrack.udpStreamTimeout", config.conntrack.udp_stream_timeout);
  check.Positive("configSyncPeriod", config.config_sync_period);
  return check.Take();
}

std::vector<Remark> ValidateGates(const KubeProxyConfigurationV1alpha1& config) {
  Checker check(KubeProxyConfigurationV1alpha1::kKind);
  for (const auto& [name, value] : config.feature_gates) {
    const std::string fault = GateFault(name, value);
    if (!fault.empty()) check.Wrong(absl::StrCat("featureGates.", k8s::Printable(name)), fault);
  }
  return check.Take();
}

std::vector<Remark> Validate(const WaggleConfigurationV1alpha1& config) {
  Checker check(WaggleConfigurationV1alpha1::kKind);
  for (size_t i = 0; i < config.api_servers.size(); ++i) {
    const auto endpoint = k8s::ParseEndpoint(config.api_servers[i]);
    if (!endpoint.ok()) {
      check.Wrong(At("apiServers", i), std::string(endpoint.status().message()));
    }
  }
  if (!config.manifests.empty() && !config.api_servers.empty()) {
    check.Wrong("manifests", "is set, which excludes apiServers");
  }
  check.Expect(!config.pin_path.empty(), "pinPath", "empty", "a folder of a bpf file system");
  check.OneOf("socketLB", config.socket_lb, std::array<std::string_view, 3>{"all", "host", "off"});
  check.OneOf("forwarding", config.forwarding,
              std::array<std::string_view, 3>{"auto", "stack", "redirect"});
  check.OneOf("tcAttach", config.tc_attach,
              std::array<std::string_view, 3>{"auto", "tcx", "clsact"});
  MapSizes::Visit(config.max, [&check](const char* name, uint32_t size) {
    check.Expect(size >= 1 && size <= maps::kMaxSize, absl::StrCat("max.", name),
                 std::to_string(size), absl::StrCat("a number from 1 to ", maps::kMaxSize));
  });
  return check.Take();
}

}  // namespace waggle::config
