#include "userspace/config/load.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "userspace/config/defaults.h"
#include "userspace/config/effects.h"
#include "userspace/config/validate.h"
#include "userspace/config/write.h"

namespace waggle::config {
namespace {

using KubeProxy = KubeProxyConfigurationV1alpha1;
using Own = WaggleConfigurationV1alpha1;

// Turns remarks into sentences that name where their field was set.
class Narrator {
 public:
  Narrator(const ConfigInput& input, const ConfigFile& file) : input_(input), file_(file) {}

  // Of the file itself.
  std::string InFile(const Remark& remark) const {
    return absl::StrCat(input_.file->name, ": ", Line(remark.line), remark.path,
                        remark.path.empty() ? "" : ": ", remark.text);
  }
  // Of what file and flags came to.
  std::string OfField(const Remark& remark) const {
    for (const auto& [flag, path] : flags_) {
      if (!remark.path.starts_with(path)) continue;
      const std::string rest = remark.path.substr(path.size());
      // Of a list or mapping also what is in it.
      if (!rest.empty() && rest[0] != '.' && rest[0] != '[') continue;
      return absl::StrCat("--", flag, rest, ": ", remark.text);
    }
    if (!input_.file) return absl::StrCat(remark.path, ": ", remark.text);
    const auto line = file_.lines.find(remark.path);
    return InFile({remark.path, remark.text, line == file_.lines.end() ? 0 : line->second});
  }
  void FieldIsOfFlag(const FlagInfo& info) {
    if (info.path.empty()) return;
    flags_.emplace_back(info.name, absl::StrCat(KubeProxy::kKind, ".", std::string(info.path)));
  }

 private:
  static std::string Line(size_t line) {
    return line == 0 ? "" : absl::StrCat("line ", line, ": ");
  }

