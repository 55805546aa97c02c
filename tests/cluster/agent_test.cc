// An agent that follows the real apiserver: what users change there is what clients meet.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/cluster/http.h"
#include "tests/cluster/kube_cluster.h"
#include "tests/lab/losses.h"

namespace waggle::cluster {
namespace {

using net::Family;
using testing::Contains;
using testing::HasSubstr;
using testing::Key;
using testing::Not;
using testing::UnorderedElementsAre;

// Apiservers that start take all CPUs for seconds; who has to wait for one has not failed.
constexpr char kPatient[] = "10000";
// What controllers do with many objects.
constexpr std::chrono::seconds kLong{60};

void WriteText(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << text << std::flush;
}

std::string ReadText(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

class ApiAgentTest : public testing::Test {
 protected:
  // Every kind of traffic to a Service's port is answered by exactly these.
  void ExpectAnswers(const lab::Addresses& ips, const std::vector<std::string>& names,
                     uint16_t port = 80) {
    for (const lab::Traffic& traffic : lab::AllTraffic()) {
      lab::Tally tally =
          lab::AskMany(cluster_.client, traffic.mode, lab::At(ips.Of(traffic.family), port), 40);
      EXPECT_TRUE(tally.AllOk()) << traffic.Name() << " " << tally;
      std::vector<std::string> have;
      for (const auto& [name, count] : tally.names)
        have.push_back(name);
      EXPECT_EQ(have, names) << traffic.Name() << " " << tally;
    }
  }
  // A client that asks a Service by TCP, 100 times a second, until told to stop.
  lab::Load Ask(const lab::Addresses& ips) {
    losses_.emplace(std::vector<const lab::Place*>{&cluster_.client, &cluster_.b1, &cluster_.b2});
    return lab::Load(cluster_.client,
                     {"rate", "--mode", "tcp", "--to", lab::At(ips.v4, 80), "--to",
                      lab::At(ips.v6, 80), "--per-second", "100", "--timeout-ms", kPatient});
  }
  // All was answered, and no packet lost on the way.
  void ExpectAllWell(lab::Load& load) {
    const lab::Tally tally = load.Stop();
    EXPECT_TRUE(tally.AllOk()) << tally;
    EXPECT_EQ(losses_->Losses(), "");
  }
  Api& api() { return cluster_.api(); }
  void AwaitLog(const std::string& part) {
    EXPECT_TRUE(lab::WaitFor([&] { return absl::StrContains(cluster_.agent->Log(), part); }))
        << part;
  }
  // The pod b1 is ready or not, and the agent knows.
  void MakeB1(bool ready) {
    SetReady(api(), cluster_.b1, ready);
    std::vector<const lab::Place*> pods = {&cluster_.b2};
    if (ready) pods.insert(pods.begin(), &cluster_.b1);
    cluster_.AwaitEndpoints("web", pods);
    cluster_.AwaitFollowed();
  }

  // What node1 says to the other node, by both of its addresses; the same, but for the times.
  HttpAnswer AskNode(uint16_t port, const std::string& path = "/") {
    const lab::Addresses& node = cluster_.node1.addresses();
    HttpAnswer v4 = AskHttp(cluster_.node2, node.v4, port, path);
    const HttpAnswer v6 = AskHttp(cluster_.node2, node.v6, port, path);
    // Between two questions the answer may change.
    return v4.status == v6.status ? v4 : HttpAnswer{-1, {}, v4.body + " " + v6.body};
  }
  bool AwaitStatus(uint16_t port, const std::string& path, int status) {
    return lab::WaitFor([&] { return AskNode(port, path).status == status; });
  }
  std::string Metrics() { return AskHttp(cluster_.node1, "127.0.0.1", 10249, "/metrics").body; }

  KubeCluster cluster_;
  std::optional<lab::LossWatch> losses_;
};

TEST_F(ApiAgentTest, ServesAServiceFromAPod) {
  const Json web = cluster_.CreateWeb();
  cluster_.StartAgent();
  cluster_.AwaitFollowed();
  ExpectAnswers(ClusterIpsOf(web), {"b1", "b2"});
}

TEST_F(ApiAgentTest, ReachesTheApiserverByItsService) {
  cluster_.StartAgent();
  cluster_.AwaitFollowed();
  const std::string kubeconfig =
      cluster_.control.WriteKubeconfig(kAdmin, 0, "https://10.96.0.1:443");
  for (const lab::Place* place : {static_cast<const lab::Place*>(&cluster_.client),
                                  static_cast<const lab::Place*>(&cluster_.node1)}) {
    lab::RunResult got = place->Run(
        {KubernetesProgram("kubectl"), "--kubeconfig", kubeconfig, "get", "--raw", "/readyz"});
    EXPECT_EQ(got.out, "ok") << place->name() << got.ToString();
  }
}

TEST_F(ApiAgentTest, FollowsEndpoints) {
  const lab::Addresses ips = ClusterIpsOf(cluster_.CreateWeb());
  cluster_.StartAgent();
  cluster_.AwaitFollowed();
  MakeB1(false);
  ExpectAnswers(ips, {"b2"});
  MakeB1(true);
  ExpectAnswers(ips, {"b1", "b2"});
  api().Remove("Pod", "default", "b2");
  cluster_.AwaitEndpoints("web", {&cluster_.b1});
  cluster_.AwaitFollowed();
  ExpectAnswers(ips, {"b1"});
}

TEST_F(ApiAgentTest, FollowsServices) {
  cluster_.StartAgent();
  Json web = cluster_.CreateWeb();
  const lab::Addresses ips = ClusterIpsOf(web);
  cluster_.AwaitFollowed();
  ExpectAnswers(ips, {"b1", "b2"});

  Json ports = web["spec"]["ports"];
  for (Json& port : ports)
    port["port"] = 8000;
  api().Change("Service", "default", "web", {{"spec", {{"ports", ports}}}});
  cluster_.AwaitFollowed();
  ExpectAnswers(ips, {"b1", "b2"}, 8000);

  // Another address is another Service of the same name.
  api().Remove("Service", "default", "web");
  web = ServiceObject("web");
  web["spec"]["clusterIP"] = "10.96.77.1";
  web["spec"]["clusterIPs"] = {"10.96.77.1", "fd00:96::7701"};
  web = api().Create(web);
  EXPECT_NE(ClusterIpsOf(web).v4, ips.v4);
  cluster_.AwaitEndpoints("web", {&cluster_.b1, &cluster_.b2});
  cluster_.AwaitFollowed();
  ExpectAnswers(ClusterIpsOf(web), {"b1", "b2"});

  api().Remove("Service", "default", "web");
  cluster_.AwaitFollowed();
}

TEST_F(ApiAgentTest, ANamespaceGoesWithItsServices) {
  const lab::Addresses ips = ClusterIpsOf(cluster_.CreateWeb());
  api().Create(NamespaceObject("tenant"));
  AddPod(api(), cluster_.node1, cluster_.b1, "web", "tenant");
  Json theirs;
  for (const char* name : {"db", "web"})
    theirs = api().Create(ServiceObject(name, "tenant"));
  ASSERT_TRUE(lab::WaitFor(
      [&] { return ReadyEndpoints(api(), "web", "tenant") == AddressesOf({&cluster_.b1}); }));
  cluster_.StartAgent();
  cluster_.AwaitFollowed();
  ExpectAnswers(ClusterIpsOf(theirs), {"b1"});
  lab::Load load = Ask(ips);
  api().Remove("Namespace", "", "tenant");
  EXPECT_TRUE(lab::WaitFor(
      [&] { return api().Get(PathOf("Namespace", "", "tenant")).status == 404; }, kLong));
  cluster_.AwaitFollowed();
  EXPECT_THAT(lab::ServiceList(cluster_.node1).out, Not(HasSubstr("tenant")));
  ExpectAnswers(ips, {"b1", "b2"});
  ExpectAllWell(load);
}

TEST_F(ApiAgentTest, AThousandServicesComeAndGoAtOnce) {
  const lab::Addresses ips = ClusterIpsOf(cluster_.CreateWeb());
  cluster_.StartAgent();
  cluster_.AwaitFollowed();
  const std::string before = lab::ServiceList(cluster_.node1).out;
  lab::Load load = Ask(ips);
  // By several clients, so that the apiserver sets the pace.
  constexpr int kClients = 4, kEach = 250;
  const auto each = [&](const std::function<void(Api&, const std::string& name)>& act) {
    std::vector<std::thread> threads;
    for (int client = 0; client < kClients; ++client) {
      threads.emplace_back([&, client] {
        Api own = cluster_.control.NewApi();
        for (int i = 0; i < kEach; ++i)
          act(own, absl::StrCat("many", client * kEach + i));
      });
    }
    for (std::thread& thread : threads)
      thread.join();
  };
  // Half of them of each family.
  each([](Api& own, const std::string& name) {
    Json object = ServiceObject(name);
    object["spec"]["selector"]["app"] = "web";
    object["spec"]["ipFamilyPolicy"] = "SingleStack";
    object["spec"]["ipFamilies"] = {name.back() % 2 == 0 ? "IPv4" : "IPv6"};
    own.Create(object);
  });
  // One for each, two for `web` and one for `kubernetes`.
  constexpr size_t kSlices = kClients * kEach + 3;
  EXPECT_TRUE(lab::WaitFor([&] { return api().List("EndpointSlice", "default").size() == kSlices; },
                           kLong));
  cluster_.AwaitFollowed();
  for (const auto& [name, family] :
       {std::pair{"many998", Family::kIpv4}, {"many999", Family::kIpv6}}) {
    const lab::Addresses at = ClusterIpsOf(api().Read("Service", "default", name));
    lab::Tally tally = lab::AskMany(cluster_.client, "tcp", lab::At(at.Of(family), 80), 20);
    EXPECT_TRUE(tally.AllOk()) << name << " " << tally;
  }
  each([](Api& own, const std::string& name) { own.Remove("Service", "default", name); });
  cluster_.AwaitFollowed();
  EXPECT_EQ(lab::ServiceList(cluster_.node1).out, before);
  ExpectAllWell(load);
}

TEST_F(ApiAgentTest, KnowsOneFamilyFromTheOther) {
  for (const char* family : {"IPv4", "IPv6"}) {
    Json single = ServiceObject(family[3] == '4' ? "only4" : "only6");
    single["spec"]["selector"]["app"] = "web";
    single["spec"]["ipFamilyPolicy"] = "SingleStack";
    single["spec"]["ipFamilies"] = {family};
    api().Create(single);
  }
  cluster_.CreateWeb();
  cluster_.StartAgent();
  cluster_.AwaitFollowed();
  // A Service that gains its second family.
  Json gained = api().Change(
      "Service", "default", "only4",
      {{"spec", {{"ipFamilyPolicy", "RequireDualStack"}, {"ipFamilies", {"IPv4", "IPv6"}}}}});
  cluster_.AwaitEndpoints("only4", {&cluster_.b1, &cluster_.b2});
  cluster_.AwaitFollowed();
  ExpectAnswers(ClusterIpsOf(gained), {"b1", "b2"});
}

// As the DaemonSet of kubeadm gives it: a volume of a ConfigMap with the configuration and the
// kubeconfig that it names, whose credentials are a pod's files. An update of the volume ends
// the agent, and nothing else.
TEST_F(ApiAgentTest, StartsFromKubeadmsConfiguration) {
  const lab::Addresses ips = ClusterIpsOf(cluster_.CreateWeb());
  const std::string volume = cluster_.lab.scratch() + "/kube-proxy";
  const auto mount = [&volume](const std::string& version, const std::string& text) {
    std::filesystem::create_directories(volume + "/.." + version);
    WriteText(volume + "/.." + version + "/config.conf", text);
    std::filesystem::create_symlink(".." + version, volume + "/..tmp");
    std::filesystem::rename(volume + "/..tmp", volume + "/..data");
  };
  const ApiAccess access = cluster_.control.access(kKubeProxy);
  WriteText(volume + "/token", access.token + "\n");
  WriteText(volume + "/kubeconfig.conf", absl::StrCat("apiVersion: v1\n"
                                                      "kind: Config\n"
                                                      "clusters:\n"
                                                      "- cluster:\n"
                                                      "    certificate-authority: ",
                                                      access.ca, "\n    server: ", access.Url(),
                                                      "\n"
                                                      "  name: default\n"
                                                      "contexts:\n"
                                                      "- context:\n"
                                                      "    cluster: default\n"
                                                      "    namespace: default\n"
                                                      "    user: default\n"
                                                      "  name: default\n"
                                                      "current-context: default\n"
                                                      "users:\n"
                                                      "- name: default\n"
                                                      "  user:\n"
                                                      "    tokenFile: ",
                                                      volume, "/token\n"));
  const std::string kubeadm = absl::StrReplaceAll(ReadText(WAGGLE_CONFIG_TESTDATA "/kubeadm.conf"),
                                                  {{"/var/lib/kube-proxy", volume}});
  mount("1", kubeadm);
  std::filesystem::create_symlink("..data/config.conf", volume + "/config.conf");

  cluster_.agent = std::make_unique<lab::Agent>(
      cluster_.lab, cluster_.node1,
      lab::AgentOptions{.flags = {"--config", volume + "/config.conf"}});
  cluster_.agent->AwaitReady();
  cluster_.AwaitFollowed();
  EXPECT_THAT(cluster_.agent->Log(), testing::HasSubstr("no effect: clusterCIDR"));
  ExpectAnswers(ips, {"b1", "b2"});

  mount("2", kubeadm);  // a new version with the old content
  MakeB1(false);        // which the agent saw before this
  EXPECT_TRUE(cluster_.agent->running());
  mount("3", kubeadm + "# and a comment\n");
  AwaitLog("has changed and comes to the same");
  mount("4", absl::StrReplaceAll(kubeadm, {{"mode: \"\"", "mode: iptable"}}));
  AwaitLog("KubeProxyConfiguration.mode: is \"iptable\", expected one of");
  AwaitLog("what was read at the start stays in effect");
  EXPECT_TRUE(cluster_.agent->running());
  mount("5", absl::StrReplaceAll(kubeadm, {{"mode: \"\"", "mode: nftables"}}));
  EXPECT_THAT(cluster_.agent->AwaitRefusal().err,
              testing::HasSubstr("config.conf has changed; ending, to be started again"));
  ExpectAnswers(ips, {"b2"});
  cluster_.agent->Start();
  cluster_.agent->AwaitReady();
  EXPECT_EQ(lab::MapWrites(lab::ReadAgent(cluster_.node1.pin_path())), 0u);
}

TEST_F(ApiAgentTest, ServesOnWhileTheApiserverIsAway) {
  const lab::Addresses ips = ClusterIpsOf(cluster_.CreateWeb());
  cluster_.StartAgent();
  cluster_.AwaitFollowed();
  lab::Load load = Ask(ips);
  for (int round = 0; round < 2; ++round) {
    cluster_.control.apiserver().Kill();
    ExpectAnswers(ips, {"b1", "b2"});
    cluster_.control.apiserver().Start();
    MakeB1(false);
    ExpectAnswers(ips, {"b2"});
    MakeB1(true);
  }
  ExpectAllWell(load);
}

// Its apiserver is away, the cluster goes on by another one, and when it is back the past
// that the agent knew can be read no more: 410.
TEST_F(ApiAgentTest, CatchesUpAfterCompaction) {
  const lab::Addresses ips = ClusterIpsOf(cluster_.CreateWeb());
  cluster_.CreateWeb("goes");
  cluster_.StartAgent();
  cluster_.AwaitFollowed();
  lab::Load load = Ask(ips);
  cluster_.control.apiserver(1).Start();
  cluster_.control.apiserver(0).Kill();
  {
    Api other = cluster_.control.NewApi(kAdmin, 1);
    other.Remove("Service", "default", "goes");
    other.Create(ServiceObject("comes"));
    SetReady(other, cluster_.b2, false);
  }
  cluster_.control.Compact();
  cluster_.control.apiserver(0).Start();
  cluster_.AwaitEndpoints("web", {&cluster_.b1});
  cluster_.AwaitFollowed();
  ExpectAnswers(ips, {"b1"});
  ExpectAllWell(load);
}

TEST_F(ApiAgentTest, ARestartWritesNothingWhenNothingChanged) {
  cluster_.CreateWeb();
  cluster_.StartAgent();
  cluster_.AwaitFollowed();
  EXPECT_GT(lab::MapWrites(lab::ReadAgent(cluster_.node1.pin_path())), 0u);
  cluster_.agent->Kill();
  cluster_.agent->Start();
  cluster_.agent->AwaitReady();
  cluster_.AwaitFollowed();
  EXPECT_EQ(lab::MapWrites(lab::ReadAgent(cluster_.node1.pin_path())), 0u);
}

TEST_F(ApiAgentTest, HealthFollowsTheNode) {
  const std::string node = cluster_.node1.name();
  api().Remove("Node", "", node);
  cluster_.StartAgent();
  EXPECT_TRUE(AwaitStatus(10256, "/livez", 200));
  HttpAnswer answer = AskNode(10256, "/healthz");
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.headers["Content-Type"], "application/json");
  EXPECT_EQ(answer.headers["X-Content-Type-Options"], "nosniff");
  Json body = Json::parse(answer.body);
  EXPECT_EQ(body["nodeEligible"], false);
  EXPECT_EQ(body["healthy"], true);

  AddNode(api(), cluster_.node1);
  EXPECT_TRUE(AwaitStatus(10256, "/healthz", 200));
  body = Json::parse(AskNode(10256, "/healthz").body);
  EXPECT_EQ(body["nodeEligible"], true);
  EXPECT_EQ(body["lastUpdated"], body["currentTime"]);
  EXPECT_EQ(body["status"]["IPv4"]["healthy"], true);
  EXPECT_EQ(body["status"]["IPv6"]["healthy"], true);

  const Json taint = {{"key", "ToBeDeletedByClusterAutoscaler"}, {"effect", "NoSchedule"}};
  api().Change("Node", "", node, {{"spec", {{"taints", Json::array({taint})}}}});
  EXPECT_TRUE(AwaitStatus(10256, "/healthz", 503));
  EXPECT_EQ(AskNode(10256, "/livez").status, 200);
  api().Change("Node", "", node, {{"spec", {{"taints", nullptr}}}});
  EXPECT_TRUE(AwaitStatus(10256, "/healthz", 200));
  // What was seen last counts, also when the agent knows that the object is gone.
  const char* events = "waggle_apiserver_events_total{resource=\"nodes\"}";
  const double before = MetricOf(Metrics(), events);
  EXPECT_GT(before, 0);
  api().Remove("Node", "", node);
  EXPECT_TRUE(lab::WaitFor([&] { return MetricOf(Metrics(), events) > before; }));
  EXPECT_EQ(AskNode(10256, "/healthz").status, 200);
  EXPECT_EQ(AskNode(10256, "/metrics").status, 404);
}

TEST_F(ApiAgentTest, AnswersAtHealthCheckNodePorts) {
  cluster_.StartAgent();
  Json web = ServiceObject("web");
  web["spec"]["type"] = "LoadBalancer";
  web["spec"]["externalTrafficPolicy"] = "Local";
  web = api().Create(web);
  const uint16_t port = web["spec"]["healthCheckNodePort"];
  // A load balancer shall send nothing here before its addresses are served.
  EXPECT_TRUE(AwaitStatus(port, "/any", 503));
  HttpAnswer answer = AskNode(port);
  EXPECT_EQ(answer.headers["X-Load-Balancing-Endpoint-Weight"], "1");
  EXPECT_EQ(Json::parse(answer.body),
            Json::parse(R"({"service": {"namespace": "default", "name": "web"},
                            "localEndpoints": 1, "serviceProxyHealthy": false})"));
  MakeB1(false);
  answer = AskNode(port);
  EXPECT_EQ(answer.headers["X-Load-Balancing-Endpoint-Weight"], "0");
  MakeB1(true);
  EXPECT_EQ(AskNode(port).headers["X-Load-Balancing-Endpoint-Weight"], "1");
  api().Remove("Service", "default", "web");
  EXPECT_TRUE(AwaitStatus(port, "/", 0));
}

TEST_F(ApiAgentTest, CountsForPrometheus) {
  cluster_.CreateWeb();
  cluster_.StartAgent();
  cluster_.AwaitFollowed();
  const std::string before = Metrics();
  // The controller says in the slice when that was; in whole seconds, so after the agent's start.
  const std::string soon =
      absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now() + absl::Seconds(1), absl::UTCTimeZone());
  Json conditions = Json::array();
  for (const char* type : {"Ready", "ContainersReady"})
    conditions.push_back({{"type", type}, {"status", "False"}, {"lastTransitionTime", soon}});
  api().ChangeStatus("Pod", "default", "b1", {{"status", {{"conditions", conditions}}}});
  cluster_.AwaitEndpoints("web", {&cluster_.b2});
  cluster_.AwaitFollowed();
  const std::string after = Metrics();
  for (const char* grows :
       {"waggle_events_total", "kubeproxy_sync_proxy_rules_endpoint_changes_total",
        "waggle_event_to_kernel_seconds_count",
        "waggle_apiserver_events_total{resource=\"endpointslices\"}",
        "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"}",
        "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"}"}) {
    EXPECT_GT(MetricOf(after, grows), MetricOf(before, grows)) << grows;
    EXPECT_GE(MetricOf(before, grows), 0) << grows;
  }
  EXPECT_GE(MetricOf(after, "rest_client_requests_total{code=\"200\",method=\"GET\"}"), 3);
  EXPECT_EQ(MetricOf(after, "waggle_apiserver_connected{resource=\"services\"}"), 1);
  EXPECT_EQ(MetricOf(after, "waggle_ready"), 1);
  EXPECT_EQ(MetricOf(after, "waggle_services"), 2);
  EXPECT_GT(MetricOf(after, "waggle_map_entries{map=\"frontends\"}"), 0);
  EXPECT_GT(MetricOf(after, "waggle_devices{role=\"pod\"}"), 0);
  EXPECT_EQ(AskHttp(cluster_.node1, "127.0.0.1", 10249, "/proxyMode").body, "iptables");
  EXPECT_TRUE(Json::parse(AskHttp(cluster_.node1, "127.0.0.1", 10249, "/configz").body)
                  .contains("kubeproxy.config.k8s.io"));
  EXPECT_EQ(AskNode(10249, "/metrics").status, 0);  // on loopback only
}

