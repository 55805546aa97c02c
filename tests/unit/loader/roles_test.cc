// What a device is, by its facts.
#include "loader/roles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if_arp.h>

#include <cstring>
#include <string>
#include <vector>

namespace waggle::loader {
namespace {

using testing::HasSubstr;

RouteMarks Default() {
  return {.default_route = true, .gateway_route = true, .host_route = false, .network = ""};
}
RouteMarks Network() {
  return {.default_route = false,
          .gateway_route = false,
          .host_route = false,
          .network = "192.168.50.11/24"};
}
RouteMarks Gateway(bool host_route) {
  return {.default_route = false, .gateway_route = true, .host_route = host_route, .network = ""};
}
RouteMarks HostRoute() {
  return {.default_route = false, .gateway_route = false, .host_route = true, .network = ""};
}

Device Make(const std::string& name, const std::string& kind, uint16_t hardware = ARPHRD_ETHER,
            int32_t peer_netns = -1) {
  Device device;
  device.ifindex = 7;
  device.name = name;
  device.kind = kind;
  device.hardware = hardware;
  device.peer_netns = peer_netns;
  device.mac = {2, 0, 0, 0, 0, 7};
  return device;
}

Device Veth(int32_t peer_netns, const RouteMarks& marks = {}, const std::string& name = "veth1") {
  Device device = Make(name, "veth", ARPHRD_ETHER, peer_netns);
  device.marks = marks;
  return device;
}

Device PortOf(Device device, const std::string& kind, uint32_t master = 0) {
  device.port_kind = kind;
  device.master = master;
  return device;
}

RoleDecision Decide(const Device& device, const RoleRules& rules = {}) {
  return AssignRoles({{device.ifindex, device}}, rules).at(device.ifindex);
}

TEST(Roles, OfOneDevice) {
  Device loopback = Make("lo", "", ARPHRD_LOOPBACK);
  loopback.loopback = true;
  Device tap = Make("tap0", "tun");
  Device vpn = Make("tap1", "tun");
  vpn.marks = Network();
  struct {
    const char* what;
    Device device;
    waggle_role role;
    const char* reason;
  } const rows[] = {
      {"a routed pod", Veth(3), WAGGLE_ROLE_POD, "veth, its peer is in network namespace 3"},
      {"of whatever name", Veth(0, {}, "eth0"), WAGGLE_ROLE_POD, "namespace 0"},
      {"with its route", Veth(3, HostRoute()), WAGGLE_ROLE_POD, "namespace 3"},
      {"a pod that is a router", Veth(3, Gateway(true)), WAGGLE_ROLE_POD, "namespace 3"},
      {"a bridged pod", PortOf(Veth(3), "bridge"), WAGGLE_ROLE_POD, "namespace 3"},
      {"a bridged pod, marks or not", PortOf(Veth(3, Default()), "bridge"), WAGGLE_ROLE_POD, ""},
      {"netkit", Make("nk1", "netkit", ARPHRD_ETHER, 2), WAGGLE_ROLE_POD, "netkit"},
      {"a node in a container", Veth(0, Default(), "eth0"), WAGGLE_ROLE_UPLINK,
       "the default route leaves by it"},
      {"its second cable", Veth(0, Network()), WAGGLE_ROLE_UPLINK, "192.168.50.11/24"},
      {"its cable without addresses", Veth(0, Gateway(false)), WAGGLE_ROLE_UPLINK, "gateway"},
      {"a cable inside of the node", Veth(-1), WAGGLE_ROLE_NONE, "in this network namespace"},
      {"one that the node hangs on", Veth(-1, Default()), WAGGLE_ROLE_UPLINK, "default route"},
      {"a NIC", Make("enp3s0", ""), WAGGLE_ROLE_UPLINK, "hardware"},
      {"a NIC under a bond", PortOf(Make("enp3s0", ""), "bond"), WAGGLE_ROLE_NONE, "bond"},
      {"a NIC under a bridge", PortOf(Make("enp3s0", ""), "bridge"), WAGGLE_ROLE_UPLINK, ""},
      {"a bond", Make("bond0", "bond"), WAGGLE_ROLE_UPLINK, "bond"},
      {"a VLAN", Make("eth0.5", "vlan"), WAGGLE_ROLE_UPLINK, "vlan"},
      {"macvlan", Make("mac0", "macvlan"), WAGGLE_ROLE_UPLINK, "macvlan"},
      {"a modem", Make("wwan0", "", 519), WAGGLE_ROLE_UPLINK, "hardware"},
      {"of a kind still to be invented", Make("x0", "warp"), WAGGLE_ROLE_UPLINK, "warp"},
      {"VXLAN", Make("flannel.1", "vxlan"), WAGGLE_ROLE_TUNNEL, "vxlan"},
      {"WireGuard", Make("wg0", "wireguard", ARPHRD_NONE), WAGGLE_ROLE_TUNNEL, "wireguard"},
      {"IP in IP", Make("tunl0", "ipip", ARPHRD_TUNNEL), WAGGLE_ROLE_TUNNEL, "ipip"},
      {"GRE", Make("gre1", "gre", ARPHRD_IPGRE), WAGGLE_ROLE_TUNNEL, "gre"},
      {"tun", Make("tun0", "tun", ARPHRD_NONE), WAGGLE_ROLE_TUNNEL, "tun"},
      {"a VPN with Ethernet", vpn, WAGGLE_ROLE_TUNNEL, "192.168.50.11/24"},
      {"a virtual machine", tap, WAGGLE_ROLE_NONE, "virtual machine"},
      {"another", Make("macvtap0", "macvtap"), WAGGLE_ROLE_NONE, "virtual machine"},
      {"a bridge", Make("cni0", "bridge"), WAGGLE_ROLE_BRIDGE, ""},
      {"dummy", Make("kube-ipvs0", "dummy"), WAGGLE_ROLE_NONE, "dummy"},
      {"Open vSwitch", Make("br-int", "openvswitch"), WAGGLE_ROLE_NONE, "openvswitch"},
      {"CAN", Make("can0", "", ARPHRD_CAN), WAGGLE_ROLE_NONE, "280"},
      {"loopback", loopback, WAGGLE_ROLE_NONE, "loopback"},
  };
  for (const auto& row : rows) {
    const RoleDecision decision = Decide(row.device);
    EXPECT_EQ(RoleName(decision.role), RoleName(row.role)) << row.what << ": " << decision.reason;
    EXPECT_THAT(decision.reason, HasSubstr(row.reason)) << row.what;
    EXPECT_FALSE(decision.reason.empty()) << row.what;
    EXPECT_EQ(decision.row.role, static_cast<uint32_t>(row.role)) << row.what;
    const bool layer3 = row.role != WAGGLE_ROLE_NONE && row.device.hardware != ARPHRD_ETHER;
    EXPECT_EQ(decision.row.layer3 != 0, layer3) << row.what;
    EXPECT_EQ(decision.row.netns_id, row.role == WAGGLE_ROLE_NONE  ? 0
                                     : row.role == WAGGLE_ROLE_POD ? row.device.peer_netns
                                                                   : -1)
        << row.what;
  }
}

TEST(Roles, TheOperatorKnowsBetter) {
  const RoleRules rules = {
      .ignore = {"docker*", "veth9", "lo*"}, .pods = {"enp3s0f0_?", "veth*"}, .uplinks = {"veth*"}};
  struct {
    Device device;
    waggle_role role;
    const char* reason;
  } const rows[] = {
      {Make("docker0", "bridge"), WAGGLE_ROLE_NONE, "--ignore-devices"},
      {Veth(3, {}, "veth9"), WAGGLE_ROLE_NONE, "--ignore-devices"},
      {Make("enp3s0f0_2", ""), WAGGLE_ROLE_POD, "--pod-devices"},
      {Make("enp3s0f0_22", ""), WAGGLE_ROLE_UPLINK, "hardware"},
      {Veth(3, Default(), "veth1"), WAGGLE_ROLE_POD, "--pod-devices"},
      {Veth(3, Default(), "eth0"), WAGGLE_ROLE_UPLINK, "default route"},
  };
  for (const auto& row : rows) {
    const RoleDecision decision = Decide(row.device, rules);
    EXPECT_EQ(RoleName(decision.role), RoleName(row.role)) << row.device.name;
    EXPECT_THAT(decision.reason, HasSubstr(row.reason)) << row.device.name;
  }
  EXPECT_EQ(Decide(Veth(3, {}, "veth1"), {.ignore = {}, .pods = {}, .uplinks = {"veth*"}}).role,
            WAGGLE_ROLE_UPLINK);
  Device loopback = Make("lo", "", ARPHRD_LOOPBACK);
  loopback.loopback = true;
  EXPECT_EQ(Decide(loopback, {.ignore = {}, .pods = {"*"}, .uplinks = {}}).role, WAGGLE_ROLE_NONE);
}

// A bridge is a way to local pods unless the node's network hangs on it.
TEST(Roles, OfABridgeByItsPorts) {
  Device bridge = Make("br0", "bridge");
  bridge.ifindex = 4;
  bridge.mac = {2, 0, 0, 0, 0, 4};
  const auto with = [&](std::vector<Device> ports) {
    DeviceMap devices = {{4, bridge}};
    for (size_t i = 0; i < ports.size(); ++i) {
      ports[i].ifindex = static_cast<uint32_t>(10 + i);
      devices[ports[i].ifindex] = PortOf(ports[i], "bridge", 4);
    }
    return devices;
  };
  struct {
    const char* what;
    std::vector<Device> ports;
    waggle_role role;
  } const rows[] = {
      {"none yet", {}, WAGGLE_ROLE_BRIDGE},
      {"pods", {Veth(1), Veth(2)}, WAGGLE_ROLE_BRIDGE},
      {"a tunnel to the other nodes' bridges", {Veth(1), Make("vx", "vxlan")}, WAGGLE_ROLE_BRIDGE},
      {"the node's NIC", {Veth(1), Make("eth0", "")}, WAGGLE_ROLE_UPLINK},
  };
  for (const auto& row : rows) {
    const auto decisions = AssignRoles(with(row.ports), {});
    EXPECT_EQ(RoleName(decisions.at(4).role), RoleName(row.role)) << row.what;
    for (size_t i = 0; i < row.ports.size(); ++i) {
      const waggle_device& port = decisions.at(static_cast<uint32_t>(10 + i)).row;
      EXPECT_EQ(port.bridge, 4u) << row.what;
      EXPECT_EQ(std::memcmp(port.bridge_mac, bridge.mac.data(), 6), 0) << row.what;
    }
    EXPECT_EQ(decisions.at(4).row.bridge, 0u);
  }
  // A node in a container whose cable is a port: it cannot be told from a pod's, but the
  // bridge shows what hangs on it.
  bridge.marks.default_route = true;
  EXPECT_EQ(AssignRoles(with({Veth(1)}), {}).at(4).role, WAGGLE_ROLE_UPLINK);
  // A port of something else that is no bridge has none.
  Device bond = Make("bond0", "bond");
  Device port = PortOf(Make("mac0", "macvlan"), "vrf", 7);
  port.ifindex = 8;
  EXPECT_EQ(AssignRoles({{7, bond}, {8, port}}, {}).at(8).row.bridge, 0u);
}

}  // namespace
}  // namespace waggle::loader
