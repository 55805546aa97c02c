#include "userspace/agent/claims.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"

namespace waggle::agent {
namespace {

// A manifest written by hand has no creationTimestamp. What has no known age must not
// take traffic away from what is known to have been there.
int64_t AgeOrder(int64_t created_s) {
  return created_s == 0 ? std::numeric_limits<int64_t>::max() : created_s;
}

// The field of the Service that makes frontends of this kind.
std::string FieldOf(FrontendKind kind) {
  switch (kind) {
    case FrontendKind::kClusterIp:
      return "spec.clusterIPs";
    case FrontendKind::kNodePort:
      return "spec.ports[].nodePort";
    case FrontendKind::kLoadBalancerIp:
      return "status.loadBalancer.ingress";
    case FrontendKind::kExternalIp:
      return "spec.externalIPs";
  }
  return "";
}

std::string FrontendText(const Frontend& frontend, net::Protocol protocol) {
  return absl::StrCat(frontend.endpoint.ToString(), "/", std::string(net::ProtocolName(protocol)));
}

}  // namespace

std::vector<Claims::Key> Claims::KeysOf(const ResolvedService& service) {
  std::vector<Key> keys;
  for (const ResolvedPort& port : service.ports) {
    for (const BackendList& list : port.lists) {
      for (const Frontend& frontend : list.frontends) {
        keys.push_back({frontend.endpoint, port.protocol, frontend.scope});
      }
    }
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

const ServiceName* Claims::HolderOf(const Key& key) const {
  const auto found = claimed_.find(key);
  return found == claimed_.end() ? nullptr : &found->second.front()->name;
}

std::vector<ServiceName> Claims::Replace(const ServiceName& name, std::vector<Key> keys,
                                         int64_t age) {
  const auto known = claimants_.find(name);
  const std::vector<Key> old_keys =
      known == claimants_.end() ? std::vector<Key>() : std::move((*known)->keys);
  std::vector<Key> touched = old_keys;
  touched.insert(touched.end(), keys.begin(), keys.end());
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());

  const auto holders = [&] {
    std::vector<std::optional<ServiceName>> names;
    names.reserve(touched.size());
    for (const Key& key : touched) {
      const ServiceName* holder = HolderOf(key);
      names.push_back(holder ? std::optional(*holder) : std::nullopt);
    }
    return names;
  };
  const auto before = holders();
  for (const Key& key : old_keys) {
    const auto found = claimed_.find(key);
    auto& all = found->second;
    all.erase(std::find(all.begin(), all.end(), known->get()));
    if (all.empty()) claimed_.erase(found);
  }
  if (keys.empty()) {
    if (known != claimants_.end()) claimants_.erase(known);
  } else {
    const auto claimant = known != claimants_.end()
                              ? known
                              : claimants_.insert(std::make_unique<Claimant>(name)).first;
    (*claimant)->age = age;
    for (const Key& key : keys) {
      auto& all = claimed_[key];
      const auto before_other = [](const Claimant* a, const Claimant* b) {
        return std::tie(a->age, a->name) < std::tie(b->age, b->name);
      };
      all.insert(std::upper_bound(all.begin(), all.end(), claimant->get(), before_other),
                 claimant->get());
    }
    keys.shrink_to_fit();
    (*claimant)->keys = std::move(keys);
  }
  const auto after = holders();

  std::vector<ServiceName> affected;
  for (size_t i = 0; i < touched.size(); ++i) {
    if (before[i] == after[i]) continue;
    for (const auto& holder : {before[i], after[i]}) {
      if (holder && *holder != name) affected.push_back(*holder);
    }
  }
  std::sort(affected.begin(), affected.end());
  affected.erase(std::unique(affected.begin(), affected.end()), affected.end());
  return affected;
}

Claims::Outcome Claims::Claim(ResolvedService service, int64_t created_s) {
  Outcome outcome;
  outcome.affected = Replace(service.name, KeysOf(service), AgeOrder(created_s));

  outcome.service.name = service.name;
  absl::btree_set<Key> taken;  // by this very Service: two of its fields may name one address
  for (ResolvedPort& port : service.ports) {
    ResolvedPort kept_port{port.name, port.protocol, {}};
    for (BackendList& list : port.lists) {
      std::vector<Frontend> kept;
      for (const Frontend& frontend : list.frontends) {
        const Key key{frontend.endpoint, port.protocol, frontend.scope};
        const ServiceName& holder = *HolderOf(key);
        if (holder == service.name && taken.insert(key).second) {
          kept.push_back(frontend);
          continue;
        }
        const std::string text =
            holder == service.name
                ? absl::StrCat(FrontendText(frontend, port.protocol),
                               " is named twice by this Service: the first one counts")
                : absl::StrCat(FrontendText(frontend, port.protocol), " belongs to Service ",
                               holder.ToString(),
                               ", which is older (or the first by name): left out here until "
                               "that Service gives it up");
        outcome.problems.push_back({{"Service", service.name.ns, service.name.name},
                                    "",
                                    FieldOf(frontend.kind),
                                    ProblemReason::kConflict,
                                    text});
      }
      if (kept.empty()) continue;
      list.frontends = std::move(kept);
      kept_port.lists.push_back(std::move(list));
    }
    if (!kept_port.lists.empty()) outcome.service.ports.push_back(std::move(kept_port));
  }
  return outcome;
}

void Claims::Adopt(const ResolvedService& service) {
  Replace(service.name, KeysOf(service), kBeforeAll);
}

std::vector<ServiceName> Claims::Release(const ServiceName& name) {
  return Replace(name, {}, 0);
}

}  // namespace waggle::agent