// What is wrong with an object is told where its owner looks, and counted when it comes back.
TEST_F(ApiAgentTest, TellsOfBadObjectsByEvents) {
  constexpr char kTime[] = "endpoints.kubernetes.io/last-change-trigger-time";
  cluster_.StartAgent();
  const auto annotate = [&](const char* time) {
    api().Change("EndpointSlice", "default", "odd",
                 {{"metadata", {{"annotations", {{kTime, time}}}}}});
  };
  const Json slice = api().Create({{"apiVersion", "discovery.k8s.io/v1"},
                                   {"kind", "EndpointSlice"},
                                   {"metadata",
                                    {{"name", "odd"},
                                     {"namespace", "default"},
                                     {"labels", {{"kubernetes.io/service-name", "odd"}}},
                                     {"annotations", {{kTime, "yesterday"}}}}},
                                   {"addressType", "IPv4"},
                                   {"ports", Json::array()},
                                   {"endpoints", Json::array()}});
  Json event;
  const auto await = [&](const std::function<bool()>& as_wanted) {
    return lab::WaitFor([&] {
      event = nullptr;
      const Json list =
          api().Get("/apis/events.k8s.io/v1/namespaces/default/events").AsJson()["items"];
      size_t found = 0;
      for (const Json& each : list) {
        if (each["reportingController"] != "waggle") continue;
        event = each;
        ++found;
      }
      return found == 1 && as_wanted();
    });
  };
  EXPECT_TRUE(await([] { return true; }));
  EXPECT_EQ(event["regarding"]["kind"], "EndpointSlice");
  EXPECT_EQ(event["regarding"]["uid"], slice["metadata"]["uid"]);
  EXPECT_EQ(event["reason"], "InvalidField");
  EXPECT_EQ(event["type"], "Warning");
  EXPECT_EQ(event["reportingInstance"], cluster_.node1.name());
  EXPECT_THAT(std::string(event["note"]), testing::HasSubstr("is \"yesterday\", expected a time"));

  annotate("2026-01-31T12:00:00Z");
  EXPECT_TRUE(lab::WaitFor(
      [&] { return MetricOf(Metrics(), "waggle_problems{reason=\"invalid\"}") == 0; }));
  annotate("yesterday");
  EXPECT_TRUE(await([&] { return event["series"].is_object(); })) << event;
  EXPECT_EQ(event["series"]["count"], 2);
  api().Remove("EndpointSlice", "default", "odd");
  const std::string metrics = Metrics();
  EXPECT_EQ(MetricOf(metrics, "waggle_kubernetes_events_total{result=\"created\"}"), 1);
  EXPECT_EQ(MetricOf(metrics, "waggle_kubernetes_events_total{result=\"repeated\"}"), 1);
}

