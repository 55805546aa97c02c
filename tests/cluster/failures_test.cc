// The failures that made people look for something else: each with the real kube-proxy as the
// accounts tell it, and then, on the same machines, with Waggle in its place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/cluster/core_dns.h"
#include "tests/cluster/kube_cluster.h"
#include "tests/cluster/real_kube_proxy.h"
#include "tests/lab/conditions.h"
#include "tests/lab/losses.h"

namespace waggle::cluster {
namespace {

using lab::Addresses;
using lab::Cni;
using lab::Node;
using lab::Place;
using lab::Pod;
using lab::Tally;
using lab::Traffic;
using net::Family;
using testing::Contains;
using testing::HasSubstr;
using testing::Key;
using testing::Not;
using Names = std::map<std::string, uint64_t>;

constexpr double kAtOnceMs = 200;
// kube-proxy's rules refuse while connect() still holds the socket, which believes it only when
// they do so again, a second later.
constexpr double kAtTheSecondSynMs = 3000;
// No answer is waited for longer; nothing here takes as long that works.
constexpr char kBriefly[] = "500";
constexpr char kPatient[] = "10000";

// What a client's call says that gets no answer.
std::string Silence(const Traffic& traffic) {
  return traffic.Silence();
}
std::string Unreachable(const Traffic& traffic) {
  return traffic.mode == "udp-new" ? "sendto: ENETUNREACH" : "connect: ENETUNREACH";
}

class FailuresTest : public testing::TestWithParam<const char*> {
 protected:
  ~FailuresTest() override {
    proxies_.clear();
    agents_.clear();
    control_.Repair();
    control_.Clear();
    control_.Leave();
  }

  Api& api() { return control_.api(); }
  bool iptables() const { return GetParam() == std::string("iptables"); }

  // Two nodes as the CNI wires them. Pods come before Begin().
  void Connect(Cni cni) {
    for (int i = 0; i < 2; ++i)
      nodes_.push_back(&lab_.AddNode(cni));
    lab_.Connect();
  }
  // The lab is whole: the apiserver learns of it.
  void Begin() {
    control_.Join(lab_);
    lab_.Settle();
    for (const Node* node : nodes_)
      AddNode(api(), *node);
  }
  // It answers, and is a Pod with the label app=<app>.
  void Serve(const Node& node, const Place& place, const std::string& app) {
    servers_.push_back(lab::ServeAll(place));
    AddPod(api(), node, place, app);
  }
  // Of the Pods with the label app=<app>; the controller has found these.
  Addresses CreateService(const std::string& app, const std::vector<const Place*>& pods,
                          uint16_t port = 80) {
    const Json service = api().Create(
        ServiceObject(app, "default", {{"tcp", "TCP", port, 8080}, {"udp", "UDP", port, 8080}}));
    AwaitEndpointsOf(app, pods, api());
    return ClusterIpsOf(service);
  }

  // The real one on every node, with rules that hold all of `there`.
  void StartKubeProxies(const std::vector<std::string>& there, bool knows_pods = true) {
    for (const Node* node : nodes_) {
      proxies_.push_back(std::make_unique<RealKubeProxy>(
          control_, *node, KubeProxyOptions{.mode = GetParam(), .knows_pods = knows_pods}));
    }
    for (const auto& proxy : proxies_)
      proxy->AwaitRules(there);
  }
  // kube-proxy and its rules go, and each node gets an agent that follows the apiserver.
  void ReplaceByWaggle() {
    for (const auto& proxy : proxies_)
      proxy->CleanUp();
    proxies_.clear();
    for (const Node* node : nodes_)
      agents_.push_back(StartAgentOn(*node, lab_, control_));
    for (const Node* node : nodes_)
      AwaitFollowedOn(*node, lab_, api());
  }

