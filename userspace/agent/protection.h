// What the pins held when the agent started and its sources have not spoken of yet.
// While part of an input cannot be read, that stays in force beside what is known; what
// a source has shown once in this run and then taken away is gone for good.
#ifndef WAGGLE_USERSPACE_AGENT_PROTECTION_H_
#define WAGGLE_USERSPACE_AGENT_PROTECTION_H_

#include <map>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "maps/desired.h"

namespace waggle::agent {

class Protection {
 public:
  // Replaces everything.
  void Adopt(const std::vector<ResolvedService>& in_force);

  // `service` and what is protected of it. What both have is known from now on and no
  // longer protected.
  ResolvedService Join(ResolvedService service);
  // Nothing of this Service is protected any more.
  void Release(const ServiceName& name) { services_.erase(name); }

 private:
  struct Record {
    std::string port_name;
    net::Protocol protocol;
    Frontend frontend;
    Policy policy;
    uint32_t affinity_s;
    Fate fate;
    bool known = false;             // a source has named this frontend
    std::vector<Backend> backends;  // that no source has named
  };
  using Records = std::vector<Record>;

  static void JoinList(Records& records, net::Protocol protocol, BackendList& list);

  absl::flat_hash_map<ServiceName, Records> services_;
};

}  // namespace waggle::agent

#endif
