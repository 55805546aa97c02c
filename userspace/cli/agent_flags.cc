#include "userspace/cli/agent_flags.h"

#include <cstdint>
#include <memory>
#include <utility>

#include "k8s-watch/client_config.h"
#include "maps/layout.h"
#include "userspace/cli/options.h"

namespace waggle::cli {
namespace {

using Own = config::WaggleConfigurationV1alpha1;

constexpr char kKubeProxyGroup[] = "kube-proxy's options";

// Options whose values go into a WaggleConfiguration; those that are not given leave it alone.
class OwnOptions {
 public:
  OwnOptions(CLI::App& command, AgentFlags* flags) : command_(command), flags_(flags) {}

  // `member` finds the field in a configuration.
  template <typename Member>
  CLI::Option* Add(const std::string& name, Member member, const char* what) {
    CLI::Option* option = command_.add_option(name, member(*values_), what);
    flags_->own.push_back([option, member, values = values_](Own* target) {
      if (option->count() > 0) member(*target) = member(*values);
    });
    return option;
  }
  template <typename Member>
  void AddWord(const std::string& name, Member member, const std::vector<std::string>& words,
               const char* what) {
    Add(name, member, what)
        ->type_name("MODE")
        ->capture_default_str()
        ->check(CLI::IsMember(words).description(""));
  }
  template <typename Member>
  void AddDevices(const std::string& name, Member member, const char* what) {
    Add(name, member, what)->type_name("GLOB[,…]")->delimiter(',');
  }
  template <typename Member>
  void AddSize(const std::string& name, Member member, const char* what) {
    Add(name, member, what)
        ->type_name("N")
        ->check(CLI::Range(uint32_t{1}, maps::kMaxSize).description(""))
        ->capture_default_str();
  }