  // All kinds of traffic at once, `count` times each; `flags` for waggle-lab-peer.
  void Ask(const Place& from, const Addresses& to, uint16_t port, int count,
           const std::function<void(const Traffic&, const Tally&)>& judge,
           const lab::Argv& flags = {}) {
    std::vector<lab::Load> asking;
    const std::vector<Traffic> all = lab::AllTraffic();
    for (const Traffic& traffic : all) {
      lab::Argv argv = {"rate",
                        "--mode",
                        traffic.mode,
                        "--to",
                        lab::At(to.Of(traffic.family), port),
                        "--count",
                        std::to_string(count),
                        "--timeout-ms",
                        judging_failures_ ? kBriefly : kPatient};
      argv.insert(argv.end(), flags.begin(), flags.end());
      asking.emplace_back(from, argv);
    }
    for (size_t i = 0; i < all.size(); ++i) {
      SCOPED_TRACE(from.name() + " " + all[i].Name());
      judge(all[i], asking[i].Finish());
    }
  }
  // None is answered, and each call says exactly this.
  void ExpectFailure(const Place& from, const Addresses& to, uint16_t port, uint64_t count,
                     const std::function<std::string(const Traffic&)>& failure) {
    judging_failures_ = true;
    Ask(from, to, port, static_cast<int>(count), [&](const Traffic& traffic, const Tally& tally) {
      EXPECT_EQ(tally.failures, (Names{{failure(traffic), count}})) << tally;
    });
    judging_failures_ = false;
  }
  // All are answered, by these, and no packet was lost.
  void ExpectServed(const Place& from, const Addresses& to, uint16_t port,
                    const std::vector<std::string>& names) {
    // In a node the agent and kube-proxy have connections, too.
    using Places = std::vector<const Place*>;
    const bool node = dynamic_cast<const Node*>(&from) != nullptr;
    lab::LossWatch losses(node ? Places{} : Places{&from}, node ? Places{&from} : Places{});
    Ask(from, to, port, 30, [&](const Traffic&, const Tally& tally) {
      EXPECT_TRUE(tally.AllOk()) << tally;
      EXPECT_EQ(tally.names.size(), names.size()) << tally;
      for (const std::string& name : names)
        EXPECT_THAT(tally.names, Contains(Key(name))) << tally;
    });
    EXPECT_EQ(losses.Losses(), "") << from.name();
  }

