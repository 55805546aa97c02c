// kube-proxy's flags: what each is called, which field it stands for, what it does to it.
#ifndef WAGGLE_USERSPACE_CONFIG_FLAGS_H_
#define WAGGLE_USERSPACE_CONFIG_FLAGS_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "userspace/config/read.h"

namespace waggle::config {

struct FlagInfo {
  std::string_view name;  // without dashes
  // The field that it sets, from KubeProxyConfiguration on; empty: none of one name.
  std::string_view path;
  const char* value;  // what help calls its value; nullptr: a switch, which needs none
  const char* help;
  // Heeded beside a file; the others are not, as with kube-proxy.
  bool beside_file = false;
};

// All that set something which a file can say, too, or that nobody needs.
std::span<const FlagInfo> KubeProxyFlags();
const FlagInfo* FindFlag(std::string_view name);

struct FlagValue {
  std::string_view name;  // of KubeProxyFlags()
  std::string value;      // of a switch: "true" unless told otherwise
};

// Sets what `flags` say, in their order, in `config`, which has its defaults. What cannot be
// read comes back, with "--name" for a path.
std::vector<Remark> ApplyFlags(const std::vector<FlagValue>& flags,
                               KubeProxyConfigurationV1alpha1* config);

}  // namespace waggle::config

#endif
