#include "tests/cluster/control_plane.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/cluster/etcd.h"
#include "tests/lab/sandbox.h"

namespace waggle::cluster {
namespace {

constexpr char kAddress4[] = "192.168.50.5";
constexpr char kAddress6[] = "fd00:50::5";
constexpr uint16_t kApiserverPort = 6443;  // the others' are the next
constexpr uint16_t kControllerManagerPort = 10257;
// Ready in 4 s on an idle machine; others may be building on this one.
constexpr std::chrono::seconds kStartPatience{90};

ControlPlane*& Instance() {
  static ControlPlane* instance = nullptr;
  return instance;
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  if (!file) lab::Fail("cannot write " + path);
}

void Ip(const std::string& lines) {
  lab::RunResult result = lab::RunProgram({.input = lines}, {"ip", "-batch", "-"});
  if (!result.ok()) lab::Fail(absl::StrCat("ip:\n", lines, result.ToString()));
}

std::string LastLines(const std::string& text, size_t count) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  std::string out;
  for (size_t i = lines.size() - std::min(count, lines.size()); i < lines.size(); ++i) {
    absl::StrAppend(&out, lines[i], "\n");
  }
  return out;
}

lab::Argv EtcdArgv(const std::string& folder) {
  const std::string client = absl::StrCat("http://127.0.0.1:", kEtcdPort);
  const std::string peer = "http://127.0.0.1:2380";
  return {"etcd",
          "--name=test",
          "--data-dir=" + folder + "/etcd",
          "--logger=zap",
          "--log-level=warn",
          "--unsafe-no-fsync",
          "--listen-client-urls=" + client,
          "--advertise-client-urls=" + client,
          "--listen-peer-urls=" + peer,
          "--initial-advertise-peer-urls=" + peer,
          "--initial-cluster=test=" + peer};
}

lab::Argv ApiserverArgv(const std::string& folder, const Authority& authority,
                        const Certificate& server, int number) {
  lab::Argv argv = {KubernetesProgram("kube-apiserver"),
                    absl::StrCat("--etcd-servers=http://127.0.0.1:", kEtcdPort),
                    "--etcd-compaction-interval=0",  // only when a test says so
                    "--bind-address=::",             // IPv4 too
                    absl::StrCat("--secure-port=", kApiserverPort + number),
                    absl::StrCat("--advertise-address=", kAddress4),
                    "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
                    "--tls-cert-file=" + server.cert, "--tls-private-key-file=" + server.key,
                    "--client-ca-file=" + authority.cert(),
                    "--service-account-key-file=" + folder + "/service-accounts.key.pub",
                    "--service-account-signing-key-file=" + folder + "/service-accounts.key",
                    "--service-account-issuer=https://kubernetes.default.svc",
                    "--token-auth-file=" + folder + "/tokens", "--authorization-mode=RBAC",
                    // Else a Pod waits for its namespace's account.
                    "--disable-admission-plugins=ServiceAccount", "--profiling=false"};
  // Of two that are told to advertise the same address each would put its own port into
  // the Service `kubernetes`.
  if (number > 0) argv.push_back("--endpoint-reconciler-type=none");
  return argv;
}

lab::Argv ControllerManagerArgv(const std::string& folder, const Authority& authority,
                                const Certificate& server) {
  return {KubernetesProgram("kube-controller-manager"),
          "--kubeconfig=" + folder + "/controller-manager.kubeconfig", "--bind-address=127.0.0.1",
          absl::StrCat("--secure-port=", kControllerManagerPort), "--tls-cert-file=" + server.cert,
          "--tls-private-key-file=" + server.key,
          "--leader-elect=false",  // else a new one waits for the old one's lease
          "--service-account-private-key-file=" + folder + "/service-accounts.key",
          "--root-ca-file=" + authority.cert(),
          // Slices of a Service that is gone are the garbage collector's.
          "--controllers=endpoints-controller,endpointslice-controller,"
          "endpointslice-mirroring-controller,garbage-collector-controller,"
          "namespace-controller,serviceaccount-controller,service-cidr-controller",
          "--concurrent-service-endpoint-syncs=10", "--kube-api-qps=2000", "--kube-api-burst=4000",
          "--profiling=false"};
}

std::string Kubeconfig(const std::string& server, const std::string& ca, const std::string& token) {
  return absl::StrCat(
      "apiVersion: v1\nkind: Config\n", "clusters:\n- name: test\n  cluster:\n    server: ", server,
      "\n    certificate-authority: ", ca, "\nusers:\n- name: test\n  user:\n    token: ", token,
      "\ncontexts:\n- name: test\n  context: {cluster: test, user: test}\n",
      "current-context: test\n");
}

bool IsSystemNamespace(const std::string& name) {
  return name == "default" || name.starts_with("kube-");
}

}  // namespace

