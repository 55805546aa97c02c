// Which rules and chains of iptables are kube-proxy's, and how to remove them. Pure: text of
// iptables-save to input for iptables-restore.
#ifndef WAGGLE_USERSPACE_KUBE_PROXY_IPTABLES_REMOVAL_H_
#define WAGGLE_USERSPACE_KUBE_PROXY_IPTABLES_REMOVAL_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace waggle::kube_proxy {

struct RemovalOptions {
  // IPVS has virtual servers: what mode ipvs needs beside them stays with them.
  bool virtual_servers = false;
  // Remove what packets may need that Waggle does not translate, too.
  bool force = false;
};

// One table of iptables, as far as kube-proxy is concerned.
struct TableRemoval {
  std::string table = {};                // "nat"
  std::vector<std::string> rules = {};   // in built-in chains, as iptables-save has them
  std::vector<std::string> chains = {};  // go with all that is in them
  // Chains of kube-proxy that stay, with the chain of somebody else that needs each.
  std::vector<std::string> stay = {};
  // What else stays, or what will be different, and what to do about it; one text each.
  std::vector<std::string> keeps = {};
  std::vector<std::string> warnings = {};
};

// A table that iptables-save did not show, or of which it left out chains.
struct HiddenTable {
  std::string table;
  bool whole;          // nothing of it was shown
  std::string reason;  // what iptables-save said
};

struct IptablesRemoval {
  std::vector<TableRemoval> tables;  // those without anything to say are left out
  std::vector<HiddenTable> hidden;
  // Ports of Services ("ns/name:port") that kube-proxy serves from outside of the cluster: by
  // NodePort, load balancer or external IP. Sorted; of those whose rules go.
  std::vector<std::string> from_outside;
  // For `iptables-restore --noflush`; one transaction a table. Empty: nothing to do.
  std::string script;
};

// kube-proxy's are the chains that it makes in any of its modes and their contents, and rules
// of built-in chains that lead there. Chains of the kubelet (KUBE-FIREWALL,
// KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT, KUBE-MARK-DROP) and of others whose names begin
// with KUBE- (kube-router, CRI-O) are not. Where a chain of somebody else leads to one of
// kube-proxy's, that one stays, and what it needs.
//
// KUBE-FORWARD accepts what has been established. Where the chain FORWARD drops what nobody
// accepts, it stays.
//
// InvalidArgument, with the line, for what no iptables-save writes.
absl::StatusOr<IptablesRemoval> PlanIptablesRemoval(std::string_view saved,
                                                    const RemovalOptions& options = {});

// Names of kube-proxy's chains that do not depend on Services.
const std::vector<std::string_view>& FixedChains();

}  // namespace waggle::kube_proxy

#endif
