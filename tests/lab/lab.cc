#include "tests/lab/lab.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/await.h"
#include "tests/lab/sandbox.h"

namespace waggle::lab {
namespace {

void Must(const RunResult& result, const std::string& what) {
  if (!result.ok()) Fail(absl::StrCat(what, "\n", result.ToString()));
}

// Does something in another network namespace and comes back.
void InNetns(const std::string& name, const std::function<void()>& body) {
  Fd home(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  Fd there(open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC));
  if (setns(there.get(), CLONE_NEWNET) != 0) Fail("setns " + name);
  body();
  if (setns(home.get(), CLONE_NEWNET) != 0) Fail("setns home");
}

std::string WithoutLength(const std::string& address) {
  return address.substr(0, address.find('/'));
}

bool IsVeth(const char* device) {
  Fd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  ifreq request{};
  std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  request.ifr_data = reinterpret_cast<char*>(&info);
  return ioctl(any.get(), SIOCETHTOOL, &request) == 0 && std::strcmp(info.driver, "veth") == 0;
}

// Every veth that is up can carry packets. (A bridge without ports never can.)
bool LinksRunning(const std::string& netns) {
  bool running = true;
  InNetns(netns, [&] {
    ifaddrs* all = nullptr;
    if (getifaddrs(&all) != 0) Fail("getifaddrs");
    for (ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
      bool waiting = (one->ifa_flags & IFF_UP) != 0 && (one->ifa_flags & IFF_RUNNING) == 0;
      if (waiting && IsVeth(one->ifa_name)) running = false;
    }
    freeifaddrs(all);
  });
  return running;
}

void MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0755) != 0) Fail("mkdir " + path + ": " + std::strerror(errno));
}

}  // namespace

void Fail(const std::string& message) {
  std::fprintf(stderr, "lab: %s\n", message.c_str());
  std::fflush(nullptr);
  _exit(1);
}

bool WaitFor(const std::function<bool()>& done, std::chrono::milliseconds patience) {
  return Await(done, patience);
}

std::string At(std::string_view address, uint16_t port) {
  std::string text(address);
  return text.find(':') == std::string::npos ? absl::StrCat(text, ":", port)
                                             : absl::StrCat("[", text, "]:", port);
}

Place::Place(std::string name, std::string cgroup)
    : name_(std::move(name)), cgroup_(std::move(cgroup)) {
  Must(RunProgram({}, {"ip", "netns", "add", name_}), "ip netns add " + name_);
  if (!cgroup_.empty()) MakeDirectory(cgroup_);
  Sysctl("net.ipv6.conf.all.accept_dad", "0");
  Sysctl("net.ipv6.conf.default.accept_dad", "0");
  Sysctl("net.ipv4.conf.all.rp_filter", "0");
  Sysctl("net.ipv4.conf.default.rp_filter", "1");
  // Client, server, and both without a cookie from an earlier connection.
  Sysctl("net.ipv4.tcp_fastopen", "519");
  Ip("link set lo up\n");
}

Place::Place(const Place& other, std::string cgroup)
    : name_(other.name_), cgroup_(std::move(cgroup)), addresses_(other.addresses_) {}

void Place::Ip(const std::string& lines) const {
  Must(RunProgram({.input = lines}, {"ip", "-n", name_, "-batch", "-"}),
       absl::StrCat("in ", name_, ":\n", lines));
}

void Place::Nft(const std::string& rules) const {
  Surroundings here = surroundings();
  here.input = rules;
  Must(RunProgram(here, {"nft", "-f", "-"}), absl::StrCat("nft in ", name_, ":\n", rules));
}

void Place::Sysctl(std::string_view key, std::string_view value) const {
  std::string path =
      absl::StrCat("/proc/sys/", absl::StrReplaceAll(std::string(key), {{".", "/"}}));
  InNetns(name_, [&] {
    Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd.valid() || write(fd.get(), value.data(), value.size()) < 0) {
      Fail(absl::StrCat("sysctl ", path, ": ", std::strerror(errno)));
    }
  });
}

