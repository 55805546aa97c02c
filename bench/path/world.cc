#include "bench/path/world.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "bench/path/proxy_rules.h"
#include "tests/lab/manifest.h"

namespace waggle::bench {
namespace {

using lab::Fail;
using net::Family;

constexpr uint16_t kServerPort = 8080;
constexpr uint16_t kServicePort = 80;
// Ports of one parity in 10000-60999, which connect() takes first.
constexpr uint64_t kMaxConnections = 25'000;
// Source addresses of each client; more would fill the neighbour table, which all
// namespaces of a machine share.
constexpr int kSources = 16;
const lab::Addresses kVethServer = {"10.200.0.2", "fd00:200::2"};

std::string Self() {
  return std::filesystem::read_symlink("/proc/self/exe");
}

lab::Process StartPeer(const lab::Place& place, const lab::Argv& arguments) {
  lab::Argv argv = {Self()};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  lab::Process process(place.surroundings(), argv, lab::Process::Output::kToPipe);
  if (process.ReadLine() != "ready") Fail("a peer does not start: " + process.Err());
  return process;
}

// Source address `number` of the client pod of node `node`, and the prefix of all of them.
lab::Addresses Source(int node, int number) {
  return {absl::StrCat("10.244.", node, ".", 128 + number),
          absl::StrCat("fd00:244:", node, "::1:", absl::Hex(number))};
}
lab::Addresses Sources(int node) {
  return {absl::StrCat("10.244.", node, ".128/25"), absl::StrCat("fd00:244:", node, "::1:0/112")};
}

// Service `number` of those that nobody asks.
lab::Service Filler(int number, int endpoints) {
  lab::Service service;
  service.name = absl::StrCat("filler-", number);
  service.cluster_ips = {absl::StrCat("10.97.", number / 256, ".", number % 256),
                         absl::StrCat("fd00:97::", absl::Hex(number + 1))};
  service.ports = {{"tcp", "TCP", kServicePort, kServerPort}};
  for (int k = 0; k < endpoints; ++k) {
    const int n = number * endpoints + k + 1;
    service.endpoints.push_back(
        {{absl::StrCat("10.", 128 + n / 65536, ".", n / 256 % 256, ".", n % 256),
          absl::StrCat("fd00:128::", absl::Hex(n / 65536), ":", absl::Hex(n % 65536))},
         "elsewhere",
         true});
  }
  return service;
}

void AppendRuled(const lab::Service& service, Family family, std::vector<RuledPort>& ports) {
  for (const lab::ServicePort& port : service.ports) {
    RuledPort ruled{absl::StrCat(service.ns, "/", service.name, ":", port.name),
                    service.cluster_ips.Of(family),
                    port.protocol == "TCP" ? "tcp" : "udp",
                    port.port,
                    {}};
    for (const lab::Endpoint& endpoint : service.endpoints) {
      ruled.endpoints.push_back(lab::At(endpoint.addresses.Of(family), port.target));
    }
    ports.push_back(std::move(ruled));
  }
}

}  // namespace

const std::vector<Variant>& AllVariants() {
  static const std::vector<Variant> all = {
      {kReference, "pod address, routed by the node", Way::kDirect, "", "", true},
      {"direct-again", "the same in another node: the difference is chance", Way::kDirect, "", "",
       true},
      {"veth", "a veth pair between the two pods, the node left out", Way::kVeth, "", "", false},
      {"iptables", "kube-proxy's rules in iptables", Way::kIptables, "", "", true},
      {"nftables", "kube-proxy's rules in nftables", Way::kNftables, "", "", true},
      {"waggle-stack-off", "Waggle, --forwarding=stack --socket-lb=off", Way::kWaggle, "stack",
       "off", false},
      {"waggle-stack-all", "Waggle, --forwarding=stack --socket-lb=all", Way::kWaggle, "stack",
       "all", false},
      {"waggle-redirect-off", "Waggle, --forwarding=redirect --socket-lb=off", Way::kWaggle,
       "redirect", "off", true},
      {"waggle-redirect-all", "Waggle, --forwarding=redirect --socket-lb=all", Way::kWaggle,
       "redirect", "all", true},
  };
  return all;
}

struct World::Site {
  Site(const Variant& what, lab::Node& where) : variant(what), node(where) {}

  const Variant& variant;
  lab::Node& node;
  lab::Pod* client_pod = nullptr;
  lab::Pod* server_pod = nullptr;
  std::vector<lab::Addresses> endpoints;  // of the server pod
  lab::Service web;
  std::map<std::string, lab::Process> servers;  // by "tcp4" and so on
  std::optional<lab::Process> client;
  std::unique_ptr<lab::Agent> agent;
  int source = 0;  // of the client's new connections

