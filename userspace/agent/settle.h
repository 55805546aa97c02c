// From objects to what each Service shall have, for all Services that a change
// concerns: resolve, keep what is protected, settle who holds which frontend.
#ifndef WAGGLE_USERSPACE_AGENT_SETTLE_H_
#define WAGGLE_USERSPACE_AGENT_SETTLE_H_

#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "userspace/agent/claims.h"
#include "userspace/agent/protection.h"
#include "userspace/agent/store.h"

namespace waggle::agent {

struct Settled {
  ResolvedService service;  // without ports: nothing of it shall be in force
  std::vector<Problem> problems;
};

struct SettleInput {
  const Store& objects;
  Claims& claims;
  Protection& protection;
  bool complete = true;  // false: every Service may have parts that could not be read
};

// Settles `work` and every other Service whose frontends change hands by it, each at
// the end once. `*resolved` grows by the number of times that resolve() ran.
absl::btree_map<ServiceName, Settled> Settle(const SettleInput& input,
                                             absl::btree_set<ServiceName> work, uint64_t* resolved);

}  // namespace waggle::agent

#endif
