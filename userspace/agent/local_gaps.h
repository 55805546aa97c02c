// How many Service ports have endpoints, but under a Local policy none on this node.
#ifndef WAGGLE_USERSPACE_AGENT_LOCAL_GAPS_H_
#define WAGGLE_USERSPACE_AGENT_LOCAL_GAPS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/container/btree_map.h"
#include "maps/desired.h"

namespace waggle::agent {

class LocalGaps {
 public:
  // By Scope and net::Family.
  using Counts = std::array<std::array<int64_t, 2>, 2>;

  // What this Service shall do from now on; without ports: nothing.
  void Update(const ResolvedService& service) {
    Counts counts{};
    bool any = false;
    for (const ResolvedPort& port : service.ports) {
      for (const BackendList& list : port.lists) {
        if (list.fate != Fate::kDrop) continue;
        any = true;
        const Frontend& first = list.frontends.front();
        ++counts[static_cast<size_t>(first.scope)]
                [static_cast<size_t>(first.endpoint.address.family())];
      }
    }
    const auto known = by_service_.find(service.name);
    if (known != by_service_.end()) Add(known->second, -1);
    if (any) {
      Add(counts, 1);
      by_service_[service.name] = counts;
    } else if (known != by_service_.end()) {
      by_service_.erase(known);
    }
  }
  const Counts& total() const { return total_; }

 private:
  void Add(const Counts& counts, int64_t sign) {
    for (size_t scope = 0; scope < counts.size(); ++scope) {
      for (size_t family = 0; family < counts[scope].size(); ++family) {
        total_[scope][family] += sign * counts[scope][family];
      }
    }
  }

  absl::btree_map<ServiceName, Counts> by_service_;  // those with any
  Counts total_{};
};

}  // namespace waggle::agent

#endif
