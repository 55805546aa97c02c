// A v1 Service, field by field.
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "k8s-watch/decode_kinds.h"
#include "k8s-watch/quote.h"

namespace waggle::k8s {
namespace {

constexpr uint32_t kDefaultAffinityS = 10800;

// One of `values`; `fallback` where the field is absent, empty, or something else.
std::string_view DecodeChoice(const Value& object, const Path& parent, std::string_view key,
                              std::initializer_list<std::string_view> values,
                              std::string_view fallback, Reporter* report) {
  const Value* value = Member(object, key);
  if (value == nullptr || value->Says("")) return fallback;
  for (const std::string_view choice : values) {
    if (value->Says(choice)) return choice;
  }
  std::string list;
  for (const std::string_view choice : values)
    absl::StrAppend(&list, list.empty() ? "" : ", ", std::string(choice));
  report->Invalid(Path(parent, key), absl::StrCat("is ", Describe(*value), ", expected one of ",
                                                  list, "; ", std::string(fallback), " is used"));
  return fallback;
}

TrafficPolicy DecodePolicy(const Value& spec, const Path& path, std::string_view key,
                           Reporter* report) {
  return DecodeChoice(spec, path, key, {"Cluster", "Local"}, "Cluster", report) == "Local"
             ? TrafficPolicy::kLocal
             : TrafficPolicy::kCluster;
}

class PortsDecoder {
 public:
  PortsDecoder(const Value& list, const Path& path, Reporter* report)
      : list_(list), path_(path), report_(report) {}

  std::vector<ServicePort> Decode() {
    for (size_t i = 0; const Value& value : list_)
      DecodePort(value, Path(path_, i++));
    return std::move(ports_);
  }

 private:
  void DecodePort(const Value& value, const Path& path) {
    constexpr std::string_view kThen = "this port is left out";
    if (!value.is_mapping()) {
      return report_->Invalid(
          path, absl::StrCat("is ", Describe(value), ", expected a mapping; ", std::string(kThen)));
    }
    ServicePort port;
    const auto name = ReadString(value, path, "name", kThen, report_);
    const auto protocol = ReadProtocol(value, path, kThen, report_);
    const auto number = ReadPort(value, path, "port", false, kThen, report_);
    if (!number.value && !number.bad) {
      report_->Invalid(Path(path, "port"), absl::StrCat("is missing, expected a port number, a "
                                                        "whole number from 1 to 65535; ",
                                                        std::string(kThen)));
    }
    if (name.bad || !protocol.value || !number.value) return;
    port.name = std::string(name.value.value_or(""));
    port.protocol = *protocol.value;
    port.port = *number.value;
    if (!NameIsGood(port, path) || IsDuplicate(port, path)) return;
    port.node_port = NodePort(value, port, path);
    ports_.push_back(std::move(port));
  }

  bool NameIsGood(const ServicePort& port, const Path& path) {
    if (port.name.empty() && list_.size() > 1) {
      report_->Invalid(Path(path, "name"),
                       "is missing, expected a name because the Service has several ports; this "
                       "port is left out");
      return false;
    }
    if (!port.name.empty() && !IsLabel(port.name)) {
      report_->Invalid(Path(path, "name"),
                       absl::StrCat("is ", Quote(port.name),
                                    ", expected at most 63 lower-case letters, digits and '-', "
                                    "with a letter or digit at both ends; this port is left out"));
      return false;
    }
    return true;
  }

  bool IsDuplicate(const ServicePort& port, const Path& path) {
    const auto refuse = [&](const char* field, const std::string& what) {
      report_->Invalid(Path(path, field),
                       absl::StrCat("is ", what,
                                    ", which an earlier port has already; this port "
                                    "is left out"));
      return true;
    };
    if (names_.count(port.name) != 0) return refuse("name", Quote(port.name));
    if (!numbers_.emplace(port.protocol, port.port).second) {
      return refuse("port",
                    absl::StrCat(port.port, "/", std::string(net::ProtocolName(port.protocol))));
    }
    names_.insert(port.name);
    return false;
  }

  uint16_t NodePort(const Value& value, const ServicePort& port, const Path& path) {
    const HarmlessFields harmless(report_);
    constexpr std::string_view kThen = "this port works without nodePort";
    const auto field = ReadPort(value, path, "nodePort", true, kThen, report_);
    const uint16_t node_port = field.value.value_or(0);
    if (node_port == 0) return 0;
    if (!node_ports_.emplace(port.protocol, node_port).second) {
      report_->Invalid(
          Path(path, "nodePort"),
          absl::StrCat("is ", node_port, "/", std::string(net::ProtocolName(port.protocol)),
                       ", which an earlier port has already; ", std::string(kThen)));
      return 0;
    }
    return node_port;
  }

  const Value& list_;
  const Path& path_;
  Reporter* report_;
  std::vector<ServicePort> ports_;
  std::set<std::string> names_;
  std::set<std::pair<net::Protocol, uint16_t>> numbers_;
  std::set<std::pair<net::Protocol, uint16_t>> node_ports_;
};

// clusterIPs with ipFamilies as upstream pairs them: clusterIPs[i] is of ipFamilies[i].
// Without ipFamilies (hand-written manifests) the addresses say their family themselves,
// as the API server would fill it in.
class ClusterIpsDecoder {
 public:
  ClusterIpsDecoder(const Value& spec, const Path& path, Reporter* report)
      : spec_(spec), path_(path), report_(report) {}

