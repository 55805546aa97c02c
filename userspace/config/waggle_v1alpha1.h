// WaggleConfiguration of waggle.dev/v1alpha1: what kube-proxy has no field for. It stands in a
// document of its own, which kube-proxy does not read.
#ifndef WAGGLE_USERSPACE_CONFIG_WAGGLE_V1ALPHA1_H_
#define WAGGLE_USERSPACE_CONFIG_WAGGLE_V1ALPHA1_H_

#include <string>
#include <vector>

#include "maps/layout.h"

namespace waggle::config {

struct Devices {
  std::vector<std::string> pods;  // globs, all three
  std::vector<std::string> uplinks;
  std::vector<std::string> ignore;

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("pods", self.pods);
    field("uplinks", self.uplinks);
    field("ignore", self.ignore);
  }
};

struct MapSizes {
  maps::Sizes sizes;

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("frontends", self.sizes.frontends);
    field("services", self.sizes.services);
    field("backends", self.sizes.backends);
    field("udpFlows", self.sizes.udp_flows);
    field("flows", self.sizes.flows);
    field("halfOpen", self.sizes.half_open);
  }
};

struct WaggleConfigurationV1alpha1 {
  static constexpr char kApiVersion[] = "waggle.dev/v1alpha1";
  static constexpr char kKind[] = "WaggleConfiguration";

  std::vector<std::string> api_servers;  // URLs
  std::string manifests;                 // in place of an apiserver
  std::string pin_path{maps::kDefaultPinPath};
  std::string cgroup_path;
  std::string socket_lb = "all";
  std::string forwarding = "auto";
  std::string tc_attach = "auto";
  Devices devices;
  MapSizes max;

  template <typename Self, typename Visitor>
  static void Visit(Self& self, Visitor&& field) {
    field("apiServers", self.api_servers);
    field("manifests", self.manifests);
    field("pinPath", self.pin_path);
    field("cgroupPath", self.cgroup_path);
    field("socketLB", self.socket_lb);
    field("forwarding", self.forwarding);
    field("tcAttach", self.tc_attach);
    field("devices", self.devices);
    field("max", self.max);
  }
};

}  // namespace waggle::config

#endif