  const ConfigInput& input_;
  const ConfigFile& file_;
  std::vector<std::pair<std::string, std::string>> flags_;
};

ProxyMode ModeOf(const std::string& mode) {
  if (mode == "ipvs") return ProxyMode::kIpvs;
  return mode == "nftables" ? ProxyMode::kNftables : ProxyMode::kIptables;
}

DetectLocalMode DetectLocalModeOf(const std::string& mode) {
  if (mode == "NodeCIDR") return DetectLocalMode::kNodeCidr;
  if (mode == "BridgeInterface") return DetectLocalMode::kBridgeInterface;
  if (mode == "InterfaceNamePrefix") return DetectLocalMode::kInterfaceNamePrefix;
  return DetectLocalMode::kClusterCidr;
}

NodePortAddresses NodePortAddressesOf(const std::vector<std::string>& list) {
  NodePortAddresses addresses;
  addresses.primary = list == std::vector<std::string>{"primary"};
  for (const std::string& each : list) {
    if (auto prefix = net::Prefix::Parse(each)) addresses.ranges.push_back(*prefix);
  }
  return addresses;
}

loader::SocketLb SocketLbOf(const std::string& mode) {
  if (mode == "host") return loader::SocketLb::kHost;
  return mode == "off" ? loader::SocketLb::kOff : loader::SocketLb::kAll;
}

waggle_forwarding ForwardingOf(const std::string& mode) {
  if (mode == "stack") return WAGGLE_FORWARDING_STACK;
  return mode == "redirect" ? WAGGLE_FORWARDING_REDIRECT : WAGGLE_FORWARDING_AUTO;
}

loader::TcAttach TcAttachOf(const std::string& mode) {
  if (mode == "tcx") return loader::TcAttach::kTcx;
  return mode == "clsact" ? loader::TcAttach::kClsact : loader::TcAttach::kAuto;
}

// Both have been found right.
AgentConfig Typed(const KubeProxy& kube_proxy, const Own& own) {
  AgentConfig agent;
  agent.manifests = own.manifests;
  agent.client.kubeconfig = kube_proxy.client_connection.kubeconfig;
  agent.client.apiservers = own.api_servers;
  agent.datapath.pin_path = own.pin_path;
  agent.datapath.cgroup_path = own.cgroup_path;
  agent.datapath.socket_lb = SocketLbOf(own.socket_lb);
  agent.datapath.tc_attach = TcAttachOf(own.tc_attach);
  agent.datapath.devices = {own.devices.ignore, own.devices.pods, own.devices.uplinks};
  agent.datapath.sizes = own.max.sizes;
  agent.forwarding = ForwardingOf(own.forwarding);

  agent.proxy_mode = ModeOf(kube_proxy.mode);
  agent.healthz_bind_address = ParseHostPort(kube_proxy.healthz_bind_address);
  agent.metrics_bind_address = ParseHostPort(kube_proxy.metrics_bind_address);
  agent.bind_address_hard_fail = kube_proxy.bind_address_hard_fail;
  agent.configz_json = ConfigzJson(kube_proxy, own).dump();
  switch (agent.proxy_mode) {
    case ProxyMode::kIptables:
      agent.sync_period = kube_proxy.iptables.sync_period;
      agent.min_sync_period = kube_proxy.iptables.min_sync_period;
      break;
    case ProxyMode::kIpvs:
      agent.sync_period = kube_proxy.ipvs.sync_period;
      agent.min_sync_period = kube_proxy.ipvs.min_sync_period;
      break;
    case ProxyMode::kNftables:
      agent.sync_period = kube_proxy.nftables.sync_period;
      agent.min_sync_period = kube_proxy.nftables.min_sync_period;
      break;
  }
  agent.config_sync_period = kube_proxy.config_sync_period;

  const auto bind = net::Address::Parse(kube_proxy.bind_address);
  if (bind && *bind != *net::Address::Parse("0.0.0.0") && *bind != *net::Address::Parse("::")) {
    agent.bind_address = bind;
  }
  agent.detect_local_mode = DetectLocalModeOf(kube_proxy.detect_local_mode);
  agent.cluster_cidrs = ClusterCidrsOf(kube_proxy.cluster_cidr);
  agent.bridge_interface = kube_proxy.detect_local.bridge_interface;
  agent.interface_name_prefix = kube_proxy.detect_local.interface_name_prefix;
  agent.node_port_addresses = NodePortAddressesOf(kube_proxy.node_port_addresses);
  agent.localhost_node_ports = *kube_proxy.iptables.localhost_node_ports;
  agent.masquerade_all = agent.proxy_mode == ProxyMode::kNftables
                             ? kube_proxy.nftables.masquerade_all
                             : kube_proxy.iptables.masquerade_all;
  agent.oom_score_adj = *kube_proxy.oom_score_adj;
  agent.verbosity = kube_proxy.logging.verbosity;
  return agent;
}

void WarnOfFile(const ConfigInput& input, const ConfigFile& file, const Narrator& tell,
                LoadedConfig* loaded) {
  for (const Remark& remark : file.unknown)
    (input.strict ? loaded->errors : loaded->warnings).push_back(tell.InFile(remark));
  if (file.waggle_first && file.kube_proxy) {
    loaded->warnings.push_back(
        absl::StrCat(input.file->name, ": the ", Own::kKind, " stands before the ",
                     KubeProxy::kKind, "; kube-proxy reads only the first document of a file"));
  }
}

}  // namespace

LoadedConfig LoadConfig(const ConfigInput& input) {
  LoadedConfig loaded;
  const ConfigFile file = input.file ? ReadConfig(input.file->text) : ConfigFile();
  Narrator tell(input, file);
  for (const Remark& error : file.errors)
    loaded.errors.push_back(tell.InFile(error));
  WarnOfFile(input, file, tell, &loaded);

  KubeProxy kube_proxy = file.kube_proxy.value_or(KubeProxy());
  Own own = file.waggle.value_or(Own());
  SetDefaults(&kube_proxy);
  std::vector<FlagValue> heeded;
  for (const FlagValue& flag : input.flags) {
    const FlagInfo* info = FindFlag(flag.name);
    if (info == nullptr) continue;
    if (input.file && !info->beside_file) {
      loaded.warnings.push_back(
          absl::StrCat("--", std::string(flag.name), " is ignored, as --config is given"));
      continue;
    }
    heeded.push_back(flag);
    tell.FieldIsOfFlag(*info);
  }
  for (const Remark& fault : ApplyFlags(heeded, &kube_proxy))
    loaded.errors.push_back(absl::StrCat(fault.path, ": ", fault.text));
  if (!input.hostname_override.empty()) kube_proxy.hostname_override = input.hostname_override;
  if (input.own_flags) input.own_flags(&own);
  SetDependentDefaults(&kube_proxy);

  for (const std::vector<Remark>& faults : {Validate(kube_proxy), Validate(own)}) {
    for (const Remark& fault : faults)
      loaded.errors.push_back(tell.OfField(fault));
  }
  // Gates come and go with each release, and nothing here depends on one.
  for (const Remark& fault : ValidateGates(kube_proxy))
    (input.strict ? loaded.errors : loaded.warnings).push_back(tell.OfField(fault));
  if (!loaded.errors.empty()) return loaded;

  for (const std::string& line : {file.kube_proxy ? NoEffectLine(kube_proxy) : std::string(),
                                  input.file ? std::string() : NoEffectLine(heeded)}) {
    if (!line.empty()) loaded.warnings.push_back(line);
  }
  loaded.yaml = ConfigYaml(kube_proxy, own);
  loaded.agent = Typed(kube_proxy, own);
  loaded.agent.client.master = input.master;
  loaded.agent.node_name = NodeNameOf(kube_proxy);
  return loaded;
}

}  // namespace waggle::config
