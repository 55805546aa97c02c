// Options that several commands share, so that they are spelled and explained alike.
#ifndef WAGGLE_USERSPACE_CLI_OPTIONS_H_
#define WAGGLE_USERSPACE_CLI_OPTIONS_H_

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "maps/desired.h"
#include "maps/layout.h"
#include "userspace/status/problem.h"

namespace waggle::cli {

struct OutputOption {
  std::string format = "table";

  bool wide() const { return format == "wide"; }
  bool json() const { return format == "json"; }
};

struct PinPathOption {
  std::string path{maps::kDefaultPinPath};
};

struct NamespaceOption {
  std::string ns;  // empty: all
};

// The targets must outlive the parsing and the command's callback.
void AddOption(CLI::App& command, OutputOption& option);
void AddOption(CLI::App& command, PinPathOption& option);
void AddOption(CLI::App& command, NamespaceOption& option);

// --node, or what `names` says; required: lower-cased as kube-proxy does with its host name, and
// checked, as a name that no object carries makes nothing local.
CLI::Option* AddNodeOption(CLI::App& command, std::string& node,
                           const std::string& names = "--node");

// "Examples:" and one indented line each, below the command's help.
void SetExamples(CLI::App& command, const std::vector<std::string>& lines);

std::vector<ResolvedService> InNamespace(std::vector<ResolvedService> services,
                                         const NamespaceOption& option);
// Problems of what has no namespace (files, the Node) concern everybody and stay.
std::vector<Problem> InNamespace(std::vector<Problem> problems, const NamespaceOption& option);

}  // namespace waggle::cli

#endif