  void Decode(Service* service) {
    constexpr std::string_view kThen = "it counts as absent";
    const auto single = ReadString(spec_, path_, "clusterIP", kThen, report_);
    const auto list = ReadList(spec_, path_, "clusterIPs", kThen, report_);
    const auto families = ReadList(spec_, path_, "ipFamilies", kThen, report_);
    if (families.value && !(*families.value)->empty()) families_ = *families.value;
    if (single.value == "None") service->headless = true;
    const Path list_path(path_, "clusterIPs");
    if (!list.value || (*list.value)->empty()) {
      if (single.value && !single.value->empty() && !service->headless) {
        const Value* family = families_ == nullptr ? nullptr : &families_->front();
        Add(Value::String(*single.value), Path(path_, "clusterIP"), 0, family, service);
      }
      const bool silent = !single.bad && !list.bad && single.value.value_or("").empty();
      if (silent && !service->headless && !service->external_name && !service->other_proxy) {
        report_->Invalid(Path(path_, "clusterIP"),
                         "is missing; nothing allocates addresses for manifests");
      }
      return;
    }
    const Value& addresses = **list.value;
    if (addresses.front().Says("None")) service->headless = true;
    if (service->headless) return;
    if (single.value && !single.value->empty() && !addresses.front().Says(*single.value)) {
      report_->Invalid(Path(path_, "clusterIP"),
                       absl::StrCat("is ", Quote(*single.value), " but clusterIPs[0] is ",
                                    Describe(addresses.front()), "; clusterIPs is used"));
    }
    const size_t known = families_ == nullptr ? 0 : families_->size();
    const Value* family = known == 0 ? nullptr : &families_->front();
    for (size_t i = 0; const Value& address : addresses) {
      Add(address, Path(list_path, i), i, family, service);
      family = ++i < known ? family->next() : nullptr;
    }
  }

 private:
  // `family`: what `index` of ipFamilies says; null where there is no such entry.
  void Add(const Value& value, const Path& path, size_t index, const Value* family,
           Service* service) {
    constexpr std::string_view kThen = "this address is left out";
    const auto address = ToAddress(value, path, kThen, report_);
    if (!address) return;
    const auto refuse = [&](std::string_view why) {
      report_->Invalid(
          path, absl::StrCat(QuoteText(value), " ", std::string(why), "; ", std::string(kThen)));
    };
    if (const char* special = SpecialAddress(*address)) {
      return refuse(absl::StrCat("is ", special, " address, which no Service may have"));
    }
    const std::string_view own = net::FamilyName(address->family());
    if (families_ != nullptr) {
      if (family == nullptr) return refuse("has no entry in spec.ipFamilies");
      if (!family->Says(own)) {
        return refuse(absl::StrCat("is an ", std::string(own), " address, but spec.ipFamilies[",
                                   index, "] is ", Describe(*family)));
      }
    }
    for (const net::Address& other : service->cluster_ips) {
      if (other.family() == address->family()) {
        return refuse(
            absl::StrCat("is a second ", std::string(own), " address, expected one a family"));
      }
    }
    service->cluster_ips.push_back(*address);
  }

