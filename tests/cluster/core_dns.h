// CoreDNS in a pod, as clusters run it: it answers for the Services that the apiserver knows.
#ifndef WAGGLE_TESTS_CLUSTER_CORE_DNS_H_
#define WAGGLE_TESTS_CLUSTER_CORE_DNS_H_

#include <string>

#include "tests/cluster/control_plane.h"
#include "tests/lab/lab.h"

namespace waggle::cluster {

inline constexpr uint16_t kDnsPort = 53;

// "web.default.svc.cluster.local".
std::string DnsName(const std::string& service, const std::string& ns = "default");

// Runs until it goes out of scope, on all addresses of the place.
class CoreDns {
 public:
  CoreDns(const ControlPlane& control, const lab::Lab& lab, const lab::Place& place);

  // It answers with this Service's addresses, over both families. Else the test process ends.
  void AwaitAnswer(const std::string& service, const lab::Addresses& ips) const;

 private:
  const lab::Place& place_;
  lab::Process process_;
};

}  // namespace waggle::cluster

#endif
