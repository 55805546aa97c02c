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

absl::StatusOr<std::unique_ptr<k8s::Source>> MakeSource(const config::AgentConfig& config,
                                                        bool streaming) {
  if (!config.manifests.empty()) return std::make_unique<k8s::ManifestSource>(config.manifests);
  auto client = k8s::ResolveClientConfig(config.client, k8s::RealSurroundings());
  if (!client.ok()) return client.status();
  k8s::ApiSourceOptions options;
  options.node_name = config.node_name;
  options.user_agent = "waggle/" WAGGLE_VERSION;
  options.streaming_list = streaming;
  if (client->service_address) {
    // What an earlier agent left in the kernel goes on working, for this one too.
    const auto view = maps::ReadPins(config.datapath.pin_path);
    const bool works = config.datapath.socket_lb != loader::SocketLb::kOff && view.ok() &&
                       IsForwarded(view->services, client->endpoints.front());
    if (!works) {
      options.service_address_advice =
          "this is the cluster address of the Service kubernetes, which needs a service proxy, and "
          "on this node nothing is programmed for it: name the apiservers themselves, as "
          "--apiserver https://ADDRESS:6443 (repeatable), or give a --kubeconfig";
    }
  }
  return std::make_unique<k8s::ApiSource>(*std::move(client), std::move(options));
}

}  // namespace waggle::cli