void Place::SetRpFilter(int mode) const {
  InNetns(name_, [&] {
    for (const auto& device : std::filesystem::directory_iterator("/proc/sys/net/ipv4/conf")) {
      std::ofstream file(device.path() / "rp_filter");
      file << mode << std::flush;
      if (!file) Fail(absl::StrCat("rp_filter in ", name_));
    }
  });
}

void Place::SetOffloads(const std::string& device, bool on) const {
  InNetns(name_, [&] {
    Fd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    // Checksums last when switched off: without them the kernel segments in software.
    for (uint32_t command :
         {ETHTOOL_SGRO, ETHTOOL_SGSO, ETHTOOL_STSO, ETHTOOL_SRXCSUM, ETHTOOL_STXCSUM}) {
      ethtool_value value{command, on ? 1U : 0U};
      ifreq request{};
      std::strncpy(request.ifr_name, device.c_str(), IFNAMSIZ - 1);
      request.ifr_data = reinterpret_cast<char*>(&value);
      if (ioctl(any.get(), SIOCETHTOOL, &request) != 0 && errno != EOPNOTSUPP) {
        Fail(absl::StrCat("offloads of ", device, " in ", name_, ": ", std::strerror(errno)));
      }
    }
  });
}

Outsider::Outsider(const Pod& pod) : Place(pod, "") {}

Machine::Machine(const std::string& name, const Pod& pod) : Place(name, "") {
  pod.Ip(absl::StrCat("link add vm0 type veth peer name eth0 netns ", name, "\n",
                      "address add 172.30.0.1/24 dev vm0\n",
                      "address add fd00:30::1/64 dev vm0 nodad\n", "link set vm0 up\n"));
  pod.Sysctl("net.ipv4.ip_forward", "1");
  pod.Sysctl("net.ipv6.conf.all.forwarding", "1");
  pod.Nft(
      "table inet vm {\n  chain out {\n    type nat hook postrouting priority 100;\n"
      "    ip saddr 172.30.0.0/24 masquerade\n    ip6 saddr fd00:30::/64 masquerade\n  }\n}\n");
  Ip("address add 172.30.0.2/24 dev eth0\naddress add fd00:30::2/64 dev eth0 nodad\n"
     "link set eth0 up\nroute add default via 172.30.0.1\nroute add default via fd00:30::1\n");
  set_addresses({"172.30.0.2", "fd00:30::2"});
}

Pod::Pod(const std::string& name, const std::string& cgroup, Addresses addresses,
         std::string host_device)
    : Place(name, cgroup), host_device_(std::move(host_device)) {
  set_addresses(std::move(addresses));
}

Node::Node(Lab& lab, int number, Cni cni, const std::string& cgroup, std::string pin_path)
    : Place(absl::StrCat("node", number), cgroup),
      lab_(lab),
      number_(number),
      cni_(cni),
      pin_path_(std::move(pin_path)) {
  Sysctl("net.ipv4.ip_forward", "1");
  Sysctl("net.ipv6.conf.all.forwarding", "1");
  if (cni_ == Cni::kBridged) {
    // A MAC of its own, as CNIs give it: else it changes as pods come, and the others'
    // neighbour entries are wrong.
    Ip(absl::StrCat("link add cni0 address 02:57:00:00:00:0", number,
                    " type bridge mcast_snooping 0\n", "address add 10.244.", number,
                    ".1/24 dev cni0\n", "address add fd00:244:", number, "::1/64 dev cni0 nodad\n",
                    "link set cni0 up\n"));
  }
}

Addresses Node::pod_cidrs() const {
  return {absl::StrCat("10.244.", number_, ".0/24"), absl::StrCat("fd00:244:", number_, "::/64")};
}

void Node::AddNic(const std::string& device, const std::string& network,
                  const Addresses& with_length) {
  std::string port = absl::StrCat(name(), "-", device);
  lab_.fabric().Ip(absl::StrCat("link add ", port, " type veth peer name ", device, " netns ",
                                name(), "\n", "link set ", port, " master ", network, " up\n"));
  Ip(absl::StrCat("address add ", with_length.v4, " dev ", device, "\n", "address add ",
                  with_length.v6, " dev ", device, " nodad\n", "link set ", device, " up\n"));
  set_addresses({WithoutLength(with_length.v4), WithoutLength(with_length.v6)});
}

