// Objects in short text for the tests of resolve().
#ifndef WAGGLE_TESTS_UNIT_AGENT_RESOLVE_TESTING_H_
#define WAGGLE_TESTS_UNIT_AGENT_RESOLVE_TESTING_H_

#include <gtest/gtest.h>

#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "userspace/agent/resolve.h"

namespace waggle::agent {

inline constexpr auto kCluster = k8s::TrafficPolicy::kCluster;
inline constexpr auto kLocal = k8s::TrafficPolicy::kLocal;
inline constexpr auto kTcp = net::Protocol::kTcp;
inline constexpr auto kUdp = net::Protocol::kUdp;
inline const NodeFacts kNode = {"n1", "z1"};

inline net::Address Ip(const std::string& text) {
  return *net::Address::Parse(text);
}

// "10.0.0.1 notready terminating notserving node=a zones=z1,z2 nodes=n1"
inline k8s::Endpoint ParseEndpoint(const std::string& text) {
  std::istringstream words(text);
  std::string word;
  k8s::Endpoint endpoint;
  words >> word;
  endpoint.address = Ip(word);
  const auto list = [](const std::string& csv) {
    std::vector<std::string> values;
    std::istringstream parts(csv);
    for (std::string part; std::getline(parts, part, ',');)
      values.push_back(part);
    return values;
  };
  while (words >> word) {
    if (word == "notready") {
      endpoint.ready = false;
    } else if (word == "notserving") {
      endpoint.serving = false;
    } else if (word == "terminating") {
      endpoint.terminating = true;
    } else if (word.rfind("node=", 0) == 0) {
      endpoint.node_name = word.substr(5);
    } else if (word.rfind("zones=", 0) == 0) {
      endpoint.zones = list(word.substr(6));
    } else if (word.rfind("nodes=", 0) == 0) {
      endpoint.nodes = list(word.substr(6));
    } else {
      ADD_FAILURE() << "unknown word in a test: " << word;
    }
  }
  return endpoint;
}

inline std::shared_ptr<k8s::EndpointSlice> Slice(const std::string& name,
                                                 std::vector<k8s::EndpointPort> ports,
                                                 const std::vector<std::string>& endpoints,
                                                 net::Family family = net::Family::kIpv4) {
  auto slice = std::make_shared<k8s::EndpointSlice>();
  slice->name = {"default", name};
  slice->service = "web";
  slice->family = family;
  slice->ports = std::move(ports);
  for (const std::string& text : endpoints)
    slice->endpoints.push_back(ParseEndpoint(text));
  return slice;
}

inline std::shared_ptr<k8s::Service> WebService() {
  auto service = std::make_shared<k8s::Service>();
  service->name = {"default", "web"};
  service->cluster_ips = {Ip("10.96.0.1")};
  service->ports = {{"http", net::Protocol::kTcp, 80, 0}};
  return service;
}

// "forward Cluster 10.0.0.1:8080(local) 10.0.0.2:8080(terminating)"
inline std::string Describe(const BackendList& list) {
  std::string text{FateName(list.fate)};
  text += " " + std::string(PolicyName(list.policy));
  for (const Backend& backend : list.backends) {
    text += " " + backend.endpoint.ToString();
    if (backend.local) text += "(local)";
    if (backend.terminating) text += "(terminating)";
  }
  return text;
}

}  // namespace waggle::agent

#endif
