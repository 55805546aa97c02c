// One decoder a kind, behind decode.h. Each gets an object whose kind, apiVersion and
// name are good.
#ifndef WAGGLE_K8S_WATCH_DECODE_KINDS_H_
#define WAGGLE_K8S_WATCH_DECODE_KINDS_H_

#include <optional>

#include "k8s-watch/fields.h"
#include "k8s-watch/types.h"

namespace waggle::k8s {

// nullopt: not decodable, and reported.
std::optional<Service> DecodeService(const Value& object, const ObjectName& name, Reporter* report);
std::optional<Node> DecodeNode(const Value& object, const ObjectName& name, Reporter* report);

struct SliceResult {
  std::optional<EndpointSlice> slice;  // absent and not ignored: not decodable, and reported
  bool ignored = false;                // not for us: no owner, FQDN, or another proxy's
  ObjectName service;                  // the owner, as far as it could be read
};
SliceResult DecodeSlice(const Value& object, const ObjectName& name, Reporter* report);
// Only the owner; reports nothing.
ObjectName SliceOwner(const Value& object, const ObjectName& name);

}  // namespace waggle::k8s

#endif
