#include "userspace/agent/store.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace waggle::agent {
namespace {

ServiceName ToServiceName(const k8s::ObjectName& name) {
  return {name.ns, name.name};
}

ServiceName OwnerOf(const k8s::EndpointSlice& slice) {
  return {slice.name.ns, slice.service};
}

template <typename Slices>
auto LowerBound(Slices& slices, const std::string& name) {
  return std::lower_bound(
      slices.begin(), slices.end(), name,
      [](const auto& slice, const std::string& text) { return slice->name.name < text; });
}

void AddOnce(std::vector<ServiceName>& names, ServiceName name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
}

}  // namespace

Store::Store(std::string node_name) {
  node_.name = std::move(node_name);
}

std::vector<ServiceName> Store::Apply(const k8s::ObjectChange& change) {
  if (const auto* unreadable = std::get_if<k8s::Unreadable>(&change.state)) {
    return ApplyUnreadable(change.key, ToServiceName(unreadable->service));
  }
  std::vector<ServiceName> dirty;
  ForgetUnreadable(change.key, dirty);
  const auto* object = std::get_if<k8s::Object>(&change.state);
  switch (change.key.kind) {
    case k8s::ObjectKind::kService:
      SetService(ToServiceName(change.key.name),
                 object ? std::get<std::shared_ptr<const k8s::Service>>(*object) : nullptr, dirty);
      break;
    case k8s::ObjectKind::kEndpointSlice:
      SetSlice(change.key.name,
               object ? std::get<std::shared_ptr<const k8s::EndpointSlice>>(*object) : nullptr,
               dirty);
      break;
    case k8s::ObjectKind::kNode:
      // A Node that is deleted under a running agent keeps its last known zone: the
      // pods on it are still there, and traffic must not shift for nothing.
      if (object) SetNode(*std::get<std::shared_ptr<const k8s::Node>>(*object), dirty);
      break;
  }
  return dirty;
}

void Store::SetService(const ServiceName& name, std::shared_ptr<const k8s::Service> service,
                       std::vector<ServiceName>& dirty) {
  if (!service && !entries_.contains(name)) return;
  Entry& entry = entries_[name];
  if (service || entry.service) AddOnce(dirty, name);
  entry.service = std::move(service);
  DropIfEmpty(name);
}

void Store::SetSlice(const k8s::ObjectName& name, Slice slice, std::vector<ServiceName>& dirty) {
  const auto filed = slices_.find(name);
  if (filed != slices_.end()) {
    const Slice old = *filed;
    slices_.erase(filed);
    Unfile(*old);
    if (!slice || slice->service != old->service) {
      MarkIfKnown(OwnerOf(*old), dirty);
      DropIfEmpty(OwnerOf(*old));
    }
  }
  // A slice without the label belongs to nobody.
  if (!slice || slice->service.empty()) return;
  const ServiceName owner = OwnerOf(*slice);
  auto& slices = entries_[owner].slices;
  slices.insert(LowerBound(slices, name.name), slice);
  slices_.insert(std::move(slice));
  MarkIfKnown(owner, dirty);
}

// Takes the slice from its Service.
void Store::Unfile(const k8s::EndpointSlice& slice) {
  auto& slices = entries_.at(OwnerOf(slice)).slices;
  slices.erase(LowerBound(slices, slice.name.name));
}

void Store::SetNode(const k8s::Node& node, std::vector<ServiceName>& dirty) {
  if (node.name.name != node_.name || node.zone == node_.zone) return;
  node_.zone = node.zone;
  dirty = Services();
}

std::vector<ServiceName> Store::ApplyUnreadable(const k8s::ObjectKey& key, ServiceName owner) {
  std::vector<ServiceName> dirty;
  ForgetUnreadable(key, dirty);
  // Where not even the owner could be read, the place where the slice was filed is the
  // best guess. A Node has no owner: its last known zone stays.
  if (owner.name.empty() && key.kind == k8s::ObjectKind::kEndpointSlice) {
    const auto filed = slices_.find(key.name);
    if (filed != slices_.end()) owner = OwnerOf(**filed);
  }
  if (owner.name.empty() || key.kind == k8s::ObjectKind::kNode) return dirty;
  owner_of_unreadable_.insert_or_assign(key, owner);
  unreadable_[owner].insert(key);
  AddOnce(dirty, std::move(owner));
  return dirty;
}

void Store::ForgetUnreadable(const k8s::ObjectKey& key, std::vector<ServiceName>& dirty) {
  const auto marked = owner_of_unreadable_.find(key);
  if (marked == owner_of_unreadable_.end()) return;
  const ServiceName owner = marked->second;
  owner_of_unreadable_.erase(marked);
  const auto keys = unreadable_.find(owner);
  keys->second.erase(key);
  if (keys->second.empty()) unreadable_.erase(keys);
  // Even a Service that is not known is resolved again: what stayed in force for it
  // because of this object may have to go now.
  AddOnce(dirty, owner);
}

std::optional<ServiceInput> Store::Find(const ServiceName& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end() || !found->second.service) return std::nullopt;
  ServiceInput input;
  input.service = found->second.service;
  input.node = node_;
  input.slices.assign(found->second.slices.begin(), found->second.slices.end());
  return input;
}

const k8s::Service* Store::FindService(const ServiceName& name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : found->second.service.get();
}

bool Store::Incomplete(const ServiceName& name) const {
  return unreadable_.contains(name);
}

std::vector<ServiceName> Store::Services() const {
  std::vector<ServiceName> names;
  for (const auto& [name, entry] : entries_) {
    if (entry.service) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// A slice whose Service is not known concerns nobody yet.
void Store::MarkIfKnown(const ServiceName& name, std::vector<ServiceName>& dirty) const {
  const auto found = entries_.find(name);
  if (found != entries_.end() && found->second.service) AddOnce(dirty, name);
}

void Store::DropIfEmpty(const ServiceName& name) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return;
  const Entry& entry = found->second;
  if (!entry.service && entry.slices.empty()) entries_.erase(found);
}

}  // namespace waggle::agent