void Node::AddDefaultRoute(const Addresses& gateways) const {
  Ip(absl::StrCat("route add default via ", gateways.v4, "\n", "route add default via ",
                  gateways.v6, "\n"));
}

Pod& Node::AddPod(const std::string& pod_name) {
  size_t host = pods_.size() + 2;  // .1 is the bridge's
  Addresses at{absl::StrCat("10.244.", number_, ".", host),
               absl::StrCat("fd00:244:", number_, "::", absl::Hex(host))};
  std::string host_device = (cni_ == Cni::kRouted ? "cali" : "veth") + pod_name;
  auto pod =
      std::make_unique<Pod>(pod_name, absl::StrCat(cgroup(), "/", pod_name), at, host_device);
  if (cni_ == Cni::kRouted) {
    AttachRouted(*pod);
  } else {
    AttachBridged(*pod);
  }
  pods_.push_back(std::move(pod));
  return *pods_.back();
}

void Node::MasqueradePods() const {
  const Addresses own = pod_cidrs();
  Nft(absl::StrCat(
      "table inet cni {\n  chain leaving {\n    type nat hook postrouting priority 100;\n",
      "    ip saddr ", own.v4, " ip daddr != 10.244.0.0/16 masquerade fully-random\n",
      "    ip6 saddr ", own.v6, " ip6 daddr != fd00:244::/32 masquerade fully-random\n  }\n}\n"));
}

void Node::AttachRouted(const Pod& pod) {
  const Addresses& at = pod.addresses();
  const std::string& host_device = pod.host_device();
  // Scope host: never chosen as the source of the node's own connections.
  Ip(absl::StrCat(
      "link add ", host_device, " mtu ", pod_mtu_, " type veth peer name eth0 mtu ", pod_mtu_,
      " netns ", pod.name(), "\n", "address add 169.254.1.1/32 scope host dev ", host_device, "\n",
      "address add fe80::1/64 dev ", host_device, " nodad\n", "link set ", host_device, " up\n"));
  pod.Ip(absl::StrCat(
      "address add ", at.v4, "/32 dev eth0\n", "address add ", at.v6, "/128 dev eth0 nodad\n",
      "link set eth0 up\n", "route add 169.254.1.1 dev eth0 scope link\n",
      "route add default via 169.254.1.1 dev eth0\n", "route add default via fe80::1 dev eth0\n"));
  std::string v4_source = addresses().v4.empty() ? "" : " src " + addresses().v4;
  std::string v6_source = addresses().v6.empty() ? "" : " src " + addresses().v6;
  Ip(absl::StrCat("route add ", at.v4, " dev ", host_device, " scope link", v4_source, "\n",
                  "route add ", at.v6, " dev ", host_device, v6_source, "\n"));
}

void Node::AttachBridged(const Pod& pod) {
  const Addresses& at = pod.addresses();
  const std::string& host_device = pod.host_device();
  Ip(absl::StrCat("link add ", host_device, " mtu ", pod_mtu_, " type veth peer name eth0 mtu ",
                  pod_mtu_, " netns ", pod.name(), "\n", "link set ", host_device,
                  " master cni0 up\n", "link set ", host_device,
                  " type bridge_slave hairpin off\n"));
  pod.Ip(absl::StrCat("address add ", at.v4, "/24 dev eth0\n", "address add ", at.v6,
                      "/64 dev eth0 nodad\n", "link set eth0 up\n", "route add default via 10.244.",
                      number_, ".1\n", "route add default via fd00:244:", number_, "::1\n"));
}

