#include "userspace/config/agent_config.h"

namespace waggle::config {

std::string_view ProxyModeName(ProxyMode mode) {
  switch (mode) {
    case ProxyMode::kIptables:
      return "iptables";
    case ProxyMode::kIpvs:
      return "ipvs";
    case ProxyMode::kNftables:
      return "nftables";
  }
  return "";
}

}  // namespace waggle::config