 private:
  CLI::App& command_;
  AgentFlags* flags_;
  std::shared_ptr<Own> values_ = std::make_shared<Own>();
};

// How to reach objects: --manifests, or an apiserver's.
void AddSourceOptions(CLI::App& command, OwnOptions* own, CLI::Option* kubeconfig,
                      AgentFlags* flags) {
  CLI::Option* manifests =
      own->Add(
             "--manifests", [](Own & c) -> auto& { return c.manifests; },
             "Folder (watched), file (watched) or - of Services, EndpointSlices and Nodes, in "
             "place of an apiserver")
          ->type_name("PATH");
  CLI::Option* apiserver =
      own->Add(
             "--apiserver", [](Own & c) -> auto& { return c.api_servers; },
             "An apiserver, by an address that needs no Service; repeat it for others to fail "
             "over to")
          ->type_name("URL")
          ->allow_extra_args(false)
          ->check(CLI::Validator(
              [](const std::string& url) {
                return std::string(k8s::ParseEndpoint(url).status().message());
              },
              ""));
  CLI::Option* master = command
                            .add_option("--master", flags->master,
                                        "The apiserver, in place of the one in the kubeconfig")
                            ->type_name("URL");
  for (CLI::Option* each : {kubeconfig, master, apiserver})
    manifests->excludes(each);
  command.add_option("--apiserver-list", flags->list)
      ->check(CLI::IsMember({"auto", "pages"}))
      ->group("");
}

void AddOwnOptions(OwnOptions* own) {
  own->Add(
         "--pin-path", [](Own & c) -> auto& { return c.pin_path; },
         "Folder of a bpf file system for the pins")
      ->type_name("DIR")
      ->capture_default_str();
  own->Add(
         "--cgroup-path", [](Own & c) -> auto& { return c.cgroup_path; },
         "Cgroup v2 folder whose processes are served (default: the root)")
      ->type_name("DIR");
  own->AddWord(
      "--socket-lb", [](Own & c) -> auto& { return c.socket_lb; }, {"all", "host", "off"},
      "Whose sockets are translated: all (node and pods), host (node only), off");
  own->AddWord(
      "--forwarding", [](Own & c) -> auto& { return c.forwarding; }, {"stack", "redirect", "auto"},
      "How packets of Services travel: by the host's stack, by redirect past it, or auto: redirect "
      "where no policy engine is found");
  own->AddWord(
      "--tc-attach", [](Own & c) -> auto& { return c.tc_attach; }, {"auto", "tcx", "clsact"},
      "How programs get to devices: tcx links (Linux 6.6), clsact filters, or auto");
  own->AddDevices(
      "--pod-devices", [](Own & c) -> auto& { return c.devices.pods; },
      "Devices that lead to pods, beside those found by themselves");
  own->AddDevices(
      "--uplink-devices", [](Own & c) -> auto& { return c.devices.uplinks; },
      "Devices that lead to other nodes");
  own->AddDevices(
      "--ignore-devices", [](Own & c) -> auto& { return c.devices.ignore; },
      "Devices to leave alone");
  own->AddSize(
      "--max-frontends", [](Own & c) -> auto& { return c.max.sizes.frontends; },
      "Frontends (address, port, protocol)");
  own->AddSize(
      "--max-services", [](Own & c) -> auto& { return c.max.sizes.services; }, "Service ports");
  own->AddSize(
      "--max-backends", [](Own & c) -> auto& { return c.max.sizes.backends; },
      "Backends, summed over all lists");
  own->AddSize(
      "--max-udp-flows", [](Own & c) -> auto& { return c.max.sizes.udp_flows; },
      "Conversations of unconnected UDP sockets, two entries each");
  own->AddSize(
      "--max-flows", [](Own & c) -> auto& { return c.max.sizes.flows; },
      "Established connections of the packet path, two entries each");
  own->AddSize(
      "--max-half-open", [](Own & c) -> auto& { return c.max.sizes.half_open; },
      "Connections of the packet path that are not established, two entries each");
}

// An option that needs a value takes the next option for it.
CLI::Validator ValueGiven() {
  return CLI::Validator(
      [](std::string& value) {
        return value.starts_with("--") ? "its value is missing before " + value : std::string();
      },
      "");
}

// Those of kube-proxy's that only say what it shall do.
void AddKubeProxyActions(CLI::App& command, AgentFlags* flags) {
  command
      .add_option("--config", flags->config,
                  "KubeProxyConfiguration, as in the ConfigMap kube-proxy; the agent ends when it "
                  "changes")
      ->type_name("FILE")
      ->check(ValueGiven());
  command.add_flag("--strict-config", flags->strict_config,
                   "Fields of --config that are not known are errors");
  command
      .add_option("--write-config-to", flags->write_config_to,
                  "Write the configuration in effect, and exit")
      ->type_name("FILE")
      ->check(ValueGiven());
  command.add_flag("--cleanup", flags->cleanup, "Do as `waggle cleanup` does, and exit");
  command.add_flag("--init-only", flags->init_only,
                   "Check the configuration and exit: there is nothing to prepare");
  command.set_version_flag("--version", "waggle " WAGGLE_VERSION, "Print the version and exit");
}

// All that a KubeProxyConfiguration can say. Those without effect are not in the help.
CLI::Option* AddKubeProxyOptions(CLI::App& command, AgentFlags* flags) {
  using Given = std::vector<std::pair<const config::FlagInfo*, CLI::Option*>>;
  auto given = std::make_shared<Given>();
  CLI::Option* kubeconfig = nullptr;
  for (const config::FlagInfo& info : config::KubeProxyFlags()) {
    const std::string name = (info.name == "v" ? "-v,--" : "--") + std::string(info.name);
    CLI::Option* option = nullptr;
    if (info.value == nullptr) {
      option = command.add_flag(name)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    } else {
      auto values = std::make_shared<std::vector<std::string>>();
      option = command.add_option_function<std::vector<std::string>>(
          name, [values](const std::vector<std::string>& all) { *values = all; });
      option->type_name(info.value)->expected(1)->allow_extra_args(false)->check(ValueGiven());
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    }
    const bool acts = *info.help != '\0';
    option->description(info.help)->group(acts ? kKubeProxyGroup : "");
    if (info.name == "kubeconfig") kubeconfig = option->group("Options");
    given->emplace_back(&info, option);
  }
  flags->kube_proxy = [given] {
    std::vector<config::FlagValue> values;
    for (const auto& [info, option] : *given) {
      for (std::string value : option->results()) {
        // -v=4 comes with its sign.
        if (info->name == "v" && value.starts_with('=')) value.erase(0, 1);
        values.push_back({info->name, std::move(value)});
      }
    }
    return values;
  };
  return kubeconfig;
}

}  // namespace

void AddAgentFlags(CLI::App& command, AgentFlags* flags) {
  OwnOptions own(command, flags);
  AddKubeProxyActions(command, flags);
  CLI::Option* kubeconfig = AddKubeProxyOptions(command, flags);
  AddSourceOptions(command, &own, kubeconfig, flags);
  AddNodeOption(command, flags->hostname_override, "--node,--hostname-override")
      ->required(false)
      ->description(
          "Name of this node, as its Node object has it (default with an apiserver: the host's)");
  AddOwnOptions(&own);
  command
      .add_option("--disable-feature", flags->disabled_features,
                  "Count a kernel feature as missing (to try a fallback)")
      ->group("");
  command.add_flag("--verbose", flags->verbose, "Log each Service that changes; the same as -v 4");
}

}  // namespace waggle::cli