std::string KubernetesProgram(const std::string& name) {
  std::string path = absl::StrCat(WAGGLE_KUBERNETES, "/", name);
  if (access(path.c_str(), X_OK) != 0) {
    lab::Fail(absl::StrCat("no ", path, ": run tools/kubernetes --link ", WAGGLE_KUBERNETES));
  }
  return path;
}

Component::Component(std::string name, lab::Argv argv, std::function<bool()> ready)
    : name_(std::move(name)), argv_(std::move(argv)), ready_(std::move(ready)) {}

void Component::Launch() {
  if (running()) lab::Fail(name_ + " runs already");
  ++starts_;
  process_ =
      std::make_unique<lab::Process>(lab::Surroundings{}, argv_, lab::Process::Output::kToMemory);
  process_->CloseInput();
}

void Component::AwaitReady() {
  bool ready = lab::WaitFor([&] { return !running() || ready_(); }, kStartPatience);
  if (!ready || !running()) {
    lab::Fail(absl::StrCat(name_, ready ? " ended" : " is not ready", "; the end of its log:\n",
                           LastLines(Log(), 40)));
  }
}

void Component::Start() {
  Launch();
  AwaitReady();
}

void Component::Kill() {
  if (process_) process_->Kill();
}

void Component::Stop() {
  if (!running()) return;
  process_->Signal(SIGTERM);
  if (!process_->Wait(kStartPatience)) {
    lab::Fail(absl::StrCat(name_, " does not stop; the end of its log:\n", LastLines(Log(), 40)));
  }
}

void Component::Freeze() {
  process_->Signal(SIGSTOP);
}

void Component::Thaw() {
  process_->Signal(SIGCONT);
}

ControlPlane& ControlPlane::Shared() {
  // Never destroyed: the sandbox ends its processes.
  if (Instance() == nullptr) Instance() = new ControlPlane;
  return *Instance();
}

ControlPlane* ControlPlane::IfStarted() {
  return Instance();
}

ControlPlane::ControlPlane() : folder_(lab::TheSandbox().files + "/control-plane") {
  std::filesystem::create_directory(folder_);
  Ip("link set lo up\n");
  authority_ = std::make_unique<Authority>(folder_);
  const Certificate server = authority_->Issue(
      "server", "/CN=kube-apiserver",
      {"DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc",
       "IP:127.0.0.1", "IP:::1", absl::StrCat("IP:", kAddress4), absl::StrCat("IP:", kAddress6),
       "IP:10.96.0.1", "IP:fd00:96::1"});
  MakeKey(folder_ + "/service-accounts.key");
  WriteFile(folder_ + "/tokens", absl::StrCat(kAdmin, ",admin,1,system:masters\n", kKubeProxy,
                                              ",system:kube-proxy,2\n", kNobody, ",nobody,3\n"));
  const ApiAccess controllers{"127.0.0.1", kControllerManagerPort, authority_->cert(), ""};
  WriteFile(
      folder_ + "/controller-manager.kubeconfig",
      Kubeconfig(absl::StrCat("https://127.0.0.1:", kApiserverPort), authority_->cert(), kAdmin));

  etcd_ = std::make_unique<Component>("etcd", EtcdArgv(folder_), EtcdReady);
  for (int number : {0, 1, 2}) {
    apiservers_.push_back(std::make_unique<Component>(
        absl::StrCat("kube-apiserver ", number),
        ApiserverArgv(folder_, *authority_, server, number), [this, number] {
          Api api = NewApi(kAdmin, number);
          return api.Get("/readyz").ok() &&
                 api.Get(PathOf("Service", "default", "kubernetes")).ok();
        }));
  }
  controller_manager_ = std::make_unique<Component>(
      "kube-controller-manager", ControllerManagerArgv(folder_, *authority_, server),
      [controllers] { return Api(controllers).Get("/healthz").ok(); });

  etcd_->Start();
  apiserver().Start();
  controller_manager_->Launch();
  controller_manager_->AwaitReady();
}

Api ControlPlane::NewApi(const std::string& token, int apiserver) const {
  return Api(
      {"127.0.0.1", static_cast<uint16_t>(kApiserverPort + apiserver), authority_->cert(), token});
}

