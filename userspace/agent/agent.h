// The agent: takes events from sources and keeps the node's maps and programs in force. All that it
// knows has one owner at a time, as a rule the main thread; a source's thread becomes it for a
// moment to bring its own news into force (docs/design.md).
#ifndef WAGGLE_USERSPACE_AGENT_AGENT_H_
#define WAGGLE_USERSPACE_AGENT_AGENT_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "k8s-watch/source.h"
#include "userspace/config/agent_config.h"

namespace waggle::agent {

// Something else that may end the agent: when `fd` is readable, `on_readable` is called, and
// an error of it is what RunAgent() returns.
struct Watched {
  int fd = -1;
  std::function<absl::Status()> on_readable;
};

// Runs until SIGTERM or SIGINT, then returns OK and leaves programs and maps in force.
// Returns an error when it cannot start; what was in force before stays so. Blocks
// those two signals for the calling thread, which must be the only one.
absl::Status RunAgent(const config::AgentConfig& options, std::unique_ptr<k8s::Source> source,
                      const std::vector<Watched>& watched = {});

}  // namespace waggle::agent

#endif
