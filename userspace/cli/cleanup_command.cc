// `waggle cleanup`: leaves nothing behind on this node.
#include <memory>
#include <string>
#include <vector>

#include "loader/cleanup.h"
#include "userspace/cli/cleanup.h"
#include "userspace/cli/commands.h"
#include "userspace/cli/exit_codes.h"
#include "userspace/cli/options.h"
#include "userspace/cli/terminal.h"

namespace waggle::cli {

int CleanUp(const std::string& pin_path) {
  std::vector<std::string> removed;
  const absl::Status status = loader::Cleanup(pin_path, &removed);
  std::string text;
  // What is gone is gone, also when the rest failed.
  for (const std::string& path : removed)
    text += "removed " + path + "\n";
  if (status.ok() && removed.empty()) text = "nothing to remove in " + pin_path + "\n";
  const int printed = Print(text);
  return status.ok() ? printed : Fail(status);
}

void AddCleanupCommand(CLI::App& app, int* exit_code) {
  auto pins = std::make_shared<PinPathOption>();
  CLI::App* command = app.add_subcommand(
      "cleanup", "Detach the programs and remove the pins; Services stop working");
  AddOption(*command, *pins);
  SetExamples(*command, {"waggle cleanup", "waggle cleanup --pin-path /sys/fs/bpf/node-1"});
  command->callback([pins, exit_code] { *exit_code = CleanUp(pins->path); });
}

}  // namespace waggle::cli
