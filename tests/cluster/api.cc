#include "tests/cluster/api.h"

#include <httplib.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "tests/lab/lab.h"

namespace waggle::cluster {
namespace {

constexpr char kJsonType[] = "application/json";
constexpr int kPatienceSeconds = 60;
// An apiserver closes a connection that rests for a minute and a half, and httplib would only
// notice when it uses it.
constexpr std::chrono::seconds kKeptFor{30};

struct Kind {
  const char* kind;
  const char* root;  // of the API group and version
  const char* plural;
  bool namespaced;
};

constexpr Kind kKinds[] = {
    {"Namespace", "/api/v1", "namespaces", false},
    {"Node", "/api/v1", "nodes", false},
    {"Pod", "/api/v1", "pods", true},
    {"Service", "/api/v1", "services", true},
    {"ServiceAccount", "/api/v1", "serviceaccounts", true},
    {"ConfigMap", "/api/v1", "configmaps", true},
    {"Event", "/api/v1", "events", true},
    {"EndpointSlice", "/apis/discovery.k8s.io/v1", "endpointslices", true},
    {"IPAddress", "/apis/networking.k8s.io/v1", "ipaddresses", false},
    {"ServiceCIDR", "/apis/networking.k8s.io/v1", "servicecidrs", false},
    {"ClusterRole", "/apis/rbac.authorization.k8s.io/v1", "clusterroles", false},
    {"ClusterRoleBinding", "/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", false},
    {"DaemonSet", "/apis/apps/v1", "daemonsets", true},
};

const Kind& Find(const std::string& kind) {
  for (const Kind& one : kKinds) {
    if (kind == one.kind) return one;
  }
  lab::Fail("tests/cluster/api.cc does not know the kind " + kind);
}

std::string Host(const std::string& host) {
  return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

ApiReply ReplyOf(const httplib::Result& result) {
  if (!result) return {0, httplib::to_string(result.error())};
  return {result->status, result->body};
}

Json MustBe(const ApiReply& reply, const std::string& what) {
  if (!reply.ok()) lab::Fail(absl::StrCat(what, ": ", reply.ToString()));
  return reply.AsJson();
}

std::string NamespaceOf(const Json& object) {
  return object["metadata"].value("namespace", Find(object["kind"]).namespaced ? "default" : "");
}

}  // namespace

std::string ApiAccess::Url() const {
  return absl::StrCat("https://", Host(host), ":", port);
}

Json ApiReply::AsJson() const {
  Json json = Json::parse(body, nullptr, false);
  if (json.is_discarded()) lab::Fail("the apiserver's answer is no JSON: " + ToString());
  return json;
}

std::string ApiReply::ToString() const {
  return absl::StrCat("HTTP status ", status, ": ", body);
}

std::string PathOf(const std::string& kind, const std::string& ns, const std::string& name) {
  const Kind& found = Find(kind);
  std::string path = found.root;
  if (found.namespaced && !ns.empty()) absl::StrAppend(&path, "/namespaces/", ns);
  absl::StrAppend(&path, "/", found.plural);
  if (!name.empty()) absl::StrAppend(&path, "/", name);
  return path;
}

Api::Api(ApiAccess access)
    : access_(std::move(access)),
      client_(std::make_unique<httplib::SSLClient>(access_.host, access_.port)) {
  client_->set_ca_cert_path(access_.ca.c_str());
  client_->enable_server_certificate_verification(true);
  client_->set_keep_alive(true);
  client_->set_tcp_nodelay(true);
  client_->set_connection_timeout(kPatienceSeconds);
  client_->set_read_timeout(kPatienceSeconds);
  client_->set_write_timeout(kPatienceSeconds);
  if (!access_.token.empty()) client_->set_bearer_token_auth(access_.token);
}

Api::~Api() = default;
Api::Api(Api&&) noexcept = default;

httplib::SSLClient& Api::Client() {
  const auto now = std::chrono::steady_clock::now();
  if (now - used_ > kKeptFor) client_->stop();
  used_ = now;
  return *client_;
}

ApiReply Api::Get(const std::string& path) {
  return ReplyOf(Client().Get(path));
}

ApiReply Api::Post(const std::string& path, const Json& body) {
  return ReplyOf(Client().Post(path, body.dump(), kJsonType));
}

ApiReply Api::Put(const std::string& path, const Json& body) {
  return ReplyOf(Client().Put(path, body.dump(), kJsonType));
}

ApiReply Api::Delete(const std::string& path, const Json& options) {
  return ReplyOf(Client().Delete(path, options.dump(), kJsonType));
}

ApiReply Api::Patch(const std::string& path, const Json& body) {
  return ReplyOf(Client().Patch(path, body.dump(), "application/merge-patch+json"));
}

Json Api::Create(const Json& object) {
  const std::string path = PathOf(object["kind"], NamespaceOf(object), "");
  return MustBe(Post(path, object), absl::StrCat("creating ", object.dump(), " at ", path));
}

Json Api::Read(const std::string& kind, const std::string& ns, const std::string& name) {
  const std::string path = PathOf(kind, ns, name);
  return MustBe(Get(path), "reading " + path);
}

std::vector<Json> Api::List(const std::string& kind, const std::string& ns) {
  const std::string path = PathOf(kind, ns, "");
  Json list = MustBe(Get(path), "listing " + path);
  // The elements of a list do not say what they are.
  const std::string version = list["apiVersion"];
  std::vector<Json> objects;
  for (Json& item : list["items"]) {
    item["apiVersion"] = version;
    item["kind"] = kind;
    objects.push_back(std::move(item));
  }
  return objects;
}

Json Api::Change(const std::string& kind, const std::string& ns, const std::string& name,
                 const Json& merge_patch) {
  const std::string path = PathOf(kind, ns, name);
  return MustBe(Patch(path, merge_patch), absl::StrCat("patching ", path));
}

Json Api::ChangeStatus(const std::string& kind, const std::string& ns, const std::string& name,
                       const Json& merge_patch) {
  const std::string path = PathOf(kind, ns, name) + "/status";
  return MustBe(Patch(path, merge_patch), absl::StrCat("patching ", path));
}

void Api::Remove(const std::string& kind, const std::string& ns, const std::string& name) {
  const std::string path = PathOf(kind, ns, name);
  MustBe(Delete(path, {{"gracePeriodSeconds", 0}}), "deleting " + path);
}

void Api::RemoveAll(const std::string& kind, const std::string& ns) {
  const std::string path = PathOf(kind, ns, "");
  MustBe(Delete(path, {{"gracePeriodSeconds", 0}}), "deleting all of " + path);
}

ApiReply Api::Watch(const std::string& path, const std::string& resource_version,
                    const std::function<bool(const std::string& line)>& line) {
  // A connection of its own: it is cut off in the middle of an answer.
  Api own(access_);
  ApiReply reply;
  std::string pending;
  bool over = false;
  httplib::Result result = own.client_->Get(
      absl::StrCat(path, path.find('?') == std::string::npos ? "?" : "&",
                   "watch=true&allowWatchBookmarks=true&resourceVersion=", resource_version),
      httplib::Headers(),
      [&](const httplib::Response& response) {
        reply.status = response.status;
        return true;
      },
      [&](const char* data, size_t size) {
        pending.append(data, size);
        if (reply.status != 200) return true;
        for (size_t end; !over && (end = pending.find('\n')) != std::string::npos;) {
          over = !line(pending.substr(0, end));
          pending.erase(0, end + 1);
        }
        return !over;
      });
  if (reply.status == 0) return {0, httplib::to_string(result.error())};
  if (reply.status != 200) reply.body = pending;
  return reply;
}

}  // namespace waggle::cluster
