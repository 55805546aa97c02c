// What is known of the cluster: Services, their EndpointSlices, this Node. Turns a
// change of an object into the names of the Services that it concerns.
#ifndef WAGGLE_USERSPACE_AGENT_STORE_H_
#define WAGGLE_USERSPACE_AGENT_STORE_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/hash/hash.h"
#include "k8s-watch/source.h"
#include "maps/desired.h"
#include "userspace/agent/resolve.h"

namespace waggle::agent {

class Store {
 public:
  // `node_name` is this node; other Nodes are ignored.
  explicit Store(std::string node_name);

  // Takes the change and returns the Services to resolve again, each once. The work
  // is that of the Services concerned, except for a change of this Node's zone, which
  // concerns all.
  std::vector<ServiceName> Apply(const k8s::ObjectChange& change);

  // nullopt: no such Service (its slices may exist).
  std::optional<ServiceInput> Find(const ServiceName& name) const;

  // The same without its slices, for who only looks. Null: no such Service.
  const k8s::Service* FindService(const ServiceName& name) const;

  // Part of this Service exists but could not be read (k8s::Unreadable): what is in
  // force for it may be added to but not taken away.
  bool Incomplete(const ServiceName& name) const;

  // Sorted by name.
  std::vector<ServiceName> Services() const;

 private:
  using Slice = std::shared_ptr<const k8s::EndpointSlice>;
  struct Entry {
    std::shared_ptr<const k8s::Service> service;  // null: only slices are known
    absl::InlinedVector<Slice, 1> slices;         // sorted by name
  };
  // By the name that the slice itself holds, which is then not there twice.
  struct ByName {
    using is_transparent = void;
    static const k8s::ObjectName& Of(const k8s::ObjectName& name) { return name; }
    static const k8s::ObjectName& Of(const Slice& slice) { return slice->name; }
    template <typename A>
    size_t operator()(const A& a) const {
      return absl::Hash<k8s::ObjectName>()(Of(a));
    }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return Of(a) == Of(b);
    }
  };

  // Each adds to `dirty` the Services that are concerned. Null: the object is gone.
  void SetService(const ServiceName& name, std::shared_ptr<const k8s::Service> service,
                  std::vector<ServiceName>& dirty);
  void SetSlice(const k8s::ObjectName& name, Slice slice, std::vector<ServiceName>& dirty);
  void SetNode(const k8s::Node& node, std::vector<ServiceName>& dirty);
  void Unfile(const k8s::EndpointSlice& slice);
  std::vector<ServiceName> ApplyUnreadable(const k8s::ObjectKey& key, ServiceName owner);
  void ForgetUnreadable(const k8s::ObjectKey& key, std::vector<ServiceName>& dirty);
  void MarkIfKnown(const ServiceName& name, std::vector<ServiceName>& dirty) const;
  void DropIfEmpty(const ServiceName& name);

  NodeFacts node_;
  absl::flat_hash_map<ServiceName, Entry> entries_;
  // Those that are filed, each with its Service: that of its label.
  absl::flat_hash_set<Slice, ByName, ByName> slices_;
  absl::flat_hash_map<ServiceName, absl::flat_hash_set<k8s::ObjectKey>> unreadable_;
  absl::flat_hash_map<k8s::ObjectKey, ServiceName> owner_of_unreadable_;
};

}  // namespace waggle::agent

#endif