// Changes of endpoints in a row while clients connect. All pods run on, so that nobody may
// fail; a pod whose leaving is in force may go.
TEST_F(ApiAgentTest, FiveHundredChangesWhileClientsConnect) {
  std::vector<lab::Pod*> pods = {&cluster_.b1, &cluster_.b2};
  std::vector<lab::Server> servers;
  for (const char* name : {"b3", "b4", "b5"}) {
    lab::Node& node = name[1] == '4' ? cluster_.node2 : cluster_.node1;
    pods.push_back(&node.AddPod(name));
    cluster_.lab.Settle();
    servers.push_back(lab::ServeAll(*pods.back()));
    AddPod(api(), node, *pods.back(), "web");
  }
  Json object = ServiceObject("web");
  const lab::Addresses ips = ClusterIpsOf(api().Create(object));
  const std::vector<const lab::Place*> all(pods.begin(), pods.end());
  cluster_.AwaitEndpoints("web", all);
  cluster_.StartAgent();
  cluster_.AwaitFollowed();

  std::vector<const lab::Place*> talkers = all;
  talkers.push_back(&cluster_.client);
  lab::LossWatch losses(talkers);
  std::vector<lab::Load> loads;
  for (const char* mode : {"tcp", "udp-new", "udp-connected"}) {
    loads.emplace_back(cluster_.client, lab::Argv{"rate", "--mode", mode, "--to",
                                                  lab::At(ips.v4, 80), "--to", lab::At(ips.v6, 80),
                                                  "--per-second", "200", "--timeout-ms", kPatient});
  }
  // In turn one goes away, and comes back when the next one has gone.
  std::vector<const lab::Place*> left;
  const size_t count = pods.size();
  for (size_t change = 0; change < 500; ++change) {
    const size_t turn = change / 2;
    if (change % 2 == 0) {
      SetReady(api(), *pods[turn % count], false);
      continue;
    }
    SetReady(api(), *pods[(turn + count - 1) % count], true);
    if (turn % 5 != 4) continue;
    left = all;
    std::erase(left, pods[turn % count]);
    cluster_.AwaitEndpoints("web", left);
  }
  cluster_.AwaitFollowed();
  // And one that really goes, when nobody is sent to it any more.
  api().Remove("Pod", "default", "b3");
  std::erase(left, pods[2]);
  cluster_.AwaitEndpoints("web", left);
  cluster_.AwaitFollowed();
  servers.front().Stop();
  for (lab::Load& load : loads) {
    lab::Tally tally = load.Stop();
    EXPECT_TRUE(tally.AllOk()) << tally;
    EXPECT_THAT(tally.names, Contains(Key("b3"))) << tally;
  }
  EXPECT_EQ(losses.Losses(), "");
}

}  // namespace
}  // namespace waggle::cluster
