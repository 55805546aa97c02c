// One function a subcommand: adds it to `app`; its exit code goes to *exit_code, which
// outlives the app. (`agent` has its own header.)
#ifndef WAGGLE_USERSPACE_CLI_COMMANDS_H_
#define WAGGLE_USERSPACE_CLI_COMMANDS_H_

#include <CLI/CLI.hpp>

namespace waggle::cli {

void AddPlanCommand(CLI::App& app, int* exit_code);
void AddServiceCommand(CLI::App& app, int* exit_code);
void AddBackendCommand(CLI::App& app, int* exit_code);
void AddFlowCommand(CLI::App& app, int* exit_code);
void AddStatusCommand(CLI::App& app, int* exit_code);
void AddCleanupCommand(CLI::App& app, int* exit_code);
void AddVersionCommand(CLI::App& app, int* exit_code);
// Completes whatever `app` holds when the command runs; `app` must outlive it.
void AddCompletionCommand(CLI::App& app, int* exit_code);

}  // namespace waggle::cli

#endif
