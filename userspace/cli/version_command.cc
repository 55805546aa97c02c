// `waggle version`: what a bug report should name.
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "bpf/abi.h"
#include "userspace/cli/commands.h"
#include "userspace/cli/options.h"
#include "userspace/cli/terminal.h"

namespace waggle::cli {
namespace {

int Run(const OutputOption& output) {
  if (output.json()) {
    const nlohmann::ordered_json json = {{"version", WAGGLE_VERSION},
                                         {"layoutVersion", WAGGLE_LAYOUT_VERSION},
                                         {"libbpf", WAGGLE_LIBBPF_VERSION}};
    return Print(json.dump(2) + "\n");
  }
  return Print("waggle " WAGGLE_VERSION "\nmap layout version " +
               std::to_string(WAGGLE_LAYOUT_VERSION) + "\nlibbpf " WAGGLE_LIBBPF_VERSION "\n");
}

}  // namespace

void AddVersionCommand(CLI::App& app, int* exit_code) {
  auto output = std::make_shared<OutputOption>();
  CLI::App* command =
      app.add_subcommand("version", "Versions of waggle, of the map layout and of libbpf");
  AddOption(*command, *output);
  SetExamples(*command, {"waggle version", "waggle version -o json"});
  command->callback([output, exit_code] { *exit_code = Run(*output); });
}

}  // namespace waggle::cli
