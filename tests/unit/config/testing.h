// What the tests of config/ share.
#ifndef WAGGLE_TESTS_UNIT_CONFIG_TESTING_H_
#define WAGGLE_TESTS_UNIT_CONFIG_TESTING_H_

#include <string>

#include "tests/unit/golden.h"
#include "userspace/config/load.h"

namespace waggle::config {

// The two lines that every KubeProxyConfiguration starts with.
inline constexpr char kHead[] =
    "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
    "kind: KubeProxyConfiguration\n";

inline ConfigInput FileInput(const std::string& text) {
  ConfigInput input;
  input.file = {"config.conf", text};
  return input;
}

}  // namespace waggle::config

#endif
