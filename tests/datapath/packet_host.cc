// The host of the packet tests: namespaces, devices, routes.
#include <fcntl.h>
#include <linux/net_namespace.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/datapath/packet_fixture.h"

namespace waggle::packet {
namespace {

std::string Text(int number) {
  return std::to_string(number);
}

void Write(const std::string& path, const std::string& text) {
  const os::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd || write(fd.get(), text.data(), text.size()) < 0) {
    Fail(path + ": " + std::strerror(errno) + " (these tests need root)");
  }
}

// Lines for `ip -batch`, in this process's namespace.
void Ip(const std::string& lines) {
  FILE* const pipe = popen("ip -batch - >&2", "we");
  if (!pipe) Fail("ip: " + std::string(std::strerror(errno)));
  std::fwrite(lines.data(), 1, lines.size(), pipe);
  if (pclose(pipe) != 0) Fail("ip refused one of:\n" + lines);
}

os::UniqueFd CurrentNetns() {
  return os::UniqueFd(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
}

void Enter(int netns) {
  if (setns(netns, CLONE_NEWNET) != 0) Fail("setns: " + std::string(std::strerror(errno)));
}

uint32_t IndexOf(const std::string& device) {
  const uint32_t ifindex = if_nametoindex(device.c_str());
  if (ifindex == 0) Fail("no device " + device);
  return ifindex;
}

// Gives the namespace a number in this one, as `ip netns set` does for names.
void SetNetnsId(int netns, int id) {
  struct {
    nlmsghdr header;
    rtgenmsg message;
    alignas(4) nlattr id_head;
    int32_t id;
    nlattr fd_head;
    int32_t fd;
  } request{};
  request.header = {sizeof(request), RTM_NEWNSID, NLM_F_REQUEST | NLM_F_ACK, 0, 0};
  request.id_head = {sizeof(nlattr) + 4, NETNSA_NSID};
  request.id = id;
  request.fd_head = {sizeof(nlattr) + 4, NETNSA_FD};
  request.fd = netns;
  struct {
    nlmsghdr header;
    nlmsgerr error;
    char rest[256];
  } answer{};
  const os::UniqueFd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (send(netlink.get(), &request, sizeof(request), 0) < 0 ||
      recv(netlink.get(), &answer, sizeof(answer), 0) < 0 ||
      answer.header.nlmsg_type != NLMSG_ERROR || answer.error.error != 0) {
    Fail("RTM_NEWNSID: " + std::string(std::strerror(-answer.error.error)));
  }
}

int Bits(const net::Address& address, int length) {
  return address.family() == net::Family::kIpv4 ? 96 + length : length;
}

}  // namespace

void Fail(const std::string& message) {
  std::fprintf(stderr, "packet tests: %s\n", message.c_str());
  std::exit(1);
}

const Family kFamilies[2] = {{"IPv4", false}, {"IPv6", true}};

std::string Kind(const Family& family, uint8_t protocol) {
  return std::string(family.name) + (protocol == kTcp ? " TCP" : " UDP");
}
std::string Kind(const Family& family, uint8_t protocol, uint32_t forwarding) {
  return Kind(family, protocol) +
         (forwarding == WAGGLE_FORWARDING_REDIRECT ? " redirect" : " stack");
}

net::Address Family::Pod(int net, int pod) const {
  return Address(v6 ? "fd00:244:" + Text(net) + "::" + Text(pod)
                    : "10.244." + Text(net) + "." + Text(pod));
}
net::Address Family::Bridged(int pod) const {
  return Address(v6 ? "fd00:245:1::" + Text(pod) : "10.245.1." + Text(pod));
}
net::Address Family::Service(int service) const {
  return Address(v6 ? "fd00:96::" + Text(service) : "10.96.0." + Text(service));
}
net::Address Family::NodeNet(int node) const {
  return Address(v6 ? "fd00:7::" + Text(node) : "192.168.7." + Text(node));
}
net::Address Family::Stranger() const {
  return Address(v6 ? "2001:db8:9::9" : "198.51.100.9");
}

Host& Host::Get() {
  static Host host;
  return host;
}

void Host::Covers(uint32_t ifindex, uint32_t role) {
  waggle_device device{};
  device.role = role;
  device.netns_id = -1;
  devices[ifindex] = device;
}

uint32_t Host::AddPod(const std::string& device, const std::string& address4,
                      const std::string& address6, int netns_id, uint32_t bridge) {
  if (unshare(CLONE_NEWNET) != 0) Fail("unshare: " + std::string(std::strerror(errno)));
  os::UniqueFd netns = CurrentNetns();
  Ip("link set lo up\n");
  Enter(home_.get());
  SetNetnsId(netns.get(), netns_id);  // before the kernel chooses one
  const std::string path = "/proc/" + Text(getpid()) + "/fd/" + Text(netns.get());
  const std::string mac = ":00:" + Text(netns_id) + " ";
  Ip("link add " + device + " address 02:00:00:00" + mac + "type veth peer name eth0 address " +
     "02:00:00:01" + mac + "netns " + path + "\nlink set " + device + " up\n" +
     (bridge ? "link set " + device + " master br0\n" : ""));
  Enter(netns.get());
  // What a pod's own sockets send goes to a MAC that nobody has: they stay as they are.
  const std::string v4 = "address add " + address4 + "/32 dev eth0\n";
  const std::string v6 = "address add " + address6 + "/128 dev eth0 nodad\n";
  Ip("link set eth0 up\n" + v4 + v6 +
     "route add default via 169.254.1.1 dev eth0 onlink\n"
     "neighbour add 169.254.1.1 lladdr 02:00:00:00:99:99 dev eth0\n"
     "route add ::/0 via fe80::1 dev eth0\n"
     "neighbour add fe80::1 lladdr 02:00:00:00:99:99 dev eth0\n");
  Enter(home_.get());
  const uint32_t ifindex = IndexOf(device);
  netns_[ifindex] = std::move(netns);
  Covers(ifindex, WAGGLE_ROLE_POD);
  devices[ifindex].netns_id = netns_id;
  devices[ifindex].bridge = bridge;
  return ifindex;
}

Host::Host() {
  if (unshare(CLONE_NEWNET) != 0) {
    Fail("unshare: " + std::string(std::strerror(errno)) + " (these tests need root)");
  }
  home_ = CurrentNetns();
  Write("/proc/sys/net/ipv4/ip_forward", "1");
  Write("/proc/sys/net/ipv6/conf/all/forwarding", "1");
  Ip("link set lo up\n"
     "link add br0 type bridge mcast_snooping 0\n"
     "link set br0 address 02:00:00:00:0b:01 up\n"
     "link add eth0 address 02:00:00:00:0e:01 type veth peer name fabric0\n"
     "link add vx0 mtu 1450 type veth peer name fabric1\n"
     "link add other0 type veth peer name fabric2\n"
     "link set eth0 up\nlink set fabric0 up\n"
     "link set vx0 up\nlink set fabric1 up\n"
     "link set other0 up\nlink set fabric2 up\n");
  br0 = IndexOf("br0");
  eth0 = IndexOf("eth0");
  vx0 = IndexOf("vx0");
  other0 = IndexOf("other0");
  Covers(br0, WAGGLE_ROLE_BRIDGE);
  Covers(eth0, WAGGLE_ROLE_UPLINK);
  Covers(vx0, WAGGLE_ROLE_TUNNEL);
  pod1 = AddPod("pod1", "10.244.1.11", "fd00:244:1::11", 11, 0);
  pod2 = AddPod("pod2", "10.244.1.12", "fd00:244:1::12", 12, 0);
  pod3 = AddPod("pod3", "10.245.1.13", "fd00:245:1::13", 13, br0);
  pod4 = AddPod("pod4", "10.245.1.14", "fd00:245:1::14", 14, br0);
  pod5 = AddPod("pod5", "10.244.1.15", "fd00:244:1::15", 15, 0);
  const uint8_t bridge_mac[6] = {2, 0, 0, 0, 0x0b, 1};
  for (const uint32_t port : {pod3, pod4})
    std::memcpy(devices[port].bridge_mac, bridge_mac, 6);
  Ip("link set pod5 mtu 1300\n");
  Routes4And6();
}

void Host::Routes4And6() {
  std::string lines;
  for (const Family& family : kFamilies) {
    const int host_bits = family.v6 ? 128 : 32;
    const int net_bits = family.v6 ? 64 : 24;
    const auto add = [&](const net::Address& to, int length, uint32_t device,
                         std::optional<net::Address> gateway = {}, uint32_t mtu = 1500,
                         const std::string& options = "") {
      routes.push_back({to, Bits(to, length), false, device, gateway, mtu});
      char name[IF_NAMESIZE] = "";
      if (device != 0) if_indextoname(device, name);
      lines += std::string("route add ") + (device == 0 ? "unreachable " : "") + to.ToString() +
               "/" + Text(length) + (gateway ? " via " + gateway->ToString() : "") +
               (device != 0 ? std::string(" dev ") + name : "") + options + "\n";
    };
    const auto own = [&](const net::Address& address, uint32_t device) {
      routes.push_back({address, Bits(address, host_bits), true, 0, {}, 0});
      char name[IF_NAMESIZE] = "";
      if_indextoname(device, name);
      lines += "address add " + address.ToString() + "/" + Text(host_bits) + " dev " + name +
               (family.v6 ? " nodad\n" : "\n");
    };
    own(family.NodeNet(10), eth0);
    own(family.Bridged(1), br0);
    const net::Address loopback = Address(family.v6 ? "::1" : "127.0.0.0");
    routes.push_back({loopback, family.v6 ? 128 : 96 + 8, true, 0, {}, 0});
    add(family.Pod(1, 11), host_bits, pod1);
    add(family.Pod(1, 12), host_bits, pod2);
    add(family.Pod(1, 15), host_bits, pod5, {}, 1300);
    add(Address(family.v6 ? "fd00:245:1::" : "10.245.1.0"), net_bits, br0);
    add(Address(family.v6 ? "fd00:7::" : "192.168.7.0"), net_bits, eth0);
    const auto pods = [&](int net) {
      return Address(family.v6 ? "fd00:244:" + Text(net) + "::" : "10.244." + Text(net) + ".0");
    };
    add(pods(2), net_bits, eth0, family.NodeNet(20));
    add(pods(4), net_bits, eth0, family.NodeNet(30), 1400, " mtu lock 1400");
    add(pods(8), net_bits, eth0, family.NodeNet(1));
    add(pods(3), net_bits, vx0, family.Pod(3, 1), 1450, " onlink");
    add(pods(5), net_bits, other0);
    add(pods(6), net_bits, 0);
    add(Address(family.v6 ? "::" : "0.0.0.0"), 0, eth0, family.NodeNet(1));
  }
  Ip(lines);
}

void Host::Ip(const std::string& lines) const {
  packet::Ip(lines);
}

void Host::InPod(uint32_t ifindex, const std::function<void()>& body) const {
  Enter(NetnsOf(ifindex));
  body();
  Enter(home_.get());
}

}  // namespace waggle::packet
