// Services: each field, good and bad.
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/k8s-watch/decode_fixture.h"

namespace waggle::k8s {
namespace {

// The same with a good address and one port with these fields.
std::string Port(const std::string& fields) {
  return Svc("clusterIP: 10.96.0.1, ports: [{name: a, port: 1}, {name: b, " + fields + "}]");
}
std::string Msg(const std::string& field, const std::string& text) {
  return "Service default/web (m.yaml): " + field + ": invalid: " + text;
}
const char kGoodPort[] = "Service default/web: ips=10.96.0.1 ports=a:1/TCP;";
std::string PortMsg(const std::string& field, const std::string& text) {
  return Msg("spec.ports[1]." + field, text + "; this port is left out");
}
const std::string kIp = ", expected an IPv4 or IPv6 address; this address is left out";

INSTANTIATE_TEST_SUITE_P(
    Ports, Decode,
    testing::Values(
        DecodeCase{"good",
                   Port("port: 65535, protocol: UDP, nodePort: 30000, targetPort: http"),
                   std::string(kGoodPort) + "b:65535/UDP@30000;",
                   {}},
        DecodeCase{"zero", Port("port: 0"), kGoodPort, {PortMsg("port", "is 0" + kNumber)}},
        DecodeCase{
            "too_high", Port("port: 65536"), kGoodPort, {PortMsg("port", "is 65536" + kNumber)}},
        DecodeCase{"negative", Port("port: -1"), kGoodPort, {PortMsg("port", "is -1" + kNumber)}},
        DecodeCase{"wraps_64_bits",
                   Port("port: 18446744073709551617"),
                   kGoodPort,
                   {PortMsg("port", "is 1.7976931348623157e+308" + kNumber)}},
        DecodeCase{"string",
                   Port("port: \"80\""),
                   kGoodPort,
                   {PortMsg("port", "is the string \"80\"" + kNumber)}},
        DecodeCase{
            "fraction", Port("port: 80.5"), kGoodPort, {PortMsg("port", "is 80.5" + kNumber)}},
        DecodeCase{"whole_float", Port("port: 80.0"), std::string(kGoodPort) + "b:80/TCP;", {}},
        DecodeCase{"infinite",
                   Port("port: .inf"),
                   kGoodPort,
                   {PortMsg("port", "is a number that is not finite" + kNumber)}},
        DecodeCase{
            "missing", Port("protocol: TCP"), kGoodPort, {PortMsg("port", "is missing" + kNumber)}},
        DecodeCase{"list_as_number",
                   Port("port: [80]"),
                   kGoodPort,
                   {PortMsg("port", "is a list" + kNumber)}},
        DecodeCase{"protocol",
                   Port("port: 2, protocol: tcp"),
                   kGoodPort,
                   {PortMsg("protocol", "is the string \"tcp\", expected TCP, UDP or SCTP")}},
        DecodeCase{"same_number_other_protocol",
                   Port("port: 1, protocol: UDP"),
                   std::string(kGoodPort) + "b:1/UDP;",
                   {}},
        DecodeCase{"same_number",
                   Port("port: 1"),
                   kGoodPort,
                   {PortMsg("port", "is 1/TCP, which an earlier port has already")}},
        DecodeCase{"node_port",
                   Port("port: 2, nodePort: 65536"),
                   std::string(kGoodPort) + "b:2/TCP;",
                   {Msg("spec.ports[1].nodePort",
                        "is 65536, expected a port number, a whole number from 1 to 65535; this "
                        "port works without nodePort")}},
        DecodeCase{"same_name",
                   Svc("clusterIP: 10.96.0.1, ports: [{name: a, port: 1}, {name: a, port: 2}]"),
                   kGoodPort,
                   {PortMsg("name", "is \"a\", which an earlier port has already")}},
        DecodeCase{
            "no_name",
            Svc("clusterIP: 10.96.0.1, ports: [{name: a, port: 1}, {port: 2}]"),
            kGoodPort,
            {PortMsg("name", "is missing, expected a name because the Service has several ports")}},
        DecodeCase{"one_needs_no_name",
                   Svc("clusterIP: 10.96.0.1, ports: [{port: 2}]"),
                   "Service default/web: ips=10.96.0.1 ports=:2/TCP;",
                   {}},
        DecodeCase{"bad_name",
                   Svc("clusterIP: 10.96.0.1, ports: [{name: a, port: 1}, {name: B_, port: 2}]"),
                   kGoodPort,
                   {PortMsg("name",
                            "is \"B_\", expected at most 63 lower-case letters, digits and "
                            "'-', with a letter or digit at both ends")}},
        DecodeCase{"not_a_mapping",
                   Svc("clusterIP: 10.96.0.1, ports: [{name: a, port: 1}, 80]"),
                   kGoodPort,
                   {Msg("spec.ports[1]", "is 80, expected a mapping; this port is left out")}},
        DecodeCase{"not_a_list",
                   Svc("clusterIP: 10.96.0.1, ports: {port: 1}"),
                   "Service default/web: unreadable of default/web",
                   {Msg("spec.ports", "is a mapping, expected a list; this object is left out")}},
        DecodeCase{
            "none",
            Svc("clusterIP: 10.96.0.1"),
            "Service default/web: ips=10.96.0.1 ports=",
            {Msg("spec.ports", "is empty, expected a port; the Service has nothing to serve")}}),
    CaseName);

std::string Ips(const std::string& fields) {
  return Svc(fields + ", ports: [{port: 1}]");
}
std::string WithIps(const std::string& ips, const std::string& more = "") {
  return "Service default/web: ips=" + ips + " ports=:1/TCP;" + more;
}

INSTANTIATE_TEST_SUITE_P(
    Addresses, Decode,
    testing::Values(
        DecodeCase{"single", Ips("clusterIP: 10.96.0.1"), WithIps("10.96.0.1"), {}},
        DecodeCase{"dual",
                   Ips("clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00::1'], ipFamilies: "
                       "[IPv4, IPv6]"),
                   WithIps("10.96.0.1,fd00::1"),
                   {}},
        DecodeCase{"no_families",
                   Ips("clusterIPs: ['fd00::1', 10.96.0.1]"),
                   WithIps("fd00::1,10.96.0.1"),
                   {}},
        DecodeCase{"single_with_families",
                   Ips("clusterIP: 'fd00::1', ipFamilies: [IPv6]"),
                   WithIps("fd00::1"),
                   {}},
        DecodeCase{"family_not_yet_allocated",
                   Ips("clusterIPs: [10.96.0.1], ipFamilies: [IPv4, IPv6]"),
                   WithIps("10.96.0.1"),
                   {}},
        DecodeCase{"wrong_family",
                   Ips("clusterIPs: [10.96.0.1, 'fd00::1'], ipFamilies: [IPv4, IPv4]"),
                   WithIps("10.96.0.1"),
                   {Msg("spec.clusterIPs[1]",
                        "\"fd00::1\" is an IPv6 address, but "
                        "spec.ipFamilies[1] is the string \"IPv4\"; this address is left out")}},
        DecodeCase{"no_family",
                   Ips("clusterIPs: [10.96.0.1, 'fd00::1'], ipFamilies: [IPv4]"),
                   WithIps("10.96.0.1"),
                   {Msg("spec.clusterIPs[1]",
                        "\"fd00::1\" has no entry in "
                        "spec.ipFamilies; this address is left out")}},
        DecodeCase{"two_of_one_family",
                   Ips("clusterIPs: [10.96.0.1, 10.96.0.2]"),
                   WithIps("10.96.0.1"),
                   {Msg("spec.clusterIPs[1]",
                        "\"10.96.0.2\" is a second IPv4 address, "
                        "expected one a family; this address is left out")}},
        DecodeCase{"contradiction",
                   Ips("clusterIP: 10.96.0.9, clusterIPs: [10.96.0.1]"),
                   WithIps("10.96.0.1"),
                   {Msg("spec.clusterIP",
                        "is \"10.96.0.9\" but clusterIPs[0] is the string "
                        "\"10.96.0.1\"; clusterIPs is used")}},
        DecodeCase{"bad_ip",
                   Ips("clusterIP: 10.96.0.256"),
                   WithIps(""),
                   {Msg("spec.clusterIP", "is the string \"10.96.0.256\"" + kIp)}},
        DecodeCase{"number_as_ip",
                   Ips("clusterIPs: [10.96]"),
                   WithIps(""),
                   {Msg("spec.clusterIPs[0]", "is 10.96" + kIp)}},
        DecodeCase{"loopback",
                   Ips("clusterIP: 127.0.0.1"),
                   WithIps(""),
                   {Msg("spec.clusterIP",
                        "\"127.0.0.1\" is a loopback address, which no "
                        "Service may have; this address is left out")}},
        DecodeCase{"old_zeros", Ips("clusterIP: 010.096.0.1"), WithIps("10.96.0.1"), {}},
        DecodeCase{
            "headless", Ips("clusterIP: None, clusterIPs: [None]"), WithIps("", " headless"), {}},
        DecodeCase{"headless_in_list", Ips("clusterIPs: [None]"), WithIps("", " headless"), {}},
        DecodeCase{
            "no_address",
            Ips("clusterIPs: []"),
            WithIps(""),
            {Msg("spec.clusterIP", "is missing; nothing allocates addresses for manifests")}},
        DecodeCase{
            "empty_address",
            Ips("clusterIP: ''"),
            WithIps(""),
            {Msg("spec.clusterIP", "is missing; nothing allocates addresses for manifests")}},
        DecodeCase{"external_name",
                   Svc("type: ExternalName, externalName: x.org"),
                   "Service default/web: ips= ports= external_name",
                   {}},
        DecodeCase{"external_ips",
                   Ips("clusterIP: 10.96.0.1, externalIPs: [192.0.2.1, x, 'fe80::1', 192.0.2.1, "
                       "'2001:db8::1']"),
                   WithIps("10.96.0.1", " ext=192.0.2.1,2001:db8::1"),
                   {Msg("spec.externalIPs[1]", "is the string \"x\"" + kIp),
                    Msg("spec.externalIPs[2]",
                        "\"fe80::1\" is a link-local address, which no "
                        "Service may have; this address is left out")}},
        DecodeCase{
            "ingress",
            Svc("clusterIP: 10.96.0.1, ports: [{port: 1}]",
                "status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {ip: 192.0.2.2, ipMode: "
                "Proxy}, "
                "{ip: 192.0.2.3, ipMode: VIP}, {hostname: x.org}, {ip: w}, {ip: 192.0.2.4, ipMode: "
                "Z}, "
                "{ip: 0.0.0.0}]}}"),
            WithIps("10.96.0.1", " lb=192.0.2.1,192.0.2.3"),
            {Msg("status.loadBalancer.ingress[4].ip",
                 "is the string \"w\"" + kIp.substr(0, kIp.find(';')) + "; this entry is left out"),
             Msg("status.loadBalancer.ingress[5].ipMode",
                 "is \"Z\", expected VIP or Proxy; this entry is left out"),
             Msg("status.loadBalancer.ingress[6].ip",
                 "\"0.0.0.0\" is an unspecified address, which no load balancer may "
                 "have; this entry is left out")}}),
    CaseName);

std::string Fields(const std::string& fields) {
  return Ips("clusterIP: 10.96.0.1, " + fields);
}
std::string Good(const std::string& more = "") {
  return WithIps("10.96.0.1", more);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, Decode,
    testing::Values(
        DecodeCase{"policies",
                   Fields("internalTrafficPolicy: Local, externalTrafficPolicy: Local"),
                   Good(" internal_local external_local"),
                   {}},
        DecodeCase{
            "policy",
            Fields("internalTrafficPolicy: local, externalTrafficPolicy: ''"),
            Good(),
            {Msg("spec.internalTrafficPolicy",
                 "is the string \"local\", expected one of Cluster, Local; Cluster is used")}},
        DecodeCase{"affinity", Fields("sessionAffinity: ClientIP"), Good(" affinity=10800"), {}},
        DecodeCase{"affinity_timeout",
                   Fields("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: "
                          "{timeoutSeconds: 86400}}"),
                   Good(" affinity=86400"),
                   {}},
        DecodeCase{
            "affinity_range",
            Fields("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: "
                   "86401}}"),
            Good(" affinity=10800"),
            {Msg("spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                 "is 86401, expected seconds, a whole number from 1 to 86400; 10800 is used")}},
        DecodeCase{
            "affinity_off",
            Fields("sessionAffinity: None, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}"),
            Good(),
            {}},
        DecodeCase{"affinity_value",
                   Fields("sessionAffinity: yes"),
                   Good(),
                   {Msg("spec.sessionAffinity",
                        "is the boolean true, expected one of None, ClientIP; None is used")}},
        DecodeCase{"type",
                   Fields("type: Cluster"),
                   Good(),
                   {Msg("spec.type",
                        "is the string \"Cluster\", expected one of ClusterIP, NodePort, "
                        "LoadBalancer, ExternalName; ClusterIP is used")}},
        DecodeCase{
            "unknown_fields", Fields("trafficDistribution: PreferClose, x: {y: [z]}"), Good(), {}},
        DecodeCase{"health_check_port",
                   Fields("type: LoadBalancer, externalTrafficPolicy: Local, "
                          "healthCheckNodePort: 31000"),
                   Good(" external_local health=31000"),
                   {}},
        DecodeCase{"health_check_port_of_policy_cluster",
                   Fields("type: LoadBalancer, healthCheckNodePort: 31000"),
                   Good(),
                   {}},
        DecodeCase{"health_check_port_of_another_type",
                   Fields("type: NodePort, externalTrafficPolicy: Local, "
                          "healthCheckNodePort: 31000"),
                   Good(" external_local"),
                   {}},
        DecodeCase{"health_check_port_zero",
                   Fields("type: LoadBalancer, externalTrafficPolicy: Local, "
                          "healthCheckNodePort: 0"),
                   Good(" external_local"),
                   {}},
        DecodeCase{"health_check_port_bad",
                   Fields("type: LoadBalancer, externalTrafficPolicy: Local, "
                          "healthCheckNodePort: 70000"),
                   Good(" external_local"),
                   {Msg("spec.healthCheckNodePort",
                        "is 70000" + kNumber + "; no port for health checks is opened")}},
        DecodeCase{"created",
                   "apiVersion: v1\nkind: Service\nmetadata: {name: web, creationTimestamp: "
                   "2026-01-31T12:00:00Z}\n"
                   "spec: {clusterIP: 10.96.0.1, ports: [{port: 1}]}",
                   Good(" created=1769860800"),
                   {}},
        DecodeCase{"created_badly",
                   "apiVersion: v1\nkind: Service\nmetadata: {name: web, creationTimestamp: "
                   "infinite-past}\n"
                   "spec: {clusterIP: 10.96.0.1, ports: [{port: 1}]}",
                   Good(),
                   {Msg("metadata.creationTimestamp",
                        "is \"infinite-past\", expected a time like "
                        "\"2026-01-31T12:00:00Z\"; the object counts as one "
                        "without it")}},
        DecodeCase{"labels",
                   "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels:\n"
                   "    service.kubernetes.io/headless: ''\n    "
                   "service.kubernetes.io/service-proxy-name: x\n"
                   "spec: {clusterIP: 10.96.0.1, ports: [{port: 1}]}",
                   WithIps("", " headless other_proxy"),
                   {}},
        DecodeCase{"no_spec",
                   "apiVersion: v1\nkind: Service\nmetadata: {name: web}",
                   "Service default/web: unreadable of default/web",
                   {Msg("spec", "is missing, expected a mapping; this object is left out")}},
        DecodeCase{"spec_is_a_list",
                   "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: []",
                   "Service default/web: unreadable of default/web",
                   {Msg("spec", "is a list, expected a mapping; this object is left out")}}),
    CaseName);
}  // namespace
}  // namespace waggle::k8s
