// Decoding shown as text: one line an object, one a problem.
#ifndef WAGGLE_TESTS_UNIT_K8S_WATCH_DECODE_FIXTURE_H_
#define WAGGLE_TESTS_UNIT_K8S_WATCH_DECODE_FIXTURE_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "k8s-watch/manifest_content.h"

namespace waggle::k8s {

inline std::string Join(const std::vector<net::Address>& addresses) {
  return absl::StrJoin(addresses, ",", [](std::string* out, const net::Address& address) {
    *out += address.ToString();
  });
}

inline std::string Show(const Service& service) {
  std::string text = absl::StrCat("ips=", Join(service.cluster_ips), " ports=");
  for (const ServicePort& port : service.ports) {
    absl::StrAppend(&text, port.name, ":", port.port, "/",
                    std::string(net::ProtocolName(port.protocol)),
                    port.node_port == 0 ? "" : absl::StrCat("@", port.node_port), ";");
  }
  if (service.headless) text += " headless";
  if (service.other_proxy) text += " other_proxy";
  if (service.external_name) text += " external_name";
  if (service.internal_policy == TrafficPolicy::kLocal) text += " internal_local";
  if (service.external_policy == TrafficPolicy::kLocal) text += " external_local";
  if (service.affinity_s != 0) absl::StrAppend(&text, " affinity=", service.affinity_s);
  if (!service.external_ips.empty()) absl::StrAppend(&text, " ext=", Join(service.external_ips));
  if (!service.load_balancer_ips.empty()) {
    absl::StrAppend(&text, " lb=", Join(service.load_balancer_ips));
  }
  if (service.health_check_port != 0) {
    absl::StrAppend(&text, " health=", service.health_check_port);
  }
  if (service.created_s != 0) absl::StrAppend(&text, " created=", service.created_s);
  return text;
}

inline std::string Show(const EndpointSlice& slice) {
  std::string text =
      absl::StrCat(std::string(net::FamilyName(slice.family)), " of ", slice.service, " ports=");
  for (const EndpointPort& port : slice.ports) {
    absl::StrAppend(&text, port.name, ":", port.port, "/",
                    std::string(net::ProtocolName(port.protocol)), ";");
  }
  for (const Endpoint& endpoint : slice.endpoints) {
    absl::StrAppend(
        &text, " ", endpoint.address.ToString(), "(", endpoint.ready ? "r" : "-",
        endpoint.serving ? "s" : "-", endpoint.terminating ? "t" : "-",
        endpoint.node_name.empty() ? "" : " on " + endpoint.node_name.str(),
        endpoint.zones.empty() ? "" : " zones " + absl::StrJoin(endpoint.zones.names(), ","),
        endpoint.nodes.empty() ? "" : " nodes " + absl::StrJoin(endpoint.nodes.names(), ","), ")");
  }
  if (slice.trigger.unix_ns != 0) absl::StrAppend(&text, " trigger=", slice.trigger.unix_ns);
  return text;
}

inline std::string Show(const Node& node) {
  return absl::StrCat("zone=", node.zone, " internal=", Join(node.internal_ips),
                      " external=", Join(node.external_ips), node.deleting ? " deleting" : "",
                      node.to_be_deleted ? " to_be_deleted" : "");
}

// The objects, one a line; "unreadable" with the Service it belongs to.
inline std::vector<std::string> ShowAll(const ManifestContent& content) {
  std::vector<std::string> lines;
  for (const DecodedObject& object : content.objects) {
    const ObjectName& name = object.key.name;
    lines.push_back(absl::StrCat(std::string(ObjectKindName(object.key.kind)), " ", name.ns, "/",
                                 name.name, ": "));
    if (!object.object) {
      absl::StrAppend(&lines.back(), "unreadable of ", object.service.ns, "/", object.service.name);
    } else {
      lines.back() += std::visit([](const auto& value) { return Show(*value); }, *object.object);
    }
  }
  return lines;
}

inline std::vector<std::string> ShowProblems(const ManifestContent& content) {
  std::vector<std::string> lines;
  for (const Problem& problem : content.problems)
    lines.push_back(problem.ToString());
  return lines;
}

inline ManifestContent Parse(const std::string& text) {
  return ParseManifest("m.yaml", "/d/m.yaml", text);
}

struct DecodeCase {
  const char* name;
  std::string text;
  std::string object;  // empty: none
  std::vector<std::string> problems;
  size_t unidentified = 0;
};
inline void PrintTo(const DecodeCase& test, std::ostream* out) {
  *out << test.name;
}

class Decode : public testing::TestWithParam<DecodeCase> {};

TEST_P(Decode, GivesThisObjectAndTheseProblems) {
  const ManifestContent content = Parse(GetParam().text);
  std::vector<std::string> objects;
  if (!GetParam().object.empty()) objects.push_back(GetParam().object);
  EXPECT_EQ(ShowAll(content), objects);
  EXPECT_EQ(ShowProblems(content), GetParam().problems);
  EXPECT_EQ(content.unidentified, GetParam().unidentified);
}

inline const std::string kNumber = ", expected a port number, a whole number from 1 to 65535";

inline std::string CaseName(const testing::TestParamInfo<DecodeCase>& test) {
  return test.param.name;
}

// A Service with this spec (flow style), and more at the end of the document.
inline std::string Svc(const std::string& spec, const std::string& more = "") {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {" + spec + "}\n" + more;
}

}  // namespace waggle::k8s

#endif
