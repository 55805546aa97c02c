// JSON as the objects of types.h. Pure. Everything in a document is hostile;
// the smallest unit that is bad is left out and reported, the rest works.
#ifndef WAGGLE_K8S_WATCH_DECODE_H_
#define WAGGLE_K8S_WATCH_DECODE_H_

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "k8s-watch/source.h"
#include "k8s-watch/types.h"
#include "k8s-watch/value.h"
#include "userspace/status/problem.h"

namespace waggle::k8s {

// An object whose name could be read. Objects that are not for us (a slice without owner or
// of addressType FQDN) do not appear at all.
struct DecodedObject {
  ObjectKey key;
  std::optional<Object> object;  // absent: it cannot be decoded, a problem says why
  // The Service it belongs to, for a Service itself and a slice; empty name when that
  // could not be read, and for a Node.
  ObjectName service;
  std::string origin;  // "web.yaml, document 2, items[3]"
  // `object` lacks something that traffic depends on, or has a default in its place.
  bool damaged = false;
};

struct DecodeResult {
  std::vector<DecodedObject> objects;
  std::vector<Problem> problems;
  // Parts that may hold objects for us but do not say which (no kind, a bad name):
  // while there are any, no object may be taken for removed.
  size_t unidentified = 0;
  std::vector<size_t> causes;  // which of `problems` tell of these, in order
  size_t ignored = 0;          // objects of other kinds, and slices that are not for us
  size_t strays = 0;           // documents that are no Kubernetes objects, nor meant to be
};

// Adds what `document` holds to `*result`: an object, or a list (`kind: List`, ServiceList,
// EndpointSliceList, NodeList) of them. `origin` names the document.
void DecodeDocument(const nlohmann::json& document, const std::string& origin,
                    DecodeResult* result);
// The same for one object of `kind` and of the version that goes with it, whatever it says itself.
// `object` must be a mapping.
void DecodeObject(const Value& object, ObjectKind kind, const std::string& origin,
                  DecodeResult* result);

}  // namespace waggle::k8s

#endif
