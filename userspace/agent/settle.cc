#include "userspace/agent/settle.h"

#include <optional>
#include <utility>

namespace waggle::agent {

absl::btree_map<ServiceName, Settled> Settle(const SettleInput& input,
                                             absl::btree_set<ServiceName> work,
                                             uint64_t* resolved) {
  absl::btree_map<ServiceName, Settled> settled;
  // Ends: a Service that claims what it claimed before affects nobody.
  while (!work.empty()) {
    const ServiceName name = *work.begin();
    work.erase(work.begin());
    const std::optional<ServiceInput> known = input.objects.Find(name);
    Resolution resolution;
    resolution.service.name = name;
    if (known) {
      ++*resolved;
      resolution = Resolve(*known);
    }
    if (input.complete && !input.objects.Incomplete(name)) {
      input.protection.Release(name);
    } else {
      resolution.service = input.protection.Join(std::move(resolution.service));
    }
    Settled& entry = settled[name];
    entry.problems = std::move(resolution.problems);
    if (resolution.service.ports.empty()) {
      entry.service = std::move(resolution.service);
      for (ServiceName& other : input.claims.Release(name))
        work.insert(std::move(other));
      continue;
    }
    Claims::Outcome outcome = input.claims.Claim(
        std::move(resolution.service), known ? known->service->created_s : Claims::kBeforeAll);
    entry.service = std::move(outcome.service);
    entry.problems.insert(entry.problems.end(), outcome.problems.begin(), outcome.problems.end());
    for (ServiceName& other : outcome.affected)
      work.insert(std::move(other));
  }
  return settled;
}

}  // namespace waggle::agent