  std::vector<std::string> Targets(Family family) const {
    switch (variant.way) {
      case Way::kVeth:
        return {lab::At(kVethServer.Of(family), kServerPort)};
      case Way::kDirect: {
        std::vector<std::string> all;
        for (const lab::Addresses& one : endpoints)
          all.push_back(lab::At(one.Of(family), kServerPort));
        return all;
      }
      case Way::kIptables:
      case Way::kNftables:
      case Way::kWaggle:
        break;
    }
    return {lab::At(web.cluster_ips.Of(family), kServicePort)};
  }
};

World::World(const WorldOptions& options) : options_(options) {
  for (const Variant& variant : options_.variants) {
    sites_[variant.name] = std::make_unique<Site>(variant, lab_.AddNode(lab::Cni::kRouted));
  }
  lab_.Connect();
  for (auto& [name, site] : sites_)
    Furnish(*site);
  lab_.Settle();
  for (auto& [name, site] : sites_) {
    StartPeers(*site);
    if (site->variant.way == Way::kWaggle) StartAgent(*site);
    InstallRules(*site);
  }
}

World::~World() = default;

void World::Furnish(Site& site) {
  const int number = site.node.number();
  lab::Pod& client = site.node.AddPod(absl::StrCat("client", number));
  lab::Pod& server = site.node.AddPod(absl::StrCat("server", number));
  site.client_pod = &client;
  site.server_pod = &server;
  // Enough for the connections of one measurement, and below the ports that Waggle takes.
  client.Sysctl("net.ipv4.ip_local_port_range", "10000 60999");

  site.endpoints = {server.addresses()};
  for (int k = 1; k < options_.endpoints; ++k) {
    const lab::Addresses more = {absl::StrCat("10.244.", number, ".", 100 + k),
                                 absl::StrCat("fd00:244:", number, "::", absl::Hex(100 + k))};
    server.Ip(absl::StrCat("address add ", more.v4, "/32 dev eth0\naddress add ", more.v6,
                           "/128 dev eth0 nodad\n"));
    const std::string& device = server.host_device();
    site.node.Ip(absl::StrCat("route add ", more.v4, " dev ", device, " scope link src ",
                              site.node.addresses().v4, "\nroute add ", more.v6, " dev ", device,
                              " src ", site.node.addresses().v6, "\n"));
    site.endpoints.push_back(more);
  }
  site.web.name = "web";
  site.web.cluster_ips = lab::ClusterIps(10);
  for (const lab::Addresses& one : site.endpoints)
    site.web.endpoints.push_back({one, site.node.name(), true});

  const bool veth = site.variant.way == Way::kVeth;
  if (veth) {
    client.Ip(absl::StrCat("link add direct0 type veth peer name direct0 netns ", server.name(),
                           "\nlink set direct0 up\n"));
    server.Ip(absl::StrCat("address add ", kVethServer.v4, "/32 dev direct0\naddress add ",
                           kVethServer.v6, "/128 dev direct0 nodad\nlink set direct0 up\n"));
  }
  for (int i = 0; i < kSources; ++i) {
    const lab::Addresses source = Source(number, i);
    const char* device = veth ? "direct0" : "eth0";
    client.Ip(absl::StrCat("address add ", source.v4, "/32 dev ", device, "\naddress add ",
                           source.v6, "/128 dev ", device, " nodad\n"));
  }
  const std::string device = veth ? "direct0" : client.host_device();
  const lab::Place& back = veth ? static_cast<const lab::Place&>(server) : site.node;
  back.Ip(absl::StrCat("route add ", Sources(number).v4, " dev ", device, "\nroute add ",
                       Sources(number).v6, " dev ", device, "\n"));
  for (const Family family : {Family::kIpv4, Family::kIpv6})
    TakeSource(site, family);
}

// Connections of a measurement have addresses and ports that no recent one had: one client
// that connects as fast as this would else soon meet its own closed connections, in
// conntrack and in Waggle, which clients as they are do not.
void World::TakeSource(Site& site, Family family) {
  const std::string source = Source(site.node.number(), site.source++ % kSources).Of(family);
  std::string route =
      family == Family::kIpv4 ? "default via 169.254.1.1 dev eth0" : "default via fe80::1 dev eth0";
  if (site.variant.way == Way::kVeth) route = kVethServer.Of(family) + " dev direct0";
  site.client_pod->Ip(absl::StrCat("route replace ", route, " src ", source, "\n"));
}

void World::StartPeers(Site& site) {
  const std::string port = absl::StrCat(kServerPort);
  for (const char* kind : {"tcp4", "tcp6", "udp4", "udp6"}) {
    site.servers.emplace(kind, StartPeer(*site.server_pod, {"server", kind, port}));
  }
  site.client.emplace(StartPeer(*site.client_pod, {"client"}));
}

void World::InstallRules(const Site& site) const {
  const Way way = site.variant.way;
  if (way != Way::kIptables && way != Way::kNftables) return;
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    std::vector<RuledPort> ports;
    for (int i = 0; i + 1 < options_.services; ++i)
      AppendRuled(Filler(i, options_.endpoints), family, ports);
    AppendRuled(site.web, family, ports);
    const std::string cidr = site.node.pod_cidrs().Of(family);
    lab::Surroundings where = site.node.surroundings();
    lab::Argv argv = {"nft", "-f", "-"};
    if (way == Way::kNftables) {
      where.input = NftablesRules(family, ports, cidr);
    } else {
      where.input = IptablesRules(family, ports, cidr);
      argv = {absl::StrCat(family == Family::kIpv4 ? "iptables" : "ip6tables",
                           options_.legacy_iptables ? "-legacy" : "-nft", "-restore")};
    }
    // 10,000 Services take half a minute.
    const lab::RunResult result = lab::RunProgram(where, argv, std::chrono::minutes(5));
    if (!result.ok()) Fail(absl::StrCat(argv[0], ": ", result.ToString().substr(0, 2000)));
  }
}