Lab::Lab() {
  static int labs = 0;
  name_ = absl::StrCat("lab", ++labs);
  const Sandbox& sandbox = TheSandbox();
  cgroup_ = absl::StrCat(sandbox.cgroup, "/", name_);
  pins_ = absl::StrCat(sandbox.bpffs, "/", name_);
  manifests_ = absl::StrCat(sandbox.files, "/", name_, "/manifests");
  scratch_ = absl::StrCat(sandbox.files, "/", name_, "/scratch");
  MakeDirectory(cgroup_);
  MakeDirectory(pins_);
  MakeDirectory(absl::StrCat(sandbox.files, "/", name_));
  MakeDirectory(manifests_);
  MakeDirectory(scratch_);
  fabric_ = std::make_unique<Place>("fabric", "");
}

Lab::~Lab() {
  { std::ofstream(cgroup_ + "/cgroup.kill") << "1"; }
  std::string names = "netns del fabric\n";
  for (const auto& entry : std::filesystem::directory_iterator("/run/netns")) {
    std::string name = entry.path().filename();
    if (name != "fabric") absl::StrAppend(&names, "netns del ", name, "\n");
  }
  RunProgram({.input = names}, {"ip", "-force", "-batch", "-"});
  std::error_code ignored;
  std::filesystem::remove_all(pins_, ignored);
  std::filesystem::remove_all(std::filesystem::path(manifests_).parent_path(), ignored);
  WaitFor([&] { return RemoveCgroups(cgroup_); });
}

Node& Lab::AddNode(Cni cni) {
  int number = static_cast<int>(nodes_.size()) + 1;
  std::string name = absl::StrCat("node", number);
  // A folder of its own for each node, as /sys/fs/bpf is.
  const std::string bpffs = absl::StrCat(pins_, "/", name);
  MakeDirectory(bpffs);
  nodes_.push_back(std::make_unique<Node>(*this, number, cni, absl::StrCat(cgroup_, "/", name),
                                          bpffs + "/waggle"));
  return *nodes_.back();
}

void Lab::AddNetwork(const std::string& network, const Addresses& gateways) {
  fabric_->Ip(absl::StrCat("link add ", network, " type bridge mcast_snooping 0\n", "address add ",
                           gateways.v4, " dev ", network, "\n", "address add ", gateways.v6,
                           " dev ", network, " nodad\n", "link set ", network, " up\n"));
}

void Lab::Connect(PodNetwork network) {
  AddNetwork("cluster", {"192.168.50.1/24", "fd00:50::1/64"});
  for (const auto& node : nodes_) {
    int host = 10 + node->number();
    node->AddNic(
        "eth0", "cluster",
        {absl::StrCat("192.168.50.", host, "/24"), absl::StrCat("fd00:50::", host, "/64")});
    node->AddDefaultRoute({"192.168.50.1", "fd00:50::1"});
  }
  switch (network) {
    case PodNetwork::kRoutes:
      RoutePods();
      break;
    case PodNetwork::kVxlan:
      TunnelByVxlan();
      break;
    case PodNetwork::kTun:
      TunnelByTun();
      break;
  }
}

// As flannel: a device for each family, and every neighbour and forwarding entry by hand.
void Lab::TunnelByVxlan() {
  auto mac = [](const Node& node, int family) {
    return absl::StrCat("02:57:00:00:0", family, ":0", node.number());
  };
  auto net_of = [](const std::string& cidr) { return cidr.substr(0, cidr.find('/')); };
  for (const auto& node : nodes_) {
    const Addresses& at = node->addresses();
    const Addresses own = node->pod_cidrs();
    std::string lines = absl::StrCat(
        "link add flannel.1 address ", mac(*node, 4), " type vxlan id 1 local ", at.v4,
        " dev eth0 dstport 8472 nolearning\n", "link add flannel-v6.1 address ", mac(*node, 6),
        " type vxlan id 1 local ", at.v6, " dev eth0 dstport 8472 nolearning\n", "address add ",
        net_of(own.v4), "/32 dev flannel.1\n", "address add ", net_of(own.v6),
        "/128 dev flannel-v6.1 nodad\n", "link set flannel.1 up\n", "link set flannel-v6.1 up\n");
    std::string entries;
    for (const auto& other : nodes_) {
      if (other == node) continue;
      const Addresses theirs = other->pod_cidrs(), there = other->addresses();
      absl::StrAppend(&lines, "route add ", theirs.v4, " via ", net_of(theirs.v4),
                      " dev flannel.1 onlink\n", "route add ", theirs.v6, " via ",
                      net_of(theirs.v6), " dev flannel-v6.1 onlink\n", "neighbor replace ",
                      net_of(theirs.v4), " lladdr ", mac(*other, 4),
                      " dev flannel.1 nud permanent\n", "neighbor replace ", net_of(theirs.v6),
                      " lladdr ", mac(*other, 6), " dev flannel-v6.1 nud permanent\n");
      absl::StrAppend(&entries, "fdb replace ", mac(*other, 4), " dev flannel.1 dst ", there.v4,
                      " self permanent\n", "fdb replace ", mac(*other, 6), " dev flannel-v6.1 dst ",
                      there.v6, " self permanent\n");
    }
    node->Ip(lines);
    if (!entries.empty()) {
      Must(RunProgram({.input = entries}, {"bridge", "-n", node->name(), "-batch", "-"}), entries);
    }
    node->MasqueradePods();
    node->set_pod_mtu(1430);  // 1500 less IPv6, UDP, VXLAN and Ethernet
  }
}

