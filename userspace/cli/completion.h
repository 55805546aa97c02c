// Completion for shells, generated from the command line itself, so that it knows every
// command and flag there is. Pure.
#ifndef WAGGLE_USERSPACE_CLI_COMPLETION_H_
#define WAGGLE_USERSPACE_CLI_COMPLETION_H_

#include <CLI/CLI.hpp>
#include <string>

namespace waggle::cli {

// A script for bash 4 or later that needs nothing else (no bash-completion package).
// `app` is the root of the tree, before or after parsing.
std::string BashCompletion(const CLI::App& app);

}  // namespace waggle::cli

#endif