  const Value& spec_;
  const Path& path_;
  Reporter* report_;
  const Value* families_ = nullptr;
};

void DecodeExternalIps(const Value& spec, const Path& path, Service* service, Reporter* report) {
  const auto list = ReadList(spec, path, "externalIPs", "they count as absent", report);
  if (!list.value) return;
  const Path list_path(path, "externalIPs");
  std::set<net::Address> seen;
  for (size_t i = 0; const Value& value : **list.value) {
    const Path at(list_path, i++);
    const auto address = ToAddress(value, at, "this address is left out", report);
    if (!address) continue;
    if (const char* special = SpecialAddress(*address)) {
      report->Invalid(at, absl::StrCat(QuoteText(value), " is ", special,
                                       " address, which no Service may have; this address is "
                                       "left out"));
      continue;
    }
    if (seen.insert(*address).second) service->external_ips.push_back(*address);
  }
}

void DecodeIngress(const Value& entry, const Path& path, std::set<net::Address>* seen,
                   Service* service, Reporter* report) {
  constexpr std::string_view kThen = "this entry is left out";
  if (!entry.is_mapping()) {
    return report->Invalid(
        path, absl::StrCat("is ", Describe(entry), ", expected a mapping; ", std::string(kThen)));
  }
  const Value* ip = Member(entry, "ip");
  if (ip == nullptr || ip->Says("")) return;  // a hostname: nothing to program
  const auto mode = ReadString(entry, path, "ipMode", kThen, report);
  if (mode.bad || mode.value == "Proxy") return;
  if (mode.value && *mode.value != "VIP") {
    return report->Invalid(
        Path(path, "ipMode"),
        absl::StrCat("is ", Quote(*mode.value), ", expected VIP or Proxy; ", std::string(kThen)));
  }
  const Path ip_path(path, "ip");
  const auto address = ToAddress(*ip, ip_path, kThen, report);
  if (!address) return;
  // Some load balancers live on link-local addresses; the others would take traffic
  // that is the node's own.
  const char* special = SpecialAddress(*address);
  if (special != nullptr && std::string_view(special) != "a link-local") {
    return report->Invalid(
        ip_path, absl::StrCat(QuoteText(*ip), " is ", special,
                              " address, which no load balancer may have; ", std::string(kThen)));
  }
  if (seen->insert(*address).second) service->load_balancer_ips.push_back(*address);
}

void DecodeLoadBalancer(const Value& object, const Path& root, Service* service, Reporter* report) {
  constexpr std::string_view kThen = "the Service counts as one without load balancer";
  const auto status = ReadObject(object, root, "status", kThen, report);
  if (!status.value) return;
  const Path status_path(root, "status");
  const auto balancer = ReadObject(**status.value, status_path, "loadBalancer", kThen, report);
  if (!balancer.value) return;
  const Path balancer_path(status_path, "loadBalancer");
  const auto ingress = ReadList(**balancer.value, balancer_path, "ingress", kThen, report);
  if (!ingress.value) return;
  const Path ingress_path(balancer_path, "ingress");
  std::set<net::Address> seen;
  for (size_t i = 0; const Value& entry : **ingress.value) {
    DecodeIngress(entry, Path(ingress_path, i++), &seen, service, report);
  }
}

uint32_t DecodeAffinity(const Value& spec, const Path& path, Reporter* report) {
  if (DecodeChoice(spec, path, "sessionAffinity", {"None", "ClientIP"}, "None", report) == "None") {
    return 0;
  }
  constexpr std::string_view kThen = "10800 is used";
  const auto config = ReadObject(spec, path, "sessionAffinityConfig", kThen, report);
  if (!config.value) return kDefaultAffinityS;
  const Path config_path(path, "sessionAffinityConfig");
  const auto client = ReadObject(**config.value, config_path, "clientIP", kThen, report);
  if (!client.value) return kDefaultAffinityS;
  const auto timeout = ReadInteger(**client.value, Path(config_path, "clientIP"), "timeoutSeconds",
                                   1, 86400, "seconds", kThen, report);
  return static_cast<uint32_t>(timeout.value.value_or(kDefaultAffinityS));
}

}  // namespace

std::optional<Service> DecodeService(const Value& object, const ObjectName& name,
                                     Reporter* report) {
  constexpr std::string_view kThen = "this object is left out";
  Service service;
  service.name = name;
  const Path root;
  const Path metadata(root, "metadata");
  const auto labels = ReadObject(*object.Find("metadata"), metadata, "labels", kThen, report);
  const auto spec_field = ReadObject(object, root, "spec", kThen, report);
  if (labels.bad || spec_field.bad) return std::nullopt;
  const Path path(root, "spec");
  if (!spec_field.value) {
    report->Invalid(path, absl::StrCat("is missing, expected a mapping; ", std::string(kThen)));
    return std::nullopt;
  }
  const Value& spec = **spec_field.value;
  const auto created = ReadTime(*object.Find("metadata"), metadata, "creationTimestamp",
                                "the object counts as one without it", report);
  service.created_s = absl::ToUnixSeconds(created.value.value_or(absl::UnixEpoch()));
  if (labels.value) {
    // The watch of kube-proxy selects by these labels' absence: any value will do.
    service.headless = (**labels.value).Contains("service.kubernetes.io/headless");
    service.other_proxy = (**labels.value).Contains("service.kubernetes.io/service-proxy-name");
  }
  const std::string_view type =
      DecodeChoice(spec, path, "type", {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"},
                   "ClusterIP", report);
  service.external_name = type == "ExternalName";
  ClusterIpsDecoder(spec, path, report).Decode(&service);
  const auto ports = ReadList(spec, path, "ports", kThen, report);
  if (ports.bad) return std::nullopt;
  const Path ports_path(path, "ports");
  if (ports.value) service.ports = PortsDecoder(**ports.value, ports_path, report).Decode();
  if ((!ports.value || (*ports.value)->empty()) && !service.headless && !service.external_name) {
    report->Invalid(ports_path, "is empty, expected a port; the Service has nothing to serve");
  }
  service.internal_policy = DecodePolicy(spec, path, "internalTrafficPolicy", report);
  service.affinity_s = DecodeAffinity(spec, path, report);
  // Waggle serves none of these, it only tells that it does not.
  const HarmlessFields harmless(report);
  service.external_policy = DecodePolicy(spec, path, "externalTrafficPolicy", report);
  DecodeExternalIps(spec, path, &service, report);
  DecodeLoadBalancer(object, root, &service, report);
  const auto health_check = ReadPort(spec, path, "healthCheckNodePort", true,
                                     "no port for health checks is opened", report);
  if (type == "LoadBalancer" && service.external_policy == TrafficPolicy::kLocal) {
    service.health_check_port = health_check.value.value_or(0);
  }
  return service;
}

}  // namespace waggle::k8s
