#include "bench/control_plane/fleet.h"

#include <atomic>
#include <set>
#include <thread>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/control_plane/usage.h"
#include "tests/cluster/etcd.h"
#include "tests/cluster/http.h"
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
constexpr int kByApi = 2;  // the first one is the pattern, the second proves it
constexpr std::chrono::minutes kPatience{3};

struct Kind {
  const char* name;
  const char* queue;  // of the apiserver's own controller, which looks at each of them
};
// In the order in which the apiserver makes them: that controller repairs a Service that has no
// IPAddress, and removes one that has no Service for a minute.
constexpr Kind kKinds[] = {
    {"IPAddress", "ipaddresses"}, {"Service", "services"}, {"EndpointSlice", nullptr}};

// Names and uids as random as real ones, so that lists compress as badly.
std::string Uuid(const std::string& of) {
  const uint64_t a = absl::HashOf(of, 'a'), b = absl::HashOf(of, 'b');
  return absl::StrFormat("%08x-%04x-4%03x-%04x-%012x", a >> 32, a >> 16 & 0xffff, a & 0xfff,
                         0x8000 | (b >> 48 & 0x3fff), b & 0xffff'ffff'ffff);
}

std::string Suffix(const std::string& of, int length) {
  constexpr std::string_view kLetters = "bcdfghjklmnpqrstvwxz2456789";
  std::string suffix;
  for (uint64_t hash = absl::HashOf(of); length > 0; --length, hash /= kLetters.size())
    suffix += kLetters[hash % kLetters.size()];
  return suffix;
}

std::string NameOf(int service) {
  return absl::StrCat("svc-", service);
}

std::string AddressOf(int service) {
  const int n = service + 256;  // 10.96.0.x is for others
  return absl::StrCat("10.96.", n / 256, ".", n % 256);
}

std::string KeyOf(const std::string& kind, const std::string& name) {
  if (kind == "IPAddress") return "/registry/ipaddresses/" + name;
  return absl::StrCat(kind == "Service" ? "/registry/services/specs/" : "/registry/endpointslices/",
                      kNamespace, "/", name);
}

std::string NamespaceOf(const std::string& kind) {
  return kind == "IPAddress" ? "" : kNamespace;
}

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
           {{"name", absl::StrCat(service, "-", Suffix(service, 5))},
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
           {{"kind", "Pod"}, {"namespace", kNamespace}, {"name", pod}, {"uid", Uuid(pod)}}}};
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
  const std::string name = NameOf(service);
  const std::string pods = absl::StrCat(name, "-", Suffix(name + " replicas", 9), "-");
  Json slice = Slice(name);
  for (int i = 0; i < endpoints_; ++i) {
    // 10.128.0.1 on, and from 10.192.0.1 on where the first one moved by turns.
    const int n = service * endpoints_ + i + 1;
    const bool moved = i == 0 && changes_[static_cast<size_t>(service)] % 2 == 1;
    slice["endpoints"].push_back(Endpoint(
        absl::StrCat("10.", (moved ? 192 : 128) + n / 65536, ".", n / 256 % 256, ".", n % 256),
        pods + Suffix(absl::StrCat(pods, i), 5)));
  }
  return slice;
}

void Fleet::InParallel(int count, const std::function<void(Api&, int)>& work) const {
  std::atomic<int> next = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kConnections; ++i) {
    threads.emplace_back([&] {
      Api api = control_.NewApi();
      for (int at = next++; at < count; at = next++)
        work(api, at);
    });
  }
  for (std::thread& thread : threads)
    thread.join();
}

void Fleet::CreateByApi(int service) const {
  Api& api = control_.api();
  api.Create(Service(NameOf(service), AddressOf(service)));
  api.Create(SliceOf(service));
}

Json Fleet::Like(const std::string& kind, int service) const {
  Json object = first_.at(kind);
  Json& meta = object["metadata"];
  const std::string now = absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone());
  meta.erase("resourceVersion");
  meta["creationTimestamp"] = now;
  for (Json& field : meta["managedFields"])
    field["time"] = now;
  if (kind == "IPAddress") {
    meta["name"] = AddressOf(service);
    object["spec"]["parentRef"]["name"] = NameOf(service);
  } else if (kind == "Service") {
    meta["name"] = NameOf(service);
    object["spec"]["clusterIP"] = AddressOf(service);
    object["spec"]["clusterIPs"] = {AddressOf(service)};
  } else {
    const Json slice = SliceOf(service);
    meta["name"] = slice["metadata"]["name"];
    meta["labels"] = slice["metadata"]["labels"];
    object["endpoints"] = slice["endpoints"];
  }
  meta["uid"] = Uuid(absl::StrCat(kind, " ", service));
  return object;
}

