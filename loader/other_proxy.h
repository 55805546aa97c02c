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

// Connections in connection tracking whose destination is translated. All are read: 1 s for a
// million.
absl::StatusOr<size_t> CountTranslated(net::Family family);

// Those of them that are open TCP connections to a frontend in the maps pinned at `pin_path`:
// another proxy translated them before Waggle came. Packets of theirs and of connections that
// Waggle translated can have the same addresses and ports; connection tracking tells them
// apart where it sees both.
absl::StatusOr<size_t> CountOldConnections(std::string_view pin_path);

// Names of all ipsets. Empty too where the kernel has none.
absl::StatusOr<std::vector<std::string>> ListIpSets();
// FailedPrecondition while a rule refers to it.
absl::Status DestroyIpSet(const std::string& name);

bool HasDevice(const std::string& name);
absl::Status RemoveDevice(const std::string& name);

}  // namespace waggle::loader

#endif
