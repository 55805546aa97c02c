#include "tests/cluster/objects.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace waggle::cluster {
namespace {

Json Condition(const std::string& type, bool on) {
  return {{"type", type}, {"status", on ? "True" : "False"}};
}

Json Readiness(bool ready) {
  return Json::array({Condition("Ready", ready), Condition("ContainersReady", ready)});
}

}  // namespace

Json NamespaceObject(const std::string& name) {
  return {{"apiVersion", "v1"}, {"kind", "Namespace"}, {"metadata", {{"name", name}}}};
}

Json ServiceObject(const std::string& name, const std::string& ns,
                   const std::vector<lab::ServicePort>& ports) {
  Json json_ports = Json::array();
  for (const lab::ServicePort& port : ports) {
    json_ports.push_back({{"name", port.name},
                          {"protocol", port.protocol},
                          {"port", port.port},
                          {"targetPort", port.target}});
  }
  return {{"apiVersion", "v1"},
          {"kind", "Service"},
          {"metadata", {{"name", name}, {"namespace", ns}}},
          {"spec",
           {{"selector", {{"app", name}}},
            {"ipFamilyPolicy", "RequireDualStack"},
            {"ipFamilies", {"IPv4", "IPv6"}},
            {"ports", json_ports}}}};
}

lab::Addresses ClusterIpsOf(const Json& service) {
  lab::Addresses addresses;
  for (const std::string ip : service["spec"]["clusterIPs"]) {
    (ip.find(':') == std::string::npos ? addresses.v4 : addresses.v6) = ip;
  }
  return addresses;
}

void AddNode(Api& api, const lab::Node& node) {
  const lab::Addresses cidrs = node.pod_cidrs();
  api.Create(
      {{"apiVersion", "v1"},
       {"kind", "Node"},
       {"metadata", {{"name", node.name()}, {"labels", {{"kubernetes.io/hostname", node.name()}}}}},
       {"spec", {{"podCIDR", cidrs.v4}, {"podCIDRs", {cidrs.v4, cidrs.v6}}}}});
  const Json addresses = {{{"type", "Hostname"}, {"address", node.name()}},
                          {{"type", "InternalIP"}, {"address", node.addresses().v4}},
                          {{"type", "InternalIP"}, {"address", node.addresses().v6}}};
  Json status = {{"addresses", addresses}};
  status["conditions"] = Json::array({Condition("Ready", true)});
  api.ChangeStatus("Node", "", node.name(), {{"status", status}});
}

void AddPod(Api& api, const lab::Node& node, const lab::Place& pod, const std::string& app,
            const std::string& ns) {
  const bool host_network = pod.addresses().v4 == node.addresses().v4;
  Json spec = {{"nodeName", node.name()},
               {"hostNetwork", host_network},
               // There is no kubelet that would let it go later.
               {"terminationGracePeriodSeconds", 0}};
  spec["containers"] = Json::array({{{"name", "server"}, {"image", "none"}}});
  api.Create({{"apiVersion", "v1"},
              {"kind", "Pod"},
              {"metadata", {{"name", pod.name()}, {"namespace", ns}, {"labels", {{"app", app}}}}},
              {"spec", spec}});
  Json status = {
      {"phase", "Running"}, {"hostIP", node.addresses().v4}, {"podIP", pod.addresses().v4}};
  status["podIPs"] = Json::array({{{"ip", pod.addresses().v4}}, {{"ip", pod.addresses().v6}}});
  status["conditions"] = Readiness(true);
  api.ChangeStatus("Pod", ns, pod.name(), {{"status", status}});
}

std::string SetReady(Api& api, const lab::Place& pod, bool ready, const std::string& ns) {
  Json changed =
      api.ChangeStatus("Pod", ns, pod.name(), {{"status", {{"conditions", Readiness(ready)}}}});
  return changed["metadata"]["resourceVersion"];
}

std::vector<std::string> ReadyEndpoints(Api& api, const std::string& service,
                                        const std::string& ns) {
  std::vector<std::string> ready;
  for (const Json& slice : api.List("EndpointSlice", ns)) {
    if (slice["metadata"]["labels"].value("kubernetes.io/service-name", "") != service) continue;
    if (!slice["endpoints"].is_array()) continue;
    for (const Json& endpoint : slice["endpoints"]) {
      if (endpoint["conditions"].value("ready", false)) ready.push_back(endpoint["addresses"][0]);
    }
  }
  std::sort(ready.begin(), ready.end());
  return ready;
}

std::vector<std::string> AddressesOf(const std::vector<const lab::Place*>& places) {
  std::vector<std::string> all;
  for (const lab::Place* place : places) {
    all.push_back(place->addresses().v4);
    all.push_back(place->addresses().v6);
  }
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace waggle::cluster
