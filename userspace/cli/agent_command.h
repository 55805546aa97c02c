// `waggle agent`.
#ifndef WAGGLE_USERSPACE_CLI_AGENT_COMMAND_H_
#define WAGGLE_USERSPACE_CLI_AGENT_COMMAND_H_

#include <CLI/CLI.hpp>

namespace waggle::cli {

// Adds the subcommand; its exit code goes to *exit_code, which outlives the app.
void AddAgentCommand(CLI::App& app, int* exit_code);

}  // namespace waggle::cli

#endif
