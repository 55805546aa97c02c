#include "userspace/cli/plan.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "userspace/agent/claims.h"
#include "userspace/agent/resolve.h"
#include "userspace/agent/store.h"

namespace waggle::cli {

Plan MakePlan(const std::vector<k8s::ObjectChange>& objects, const std::string& node_name) {
  agent::Store store(node_name);
  for (const k8s::ObjectChange& change : objects)
    store.Apply(change);

  agent::Claims claims;
  std::map<ServiceName, Plan> settled;
  const std::vector<ServiceName> names = store.Services();
  std::deque<ServiceName> waiting(names.begin(), names.end());
  // Ends: a Service that claims what it claimed before affects nobody.
  while (!waiting.empty()) {
    const ServiceName name = std::move(waiting.front());
    waiting.pop_front();
    const std::optional<agent::ServiceInput> input = store.Find(name);
    agent::Resolution resolution = agent::Resolve(*input);
    agent::Claims::Outcome outcome =
        claims.Claim(std::move(resolution.service), input->service->created_s);
    Plan& part = settled[name];
    part.services = {std::move(outcome.service)};
    part.problems = std::move(resolution.problems);
    part.problems.insert(part.problems.end(), outcome.problems.begin(), outcome.problems.end());
    waiting.insert(waiting.end(), outcome.affected.begin(), outcome.affected.end());
  }

  Plan plan;
  for (auto& [name, part] : settled) {
    if (!part.services[0].ports.empty()) plan.services.push_back(std::move(part.services[0]));
    plan.problems.insert(plan.problems.end(), part.problems.begin(), part.problems.end());
  }
  std::sort(plan.problems.begin(), plan.problems.end());
  return plan;
}

}  // namespace waggle::cli
