#include "userspace/cli/agent_command.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "maps/layout.h"
#include "userspace/agent/agent.h"
#include "userspace/cli/agent_source.h"
#include "userspace/cli/exit_codes.h"
#include "userspace/cli/options.h"

namespace waggle::cli {
namespace {

struct AgentFlags {
  SourceFlags source;
  std::string socket_lb = "all";
  std::string forwarding = "auto";
  std::string tc_attach = "auto";
  config::AgentConfig options;
  bool verbose = false;
};

// Log lines go to stderr, without colours: a container's log is a file.
void SetUpLog(bool verbose) {
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "waggle", std::make_shared<spdlog::sinks::stderr_sink_st>()));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
  spdlog::set_level(verbose ? spdlog::level::debug : spdlog::level::info);
  spdlog::flush_on(spdlog::level::trace);
}

loader::SocketLb SocketLbOf(const std::string& mode) {
  if (mode == "host") return loader::SocketLb::kHost;
  return mode == "off" ? loader::SocketLb::kOff : loader::SocketLb::kAll;
}

waggle_forwarding ForwardingOf(const std::string& mode) {
  if (mode == "stack") return WAGGLE_FORWARDING_STACK;
  return mode == "redirect" ? WAGGLE_FORWARDING_REDIRECT : WAGGLE_FORWARDING_AUTO;
}

loader::TcAttach TcAttachOf(const std::string& mode) {
  if (mode == "tcx") return loader::TcAttach::kTcx;
  return mode == "clsact" ? loader::TcAttach::kClsact : loader::TcAttach::kAuto;
}

std::unique_ptr<k8s::Source> SourceOf(AgentFlags& flags) {
  std::string& node = flags.options.node_name;
  if (node.empty() && !flags.source.manifests.empty()) throw CLI::RequiredError("--node");
  if (node.empty()) {
    absl::StatusOr<std::string> name = HostNodeName();
    if (!name.ok()) throw CLI::ValidationError(std::string(name.status().message()));
    node = *std::move(name);
  }
  absl::StatusOr<std::unique_ptr<k8s::Source>> source =
      MakeSource(flags.source, node, flags.options.datapath.pin_path, flags.socket_lb != "off");
  if (!source.ok()) throw CLI::ValidationError(std::string(source.status().message()));
  return *std::move(source);
}

int Run(AgentFlags& flags) {
  flags.options.datapath.socket_lb = SocketLbOf(flags.socket_lb);
  flags.options.datapath.tc_attach = TcAttachOf(flags.tc_attach);
  flags.options.forwarding = ForwardingOf(flags.forwarding);
  // What is wrong with a command line is told as such, before there is a log.
  std::unique_ptr<k8s::Source> source = SourceOf(flags);
  SetUpLog(flags.verbose);
  const absl::Status status = agent::RunAgent(flags.options, std::move(source));
  if (status.ok()) return kExitOk;
  spdlog::error("{}", std::string(status.message()));
  return status.code() == absl::StatusCode::kInvalidArgument ? kExitUsage : kExitError;
}

}  // namespace

void AddAgentCommand(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<AgentFlags>();
  loader::DatapathOptions& datapath = flags->options.datapath;
  datapath.pin_path = std::string(maps::kDefaultPinPath);

  CLI::App* command = app.add_subcommand(
      "agent", "Keep this node's Services in force (runs until SIGTERM; they stay afterwards)");
  command->footer(
      "Examples:\n"
      "  waggle agent\n"
      "  waggle agent --kubeconfig /etc/waggle/kubeconfig --apiserver https://10.0.0.1:6443\n"
      "  waggle agent --manifests /etc/waggle/manifests --node $(hostname)\n"
      "  waggle agent --manifests - --node n1 < services.yaml\n"
      "  waggle agent --manifests dir --node n1 --pin-path /sys/fs/bpf/n1 --cgroup-path "
      "/sys/fs/cgroup/n1");
  AddSourceOptions(*command, flags->source);
  AddNodeOption(*command, flags->options.node_name, "--node,--hostname-override")
      ->required(false)
      ->description(
          "Name of this node, as its Node object has it (default with an apiserver: the host's)");
  command->add_option("--pin-path", datapath.pin_path, "Folder of a bpf file system for the pins")
      ->type_name("DIR")
      ->capture_default_str();
  command
      ->add_option("--cgroup-path", datapath.cgroup_path,
                   "Cgroup v2 folder whose processes are served (default: the root)")
      ->type_name("DIR");
  command
      ->add_option("--socket-lb", flags->socket_lb,
                   "Whose sockets are translated: all (node and pods), host (node only), off")
      ->type_name("MODE")
      ->capture_default_str()
      ->check(CLI::IsMember({"all", "host", "off"}).description(""));
  command
      ->add_option("--forwarding", flags->forwarding,
                   "How packets of Services travel: by the host's stack, by redirect past it, or "
                   "auto: redirect where no policy engine is found")
      ->type_name("MODE")
      ->capture_default_str()
      ->check(CLI::IsMember({"stack", "redirect", "auto"}).description(""));
  command
      ->add_option("--tc-attach", flags->tc_attach,
                   "How programs get to devices: tcx links (Linux 6.6), clsact filters, or auto")
      ->type_name("MODE")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "tcx", "clsact"}).description(""));
  const auto add_devices = [&](const char* name, std::vector<std::string>& patterns,
                               const char* what) {
    command->add_option(name, patterns, what)->type_name("GLOB[,…]")->delimiter(',');
  };
  add_devices("--pod-devices", datapath.devices.pods,
              "Devices that lead to pods, beside those found by themselves");
  add_devices("--uplink-devices", datapath.devices.uplinks, "Devices that lead to other nodes");
  add_devices("--ignore-devices", datapath.devices.ignore, "Devices to leave alone");
  const auto add_size = [&](const char* name, uint32_t& size, const char* what) {
    command->add_option(name, size, what)
        ->type_name("N")
        ->check(CLI::Range(uint32_t{1}, maps::kMaxSize).description(""))
        ->capture_default_str();
  };
  add_size("--max-frontends", datapath.sizes.frontends, "Frontends (address, port, protocol)");
  add_size("--max-services", datapath.sizes.services, "Service ports");
  add_size("--max-backends", datapath.sizes.backends, "Backends, summed over all lists");
  add_size("--max-udp-flows", datapath.sizes.udp_flows,
           "Conversations of unconnected UDP sockets, two entries each");
  add_size("--max-flows", datapath.sizes.flows,
           "Established connections of the packet path, two entries each");
  add_size("--max-half-open", datapath.sizes.half_open,
           "Connections of the packet path that are not established, two entries each");
  command
      ->add_option("--disable-feature", datapath.disabled_features,
                   "Count a kernel feature as missing (to try a fallback)")
      ->group("");
  command->add_flag("-v,--verbose", flags->verbose, "Log each Service that changes");
  command->callback([flags, exit_code] { *exit_code = Run(*flags); });
}

}  // namespace waggle::cli
