// What the numbers in the pins mean: shared by the text and the JSON of the status.
#ifndef WAGGLE_USERSPACE_CLI_STATUS_FACTS_H_
#define WAGGLE_USERSPACE_CLI_STATUS_FACTS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/abi.h"
#include "maps/desired.h"

namespace waggle::cli {

struct ReasonInfo {
  std::string_view label;   // "no-endpoints"
  std::string_view effect;  // "refused"
  std::string_view text;    // one sentence
};
// By enum waggle_reason, from bpf/reasons.def.
const std::vector<ReasonInfo>& Reasons();

struct SocketLbFacts {
  std::string mode;         // "all", "host", "off"; "unknown" for any other number
  std::string consequence;  // whom it serves, and whom not
};
SocketLbFacts SocketLbOf(uint32_t socket_lb);

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
