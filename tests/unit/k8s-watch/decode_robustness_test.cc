// Random damage to valid manifests: never a crash, always an answer.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "k8s-watch/manifest_content.h"
#include "k8s-watch/manifest_index.h"

namespace waggle::k8s {
namespace {

const char* const kSeeds[] = {
    R"(apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, creationTimestamp: "2026-01-31T12:00:00Z", labels: {app: web}}
spec:
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, "fd00::1"]
  ipFamilies: [IPv4, IPv6]
  ports:
  - &p {name: http, port: 80, nodePort: 30080, protocol: TCP}
  - {<<: *p, name: dns, protocol: UDP, port: 0x35}
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}
  externalIPs: [192.0.2.1]
status: {loadBalancer: {ingress: [{ip: 192.0.2.2, ipMode: VIP}]}}
---
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {topology.kubernetes.io/zone: z}}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
)",
    R"({"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
   "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
   "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
   "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": true, "serving": null},
     "nodeName": "n1", "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]}}]}]}
)"};
const char* const kWords[] = {
    "null",     "[]",         "{}",           "-1",    "0",      "65536",
    "\"",       "'",          "&a",           "*a",    "<<: *p", "---\n",
    "...\n",    "|\n",        "? ",           ": ",    "- ",     "\t",
    "\xff",     "%TAG ! x\n", "!!int ",       "1e999", "0x",     "{{{{{{{{",
    "[[[[[[[[", "\\u0000",    "\xe2\x80\xae", "#",     "\r",     "9999999999999999999999"};

std::string Mutate(std::string text, std::mt19937* random) {
  const auto below = [random](size_t limit) { return (*random)() % limit; };
  for (size_t edits = 1 + below(4); edits > 0; --edits) {
    const size_t at = below(text.size() + 1);
    switch (below(7)) {
      case 0:
        text.insert(at, kWords[below(std::size(kWords))]);
        break;
      case 1:
        text.erase(at, 1 + below(20));
        break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(below(256));
        break;
      case 3:
        text.insert(at, text.substr(below(text.size() + 1), below(100)));
        break;
      case 4:
        text.resize(at);  // half-written
        break;
      case 5: {  // a value of another type
        const size_t colon = text.find(": ", at);
        if (colon == std::string::npos) break;
        const size_t end = std::min(text.find_first_of(",}\n", colon), text.size());
        text.replace(colon + 2, end - colon - 2, kWords[below(std::size(kWords))]);
        break;
      }
      default:
        text.insert(at, 1, static_cast<char>(below(256)));
    }
  }
  return text;
}

TEST(Robustness, TwentyThousandMutationsGiveObjectsOrProblems) {
  std::mt19937 random(20261121);
  size_t with_objects = 0;
  size_t with_problems = 0;
  ManifestIndex index;
  for (int i = 0; i < 20000; ++i) {
    const std::string text = Mutate(kSeeds[i % 2], &random);
    const char* name = i % 4 == 1 ? "m.json" : "m.yaml";
    ManifestContent content = ParseManifest(name, std::string("/d/") + name, text);
    with_objects += !content.objects.empty();
    with_problems += !content.problems.empty();
    // What is unknown or undecodable is told.
    size_t undecodable = content.unidentified;
    for (const DecodedObject& object : content.objects)
      undecodable += !object.object;
    if (undecodable > 0) {
      ASSERT_FALSE(content.problems.empty()) << text;
    }
    for (const Problem& problem : content.problems) {
      for (const char c : problem.ToString())
        ASSERT_TRUE(c >= 0x20 && c < 0x7f) << problem.ToString();
      ASSERT_LT(problem.ToString().size(), 1000U);
    }
    index.SetFile(name, std::move(content), "now");
    for (const ObjectChange& change : index.TakeChanges()) {
      ASSERT_FALSE(change.key.name.name.empty());
    }
    index.Problems();
  }
  // Both kinds of outcome occurred in numbers, so the mutations are neither too wild nor too tame.
  EXPECT_GT(with_objects, 2000U);
  EXPECT_GT(with_problems, 2000U);
}

}  // namespace
}  // namespace waggle::k8s