// As Calico: IPv4 by the other node's address, IPv6 by the device alone.
void Lab::TunnelByTun() {
  constexpr int kMtu = 1440;
  constexpr uint16_t kPort = 4790;
  for (const auto& node : nodes_) {
    std::string lines =
        absl::StrCat("tuntap add dev tunl0 mode tun\n", "link set tunl0 mtu ", kMtu, " up\n",
                     "address add 10.244.", node->number(), ".254/32 dev tunl0\n",
                     "address add fd00:244:", node->number(), "::fe/128 dev tunl0 nodad\n");
    Argv carrier = {WAGGLE_LAB_PEER, "tunnel",  "--device",
                    "tunl0",         "--local", At(node->addresses().v4, kPort)};
    for (const auto& other : nodes_) {
      if (other == node) continue;
      const Addresses theirs = other->pod_cidrs();
      absl::StrAppend(&lines, "route add ", theirs.v4, " via ", other->addresses().v4,
                      " dev tunl0 onlink\n", "route add ", theirs.v6, " dev tunl0\n");
      std::string there = At(other->addresses().v4, kPort);
      carrier.insert(carrier.end(), {"--to", absl::StrCat(theirs.v4, "=", there), "--to",
                                     absl::StrCat(theirs.v6, "=", there)});
    }
    node->Ip(lines);
    carriers_.emplace_back(node->surroundings(), carrier, Process::Output::kToPipe);
    if (carriers_.back().ReadLine() != "ready") {
      Fail(absl::StrCat("tunnel of ", node->name(), ": ", carriers_.back().Err()));
    }
    node->MasqueradePods();
    node->set_pod_mtu(kMtu);
  }
}

void Lab::RoutePods() {
  for (const auto& node : nodes_) {
    std::string lines;
    for (const auto& other : nodes_) {
      if (other == node) continue;
      absl::StrAppend(&lines, "route add ", other->pod_cidrs().v4, " via ", other->addresses().v4,
                      "\n", "route add ", other->pod_cidrs().v6, " via ", other->addresses().v6,
                      "\n");
    }
    if (!lines.empty()) node->Ip(lines);
  }
}

void Lab::Settle() const {
  bool settled = WaitFor([&] {
    for (const auto& entry : std::filesystem::directory_iterator("/run/netns")) {
      if (!LinksRunning(entry.path().filename())) return false;
    }
    return true;
  });
  if (!settled) Fail("a link does not come up");
}

void Lab::WriteManifest(const std::string& file, const std::string& text) const {
  std::string aside = absl::StrCat(scratch_, "/.", file);
  { std::ofstream(aside) << text; }
  std::filesystem::rename(aside, absl::StrCat(manifests_, "/", file));
}

void Lab::RemoveManifest(const std::string& file) const {
  std::filesystem::remove(absl::StrCat(manifests_, "/", file));
}

}  // namespace waggle::lab
