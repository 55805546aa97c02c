// The flags of `waggle agent`: Waggle's own, and kube-proxy's.
#ifndef WAGGLE_USERSPACE_CLI_AGENT_FLAGS_H_
#define WAGGLE_USERSPACE_CLI_AGENT_FLAGS_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "userspace/config/flags.h"
#include "userspace/config/waggle_v1alpha1.h"

namespace waggle::cli {

struct AgentFlags {
  std::string config;           // FILE
  bool strict_config = false;   // fields that nobody knows are errors
  std::string write_config_to;  // FILE
  bool cleanup = false;
  bool init_only = false;
  bool verbose = false;
  std::string hostname_override;
  std::string master;
  std::string list = "auto";
  std::vector<std::string> disabled_features;

  // Those of Waggle that were given, put into what a file says.
  std::vector<std::function<void(config::WaggleConfigurationV1alpha1*)>> own;
  // What those of kube-proxy were given; valid after the parsing.
  std::function<std::vector<config::FlagValue>()> kube_proxy;
};

// `flags` must outlive the parsing and the command's callback.
void AddAgentFlags(CLI::App& command, AgentFlags* flags);

}  // namespace waggle::cli

#endif
