// What another service proxy (kube-proxy) has in the kernel, asked for by netlink, in the
// calling thread's network namespace.
#ifndef WAGGLE_LOADER_OTHER_PROXY_H_
#define WAGGLE_LOADER_OTHER_PROXY_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "userspace/net/address.h"

namespace waggle::loader {

// A table of nftables, or one chain of it. False too where the kernel has no nftables.
absl::StatusOr<bool> HasNftTable(net::Family family, std::string_view table);
absl::StatusOr<bool> HasNftChain(net::Family family, std::string_view table,
                                 std::string_view chain);

// A table of nftables, not dormant and not `except`, whose rules translate addresses in `family`:
// as long as it is there the kernel translates. Empty: there is none. Tables of
// iptables-nft are among them.
absl::StatusOr<std::string> FindNatTable(net::Family family, std::string_view except);

// Connections in connection tracking whose destination is translated. The whole table is walked;
// before 5.18 it is read, too: 1 s for a million. Unimplemented: there are connections, and this
// kernel cannot tell which.
struct Translated {
  size_t count = 0;
  std::string example = {};  // whom the first asked: "TCP 10.96.0.1:443"
};
absl::StatusOr<Translated> FindTranslated(net::Family family);

// An open TCP connection to a frontend in the maps pinned at `pin_path` that connection tracking
// translates, by the frontend ("TCP 10.96.0.1:443"); empty: there is none. Another
// proxy translated it before Waggle came. Packets of such connections and of those that
// Waggle translated can have the same addresses and ports; connection tracking tells them
// apart where it sees both. Errors as FindTranslated().
absl::StatusOr<std::string> FindOldConnection(std::string_view pin_path);

// What a kernel without ctnetlink says of its connections, by the content of
// /proc/sys/net/netfilter/nf_conntrack_count: OK where it has none. Pure.
absl::Status WithoutCtnetlink(const std::string& count);

// Names of all ipsets. Empty too where the kernel has none.
absl::StatusOr<std::vector<std::string>> ListIpSets();
// FailedPrecondition while a rule refers to it.
absl::Status DestroyIpSet(const std::string& name);

bool HasDevice(const std::string& name);
absl::Status RemoveDevice(const std::string& name);

}  // namespace waggle::loader

#endif
