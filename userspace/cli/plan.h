// Objects to what would be programmed, in one function: what the agent does event by
// event, done once. Pure: no root, no kernel.
#ifndef WAGGLE_USERSPACE_CLI_PLAN_H_
#define WAGGLE_USERSPACE_CLI_PLAN_H_

#include <string>
#include <vector>

#include "k8s-watch/source.h"
#include "maps/desired.h"
#include "userspace/status/problem.h"

namespace waggle::cli {

struct Plan {
  std::vector<ResolvedService> services;  // sorted by name; only those with frontends
  std::vector<Problem> problems;          // of resolve() and of claims; sorted
};

// `node_name` is the node for which is planned. The order of `objects` matters only
// where one of them is named twice: the last one counts.
Plan MakePlan(const std::vector<k8s::ObjectChange>& objects, const std::string& node_name);

}  // namespace waggle::cli

#endif
