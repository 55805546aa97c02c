// Where an agent gets its objects from: manifests, or an apiserver.
#ifndef WAGGLE_USERSPACE_CLI_AGENT_SOURCE_H_
#define WAGGLE_USERSPACE_CLI_AGENT_SOURCE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "k8s-watch/client_config.h"
#include "k8s-watch/source.h"
#include "maps/desired.h"
#include "userspace/config/agent_config.h"

namespace waggle::cli {

// The name of this node where no flag gives it, as kube-proxy has it: the host's, lower-cased.
absl::StatusOr<std::string> HostNodeName();

// The pins are looked at for whether the apiserver's cluster address works on this node, by way
// of sockets. `streaming`: ask for the list as a stream. InvalidArgument, or NotFound, where the
// configuration or the files it names are no good.
absl::StatusOr<std::unique_ptr<k8s::Source>> MakeSource(const config::AgentConfig& config,
                                                        bool streaming);

// True when connections to `endpoint` are forwarded by what is in the kernel. Pure.
bool IsForwarded(const std::vector<ResolvedService>& services, const k8s::ApiEndpoint& endpoint);

}  // namespace waggle::cli

#endif
