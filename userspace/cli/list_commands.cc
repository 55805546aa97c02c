// `waggle service list` and `waggle backend list`: the pins in the words of the renderer.
#include <memory>
#include <string>
#include <vector>

#include "maps/reader.h"
#include "maps/render.h"
#include "userspace/cli/commands.h"
#include "userspace/cli/exit_codes.h"
#include "userspace/cli/options.h"
#include "userspace/cli/terminal.h"

namespace waggle::cli {
namespace {

struct ListFlags {
  NamespaceOption ns;
  OutputOption output;
  PinPathOption pins;
};

using JsonRenderer = std::string (*)(const std::vector<ResolvedService>&);
using TableRenderer = std::string (*)(const std::vector<ResolvedService>&, bool wide);

int Run(const ListFlags& flags, JsonRenderer json, TableRenderer table) {
  absl::StatusOr<maps::KernelView> view = maps::ReadPins(flags.pins.path);
  if (!view.ok()) return Fail(view.status());
  Complain(view->problems);
  const auto services = InNamespace(std::move(view->services), flags.ns);
  return Print(flags.output.json() ? json(services) : table(services, flags.output.wide()));
}

// "waggle NOUN list".
void AddListCommand(CLI::App& app, const std::string& noun, const std::string& what,
                    JsonRenderer json, TableRenderer table, int* exit_code) {
  CLI::App* group = app.add_subcommand(noun, what + ", as the kernel holds them");
  group->require_subcommand(1);
  auto flags = std::make_shared<ListFlags>();
  CLI::App* command =
      group->add_subcommand("list", what + ", read from the pinned maps; works with no agent");
  AddOption(*command, flags->ns);
  AddOption(*command, flags->output);
  AddOption(*command, flags->pins);
  const std::string name = "waggle " + noun + " list";
  SetExamples(*group, {name});
  SetExamples(*command, {name, name + " -n kube-system -o wide", name + " -o json"});
  command->callback([flags, json, table, exit_code] { *exit_code = Run(*flags, json, table); });
}

}  // namespace

void AddServiceCommand(CLI::App& app, int* exit_code) {
  AddListCommand(app, "service", "Services and their frontends", maps::RenderServicesJson,
                 maps::RenderServicesTable, exit_code);
}

void AddBackendCommand(CLI::App& app, int* exit_code) {
  AddListCommand(app, "backend", "Backends of Services", maps::RenderBackendsJson,
                 maps::RenderBackendsTable, exit_code);
}

}  // namespace waggle::cli
