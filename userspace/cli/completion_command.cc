// `waggle completion SHELL`: prints the script of completion.h.
#include <memory>
#include <string>

#include "userspace/cli/commands.h"
#include "userspace/cli/completion.h"
#include "userspace/cli/options.h"
#include "userspace/cli/terminal.h"

namespace waggle::cli {

void AddCompletionCommand(CLI::App& app, int* exit_code) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "Print a completion script for a shell");
  command->add_option("shell", *shell, "The shell: bash")
      ->type_name("")
      ->required()
      ->check(CLI::IsMember({"bash"}).description(""));
  SetExamples(*command, {"source <(waggle completion bash)",
                         "waggle completion bash > /etc/bash_completion.d/waggle"});
  const CLI::App* root = &app;
  command->callback([shell, root, exit_code] { *exit_code = Print(BashCompletion(*root)); });
}

}  // namespace waggle::cli
