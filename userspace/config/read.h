// The text of a configuration file as its documents. Pure: reads no files.
#ifndef WAGGLE_USERSPACE_CONFIG_READ_H_
#define WAGGLE_USERSPACE_CONFIG_READ_H_

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "userspace/config/kube_proxy_v1alpha1.h"
#include "userspace/config/waggle_v1alpha1.h"

namespace waggle::config {

// Something to say about a field.
struct Remark {
  std::string path;  // "KubeProxyConfiguration.iptables.syncPeriod"; empty: the text as a whole
  std::string text;  // a sentence that goes behind the path
  size_t line = 0;   // from 1; 0: not known

  friend bool operator==(const Remark&, const Remark&) = default;
};

struct ConfigFile {
  // Each at most once, in any order. What is not there was not in the file.
  std::optional<KubeProxyConfigurationV1alpha1> kube_proxy;
  std::optional<WaggleConfigurationV1alpha1> waggle;
  // kube-proxy reads the first document only; true when it would not like that one.
  bool waggle_first = false;

  std::vector<Remark> errors;   // no document, another kind, a value of another type
  std::vector<Remark> unknown;  // fields that nobody knows
  // Where the fields stand that are in the file.
  std::map<std::string, size_t> lines;
};

// YAML or JSON, as Kubernetes reads them. A field that is null counts as absent. After
// errors what could be read is there nevertheless.
ConfigFile ReadConfig(std::string_view text);

}  // namespace waggle::config

#endif
