// Objects as an apiserver 1.34 writes them: metadata, managedFields and order of members are those
// of what kubectl and the EndpointSlice controller create.
#ifndef WAGGLE_TESTS_UNIT_K8S_WATCH_APISERVER_JSON_H_
#define WAGGLE_TESTS_UNIT_K8S_WATCH_APISERVER_JSON_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "k8s-watch/source.h"

namespace waggle::k8s {

inline constexpr int kEndpointsEach = 5;

inline std::string MetadataJson(int number, const std::string& name, const std::string& more) {
  return absl::StrCat(R"("metadata":{"name":")", name, R"(",)", more,
                      R"("namespace":"default","uid":"5f0c1d6e-8a43-4d2b-9c57-)", 100000 + number,
                      R"(a1b2c3","resourceVersion":")", 1000 + number, R"(",)");
}

inline std::string ServiceJson(int number, int version) {
  const std::string ip = absl::StrCat("10.96.", number / 256, ".", number % 256);
  return absl::StrCat(
      "{", MetadataJson(number, absl::StrCat("frontend-", number), ""),
      R"("creationTimestamp":"2026-11-21T12:00:00Z","labels":{"app.kubernetes.io/name":"frontend",)"
      R"("app.kubernetes.io/part-of":"shop"},"managedFields":[{"manager":"kubectl-client-side-apply",)"
      R"("operation":"Update","apiVersion":"v1","time":"2026-11-21T12:00:00Z","fieldsType":"FieldsV1",)"
      R"("fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:app.kubernetes.io/name":{},)"
      R"("f:app.kubernetes.io/part-of":{}}},"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},)"
      R"("k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{},"f:protocol":{},)"
      R"("f:targetPort":{}}},"f:selector":{},"f:sessionAffinity":{},"f:type":{}}}}]},"spec":{"ports":[{)"
      R"("name":"http","protocol":"TCP","port":)",
      80 + version % 2, R"(,"targetPort":8080}],"selector":{"app.kubernetes.io/name":"frontend"},)",
      R"("clusterIP":")", ip, R"(","clusterIPs":[")", ip,
      R"("],"type":"ClusterIP","sessionAffinity":"None","ipFamilies":["IPv4"],"ipFamilyPolicy":)"
      R"("SingleStack","internalTrafficPolicy":"Cluster"},"status":{"loadBalancer":{}}})");
}

inline std::string EndpointSliceJson(int number, int version) {
  const std::string service = absl::StrCat("frontend-", number);
  std::string endpoints;
  for (int i = 0; i < kEndpointsEach; ++i) {
    const int n = number * kEndpointsEach + i + 1;
    absl::StrAppend(&endpoints, i == 0 ? "" : ",", R"({"addresses":["10.)",
                    (i == 0 && version % 2 == 1 ? 192 : 128) + n / 65536, ".", n / 256 % 256, ".",
                    n % 256,
                    R"("],"conditions":{"ready":true,"serving":true,"terminating":false},)"
                    R"("targetRef":{"kind":"Pod","namespace":"default","name":")",
                    service, "-7d9f8b6c5-x", 1000 + i,
                    R"(","uid":"0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"},"nodeName":"worker-)",
                    n % 50, R"(","zone":"eu-west-1a"})");
  }
  return absl::StrCat(
      "{",
      MetadataJson(number, absl::StrCat(service, "-x7k2p"),
                   absl::StrCat(R"("generateName":")", service, R"(-",)")),
      R"("generation":)", version,
      R"(,"creationTimestamp":"2026-11-21T12:00:00Z","labels":{"app.kubernetes.io/name":"frontend",)"
      R"("endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io",)"
      R"("kubernetes.io/service-name":")",
      service,
      R"("},"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2026-11-21T12:00:01Z"},)"
      R"("ownerReferences":[{"apiVersion":"v1","kind":"Service","name":")",
      service,
      R"(","uid":"5f0c1d6e-8a43-4d2b-9c57-0123456789ab","controller":true,"blockOwnerDeletion":true}],)"
      R"("managedFields":[{"manager":"kube-controller-manager","operation":"Update","apiVersion":)"
      R"("discovery.k8s.io/v1","time":"2026-11-21T12:00:01Z","fieldsType":"FieldsV1","fieldsV1":{)"
      R"("f:addressType":{},"f:endpoints":{},"f:metadata":{"f:annotations":{".":{},)"
      R"("f:endpoints.kubernetes.io/last-change-trigger-time":{}},"f:generateName":{},"f:labels":{".":{},)"
      R"("f:app.kubernetes.io/name":{},"f:endpointslice.kubernetes.io/managed-by":{},)"
      R"("f:kubernetes.io/service-name":{}},"f:ownerReferences":{".":{},)"
      R"("k:{\"uid\":\"5f0c1d6e-8a43-4d2b-9c57-0123456789ab\"}":{}}},"f:ports":{}}}]},)"
      R"("addressType":"IPv4","endpoints":[)",
      endpoints, R"(],"ports":[{"name":"http","port":8080,"protocol":"TCP"}]})");
}

inline std::string ObjectJson(ObjectKind kind, int number, int version) {
  return kind == ObjectKind::kService ? ServiceJson(number, version)
                                      : EndpointSliceJson(number, version);
}

inline std::string EventJson(ObjectKind kind, const char* type, int number, int version) {
  const char* meta = kind == ObjectKind::kService
                         ? R"({"kind":"Service","apiVersion":"v1",)"
                         : R"({"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1",)";
  return absl::StrCat(R"({"type":")", type, R"(","object":)", meta,
                      ObjectJson(kind, number, version).substr(1), "}\n");
}

}  // namespace waggle::k8s

#endif
