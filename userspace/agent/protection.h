// What the pins held when the agent started and its sources have not spoken of yet.
// While part of an input cannot be read, that stays in force beside what is known; what
// a source has shown once in this run and then taken away is gone for good.
#ifndef WAGGLE_USERSPACE_AGENT_PROTECTION_H_
#define WAGGLE_USERSPACE_AGENT_PROTECTION_H_

#include <functional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "maps/desired.h"

namespace waggle::agent {

class Protection {
 public:
  // Reads what a Service has in the kernel. It is asked for a Service when that is joined for
  // the first time, so that a start in which nothing is missing remembers names only.
  using InForce = std::function<ResolvedService(const ServiceName&)>;

  Protection() = default;  // of nothing
  explicit Protection(InForce in_force) : in_force_(std::move(in_force)) {}

  // What the kernel has for this Service now is protected.
  void Adopt(const ServiceName& name) { unread_.insert(name); }

  // `service` and what is protected of it. What both have is known from now on and no
  // longer protected.
  ResolvedService Join(ResolvedService service);
  // Nothing of this Service is protected any more.
  void Release(const ServiceName& name) {
    services_.erase(name);
    unread_.erase(name);
  }

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

  static Records RecordsOf(const ResolvedService& service);
  static void JoinList(Records& records, net::Protocol protocol, BackendList& list);

  InForce in_force_;
  absl::flat_hash_set<ServiceName> unread_;  // adopted and not joined yet
  absl::flat_hash_map<ServiceName, Records> services_;
};

}  // namespace waggle::agent

#endif
