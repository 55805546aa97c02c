// Who else must see the packets of this node's pods? Policy engines filter where the host's
// stack, or a program on the pod's device, meets the packet; the short way passes by both.
//
// Counted are
//  - chains of engines known by name (Calico, kube-router, Cilium, …) in iptables, be it
//    iptables-nft or iptables-legacy, and tables that they have in nftables;
//  - filters and programs of strangers at tc of devices that carry ours: where ours
//    redirects, theirs is not asked;
//  - nftables chains bound to such a device, queueing disciplines that limit what goes to a
//    pod, and pods that are ports of Open vSwitch.
// Not counted are the host's own firewalls (firewalld, ufw, Docker, bare rules in FORWARD):
// they guard the node's borders and know no pods, and that the traffic of Services gets
// past a DROP in FORWARD is what the short way is for. Nor chains that translate or
// masquerade (KUBE-*, CNI-*, FLANNEL-*, ip-masq-agent).
#ifndef WAGGLE_LOADER_POLICY_ENGINES_H_
#define WAGGLE_LOADER_POLICY_ENGINES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "bpf/abi.h"

namespace waggle::loader {

struct PolicyEngine {
  std::string where;  // "chain cali-FORWARD in table ip filter"
  std::string why;    // "Calico's policy must see the packets"

  bool operator==(const PolicyEngine&) const = default;
};

// Devices whose tc is looked at, in this network namespace.
struct PolicyScope {
  std::vector<int> pods;     // ifindexes of the host's sides of pods' veths
  std::vector<int> uplinks;  // of uplinks and tunnels
  // Ids of our programs, all that are in force. Others whose name begins with "waggle_" (of other
  // pins, left by somebody) count as ours, too, where the name is known: of filters always, of
  // programs at tcx only to CAP_SYS_ADMIN. To the DaemonSet's pod they are strangers.
  std::vector<uint32_t> own_programs;
};

// Looks for policy engines again and again, and costs little where nothing has changed.
// One for each network namespace; not for two threads at once.
class PolicyEngineFinder {
 public:
  PolicyEngineFinder();
  ~PolicyEngineFinder();
  PolicyEngineFinder(const PolicyEngineFinder&) = delete;
  PolicyEngineFinder& operator=(const PolicyEngineFinder&) = delete;

  // All that there are in the calling thread's network namespace: one entry for each engine
  // and kind of place, the same order every time. Devices that went meanwhile are passed
  // over. An error when something could not be looked at.
  absl::StatusOr<std::vector<PolicyEngine>> Find(const PolicyScope& scope);

 private:
  struct Memory;
  std::unique_ptr<Memory> memory_;
};

// The same, once.
absl::StatusOr<std::vector<PolicyEngine>> FindPolicyEngines(const PolicyScope& scope);

struct ForwardingChoice {
  waggle_forwarding forwarding = WAGGLE_FORWARDING_STACK;  // never AUTO
  std::string reason;  // shorter than WAGGLE_REASON_LEN; printable
};

// What to do, and why. AUTO: redirect where nothing was found, the stack where anything was
// and where it could not be found out. REDIRECT is done whatever was found; the reason then
// says what does not see the packets. Pure.
ForwardingChoice ChooseForwarding(waggle_forwarding asked,
                                  const absl::StatusOr<std::vector<PolicyEngine>>& found);

// The engine that a chain of this name in iptables, or a table of nftables, belongs to; empty:
// none that is known. Pure.
std::string_view EngineOfChain(std::string_view chain);
std::string_view EngineOfTable(std::string_view table);

// Names of the user-defined chains in what IPT_SO_GET_ENTRIES or IP6T_SO_GET_ENTRIES gave.
// InvalidArgument, with the offset, for what no kernel would give. Pure.
absl::StatusOr<std::vector<std::string>> LegacyChains(std::span<const uint8_t> entries, bool ipv6);

}  // namespace waggle::loader

#endif
