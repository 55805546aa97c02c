// `waggle plan`: manifests to what would be programmed, and to problems on stderr.
#include <memory>
#include <string>
#include <vector>

#include "k8s-watch/manifest_source.h"
#include "maps/render.h"
#include "userspace/cli/commands.h"
#include "userspace/cli/exit_codes.h"
#include "userspace/cli/options.h"
#include "userspace/cli/plan.h"
#include "userspace/cli/terminal.h"

namespace waggle::cli {
namespace {

struct PlanFlags {
  std::string manifests;
  std::string node;
  bool strict = false;
  NamespaceOption ns;
  OutputOption output;
};

int Run(const PlanFlags& flags) {
  const absl::StatusOr<k8s::ManifestSnapshot> snapshot = k8s::ReadManifests(flags.manifests);
  if (!snapshot.ok()) {
    // Not kExitNotReady: a path that does not exist is a mistake, nothing to wait for.
    Complain(std::string(snapshot.status().message()));
    return kExitError;
  }
  const Plan plan = MakePlan(snapshot->changes, flags.node);
  std::vector<Problem> problems = InNamespace(snapshot->problems, flags.ns);
  const std::vector<Problem> of_plan = InNamespace(plan.problems, flags.ns);
  problems.insert(problems.end(), of_plan.begin(), of_plan.end());
  Complain(problems);

  const auto services = InNamespace(plan.services, flags.ns);
  const int printed =
      Print(flags.output.json() ? maps::RenderServicesJson(services)
                                : maps::RenderServicesTable(services, flags.output.wide()));
  if (printed != kExitOk) return printed;
  // What could not be read may be anything; other problems are part of a good answer.
  if (!snapshot->complete) return kExitError;
  return flags.strict && !problems.empty() ? kExitError : kExitOk;
}

}  // namespace

void AddPlanCommand(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* command = app.add_subcommand(
      "plan", "Show what would be programmed for manifests on a node (no root, no kernel)");
  command
      ->add_option("--manifests", flags->manifests,
                   "Folder, file or - (stdin) of Services, EndpointSlices and Nodes")
      ->type_name("PATH")
      ->required();
  AddNodeOption(*command, flags->node);
  AddOption(*command, flags->ns);
  AddOption(*command, flags->output);
  command->add_flag("--strict", flags->strict, "Exit with 1 when there is any problem");
  SetExamples(*command,
              {"waggle plan --manifests ./manifests --node node-1",
               "kubectl get services,endpointslices,nodes -A -o yaml | waggle plan --manifests - "
               "--node node-1",
               "diff <(waggle plan --manifests dir --node node-1 -o json) <(waggle service list "
               "-o json)"});
  command->callback([flags, exit_code] { *exit_code = Run(*flags); });
}

}  // namespace waggle::cli
