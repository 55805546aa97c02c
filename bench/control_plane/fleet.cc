#include "bench/control_plane/fleet.h"

#include <atomic>
#include <cstdio>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/lab/lab.h"

namespace waggle::bench {
namespace {

using cluster::Api;
using cluster::Json;

constexpr int kConnections = 16;
constexpr int kPort = 80;
constexpr int kTarget = 8080;
constexpr char kNamespace[] = "default";
constexpr char kProbe[] = "probe";

// The apiserver's own search for a free address takes longer the more there are.
Json Service(const std::string& name, const std::string& address) {
  return {
      {"apiVersion", "v1"},
      {"kind", "Service"},
      {"metadata", {{"name", name}, {"namespace", kNamespace}}},
      {"spec",
       {{"clusterIP", address},
        {"ipFamilyPolicy", "SingleStack"},
        {"ipFamilies", {"IPv4"}},
        {"ports",
         {{{"name", "http"}, {"protocol", "TCP"}, {"port", kPort}, {"targetPort", kTarget}}}}}}};
}

Json Slice(const std::string& service) {
  return {{"apiVersion", "discovery.k8s.io/v1"},
          {"kind", "EndpointSlice"},
          {"metadata",
           {{"name", service + "-a1b2c"},
            {"namespace", kNamespace},
            {"labels", {{"kubernetes.io/service-name", service}}}}},
          {"addressType", "IPv4"},
          {"ports", {{{"name", "http"}, {"protocol", "TCP"}, {"port", kTarget}}}},
          {"endpoints", Json::array()}};
}

Json Endpoint(const std::string& address, const std::string& pod) {
  return {{"addresses", {address}},
          {"conditions", {{"ready", true}, {"serving", true}, {"terminating", false}}},
          {"nodeName", "elsewhere"},
          {"targetRef",
           {{"kind", "Pod"},
            {"namespace", kNamespace},
            {"name", pod},
            {"uid", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"}}}};
}

void Must(const cluster::ApiReply& reply, const std::string& what) {
  if (!reply.ok()) lab::Fail(absl::StrCat(what, ": ", reply.ToString()));
}

void Replace(Api& api, const Json& slice) {
  const std::string path = cluster::PathOf("EndpointSlice", kNamespace, slice["metadata"]["name"]);
  Must(api.Put(path, slice), "writing " + path);
}

}  // namespace

Fleet::Fleet(cluster::ControlPlane& control, int endpoints)
    : control_(control), endpoints_(endpoints) {}

Json Fleet::SliceOf(int service) const {
  const std::string name = absl::StrCat("svc-", service);
  Json slice = Slice(name);
  for (int i = 0; i < endpoints_; ++i) {
    // 10.128.0.1 on, and from 10.192.0.1 on where the first one moved by turns.
    const int n = service * endpoints_ + i + 1;
    const bool moved = i == 0 && changes_[static_cast<size_t>(service)] % 2 == 1;
    slice["endpoints"].push_back(Endpoint(
        absl::StrCat("10.", (moved ? 192 : 128) + n / 65536, ".", n / 256 % 256, ".", n % 256),
        absl::StrCat(name, "-7d9f8b6c5-", i)));
  }
  return slice;
}

void Fleet::InParallel(int from, int to, const std::function<void(Api&, int)>& work) const {
  std::atomic<int> next = from;
  std::vector<std::thread> threads;
  for (int i = 0; i < kConnections; ++i) {
    threads.emplace_back([&] {
      Api api = control_.NewApi();
      for (int at = next++; at < to; at = next++)
        work(api, at);
    });
  }
  for (std::thread& thread : threads)
    thread.join();
}

void Fleet::GrowTo(int services) {
  changes_.resize(static_cast<size_t>(services));
  InParallel(size_, services, [this](Api& api, int service) {
    const std::string name = absl::StrCat("svc-", service);
    const int n = service + 256;  // 10.96.0.x is for others
    const std::string address = absl::StrCat("10.96.", n / 256, ".", n % 256);
    Must(api.Post(cluster::PathOf("Service", kNamespace, ""), Service(name, address)),
         "creating " + name);
    Must(api.Post(cluster::PathOf("EndpointSlice", kNamespace, ""), SliceOf(service)),
         "creating the slice of " + name);
  });
  size_ = services;
}

void Fleet::ChangeOne(Api& api, int service) {
  ++changes_[static_cast<size_t>(service)];
  Replace(api, SliceOf(service));
}

void Fleet::ChangeMany(int count) {
  // In rounds: nobody writes a slice that another one writes.
  for (int done = 0; done < count; done += size_) {
    InParallel(0, std::min(size_, count - done),
               [this](Api& api, int service) { ChangeOne(api, service); });
  }
}

std::string Fleet::CreateProbe(const std::string& address) {
  Api& api = control_.api();
  const Json service = api.Create(Service(kProbe, "10.96.0.10"));
  Json slice = Slice(kProbe);
  slice["endpoints"].push_back(Endpoint(address, "probe"));
  api.Create(slice);
  return service["spec"]["clusterIP"];
}

void Fleet::PointProbe(Api& api, const std::string& address) {
  Json slice = Slice(kProbe);
  slice["endpoints"].push_back(Endpoint(address, "probe"));
  Replace(api, slice);
}

}  // namespace waggle::bench
