// Where an agent gets its objects from, by its flags: manifests, or an apiserver.
#ifndef WAGGLE_USERSPACE_CLI_AGENT_SOURCE_H_
#define WAGGLE_USERSPACE_CLI_AGENT_SOURCE_H_

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "k8s-watch/client_config.h"
#include "k8s-watch/source.h"
#include "maps/desired.h"

namespace waggle::cli {

struct SourceFlags {
  std::string manifests;
  k8s::ClientFlags client;
  std::string list = "auto";
};

// --manifests, --kubeconfig, --master, --apiserver. The target must outlive the callback.
void AddSourceOptions(CLI::App& command, SourceFlags& flags);

// The name of this node where no flag gives it, as kube-proxy has it: the host's, lower-cased.
absl::StatusOr<std::string> HostNodeName();

// `pin_path` is looked at for whether the apiserver's cluster address works on this node, by
// way of sockets (`sockets`). InvalidArgument, or NotFound, where flags or the files they name
// are no good.
absl::StatusOr<std::unique_ptr<k8s::Source>> MakeSource(const SourceFlags& flags,
                                                        const std::string& node_name,
                                                        const std::string& pin_path, bool sockets);

// True when connections to `endpoint` are forwarded by what is in the kernel. Pure.
bool IsForwarded(const std::vector<ResolvedService>& services, const k8s::ApiEndpoint& endpoint);

}  // namespace waggle::cli

#endif