Api& ControlPlane::api() {
  if (!api_ || apiserver().starts() != api_knows_) {
    api_.reset();
    api_.emplace(NewApi());
    api_knows_ = apiserver().starts();
  }
  return *api_;
}

ApiAccess ControlPlane::access(const std::string& token, int apiserver) const {
  return {kAddress4, static_cast<uint16_t>(kApiserverPort + apiserver), authority_->cert(), token};
}

std::string ControlPlane::WriteKubeconfig(const std::string& token, int apiserver,
                                          const std::string& server) const {
  static int files = 0;
  std::string path = absl::StrCat(folder_, "/", ++files, ".kubeconfig");
  WriteFile(path, Kubeconfig(server.empty() ? access(token, apiserver).Url() : server,
                             authority_->cert(), token));
  return path;
}

void ControlPlane::Join(const lab::Lab& lab) {
  Leave();
  Ip(absl::StrCat("link add control type veth peer name control netns ", lab.fabric().name(), "\n",
                  "address add ", kAddress4, "/24 dev control\n", "address add ", kAddress6,
                  "/64 dev control nodad\n", "link set control up\n"));
  lab.fabric().Ip("link set control master cluster up\n");
  // Where pods answer to: nodes do not masquerade towards it.
  std::string routes;
  for (int node = 1; node <= 24; ++node) {
    absl::StrAppend(&routes, "route replace 10.244.", node, ".0/24 via 192.168.50.", 10 + node,
                    "\n", "route replace fd00:244:", node, "::/64 via fd00:50::", 10 + node, "\n");
  }
  Ip(routes);
}

void ControlPlane::Leave() {
  // Fails where there is none; with a lab's end its device goes too, but a moment later.
  lab::RunProgram({}, {"ip", "link", "del", "control"});
}

void ControlPlane::Compact() {
  const Json now = AskEtcd("/v3/kv/range", {{"key", "AA=="}, {"limit", 1}});
  AskEtcd("/v3/kv/compaction", {{"revision", now["header"]["revision"]}, {"physical", true}});
}

void ControlPlane::Clear() {
  Api& api = this->api();
  for (const Json& one : api.List("Namespace")) {
    const std::string name = one["metadata"]["name"];
    const bool going = one["metadata"].contains("deletionTimestamp");
    if (!IsSystemNamespace(name) && !going) api.Remove("Namespace", "", name);
  }
  for (const Json& one : api.List("Service", "default")) {
    const std::string name = one["metadata"]["name"];
    if (name != "kubernetes") api.Remove("Service", "default", name);
  }
  for (const char* kind : {"Pod", "Event"})
    api.RemoveAll(kind, "default");
  api.RemoveAll("Node", "");
  std::string left;
  bool gone = lab::WaitFor(
      [&] {
        left.clear();
        for (const char* kind : {"Namespace", "Node", "Pod", "Service", "EndpointSlice"}) {
          for (const Json& one : api.List(kind)) {
            const Json& meta = one["metadata"];
            const std::string name = meta["name"];
            const bool stays =
                one["kind"] == "Namespace" ? IsSystemNamespace(name) : name == "kubernetes";
            if (!stays) absl::StrAppend(&left, " ", std::string(one["kind"]), "/", name);
          }
        }
        return left.empty();
      },
      kStartPatience);
  if (!gone) lab::Fail("not removed:" + left);
}

void ControlPlane::Repair() {
  for (Component* one : {etcd_.get(), apiservers_[0].get(), controller_manager_.get()}) {
    if (one->running()) one->Thaw();
    if (!one->running()) one->Start();
  }
  for (int number : {1, 2})
    apiserver(number).Kill();
  // Controllers whose apiserver was away wait up to half a minute before they look again.
  if (apiserver().starts() != served_controllers_) {
    served_controllers_ = apiserver().starts();
    controller_manager_->Kill();
    controller_manager_->Start();
  }
  api_.reset();
}

std::string ControlPlane::Logs() const {
  std::string out;
  std::vector<const Component*> all = {etcd_.get(), controller_manager_.get()};
  for (const auto& one : apiservers_)
    all.push_back(one.get());
  for (const Component* one : all) {
    absl::StrAppend(&out, "---- the end of the log of ", one->name(), " ----\n",
                    LastLines(one->Log(), 30));
  }
  return out;
}

}  // namespace waggle::cluster
