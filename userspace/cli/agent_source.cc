#include "userspace/cli/agent_source.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "k8s-watch/api_source.h"
#include "k8s-watch/fields.h"
#include "k8s-watch/manifest_source.h"
#include "maps/reader.h"
#include "userspace/net/address.h"
#include "userspace/os/errno_status.h"

namespace waggle::cli {

void AddSourceOptions(CLI::App& command, SourceFlags& flags) {
  CLI::Option* manifests =
      command
          .add_option("--manifests", flags.manifests,
                      "Folder (watched), file (watched) or - of Services, EndpointSlices and "
                      "Nodes, in place of an apiserver")
          ->type_name("PATH");
  CLI::Option* kubeconfig =
      command
          .add_option("--kubeconfig", flags.client.kubeconfig,
                      "How to reach the apiserver (default: as a pod of the cluster)")
          ->type_name("FILE[:FILE…]");
  CLI::Option* master = command
                            .add_option("--master", flags.client.master,
                                        "The apiserver, in place of the one in the kubeconfig")
                            ->type_name("URL");
  CLI::Option* apiserver =
      command
          .add_option("--apiserver", flags.client.apiservers,
                      "An apiserver, by an address that needs no Service; repeat it for others to "
                      "fail over to")
          ->type_name("URL")
          ->allow_extra_args(false);
  for (CLI::Option* each : {kubeconfig, master, apiserver})
    manifests->excludes(each);
  command.add_option("--apiserver-list", flags.list)
      ->check(CLI::IsMember({"auto", "pages"}))
      ->group("");
}

absl::StatusOr<std::string> HostNodeName() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return os::ErrnoStatus(errno, "gethostname");
  std::string node = name.data();
  absl::StripAsciiWhitespace(&node);
  absl::AsciiStrToLower(&node);
  if (k8s::IsSubdomain(node)) return node;
  return absl::InvalidArgumentError(
      "the host's name is not a node name; give --hostname-override NAME");
}

bool IsForwarded(const std::vector<ResolvedService>& services, const k8s::ApiEndpoint& endpoint) {
  const auto address = net::Address::Parse(endpoint.host);
  if (!address) return false;
  const net::Endpoint wanted = {*address, endpoint.port};
  const auto serves = [&wanted](const BackendList& list) {
    return list.fate == Fate::kForward &&
           std::any_of(list.frontends.begin(), list.frontends.end(),
                       [&wanted](const Frontend& each) { return each.endpoint == wanted; });
  };
  for (const ResolvedService& service : services) {
    for (const ResolvedPort& port : service.ports) {
      if (port.protocol == net::Protocol::kTcp &&
          std::any_of(port.lists.begin(), port.lists.end(), serves)) {
        return true;
      }
    }
  }
  return false;
}

absl::StatusOr<std::unique_ptr<k8s::Source>> MakeSource(const SourceFlags& flags,
                                                        const std::string& node_name,
                                                        const std::string& pin_path, bool sockets) {
  if (!flags.manifests.empty()) return std::make_unique<k8s::ManifestSource>(flags.manifests);
  auto config = k8s::ResolveClientConfig(flags.client, k8s::RealSurroundings());
  if (!config.ok()) return config.status();
  k8s::ApiSourceOptions options;
  options.node_name = node_name;
  options.user_agent = "waggle/" WAGGLE_VERSION;
  options.streaming_list = flags.list == "auto";
  if (config->service_address) {
    // What an earlier agent left in the kernel goes on working, for this one too.
    const auto view = maps::ReadPins(pin_path);
    const bool works =
        sockets && view.ok() && IsForwarded(view->services, config->endpoints.front());
    if (!works) {
      options.service_address_advice =
          "this is the cluster address of the Service kubernetes, which needs a service proxy, and "
          "on this node nothing is programmed for it: name the apiservers themselves, as "
          "--apiserver https://ADDRESS:6443 (repeatable), or give a --kubeconfig";
    }
  }
  return std::make_unique<k8s::ApiSource>(*std::move(config), std::move(options));
}

}  // namespace waggle::cli
