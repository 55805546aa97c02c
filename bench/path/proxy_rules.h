// Rules of the shape that kube-proxy writes, in its two modes that are usual, for any
// number of Services: what `iptables-restore` and `nft -f` read.
//
// Only what a packet meets is there. Left out are the chains that kube-proxy makes
// to notice a flush, and those for NodePorts and load balancers that have no entries.
#ifndef WAGGLE_BENCH_PATH_PROXY_RULES_H_
#define WAGGLE_BENCH_PATH_PROXY_RULES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/net/address.h"

namespace waggle::bench {

// One port of one Service, all of one family.
struct RuledPort {
  std::string service;  // "default/web:tcp"
  std::string cluster_ip;
  std::string protocol;  // "tcp" or "udp"
  uint16_t port = 80;
  std::vector<std::string> endpoints;  // "10.244.1.3:8080" or "[fd00::3]:8080"
};

// The order is that of the list: the last Service is met last. `pod_cidr` as
// --cluster-cidr: others are masqueraded.
std::string IptablesRules(net::Family family, const std::vector<RuledPort>& ports,
                          const std::string& pod_cidr);

// The order does not matter: the rules look in a map. For a family that has no
// Services, too.
std::string NftablesRules(net::Family family, const std::vector<RuledPort>& ports,
                          const std::string& pod_cidr);

}  // namespace waggle::bench

#endif
