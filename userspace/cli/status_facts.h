// What the numbers in the pins mean: shared by the text and the JSON of the status.
#ifndef WAGGLE_USERSPACE_CLI_STATUS_FACTS_H_
#define WAGGLE_USERSPACE_CLI_STATUS_FACTS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/abi.h"
#include "loader/attachment.h"
#include "maps/desired.h"
#include "maps/reader.h"

namespace waggle::cli {

// For JSON: to the millisecond, rounded down.
double Seconds(uint64_t nanoseconds);

struct ReasonInfo {
  std::string_view label;   // "no-endpoints"
  std::string_view effect;  // "refused"
  std::string_view text;    // one sentence
};
// By enum waggle_reason, from bpf/reasons.def.
const std::vector<ReasonInfo>& Reasons();

// All effects: what went well first, what should not happen last.
const std::vector<std::string_view>& Effects();

struct SocketLbFacts {
  std::string mode;         // "all", "host", "off"; "unknown" for any other number
  std::string consequence;  // whom it serves, and whom not
};
// `packet_path`: programs at devices serve what sockets do not.
SocketLbFacts SocketLbOf(uint32_t socket_lb, bool packet_path);

struct PacketPathFacts {
  std::string attach;            // "tcx", "clsact", "none"
  std::string forwarding;        // "stack" or "redirect": in force
  std::string forwarding_asked;  // "stack", "redirect" or "auto"
  std::string reason;            // why `forwarding`; may be empty
  // TCP packets to a frontend that belong to no known connection pass untouched.
  bool unknown_tcp_passes = false;
  uint64_t unknown_tcp_left_ns = 0;  // for so long; 0: no end is set
};
// A number that this version does not know is "unknown".
PacketPathFacts PacketPathOf(const waggle_settings& settings, uint64_t now_monotonic_ns);
// Is there a packet path on these pins?
bool HasPacketPath(const std::optional<waggle_settings>& settings);

struct DeviceFacts {
  uint32_t ifindex = 0;
  std::string name;              // empty: nobody knows
  std::string role = "unknown";  // or loader::RoleName(): "pod", "bridge", "uplink", "tunnel"
  waggle_device device{};
  std::vector<std::string> programs;  // attached and alive, by hook, sorted
  std::vector<std::string> missing;   // that its role should have
};
// Sorted by ifindex. `names` may lack some: then that of an attachment counts.
std::vector<DeviceFacts> DevicesOf(const maps::Devices& devices,
                                   const std::map<uint32_t, std::string>& names,
                                   const std::vector<loader::Attachment>& attachments);
// The ifindex of the target of an attachment; 0: it is no device.
uint32_t DeviceOf(const loader::Attachment& attachment);

struct FeatureFacts {
  std::string name;  // "bpf_set_retval"
  bool present = false;
  std::string fallback;  // what is done without it
};
std::vector<FeatureFacts> FeaturesOf(uint32_t features);

// What the agent did since it started, by the name in the JSON.
struct WorkFacts {
  std::string_view key;
  uint64_t value = 0;
};
std::vector<WorkFacts> WorkOf(const waggle_agent& agent);

struct Totals {
  uint64_t services = 0;
  uint64_t frontends = 0;
  uint64_t backends = 0;  // counted once for each list that holds them, as the map does
};
Totals TotalsOf(const std::vector<ResolvedService>& services);

}  // namespace waggle::cli

#endif
