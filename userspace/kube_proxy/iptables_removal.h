// Which rules and chains of iptables are kube-proxy's, and how to remove them. Pure: text of
// iptables-save to input for iptables-restore.
#ifndef WAGGLE_USERSPACE_KUBE_PROXY_IPTABLES_REMOVAL_H_
#define WAGGLE_USERSPACE_KUBE_PROXY_IPTABLES_REMOVAL_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace waggle::kube_proxy {

// One table of iptables, as far as kube-proxy is concerned.
struct TableRemoval {
  std::string table = {};                // "nat"
  std::vector<std::string> rules = {};   // in built-in chains, as iptables-save has them
  std::vector<std::string> chains = {};  // go with all that is in them
  // Chains of kube-proxy that stay, with the chain of somebody else that needs each.
  std::vector<std::string> stay = {};
};

struct IptablesRemoval {
  std::vector<TableRemoval> tables;  // those without anything to say are left out
  // For `iptables-restore --noflush`; one transaction a table. Empty: nothing to do.
  std::string script;
};

// kube-proxy's are the chains that it makes in any of its modes and their contents, and rules
// of built-in chains that lead there. Chains of the kubelet (KUBE-FIREWALL,
// KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT, KUBE-MARK-DROP) and of others whose names begin
// with KUBE- (kube-router, CRI-O) are not. Where a chain of somebody else leads to one of
// kube-proxy's, that one stays, and what it needs.
//
// InvalidArgument, with the line, for what no iptables-save writes.
absl::StatusOr<IptablesRemoval> PlanIptablesRemoval(std::string_view saved);

}  // namespace waggle::kube_proxy

#endif
