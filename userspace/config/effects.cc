#include "userspace/config/effects.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "userspace/config/defaults.h"
#include "userspace/config/write.h"

namespace waggle::config {
namespace {

using nlohmann::json;

constexpr std::string_view kNotServed =
    "not yet: only NodePorts, load balancers and external addresses ask for it";

// A field, or a mapping with all that is in it; of several that fit, the first one counts.
// "--" stands before flags that are no field.
constexpr std::pair<std::string_view, std::string_view> kReasons[] = {
    {"featureGates", "Waggle has no gates"},
    {"clientConnection.kubeconfig", ""},
    {"clientConnection.acceptContentTypes", "Waggle asks for JSON"},
    {"clientConnection.contentType", "Waggle asks for JSON"},
    {"clientConnection", "Waggle follows one watch for each kind, and backs off by itself"},
    {"logging.verbosity", ""},
    {"logging", "each line goes to the standard error as text, at once"},
    {"enableProfiling", "there is no /debug/pprof"},
    {"showHiddenMetricsForVersion", "no metric is hidden"},
    {"iptables.syncPeriod", ""},
    {"iptables.masqueradeAll", "not yet: clients keep their addresses"},
    {"iptables.localhostNodePorts", kNotServed},
    {"iptables.masqueradeBit", "no packet is marked"},
    {"iptables", "each change is written at once"},
    {"ipvs.syncPeriod", ""},
    {"ipvs.minSyncPeriod", "each change is written at once"},
    {"ipvs", "nothing is done by IPVS"},
    {"nftables.syncPeriod", ""},
    {"nftables.masqueradeAll", "not yet: clients keep their addresses"},
    {"nftables.masqueradeBit", "no packet is marked"},
    {"nftables", "each change is written at once"},
    {"winkernel", "this is not Windows"},
    {"windowsRunAsService", "this is not Windows"},
    {"detectLocalMode", kNotServed},
    {"detectLocal", kNotServed},
    {"clusterCIDR", kNotServed},
    {"conntrack", "Waggle keeps its own flows"},
    {"configSyncPeriod", "a watch leaves nothing to refresh"},
    {"portRange", "kube-proxy does not use it either"},
    {"--boot-id-file", "nothing asks for it"},
    {"--machine-id-file", "nothing asks for it"},
    {"--iptables-min-sync-period", "each change is written at once"},
    {"--masquerade-all", "not yet: clients keep their addresses"},
};

bool Covers(std::string_view covering, std::string_view path) {
  return path.starts_with(covering) &&
         (path.size() == covering.size() || path[covering.size()] == '.');
}

// Every field that is no mapping, by its path.
void Flatten(const json& value, const std::string& path, std::map<std::string, json>* out) {
  if (!value.is_object() || value.empty()) {
    (*out)[path] = value;
    return;
  }
  for (const auto& [key, member] : value.items())
    Flatten(member, absl::StrCat(path, path.empty() ? "" : ".", key), out);
}

std::map<std::string, json> FieldsOf(const KubeProxyConfigurationV1alpha1& config) {
  std::map<std::string, json> fields;
  Flatten(ToJson(config), "", &fields);
  return fields;
}

// In order of first mention.
class Line {
 public:
  void Add(const std::string& name, std::string_view reason) {
    if (reason.empty()) return;
    for (auto& [known, names] : groups_) {
      if (known == reason) return names.push_back(name);
    }
    groups_.push_back({reason, {name}});
  }
  std::string ToString() const {
    std::vector<std::string> parts;
    for (const auto& [reason, names] : groups_)
      parts.push_back(absl::StrCat(absl::StrJoin(names, ", "), " (", std::string(reason), ")"));
    return parts.empty() ? "" : "no effect: " + absl::StrJoin(parts, "; ");
  }

 private:
  std::vector<std::pair<std::string_view, std::vector<std::string>>> groups_;
};

}  // namespace

std::string_view WhyNoEffect(std::string_view path) {
  for (const auto& [covering, reason] : kReasons) {
    if (Covers(covering, path)) return reason;
  }
  return "";
}

std::string NoEffectLine(const KubeProxyConfigurationV1alpha1& effective) {
  KubeProxyConfigurationV1alpha1 empty;
  SetDefaults(&empty);
  // A mode brings other defaults with it.
  empty.mode = effective.mode;
  SetDependentDefaults(&empty);
  const std::map<std::string, json> usual = FieldsOf(empty);
  Line line;
  for (const auto& [path, value] : FieldsOf(effective)) {
    const auto found = usual.find(path);
    if (found == usual.end() || found->second != value) line.Add(path, WhyNoEffect(path));
  }
  return line.ToString();
}

std::string NoEffectLine(const std::vector<FlagValue>& flags) {
  Line line;
  for (const FlagValue& flag : flags) {
    const FlagInfo* info = FindFlag(flag.name);
    if (info == nullptr) continue;
    const std::string name = "--" + std::string(info->name);
    line.Add(name, WhyNoEffect(info->path.empty() ? name : info->path));
  }
  return line.ToString();
}

}  // namespace waggle::config
