// The agent: one owner thread that takes events from sources and keeps the node's maps
// and programs in force.
#ifndef WAGGLE_USERSPACE_AGENT_AGENT_H_
#define WAGGLE_USERSPACE_AGENT_AGENT_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "bpf/abi.h"
#include "k8s-watch/source.h"
#include "loader/datapath.h"

namespace waggle::agent {

struct AgentOptions {
  std::string node_name;
  loader::DatapathOptions datapath;
  waggle_forwarding forwarding = WAGGLE_FORWARDING_AUTO;
};

// Runs until SIGTERM or SIGINT, then returns OK and leaves programs and maps in force.
// Returns an error when it cannot start; what was in force before stays so. Blocks
// those two signals for the calling thread, which must be the only one.
absl::Status RunAgent(const AgentOptions& options, std::unique_ptr<k8s::Source> source);

}  // namespace waggle::agent

#endif