  ControlPlane& control_ = ControlPlane::Shared();
  lab::Lab lab_;
  std::vector<Node*> nodes_;
  std::vector<lab::Server> servers_;
  std::vector<std::unique_ptr<RealKubeProxy>> proxies_;
  std::vector<std::unique_ptr<lab::Agent>> agents_;
  bool judging_failures_ = false;
};

INSTANTIATE_TEST_SUITE_P(, FailuresTest, testing::ValuesIn(kKubeProxyModes),
                         [](const auto& param) { return std::string(param.param); });

// Three nodes: eth0 leads nowhere but has the default route, or there is none; the cluster is
// on eth1. kube-proxy has no --cluster-cidr, and so masquerades nothing.
TEST_P(FailuresTest, F1AndF2TwoNics) {
  constexpr uint16_t kPort = 8090;
  lab_.AddNetwork("cluster", {"192.168.50.1/24", "fd00:50::1/64"});
  for (int i = 1; i <= 3; ++i) {
    Node& node = lab_.AddNode(Cni::kRouted);
    nodes_.push_back(&node);
    const std::string nat = absl::StrCat("nat", i);
    lab_.AddNetwork(nat, {"10.0.2.2/24", "fd00:2::2/64"});
    node.Sysctl("net.ipv4.conf.default.rp_filter", "2");  // as systemd sets it
    node.AddNic("eth0", nat,
                {absl::StrCat("10.0.2.1", i, "/24"), absl::StrCat("fd00:2::1", i, "/64")});
    node.AddDefaultRoute({"10.0.2.2", "fd00:2::2"});
    node.AddNic(
        "eth1", "cluster",
        {absl::StrCat("192.168.50.", 10 + i, "/24"), absl::StrCat("fd00:50::", 10 + i, "/64")});
  }
  lab_.RoutePods();
  const Pod& client = nodes_[0]->AddPod("client");
  const Pod &b2 = nodes_[1]->AddPod("b2"), &b3 = nodes_[2]->AddPod("b3");
  Begin();
  Serve(*nodes_[1], b2, "web");
  Serve(*nodes_[2], b3, "web");
  const Addresses web = CreateService("web", {&b2, &b3}, kPort);
  StartKubeProxies({lab::At(b2.addresses().v4, 8080), lab::At(b2.addresses().v6, 8080),
                    lab::At(b3.addresses().v4, 8080), lab::At(b3.addresses().v6, 8080)},
                   false);

  // F1: from the node without a backend never, from one with a backend half the time.
  ExpectFailure(*nodes_[0], web, kPort, 3, Silence);
  judging_failures_ = true;
  Ask(*nodes_[1], web, kPort, 12, [](const Traffic& traffic, const Tally& tally) {
    EXPECT_EQ(tally.names, (Names{{"b2", tally.ok}})) << tally;
    EXPECT_EQ(tally.failures, (Names{{Silence(traffic), 12 - tally.ok}})) << tally;
    EXPECT_GT(tally.ok, 0u) << tally;
  });
  judging_failures_ = false;
  // F2: from none.
  for (const Node* node : nodes_) {
    node->Ip("route del default via 10.0.2.2\nroute del default via fd00:2::2\n");
    ExpectFailure(*node, web, kPort, 3, Unreachable);
  }

  ReplaceByWaggle();
  for (const bool default_route : {false, true}) {
    SCOPED_TRACE(default_route ? "F1" : "F2");
    for (const Node* node : nodes_) {
      if (default_route) node->AddDefaultRoute({"10.0.2.2", "fd00:2::2"});
      ExpectServed(*node, web, kPort, {"b2", "b3"});
    }
    ExpectServed(client, web, kPort, {"b2", "b3"});
  }
}

// Docker sets the policy of FORWARD to DROP. The CNI of the other node lets packets of its own
// pods through.
TEST_P(FailuresTest, F3PolicyDrop) {
  Connect(Cni::kBridged);
  const Pod& client = nodes_[0]->AddPod("client");
  const Pod &b1 = nodes_[0]->AddPod("b1"), &b2 = nodes_[1]->AddPod("b2");
  Begin();
  Serve(*nodes_[0], b1, "near");
  Serve(*nodes_[1], b2, "far");
  const Addresses near = CreateService("near", {&b1}), far = CreateService("far", {&b2});
  for (const char* program : {"iptables", "ip6tables"}) {
    for (const Node* node : nodes_) {
      const lab::RunResult set = node->Run({program, "-P", "FORWARD", "DROP"});
      ASSERT_TRUE(set.ok()) << set.ToString();
    }
    const std::string pods =
        program[2] == '6' ? nodes_[1]->pod_cidrs().v6 : nodes_[1]->pod_cidrs().v4;
    for (const char* side : {"-s", "-d"}) {
      const lab::RunResult set =
          nodes_[1]->Run({program, "-A", "FORWARD", side, pods, "-j", "ACCEPT"});
      ASSERT_TRUE(set.ok()) << set.ToString();
    }
  }
  // Packets between ports of the bridge pass these rules too, as Kubernetes asks for.
  lab::SetBridgeNfCall(*nodes_[0], true);
  StartKubeProxies({lab::At(b1.addresses().v4, 8080), lab::At(b1.addresses().v6, 8080),
                    lab::At(b2.addresses().v4, 8080), lab::At(b2.addresses().v6, 8080)});
  ExpectFailure(client, near, 80, 2, Silence);
  ExpectFailure(client, far, 80, 2, Silence);

  ReplaceByWaggle();
  ExpectServed(client, near, 80, {"b1"});
  ExpectServed(client, far, 80, {"b2"});
}

TEST_P(FailuresTest, F4AndF5OneBridge) {
  Connect(Cni::kBridged);
  Node& node = *nodes_[0];
  const Pod &client = node.AddPod("client"), &b1 = node.AddPod("b1");
  Begin();
  Serve(node, b1, "one");
  const Addresses one = CreateService("one", {&b1});
  StartKubeProxies({lab::At(b1.addresses().v4, 8080), lab::At(b1.addresses().v6, 8080)});

  // F4: the bridge sends nothing back to where it came from.
  lab::SetBridgeNfCall(node, true);
  ExpectFailure(b1, one, 80, 2, Silence);
  ExpectServed(client, one, 80, {"b1"});
  // F5: the answer goes straight from pod to pod, from an address that nobody asked.
  lab::SetBridgeNfCall(node, false);
  ExpectFailure(client, one, 80, 2, [&](const Traffic& traffic) {
    if (traffic.mode != "udp-new") return Silence(traffic);
    return "recvfrom: answer from " + lab::At(b1.addresses().Of(traffic.family), 8080);
  });

  ReplaceByWaggle();
  for (const bool nf_call : {false, true}) {
    SCOPED_TRACE(nf_call ? "bridge-nf-call-iptables=1" : "bridge-nf-call-iptables=0");
    lab::SetBridgeNfCall(node, nf_call);
    ExpectServed(client, one, 80, {"b1"});
    ExpectServed(b1, one, 80, {"b1"});
  }
  const lab::RunResult port = node.Run({"bridge", "-d", "link", "show", "dev", b1.host_device()});
  EXPECT_THAT(port.out, HasSubstr("hairpin off")) << port.ToString();
}

// F8: backends that are nodes, their own and others', and the apiserver. F12: a Service that
// nobody serves. Here kube-proxy is as good.
TEST_P(FailuresTest, F8AndF12NodesAsBackendsAndNobody) {
  Connect(Cni::kRouted);
  Node& node = *nodes_[0];
  const Pod &client = node.AddPod("client"), &down = node.AddPod("down");
  Begin();
  for (const Node* each : nodes_)
    Serve(*each, *each, "hosts");
  AddPod(api(), node, down, "down");
  const Addresses hosts = CreateService("hosts", {nodes_[0], nodes_[1]});
  const Addresses broken = CreateService("down", {&down}), nobody = CreateService("nobody", {});
  const std::string kubeconfig = control_.WriteKubeconfig(kAdmin, 0, "https://10.96.0.1:443");
  const auto refusals = [&] {
    return agents_.empty() ? 0 : lab::ReadReason(node.pin_path(), WAGGLE_REASON_NO_ENDPOINTS);
  };
  const auto expect_all = [&] {
    for (const Place* from :
         {static_cast<const Place*>(&client), static_cast<const Place*>(&node)}) {
      ExpectServed(*from, hosts, 80, {"node1", "node2"});
      const lab::RunResult got = from->Run(
          {KubernetesProgram("kubectl"), "--kubeconfig", kubeconfig, "get", "--raw", "/readyz"});
      EXPECT_EQ(got.out, "ok") << from->name() << got.ToString();
      for (const Addresses& service : {broken, nobody}) {
        for (const Family family : lab::kBothFamilies) {
          const uint64_t before = refusals();
          lab::Client curl(*from);
          curl.Must({"socket " + lab::SocketKindOf("tcp", family)});
          const lab::StepResult refused = curl.Do("connect " + lab::At(service.Of(family), 80));
          EXPECT_EQ(refused.error(), "ECONNREFUSED") << from->name() << " " << refused;
          EXPECT_LT(refused.ms(), agents_.empty() ? kAtTheSecondSynMs : kAtOnceMs) << from->name();
          const bool counted = !agents_.empty() && service.v4 == nobody.v4;
          EXPECT_EQ(refusals() - before, counted ? 1u : 0u) << from->name();
        }
      }
    }
  };
  StartKubeProxies(
      {lab::At(nodes_[0]->addresses().v6, 8080), lab::At(nodes_[1]->addresses().v6, 8080),
       lab::At(nodes_[0]->addresses().v4, 8080), lab::At(nodes_[1]->addresses().v4, 8080),
       "192.168.50.5:6443", nobody.v4, nobody.v6});
  expect_all();
  ReplaceByWaggle();
  expect_all();
}

// F11: a Service by its name. F9: the DNS servers are replaced under clients that ask on. Here
// kube-proxy is as good, by now.
TEST_P(FailuresTest, F9AndF11Dns) {
  Connect(Cni::kRouted);
  const Pod& client = nodes_[0]->AddPod("client");
  const Pod &other = nodes_[1]->AddPod("other"), &web_pod = nodes_[1]->AddPod("web1");
  struct Server {
    Node* node;
    Pod* pod;
    std::unique_ptr<CoreDns> dns;
  };
  std::vector<Server> servers;
  for (size_t i = 0; i < 4; ++i) {
    Node* const node = nodes_[i % 2];
    servers.push_back({node, &node->AddPod(absl::StrCat("dns", i)), nullptr});
  }
  Begin();
  Serve(*nodes_[1], web_pod, "web");
  const Addresses web = CreateService("web", {&web_pod});
  // A rollout: of servers[first] and the next one, before the others are stopped.
  const auto start = [&](size_t first) {
    for (size_t i : {first, first + 1})
      servers[i].dns = std::make_unique<CoreDns>(control_, lab_, *servers[i].pod);
    for (size_t i : {first, first + 1}) {
      servers[i].dns->AwaitAnswer("web", web);
      AddPod(api(), *servers[i].node, *servers[i].pod, "dns");
    }
  };
  const auto addresses_of = [&](size_t first) {
    std::vector<std::string> all;
    for (size_t i : {first, first + 1}) {
      const Addresses& at = servers[i].pod->addresses();
      all.insert(all.end(), {lab::At(at.v4, kDnsPort), lab::At(at.v6, kDnsPort)});
    }
    return all;
  };
  start(0);
  const Addresses dns = ClusterIpsOf(api().Create(
      ServiceObject("dns", "default",
                    {{"dns", "UDP", kDnsPort, kDnsPort}, {"dns-tcp", "TCP", kDnsPort, kDnsPort}})));
  AwaitEndpointsOf("dns", {servers[0].pod, servers[1].pod}, api());

  const lab::Argv by_name = {"--dns", DnsName("web")};
  const auto expect_names_work = [&] {
    for (const Place* from : {static_cast<const Place*>(&client), static_cast<const Place*>(&other),
                              static_cast<const Place*>(nodes_[0])}) {
      const auto judge = [&](const Traffic& traffic, const Tally& tally) {
        EXPECT_EQ(tally.names, (Names{{web.Of(traffic.family), 10}})) << tally;
      };
      Ask(*from, dns, kDnsPort, 10, judge, by_name);
      ExpectServed(*from, web, 80, {"web1"});
    }
  };
  // `in_force` waits until the client's node knows the new endpoints; then the old ones die.
  const auto replace = [&](size_t old, size_t fresh, const std::vector<std::string>& modes,
                           bool may_lose, const std::function<void()>& in_force) {
    std::vector<lab::Load> loads;
    for (const std::string& mode : modes) {
      lab::Argv argv = {"rate",
                        "--mode",
                        mode,
                        "--to",
                        lab::At(dns.v4, kDnsPort),
                        "--to",
                        lab::At(dns.v6, kDnsPort),
                        "--per-second",
                        "100",
                        "--timeout-ms",
                        kPatient};
      argv.insert(argv.end(), by_name.begin(), by_name.end());
      loads.emplace_back(client, argv);
    }
    start(fresh);
    for (size_t i : {old, old + 1})
      api().Remove("Pod", "default", servers[i].pod->name());
    AwaitEndpointsOf("dns", {servers[fresh].pod, servers[fresh + 1].pod}, api());
    in_force();
    for (lab::Load& load : loads)
      load.Mark();
    lab::LossWatch losses({&client});
    for (size_t i : {old, old + 1})
      servers[i].dns.reset();
    for (size_t i = 0; i < modes.size(); ++i) {
      SCOPED_TRACE(modes[i]);
      uint64_t asked = 0;
      EXPECT_TRUE(lab::WaitFor([&] {
        const Tally after = loads[i].Mark();
        if (!may_lose) {
          EXPECT_EQ(after.ok, after.attempts) << after;
        } else if (after.ok != after.attempts) {
          return false;
        }
        return (asked += after.attempts) >= 50;
      }));
    }
    if (!may_lose) {
      EXPECT_EQ(losses.Losses(), "");
    }
  };

  StartKubeProxies(addresses_of(0));
  expect_names_work();
  // It makes connection tracking forget the old servers some time after its rules have changed:
  // what is asked in between from a port that was used before is lost.
  replace(0, 2, {"tcp", "udp", "udp-new", "udp-connected", "udp-held"}, true,
          [&] { proxies_[0]->AwaitRules(addresses_of(2), addresses_of(0)); });
  ReplaceByWaggle();
  expect_names_work();
  // Without udp-held: a socket that was connected to a server that is gone stays with it, as
  // docs/differences.md says.
  replace(2, 0, {"tcp", "udp", "udp-new", "udp-connected"}, false,
          [&] { AwaitFollowedOn(*nodes_[0], lab_, api()); });
}

// A tenant's Service whose name is too long for a comment of nftables, and then another one.
TEST_P(FailuresTest, F13ALongName) {
  Connect(Cni::kRouted);
  const Pod &client = nodes_[0]->AddPod("client"), &b2 = nodes_[1]->AddPod("b2");
  Begin();
  Serve(*nodes_[1], b2, "web");
  const std::string ns(63, 'n'), name(63, 's'), port(15, 'p');
  api().Create(NamespaceObject(ns));
  const Json longest = api().Create(ServiceObject(name, ns, {{port, "TCP", 80, 8080}}));
  // nftables: nothing can be waited for but what kube-proxy says.
  StartKubeProxies({});
  if (!iptables()) {
    EXPECT_TRUE(lab::WaitFor([&] { return absl::StrContains(proxies_[0]->Log(), "omment"); }))
        << proxies_[0]->Log();
  }
  const Addresses web = CreateService("web", {&b2});
  if (iptables()) {
    proxies_[0]->AwaitRules({lab::At(b2.addresses().v4, 8080), lab::At(b2.addresses().v6, 8080)});
    ExpectServed(client, web, 80, {"b2"});
  } else {
    ExpectFailure(client, web, 80, 2, Silence);
    EXPECT_THAT(proxies_[0]->Rules(), Not(HasSubstr(lab::At(b2.addresses().v4, 8080))));
  }

  ReplaceByWaggle();
  ExpectServed(client, web, 80, {"b2"});
  const lab::RunResult list =
      lab::Waggle(*nodes_[0], {"service", "list", "--pin-path", nodes_[0]->pin_path()});
  for (const std::string& part : {ns, name, port})
    EXPECT_THAT(list.out, HasSubstr(part)) << list.ToString();
}

}  // namespace
}  // namespace waggle::cluster
