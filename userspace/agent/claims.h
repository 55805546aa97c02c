// Two Services may claim one frontend (a clusterIP written by hand, an external IP).
// The kernel can hold one owner: the oldest Service, then the first by name, so that
// every node and every restart decide alike.
#ifndef WAGGLE_USERSPACE_AGENT_CLAIMS_H_
#define WAGGLE_USERSPACE_AGENT_CLAIMS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/hash/hash.h"
#include "maps/desired.h"
#include "userspace/status/problem.h"

namespace waggle::agent {

class Claims {
 public:
  struct Outcome {
    ResolvedService service;            // without the frontends that others hold
    std::vector<Problem> problems;      // a conflict for each of those
    std::vector<ServiceName> affected;  // others that won or lost a frontend: resolve again; sorted
  };

  // What is in force and belongs to nobody that is known goes before all others: it stays until
  // its own source has spoken.
  static constexpr int64_t kBeforeAll = 1;

  // Replaces what the Service claims. `created_s` is its creationTimestamp, Unix seconds;
  // 0: unknown, which counts as younger than all that are known.
  Outcome Claim(ResolvedService service, int64_t created_s);
  // As Claim() with kBeforeAll, for what the kernel holds when the agent starts.
  void Adopt(const ResolvedService& service);
  // The Service is gone. Returns the Services that now hold what it held.
  std::vector<ServiceName> Release(const ServiceName& name);

 private:
  struct Key {
    net::Endpoint endpoint;
    net::Protocol protocol;
    Scope scope;

    friend auto operator<=>(const Key&, const Key&) = default;
    template <typename H>
    friend H AbslHashValue(H state, const Key& key) {
      return H::combine(std::move(state), key.endpoint.address.bytes(), key.endpoint.port,
                        key.protocol, key.scope);
    }
  };
  // What one Service claims.
  struct Claimant {
    ServiceName name;
    int64_t age = 0;  // creationTimestamp, or the greatest number where it is not known
    std::vector<Key> keys;
  };

  static std::vector<Key> KeysOf(const ResolvedService& service);
  // nullptr: nobody claims it.
  const ServiceName* HolderOf(const Key& key) const;
  // Replaces the claims of a Service; returns the others that won or lost a frontend.
  std::vector<ServiceName> Replace(const ServiceName& name, std::vector<Key> keys, int64_t age);

  // By the name that is in it.
  struct ByName {
    using is_transparent = void;
    static const ServiceName& Of(const ServiceName& name) { return name; }
    static const ServiceName& Of(const std::unique_ptr<Claimant>& claimant) {
      return claimant->name;
    }
    template <typename A>
    size_t operator()(const A& a) const {
      return absl::Hash<ServiceName>()(Of(a));
    }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return Of(a) == Of(b);
    }
  };

  // Nearly always one; sorted, the first one holds it. Never empty.
  absl::flat_hash_map<Key, absl::InlinedVector<const Claimant*, 1>> claimed_;
  absl::flat_hash_set<std::unique_ptr<Claimant>, ByName, ByName> claimants_;
};

}  // namespace waggle::agent

#endif
