// A discovery.k8s.io/v1 EndpointSlice, field by field.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "k8s-watch/decode_kinds.h"
#include "k8s-watch/quote.h"

namespace waggle::k8s {
namespace {

constexpr const char* kTriggerTime = "endpoints.kubernetes.io/last-change-trigger-time";
constexpr const char* kServiceName = "kubernetes.io/service-name";
// Room for so many is made at once. An apiserver takes no more endpoints, and seldom has more
// ports.
constexpr size_t kUsualPorts = 100;
constexpr size_t kMostEndpoints = 1000;

std::optional<EndpointPort> DecodePort(const Value& value, const Path& path, Reporter* report) {
  constexpr std::string_view kThen = "this port is left out";
  if (!value.is_mapping()) {
    report->Invalid(
        path, absl::StrCat("is ", Describe(value), ", expected a mapping; this port is left out"));
    return std::nullopt;
  }
  const auto name = ReadString(value, path, "name", kThen, report);
  const auto protocol = ReadProtocol(value, path, kThen, report);
  // Upstream skips a port without a number silently, and so do we.
  const auto port = ReadPort(value, path, "port", true, kThen, report);
  if (name.bad || !protocol.value || port.bad) return std::nullopt;
  const std::string_view text = name.value.value_or("");
  if (!text.empty() && !IsLabel(text)) {
    report->Invalid(Path(path, "name"),
                    absl::StrCat("is ", Quote(text),
                                 ", expected at most 63 lower-case letters, digits and '-'; this "
                                 "port is left out"));
    return std::nullopt;
  }
  if (port.value.value_or(0) == 0) return std::nullopt;
  return EndpointPort{std::string(text), *protocol.value, *port.value};
}

// hints.forZones or hints.forNodes.
std::vector<std::string> DecodeHints(const Value& endpoint, const Path& parent, const char* key,
                                     Reporter* report) {
  constexpr std::string_view kThen = "the endpoint counts as one without this hint";
  const auto hints = ReadObject(endpoint, parent, "hints", kThen, report);
  if (!hints.value) return {};
  const Path hints_path(parent, "hints");
  const auto list = ReadList(**hints.value, hints_path, key, kThen, report);
  if (!list.value) return {};
  const Path list_path(hints_path, key);
  std::vector<std::string> names;
  for (size_t i = 0; const Value& entry : **list.value) {
    const Path path(list_path, i++);
    if (!entry.is_mapping()) {
      report->Invalid(path, absl::StrCat("is ", Describe(entry), ", expected a mapping with name; ",
                                         std::string(kThen)));
      continue;
    }
    const auto name = ReadString(entry, path, "name", kThen, report);
    if (!name.value) continue;
    if (name.value->find('\0') != std::string_view::npos) {
      report->Invalid(Path(path, "name"), absl::StrCat("is ", Quote(*name.value),
                                                       ", expected no NUL; ", std::string(kThen)));
      continue;
    }
    names.emplace_back(*name.value);
  }
  return names;
}

bool DecodeConditions(const Value& value, const Path& parent, Endpoint* endpoint,
                      Reporter* report) {
  constexpr std::string_view kThen = "this endpoint is left out";
  const auto conditions = ReadObject(value, parent, "conditions", kThen, report);
  if (!conditions.value) return !conditions.bad;
  const Path path(parent, "conditions");
  const auto ready = ReadBool(**conditions.value, path, "ready", kThen, report);
  const auto serving = ReadBool(**conditions.value, path, "serving", kThen, report);
  const auto terminating = ReadBool(**conditions.value, path, "terminating", kThen, report);
  // A nil serving is true whatever ready says: kube-proxy does so, against the API's
  // comment (px/endpointslicecache.go).
  endpoint->ready = ready.value.value_or(true);
  endpoint->serving = serving.value.value_or(true);
  endpoint->terminating = terminating.value.value_or(false);
  return !ready.bad && !serving.bad && !terminating.bad;
}

std::optional<Endpoint> DecodeEndpoint(const Value& value, const Path& path, net::Family family,
                                       Reporter* report) {
  constexpr std::string_view kThen = "this endpoint is left out";
  if (!value.is_mapping()) {
    report->Invalid(
        path, absl::StrCat("is ", Describe(value), ", expected a mapping; ", std::string(kThen)));
    return std::nullopt;
  }
  const auto addresses = ReadList(value, path, "addresses", kThen, report);
  if (addresses.bad) return std::nullopt;
  const Path addresses_path(path, "addresses");
  if (!addresses.value || (*addresses.value)->empty()) {
    report->Invalid(addresses_path,
                    absl::StrCat("is empty, expected an address; ", std::string(kThen)));
    return std::nullopt;
  }
  const Path address_path(addresses_path, size_t{0});
  const Value& text = (*addresses.value)->front();
  const auto address = ToAddress(text, address_path, kThen, report);
  if (!address) return std::nullopt;
  if (address->family() != family) {
    report->Invalid(
        address_path,
        absl::StrCat("is ", Describe(text), ", expected an ", std::string(net::FamilyName(family)),
                     " address as addressType says; ", std::string(kThen)));
    return std::nullopt;
  }
  if (const char* special = SpecialAddress(*address)) {
    report->Invalid(address_path,
                    absl::StrCat(QuoteText(text), " is ", special,
                                 " address, which no endpoint may have; ", std::string(kThen)));
    return std::nullopt;
  }
  Endpoint endpoint;
  endpoint.address = *address;
  if (!DecodeConditions(value, path, &endpoint, report)) return std::nullopt;
  const auto node = ReadString(value, path, "nodeName", kThen, report);
  if (node.bad) return std::nullopt;
  const std::string_view node_name = node.value.value_or("");
  if (!node_name.empty() && !IsSubdomain(node_name)) {
    report->Invalid(Path(path, "nodeName"),
                    absl::StrCat("is ", Quote(node_name), ", expected the name of a Node; ",
                                 std::string(kThen)));
    return std::nullopt;
  }
  endpoint.node_name = node_name;
  endpoint.zones = DecodeHints(value, path, "forZones", report);
  endpoint.nodes = DecodeHints(value, path, "forNodes", report);
  return endpoint;
}

// Only a metric wants to know.
TriggerTime DecodeTrigger(const Value& object, const Path& metadata, Reporter* report) {
  constexpr std::string_view kThen = "the time that the change took is not measured";
  const HarmlessFields harmless(report);
  const auto annotations =
      ReadObject(*object.Find("metadata"), metadata, "annotations", kThen, report);
  if (!annotations.value) return {};
  const auto time =
      ReadTime(**annotations.value, Path(metadata, "annotations"), kTriggerTime, kThen, report);
  return {absl::ToUnixNanos(time.value.value_or(absl::UnixEpoch()))};
}

// False: not decodable.
bool DecodeLists(const Value& object, const Path& root, EndpointSlice* slice, Reporter* report) {
  constexpr std::string_view kThen = "this object is left out";
  const auto ports = ReadList(object, root, "ports", kThen, report);
  const auto endpoints = ReadList(object, root, "endpoints", kThen, report);
  if (ports.bad || endpoints.bad) return false;
  const Path ports_path(root, "ports");
  if (ports.value) {
    slice->ports.reserve(std::min((*ports.value)->size(), kUsualPorts));
    for (size_t i = 0; const Value& value : **ports.value) {
      if (auto port = DecodePort(value, Path(ports_path, i++), report)) {
        slice->ports.push_back(std::move(*port));
      }
    }
  }
  const Path endpoints_path(root, "endpoints");
  if (endpoints.value) {
    slice->endpoints.reserve(std::min((*endpoints.value)->size(), kMostEndpoints));
    for (size_t i = 0; const Value& value : **endpoints.value) {
      auto endpoint = DecodeEndpoint(value, Path(endpoints_path, i++), slice->family, report);
      if (endpoint) slice->endpoints.push_back(std::move(*endpoint));
    }
  }
  return true;
}

}  // namespace

ObjectName SliceOwner(const Value& object, const ObjectName& name) {
  Reporter quiet("", "");
  const Path root;
  const auto labels = ReadObject(*object.Find("metadata"), root, "labels", "", &quiet);
  if (!labels.value) return {name.ns, ""};
  const std::string_view owner =
      ReadString(**labels.value, root, kServiceName, "", &quiet).value.value_or("");
  return {name.ns, IsLabel(owner) ? std::string(owner) : ""};
}

SliceResult DecodeSlice(const Value& object, const ObjectName& name, Reporter* report) {
  constexpr std::string_view kThen = "this object is left out";
  SliceResult result;
  result.service = SliceOwner(object, name);
  const Path root;
  const Path metadata(root, "metadata");
  const Path labels_path(metadata, "labels");
  const auto labels = ReadObject(*object.Find("metadata"), metadata, "labels", kThen, report);
  if (labels.bad) return result;
  if (!labels.value || Member(**labels.value, kServiceName) == nullptr ||
      (**labels.value).Contains("service.kubernetes.io/headless") ||
      (**labels.value).Contains("service.kubernetes.io/service-proxy-name")) {
    result.ignored = true;
    return result;
  }
  const auto owner = ReadString(**labels.value, labels_path, kServiceName, kThen, report);
  const auto type = ReadString(object, root, "addressType", kThen, report);
  if (owner.bad || type.bad) return result;
  if (type.value == "FQDN" || owner.value->empty()) {
    result.ignored = true;
    return result;
  }
  if (result.service.name.empty()) {
    report->Invalid(Path(labels_path, kServiceName),
                    absl::StrCat("is ", Quote(*owner.value), ", expected the name of a Service; ",
                                 std::string(kThen)));
    return result;
  }
  if (type.value != "IPv4" && type.value != "IPv6") {
    report->Invalid(Path(root, "addressType"),
                    absl::StrCat("is ", type.value ? Quote(*type.value) : "missing",
                                 ", expected \"IPv4\" or \"IPv6\"; ", std::string(kThen)));
    return result;
  }
  EndpointSlice slice;
  slice.name = name;
  slice.service = result.service.name;
  slice.family = *type.value == "IPv4" ? net::Family::kIpv4 : net::Family::kIpv6;
  slice.trigger = DecodeTrigger(object, metadata, report);
  if (DecodeLists(object, root, &slice, report)) result.slice = std::move(slice);
  return result;
}

}  // namespace waggle::k8s
