// `waggle flow list`: what the packet path is translating, from the pins.
#include <net/if.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "maps/flow_pins.h"
#include "userspace/cli/commands.h"
#include "userspace/cli/exit_codes.h"
#include "userspace/cli/flow_filter.h"
#include "userspace/cli/flow_report.h"
#include "userspace/cli/options.h"
#include "userspace/cli/terminal.h"

namespace waggle::cli {
namespace {

struct FlowFlags {
  NamespaceOption ns;
  std::string service;
  std::string client;
  std::string frontend;
  std::string backend;
  FlowFilter filter;
  size_t limit = 0;
  OutputOption output;
  PinPathOption pins;
};

// Names of devices in the network namespace of this process, each asked for once.
class DeviceNames {
 public:
  std::string Of(uint32_t ifindex) {
    const auto [at, fresh] = names_.try_emplace(ifindex);
    char name[IF_NAMESIZE] = {};
    if (fresh && if_indextoname(ifindex, name)) at->second = name;
    return at->second;
  }

 private:
  std::unordered_map<uint32_t, std::string> names_;
};

// The texts were checked when they were parsed.
FlowFilter FilterOf(const FlowFlags& flags) {
  FlowFilter filter = flags.filter;
  filter.ns = flags.ns.ns;
  if (!flags.service.empty()) filter.service = *ParseServiceFilter(flags.service);
  if (!flags.client.empty()) filter.client = *ParseEndpointFilter(flags.client);
  if (!flags.frontend.empty()) filter.frontend = *ParseEndpointFilter(flags.frontend);
  if (!flags.backend.empty()) filter.backend = *ParseEndpointFilter(flags.backend);
  return filter;
}

int Run(const FlowFlags& flags) {
  const absl::StatusOr<maps::FlowPins> pins = maps::FlowPins::Open(flags.pins.path);
  if (!pins.ok()) return Fail(pins.status());
  const FlowFilter filter = FilterOf(flags);
  std::vector<maps::Flow> flows;
  const absl::StatusOr<maps::FlowCounts> counts =
      pins->Read(maps::MonotonicNs(), [&](const maps::Flow& flow) {
        if (filter.Matches(flow, pins->services())) flows.push_back(flow);
      });
  if (!counts.ok()) return Fail(counts.status());
  if (counts->damaged > 0) {
    Complain(absl::StrCat(counts->damaged,
                          " entries of the maps flows and half_open contradict themselves and are "
                          "left out: no program wrote them so"));
  }
  SortFlows(flows, flags.limit);

  DeviceNames devices;
  const FlowNames names{pins->services(), [&](uint32_t ifindex) { return devices.Of(ifindex); }};
  int exit_code = kExitOk;
  const TextSink sink = [&](std::string_view text) {
    exit_code = Print(text);
    return exit_code == kExitOk;
  };
  if (flags.output.json()) {
    WriteFlowsJson(flows, names, sink);
  } else {
    WriteFlowsTable(flows, names, flags.output.wide(), sink);
  }
  return exit_code;
}

std::string CheckEndpoint(const std::string& text) {
  return std::string(ParseEndpointFilter(text).status().message());
}

std::string CheckService(const std::string& text) {
  return std::string(ParseServiceFilter(text).status().message());
}

}  // namespace

void AddFlowCommand(CLI::App& app, int* exit_code) {
  CLI::App* group =
      app.add_subcommand("flow", "Connections of the packet path, as the kernel holds them");
  group->require_subcommand(1);
  SetExamples(*group, {"waggle flow list"});
  auto flags = std::make_shared<FlowFlags>();
  CLI::App* command = group->add_subcommand(
      "list", "Connections of the packet path, read from the pinned maps; works with no agent");
  AddOption(*command, flags->ns);
  command->add_option("--service", flags->service, "Only of this Service: NAME or NS/NAME")
      ->type_name("SERVICE")
      ->check(CheckService);
  const auto add_endpoint = [&](const char* name, std::string& text, const char* what) {
    command->add_option(name, text, what)->type_name("ADDR[:PORT]")->check(CheckEndpoint);
  };
  add_endpoint("--client", flags->client, "Only of this client");
  add_endpoint("--frontend", flags->frontend, "Only to this frontend");
  add_endpoint("--backend", flags->backend, "Only to this backend");
  command->add_option("--protocol", flags->filter.protocol, "TCP or UDP")
      ->type_name("PROTOCOL")
      ->transform(CLI::IsMember({"TCP", "UDP"}, CLI::ignore_case).description(""));
  command->add_option("--state", flags->filter.state, "Only in this state, such as established")
      ->type_name("STATE")
      ->check(CLI::IsMember(FlowStateNames()).description(""));
  command->add_option("--mode", flags->filter.mode, "Only by this way: stack, peer or neigh")
      ->type_name("MODE")
      ->check(CLI::IsMember(FlowModeNames()).description(""));
  command->add_option("--limit", flags->limit, "At most so many (default: all)")
      ->type_name("N")
      ->check(CLI::PositiveNumber.description(""));
  AddOption(*command, flags->output);
  AddOption(*command, flags->pins);
  SetExamples(*command, {"waggle flow list", "waggle flow list --service default/web -o wide",
                         "waggle flow list --client 10.244.1.5 --state established",
                         "waggle flow list --protocol udp -o json"});
  command->callback([flags, exit_code] { *exit_code = Run(*flags); });
}

}  // namespace waggle::cli
