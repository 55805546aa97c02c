// What kube-proxy leaves in a node's network namespace when it stops, and its removal.
//
// Connections that kube-proxy translated outlive its rules: connection tracking has their
// translation. But the kernel tracks and translates only as long as somebody's rules say so,
// and kube-proxy's may be the last that do. So before they go come rules of ours that do nothing
// else, and stay while there are such connections (kKeeperTable).
#ifndef WAGGLE_USERSPACE_KUBE_PROXY_REMAINS_H_
#define WAGGLE_USERSPACE_KUBE_PROXY_REMAINS_H_

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace waggle::kube_proxy {

inline constexpr std::string_view kKeeperTable = "waggle-keeps-nat";

// One thing that goes, in one transaction.
struct Remain {
  std::string name;                // "table ip kube-proxy"
  std::vector<std::string> parts;  // rules and chains, one text each; may be empty
  std::function<absl::Status()> remove;
};

struct Remains {
  std::vector<Remain> remains;        // in the order in which they have to go
  std::vector<std::string> stays;     // what cannot go, why, and what to do; one text each
  std::vector<absl::Status> errors;   // what could not be looked at
  std::vector<std::string> warnings;  // what will be different; one text each
  // Services that lose kube-proxy's rules for what comes from outside of the cluster.
  std::set<std::string> from_outside;
};

struct LookOptions {
  bool force = false;  // what Waggle cannot replace goes, too
};

// To be done before the first removal: the keeper's tables, in families that have connections
// whose destination is translated. After an error nothing may be removed.
absl::Status KeepTranslations();

// Looks, in every mode of kube-proxy, both iptables and both families, in the network namespace
// of the caller. Changes nothing.
Remains FindRemains(const LookOptions& options = {});

// To be asked when the remains have been removed, and at any time later: the keeper's tables
// where they are not needed any more, because the last connection has ended or other tables have
// the kernel translate; where they are, `stays` says what they wait for.
Remains FindKeepers();

// The number of virtual servers in /proc/net/ip_vs. Pure.
size_t CountVirtualServers(std::string_view ip_vs);

// Of what `nft list chains` says, the Services to which chains of kube-proxy's table lead from
// outside of the cluster, as kube-proxy writes them there ("ns/name/tcp/port"). Pure.
std::vector<std::string> ServedFromOutside(std::string_view chains);

}  // namespace waggle::kube_proxy

#endif