void Fleet::WriteIntoEtcd(const std::string& kind, const char* queue, int from, int to) const {
  constexpr int kAtOnce = 1000;
  const double queued = queue == nullptr ? 0 : AwaitQueue(queue, 0);
  int64_t revision = 0;
  for (int begin = from; begin < to; begin += kAtOnce) {
    std::vector<cluster::EtcdEntry> entries;
    for (int service = begin; service < std::min(to, begin + kAtOnce); ++service) {
      const Json object = Like(kind, service);
      entries.push_back({KeyOf(kind, object["metadata"]["name"]), object.dump()});
    }
    revision = cluster::PutIntoEtcd(entries);
  }
  // Its cache has seen the last one when it answers, and so all before. It says 504 when that
  // takes longer than 3 s.
  const std::string path =
      absl::StrCat(cluster::PathOf(kind, NamespaceOf(kind), ""),
                   "?resourceVersionMatch=NotOlderThan&fieldSelector=metadata.name%3Dnone&",
                   "resourceVersion=", revision);
  Api api = control_.NewApi();
  cluster::ApiReply reply;
  const bool seen = lab::WaitFor(
      [&] {
        reply = api.Get(path);
        return reply.status != 504;
      },
      kPatience);
  if (!seen || !reply.ok()) lab::Fail(absl::StrCat(path, ": ", reply.ToString()));
  if (queue != nullptr) AwaitQueue(queue, queued + to - from);
}

void Fleet::MustBeLike(const std::string& kind, int service) const {
  Json like = Like(kind, service);
  const std::string name = like["metadata"]["name"];
  Api api = control_.NewApi();
  const cluster::ApiReply reply =
      api.Get(absl::StrCat(cluster::PathOf(kind, NamespaceOf(kind), ""),
                           "?resourceVersion=0&fieldSelector=metadata.name%3D", name));
  Must(reply, "listing " + name);
  Json listed = reply.AsJson()["items"].at(0);
  // Items of a list do not say what they are.
  like.erase("kind");
  like.erase("apiVersion");
  for (Json* each : {&like, &listed}) {
    Json& meta = (*each)["metadata"];
    for (const char* own : {"uid", "resourceVersion", "creationTimestamp"})
      meta.erase(own);
    for (Json& field : meta["managedFields"])
      field.erase("time");
  }
  if (listed != like) {
    lab::Fail(absl::StrCat("the apiserver shows ", kind, " ", name, " as ", listed.dump(),
                           " and would have made ", like.dump()));
  }
}

double Fleet::AwaitQueue(const std::string& queue, double added) const {
  Api api = control_.NewApi();
  double now = -1;
  const bool empty = lab::WaitFor(
      [&] {
        const std::string metrics = api.Get("/metrics").body;
        const auto value = [&](const std::string& what) {
          return cluster::MetricOf(metrics,
                                   absl::StrCat("workqueue_", what, "{name=\"", queue, "\"}"));
        };
        now = value("adds_total");
        return value("depth") == 0 && now >= added;
      },
      kPatience);
  if (!empty) {
    lab::Fail(absl::StrCat("the apiserver's queue ", queue, " has got ", now, " keys of ", added));
  }
  return now;
}

void Fleet::AwaitQuiet() const {
  constexpr std::chrono::milliseconds kLook{200};
  constexpr int64_t kBusyNs = 20'000'000;  // a tenth of a CPU
  const auto used = [this] {
    return CpuNs(control_.apiserver().pid()) + CpuNs(control_.etcd().pid());
  };
  const bool quiet = lab::WaitFor(
      [&] {
        const int64_t before = used();
        std::this_thread::sleep_for(kLook);
        return used() - before < kBusyNs;
      },
      kPatience);
  if (!quiet) lab::Fail("the apiserver is still busy, and nobody asks it for anything");
}

void Fleet::GrowTo(int services) {
  changes_.resize(static_cast<size_t>(services));
  int look_at = size_;
  if (first_.empty()) {
    for (; size_ < std::min(services, kByApi); ++size_)
      CreateByApi(size_);
    look_at = size_ - 1;
    Api& api = control_.api();
    first_["IPAddress"] = api.Read("IPAddress", "", AddressOf(0));
    first_["Service"] = api.Read("Service", kNamespace, NameOf(0));
    first_["EndpointSlice"] = api.Read("EndpointSlice", kNamespace, SliceOf(0)["metadata"]["name"]);
  }
  for (const Kind& kind : kKinds) {
    const std::string key = KeyOf(kind.name, first_.at(kind.name)["metadata"]["name"]);
    if (!cluster::EtcdHolds(key)) lab::Fail("etcd has no " + key);
    if (size_ < services) WriteIntoEtcd(kind.name, kind.queue, size_, services);
    for (const int service : {look_at, services - 1})
      MustBeLike(kind.name, service);
  }
  size_ = services;
  AwaitQuiet();
  MustNotBeRepaired();
}

void Fleet::MustNotBeRepaired() const {
  // Of what the apiserver has made itself its controller may see the Service before the address.
  const std::set<std::string> its_own = {"kubernetes", kProbe,       NameOf(0),
                                         NameOf(1),    AddressOf(0), AddressOf(1)};
  for (const Json& event : control_.api().List("Event", kNamespace)) {
    if (event["reportingComponent"] == "ipallocator-repair-controller" &&
        !its_own.contains(event["involvedObject"]["name"])) {
      lab::Fail("the apiserver repairs what was written: " + event.dump());
    }
  }
}

void Fleet::ChangeOne(Api& api, int service) {
  ++changes_[static_cast<size_t>(service)];
  Replace(api, SliceOf(service));
}

void Fleet::ChangeMany(int count) {
  // In rounds: nobody writes a slice that another one writes.
  for (int done = 0; done < count; done += size_) {
    InParallel(std::min(size_, count - done),
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
