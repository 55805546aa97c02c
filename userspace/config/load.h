// From a file and flags to an AgentConfig. Pure over the text of the file.
#ifndef WAGGLE_USERSPACE_CONFIG_LOAD_H_
#define WAGGLE_USERSPACE_CONFIG_LOAD_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "userspace/config/agent_config.h"
#include "userspace/config/flags.h"
#include "userspace/config/read.h"

namespace waggle::config {

struct ConfigText {
  std::string name;  // for messages
  std::string text;
};

struct ConfigInput {
  std::optional<ConfigText> file;  // of --config
  bool strict = false;             // fields that nobody knows are errors
  std::vector<FlagValue> flags;    // kube-proxy's; with a file only those beside it count
  // Waggle's own flags, which go before the file: sets what they say.
  std::function<void(WaggleConfigurationV1alpha1*)> own_flags;
  std::string hostname_override;  // goes before the file, too; a node name already
  std::string master;
};

struct LoadedConfig {
  // Complete sentences, one line each. With errors the rest says nothing.
  std::vector<std::string> errors;
  std::vector<std::string> warnings;

  AgentConfig agent;  // without a name where nobody gave one
  std::string yaml;   // what is in effect, as a file
};

LoadedConfig LoadConfig(const ConfigInput& input);

}  // namespace waggle::config

#endif
