#include "userspace/cli/agent_command.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "userspace/agent/agent.h"
#include "userspace/cli/agent_flags.h"
#include "userspace/cli/agent_source.h"
#include "userspace/cli/cleanup.h"
#include "userspace/cli/exit_codes.h"
#include "userspace/cli/terminal.h"
#include "userspace/config/config_watch.h"
#include "userspace/config/load.h"
#include "userspace/os/file_limit.h"
#include "userspace/os/oom_score.h"

namespace waggle::cli {
namespace {

// Kubernetes' level of debugging.
constexpr uint32_t kDebugVerbosity = 4;

// Log lines go to stderr, without colours: a container's log is a file.
void SetUpLog(bool verbose) {
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "waggle", std::make_shared<spdlog::sinks::stderr_sink_mt>()));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
  spdlog::set_level(verbose ? spdlog::level::debug : spdlog::level::info);
  spdlog::flush_on(spdlog::level::trace);
}

config::LoadedConfig Load(const AgentFlags& flags, const config::ConfigWatch& watch) {
  config::ConfigInput input;
  if (!flags.config.empty()) input.file = {flags.config, watch.text()};
  input.strict = flags.strict_config;
  input.flags = flags.kube_proxy();
  input.own_flags = [&flags](config::WaggleConfigurationV1alpha1* own) {
    for (const auto& set : flags.own)
      set(own);
  };
  input.hostname_override = flags.hostname_override;
  input.master = flags.master;
  config::LoadedConfig loaded = config::LoadConfig(input);
  loaded.agent.datapath.disabled_features = flags.disabled_features;
  return loaded;
}

int WriteConfig(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text << std::flush;
  if (file.good()) return kExitOk;
  return Fail(
      absl::UnavailableError(absl::StrCat("--write-config-to: ", path, " cannot be written")));
}

// Nobody but the user knows which name manifests mean by this node.
void NameNode(config::AgentConfig* settings) {
  if (!settings->node_name.empty()) return;
  if (!settings->manifests.empty()) throw CLI::RequiredError("--node");
  absl::StatusOr<std::string> name = HostNodeName();
  if (!name.ok()) throw CLI::ValidationError(std::string(name.status().message()));
  settings->node_name = *std::move(name);
}

void LowerOomScore(int value) {
  const absl::Status status = os::SetOomScoreAdj(value);
  if (!status.ok()) {
    spdlog::warn("oomScoreAdj {} cannot be had: {}", value, std::string(status.message()));
  }
}

// Aborted when the file says something else now, so that the agent has to be started again. A
// new text that is no good, or comes to the same, changes nothing: one typing error in a
// ConfigMap must not end the agents of a whole cluster.
absl::Status CheckConfig(const AgentFlags& flags, const std::string& in_effect,
                         config::ConfigWatch* watch) {
  if (!watch->Check()) return absl::OkStatus();
  const config::LoadedConfig loaded = Load(flags, *watch);
  if (!loaded.errors.empty()) {
    for (const std::string& error : loaded.errors)
      spdlog::error("{}", error);
    spdlog::error(
        "the configuration file {} has changed and is no good any more: what was read at "
        "the start stays in effect, and the next start will fail",
        flags.config);
    return absl::OkStatus();
  }
  if (loaded.yaml == in_effect) {
    spdlog::info("the configuration file {} has changed and comes to the same", flags.config);
    return absl::OkStatus();
  }
  return absl::AbortedError(
      absl::StrCat("the configuration file ", flags.config,
                   " has changed; ending, to be started again with what it says now"));
}

int Run(const AgentFlags& flags) {
  config::ConfigWatch watch;
  std::string unwatched;
  if (!flags.config.empty()) {
    const absl::Status status = watch.Open(flags.config);
    if (!status.ok() && !absl::IsResourceExhausted(status)) {
      throw CLI::ValidationError("--config: " + std::string(status.message()));
    }
    unwatched = std::string(status.message());
  }
  // What is wrong with a command line is told as such, before there is a log.
  config::LoadedConfig loaded = Load(flags, watch);
  if (flags.config.empty() && loaded.errors.size() == 1) {
    throw CLI::ValidationError(loaded.errors.front());
  }
  for (const std::string& error : loaded.errors)
    Complain(error);
  if (!loaded.errors.empty()) return kExitUsage;
  config::AgentConfig& settings = loaded.agent;
  const bool ends_at_once = !flags.write_config_to.empty() || flags.cleanup || flags.init_only;
  std::unique_ptr<k8s::Source> source;
  if (!ends_at_once) {
    NameNode(&settings);
    auto made = MakeSource(settings, flags.list == "auto");
    if (!made.ok()) throw CLI::ValidationError(std::string(made.status().message()));
    source = *std::move(made);
  }

  SetUpLog(flags.verbose || settings.verbosity >= kDebugVerbosity);
  for (const std::string& warning : loaded.warnings)
    spdlog::warn("{}", warning);
  if (!flags.write_config_to.empty()) return WriteConfig(flags.write_config_to, loaded.yaml);
  if (flags.cleanup) return CleanUp(settings.datapath.pin_path);
  if (flags.init_only) return kExitOk;

  LowerOomScore(settings.oom_score_adj);
  // Each healthCheckNodePort takes two.
  if (const absl::Status status = os::RaiseFileLimit(); !status.ok()) {
    spdlog::warn("the limit of open files stays low: {}", std::string(status.message()));
  }
  std::vector<agent::Watched> watched;
  if (!unwatched.empty()) {
    spdlog::warn("{}: changes of the configuration file will not be noticed", unwatched);
  } else if (!flags.config.empty()) {
    watched.push_back({watch.fd(), [&] { return CheckConfig(flags, loaded.yaml, &watch); }});
  }
  const absl::Status status = agent::RunAgent(settings, std::move(source), watched);
  if (status.ok()) return kExitOk;
  spdlog::error("{}", std::string(status.message()));
  return status.code() == absl::StatusCode::kInvalidArgument ? kExitUsage : kExitError;
}

}  // namespace

void AddAgentCommand(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<AgentFlags>();
  CLI::App* command = app.add_subcommand(
      "agent", "Keep this node's Services in force (runs until SIGTERM; they stay afterwards)");
  command->footer(
      "All other options of kube-proxy are accepted; they have no effect.\n\n"
      "Examples:\n"
      "  waggle agent\n"
      "  waggle agent --config /var/lib/kube-proxy/config.conf --hostname-override $NODE_NAME\n"
      "  waggle agent --kubeconfig /etc/waggle/kubeconfig --apiserver https://10.0.0.1:6443\n"
      "  waggle agent --manifests /etc/waggle/manifests --node $(hostname)\n"
      "  waggle agent --manifests - --node n1 < services.yaml\n"
      "  waggle agent --manifests dir --node n1 --pin-path /sys/fs/bpf/n1 --cgroup-path "
      "/sys/fs/cgroup/n1");
  AddAgentFlags(*command, flags.get());
  command->callback([flags, exit_code] { *exit_code = Run(*flags); });
}

}  // namespace waggle::cli