void World::StartAgent(Site& site) {
  const std::string folder = absl::StrCat(lab_.scratch(), "/", site.node.name());
  std::filesystem::create_directory(folder);
  constexpr int kPerFile = 500;
  for (int first = 0; first + 1 < options_.services; first += kPerFile) {
    std::ofstream out(absl::StrCat(folder, "/filler-", first, ".yaml"));
    for (int i = first; i < first + kPerFile && i + 1 < options_.services; ++i)
      out << Render(Filler(i, options_.endpoints)) << "---\n";
  }
  { std::ofstream(folder + "/web.yaml") << Render(site.web); }
  lab::AgentOptions agent;
  agent.manifests = folder;
  agent.flags = {absl::StrCat("--forwarding=", site.variant.forwarding),
                 absl::StrCat("--socket-lb=", site.variant.socket_lb)};
  agent.flags.insert(agent.flags.end(), options_.agent_flags.begin(), options_.agent_flags.end());
  site.agent = std::make_unique<lab::Agent>(lab_, site.node, std::move(agent));
  site.agent->AwaitReady();
}

Outcome World::Measure(const Variant& variant, const Kind& kind, const Slice& slice) {
  Site& site = At(variant);
  const bool v6 = kind.family == Family::kIpv6;
  const lab::Process& server =
      site.servers.at(absl::StrCat(IsTcp(kind.op) ? "tcp" : "udp", v6 ? "6" : "4"));
  const Job job{kind,
                site.Targets(kind.family),
                server.pid(),
                slice.duration_ns,
                slice.warmup_ns,
                MakesNew(kind.op) ? kMaxConnections : UINT64_MAX};
  if (MakesNew(kind.op)) TakeSource(site, kind.family);
  site.client->WriteLine(nlohmann::json(job).dump());
  const std::optional<std::string> line = site.client->ReadLine(
      std::chrono::milliseconds((slice.duration_ns + slice.warmup_ns) / 1'000'000) +
      std::chrono::seconds(15));
  if (!line) Fail(absl::StrCat(variant.name, ": the client says nothing: ", site.client->Err()));
  if (kind.op == Op::kTcpConnect) {
    // Else a later measurement would meet the ports of this one in TIME_WAIT.
    const lab::RunResult result =
        site.client_pod->Run({"ss", "-K", "-H", "-t", "-n", "state", "time-wait"});
    if (!result.ok()) Fail("ss -K: " + result.err);
  }
  return nlohmann::json::parse(*line).get<Outcome>();
}

uint64_t World::Forwarded(const Variant& variant, Family family) {
  const bool v4 = family == Family::kIpv4;
  const lab::RunResult result =
      At(variant).node.Run({"cat", v4 ? "/proc/net/snmp" : "/proc/net/snmp6"});
  if (!result.ok()) Fail(result.ToString());
  std::istringstream in(result.out);
  std::string line;
  if (v4) {
    // Two lines, names and values.
    std::string names, values, name;
    while (std::getline(in, line)) {
      if (line.rfind("Ip:", 0) != 0) continue;
      (names.empty() ? names : values) = line;
    }
    std::istringstream name_words(names), value_words(values);
    std::string value;
    while (name_words >> name && value_words >> value) {
      if (name == "ForwDatagrams") return std::stoull(value);
    }
  } else {
    std::string name;
    uint64_t value = 0;
    while (in >> name >> value) {
      if (name == "Ip6OutForwDatagrams") return value;
    }
  }
  Fail("no count of forwarded packets in:\n" + result.out);
}

const lab::Node& World::node(const Variant& variant) const {
  return sites_.at(variant.name)->node;
}

const std::string& World::client_device(const Variant& variant) const {
  return sites_.at(variant.name)->client_pod->host_device();
}

}  // namespace waggle::bench
