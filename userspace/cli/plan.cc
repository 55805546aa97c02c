#include "userspace/cli/plan.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "userspace/agent/settle.h"

namespace waggle::cli {

Plan MakePlan(const std::vector<k8s::ObjectChange>& objects, const std::string& node_name) {
  agent::Store store(node_name);
  for (const k8s::ObjectChange& change : objects)
    store.Apply(change);

  agent::Claims claims;
  agent::Protection nothing;  // no pins are looked at
  const std::vector<ServiceName> names = store.Services();
  uint64_t resolved = 0;
  Plan plan;
  for (auto& [name, settled] :
       agent::Settle({store, claims, nothing}, {names.begin(), names.end()}, &resolved)) {
    if (!settled.service.ports.empty()) plan.services.push_back(std::move(settled.service));
    plan.problems.insert(plan.problems.end(), settled.problems.begin(), settled.problems.end());
  }
  std::sort(plan.problems.begin(), plan.problems.end());
  return plan;
}

}  // namespace waggle::cli
