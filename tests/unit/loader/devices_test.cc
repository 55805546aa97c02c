// Messages of rtnetlink, built attribute by attribute, and what is read from them.
#include "loader/devices.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cstring>
#include <functional>

namespace waggle::loader {
namespace {

using testing::IsEmpty;

// A message under construction.
class Message {
 public:
  explicit Message(uint16_t type) : message_(mnl_nlmsg_put_header(buffer_)) {
    message_->nlmsg_type = type;
  }
  template <typename Header>
  Header& Put() {
    return *static_cast<Header*>(mnl_nlmsg_put_extra_header(message_, sizeof(Header)));
  }
  nlmsghdr* get() { return message_; }

 private:
  alignas(8) char buffer_[4096] = {};
  nlmsghdr* message_;
};

Message Link(unsigned char family, const std::function<void(ifinfomsg&, nlmsghdr*)>& fill) {
  Message message(RTM_NEWLINK);
  auto& info = message.Put<ifinfomsg>();
  info.ifi_family = family;
  info.ifi_index = 12;
  info.ifi_type = ARPHRD_ETHER;
  fill(info, message.get());
  return message;
}

TEST(ParseLink, AllFacts) {
  const unsigned char mac[6] = {2, 3, 4, 5, 6, 7};
  Message message = Link(AF_UNSPEC, [&](ifinfomsg& info, nlmsghdr* out) {
    info.ifi_flags = IFF_UP;
    mnl_attr_put_strz(out, IFLA_IFNAME, "a name of 15 ch");
    mnl_attr_put_u32(out, IFLA_LINK, 2);
    mnl_attr_put_u32(out, IFLA_MASTER, 4);
    mnl_attr_put_u32(out, IFLA_LINK_NETNSID, 3);
    mnl_attr_put(out, IFLA_ADDRESS, sizeof(mac), mac);
    nlattr* nest = mnl_attr_nest_start(out, IFLA_LINKINFO);
    mnl_attr_put_str(out, IFLA_INFO_KIND, "veth");  // without NUL, as some kernels send it
    mnl_attr_put_strz(out, IFLA_INFO_SLAVE_KIND, "bridge");
    mnl_attr_nest_end(out, nest);
    nest = mnl_attr_nest_start(out, IFLA_XDP);
    mnl_attr_put_u8(out, IFLA_XDP_ATTACHED, XDP_ATTACHED_DRV);
    mnl_attr_nest_end(out, nest);
  });
  Device device;
  ASSERT_TRUE(ParseLink(message.get(), &device));
  Device want;
  want.ifindex = 12;
  want.name = "a name of 15 ch";
  want.kind = "veth";
  want.port_kind = "bridge";
  want.hardware = ARPHRD_ETHER;
  want.up = true;
  want.link = 2;
  want.peer_netns = 3;
  want.master = 4;
  want.mac = std::to_array(mac);
  want.native_xdp = true;
  EXPECT_EQ(device, want);
  EXPECT_TRUE(device.ethernet());
}

TEST(ParseLink, WhatIsMissingIsNone) {
  Message message = Link(AF_UNSPEC, [](ifinfomsg& info, nlmsghdr* out) {
    info.ifi_type = ARPHRD_NONE;
    info.ifi_flags = IFF_LOOPBACK;
    mnl_attr_put_strz(out, IFLA_IFNAME, "tun0");
    const unsigned char long_address[16] = {1};
    mnl_attr_put(out, IFLA_ADDRESS, sizeof(long_address), long_address);
    mnl_attr_put(out, IFLA_LINK, 2, "x");  // shorter than a number
  });
  Device device;
  device.kind = "from before";
  ASSERT_TRUE(ParseLink(message.get(), &device));
  EXPECT_EQ(device.kind, "");
  EXPECT_EQ(device.peer_netns, -1);
  EXPECT_EQ(device.link, 0u);
  EXPECT_EQ(device.mac, (std::array<uint8_t, 6>{}));
  EXPECT_FALSE(device.up);
  EXPECT_TRUE(device.loopback);
  EXPECT_FALSE(device.ethernet());
}

TEST(ParseLink, OnlyWhatTellsOfTheDeviceItself) {
  // A port that leaves its bridge is an RTM_DELLINK of this family: no device is gone.
  Message bridge = Link(AF_BRIDGE, [](ifinfomsg&, nlmsghdr*) {});
  Device device;
  EXPECT_FALSE(ParseLink(bridge.get(), &device));
  Message nobody = Link(AF_UNSPEC, [](ifinfomsg& info, nlmsghdr*) { info.ifi_index = 0; });
  EXPECT_FALSE(ParseLink(nobody.get(), &device));
  Message empty(RTM_NEWLINK);
  EXPECT_FALSE(ParseLink(empty.get(), &device));
}

TEST(ParseLink, XdpInTheDriver) {
  struct {
    uint16_t attribute;
    uint32_t value;
    bool native;
  } const rows[] = {
      {IFLA_XDP_ATTACHED, XDP_ATTACHED_NONE, false},
      {IFLA_XDP_ATTACHED, XDP_ATTACHED_SKB, false},
      {IFLA_XDP_ATTACHED, XDP_ATTACHED_HW, false},
      {IFLA_XDP_ATTACHED, XDP_ATTACHED_DRV, true},
      {IFLA_XDP_ATTACHED, XDP_ATTACHED_MULTI, false},
      {IFLA_XDP_DRV_PROG_ID, 42, true},
      {IFLA_XDP_SKB_PROG_ID, 42, false},
  };
  for (const auto& row : rows) {
    Message message = Link(AF_UNSPEC, [&](ifinfomsg&, nlmsghdr* out) {
      nlattr* nest = mnl_attr_nest_start(out, IFLA_XDP);
      if (row.attribute == IFLA_XDP_ATTACHED) {
        mnl_attr_put_u8(out, row.attribute, static_cast<uint8_t>(row.value));
      } else {
        mnl_attr_put_u32(out, row.attribute, row.value);
      }
      mnl_attr_nest_end(out, nest);
    });
    Device device;
    ASSERT_TRUE(ParseLink(message.get(), &device));
    EXPECT_EQ(device.native_xdp, row.native) << row.attribute << " " << row.value;
  }
}

TEST(ParseAddress, OnlyNetworksOfMoreThanTwo) {
  struct {
    const char* address;
    unsigned char length;
    unsigned char scope;
    const char* network;
  } const rows[] = {
      {"192.168.50.11", 24, RT_SCOPE_UNIVERSE, "192.168.50.11/24"},
      {"10.0.0.1", 29, RT_SCOPE_SITE, "10.0.0.1/29"},
      {"10.0.0.1", 30, RT_SCOPE_UNIVERSE, ""},
      {"10.0.0.1", 31, RT_SCOPE_UNIVERSE, ""},
      {"10.244.1.1", 32, RT_SCOPE_UNIVERSE, ""},
      {"169.254.1.1", 16, RT_SCOPE_LINK, ""},
      {"10.0.0.1", 24, RT_SCOPE_HOST, ""},
      {"fd00:50::11", 64, RT_SCOPE_UNIVERSE, "fd00:50::11/64"},
      {"fd00:50::11", 125, RT_SCOPE_UNIVERSE, "fd00:50::11/125"},
      {"fd00:50::11", 126, RT_SCOPE_UNIVERSE, ""},
      {"fd00:50::11", 128, RT_SCOPE_UNIVERSE, ""},
      {"fe80::1", 64, RT_SCOPE_LINK, ""},
  };
  for (const auto& row : rows) {
    const bool v6 = std::strchr(row.address, ':') != nullptr;
    unsigned char bytes[16] = {};
    ASSERT_EQ(inet_pton(v6 ? AF_INET6 : AF_INET, row.address, bytes), 1);
    Message message(RTM_NEWADDR);
    auto& info = message.Put<ifaddrmsg>();
    info.ifa_family = v6 ? AF_INET6 : AF_INET;
    info.ifa_prefixlen = row.length;
    info.ifa_scope = row.scope;
    info.ifa_index = 12;
    mnl_attr_put(message.get(), IFA_ADDRESS, v6 ? 16 : 4, bytes);
    const std::vector<Marked> marked = ParseAddress(message.get());
    if (row.network[0] == '\0') {
      EXPECT_THAT(marked, IsEmpty()) << row.address;
      continue;
    }
    ASSERT_EQ(marked.size(), 1u) << row.address;
    EXPECT_EQ(marked[0].ifindex, 12u);
    EXPECT_EQ(marked[0].marks.network, row.network);
  }
}

struct RouteRow {
  const char* what;
  std::function<void(rtmsg&, nlmsghdr*)> fill;
  std::vector<std::pair<uint32_t, RouteMarks>> want;
};

TEST(ParseRoute, TellsUplinksFromPods) {
  const RouteMarks plain_default = {true, false, false, ""};
  const RouteMarks default_by_gateway = {true, true, false, ""};
  const RouteMarks gateway = {false, true, false, ""};
  const RouteMarks host = {false, false, true, ""};
  const auto multipath = [](nlmsghdr* out) {
    // Two hops: 12 with a gateway, 13 without.
    alignas(4) unsigned char hops[64] = {};
    auto* first = reinterpret_cast<rtnexthop*>(hops);
    first->rtnh_ifindex = 12;
    auto* inner = reinterpret_cast<nlattr*>(RTNH_DATA(first));
    inner->nla_type = RTA_GATEWAY;
    inner->nla_len = 8;
    first->rtnh_len = sizeof(rtnexthop) + 8;
    auto* second = reinterpret_cast<rtnexthop*>(hops + RTNH_ALIGN(first->rtnh_len));
    second->rtnh_ifindex = 13;
    second->rtnh_len = sizeof(rtnexthop);
    mnl_attr_put(out, RTA_MULTIPATH, RTNH_ALIGN(first->rtnh_len) + sizeof(rtnexthop), hops);
  };
  const auto device = [](nlmsghdr* out) { mnl_attr_put_u32(out, RTA_OIF, 12); };
  const std::vector<RouteRow> rows = {
      {"default by a gateway",
       [&](rtmsg&, nlmsghdr* out) {
         mnl_attr_put_u32(out, RTA_GATEWAY, 1);
         device(out);
       },
       {{12, default_by_gateway}}},
      {"default without one", [&](rtmsg&, nlmsghdr* out) { device(out); }, {{12, plain_default}}},
      {"by an IPv6 neighbour",
       [&](rtmsg& info, nlmsghdr* out) {
         info.rtm_dst_len = 24;
         mnl_attr_put(out, RTA_VIA, 18, "..................");
         device(out);
       },
       {{12, gateway}}},
      {"a pod's",
       [&](rtmsg& info, nlmsghdr* out) {
         info.rtm_dst_len = 32;
         device(out);
       },
       {{12, host}}},
      {"a pod's, IPv6",
       [&](rtmsg& info, nlmsghdr* out) {
         info.rtm_family = AF_INET6;
         info.rtm_dst_len = 128;
         device(out);
       },
       {{12, host}}},
      {"/32 of IPv6 is a network",
       [&](rtmsg& info, nlmsghdr* out) {
         info.rtm_family = AF_INET6;
         info.rtm_dst_len = 32;
         device(out);
       },
       {{12, RouteMarks{}}}},
      {"one address behind a gateway",
       [&](rtmsg& info, nlmsghdr* out) {
         info.rtm_dst_len = 32;
         mnl_attr_put_u32(out, RTA_GATEWAY, 1);
         device(out);
       },
       {{12, gateway}}},
      {"two hops",
       [&](rtmsg& info, nlmsghdr* out) {
         info.rtm_dst_len = 16;
         multipath(out);
       },
       {{12, gateway}, {13, RouteMarks{}}}},
      {"two ways out",
       [&](rtmsg&, nlmsghdr* out) { multipath(out); },
       {{12, default_by_gateway}, {13, plain_default}}},
      {"the node's own address",
       [&](rtmsg& info, nlmsghdr* out) {
         info.rtm_dst_len = 32;
         info.rtm_table = RT_TABLE_LOCAL;
         device(out);
       },
       {}},
      {"the same, by number",
       [&](rtmsg& info, nlmsghdr* out) {
         info.rtm_dst_len = 32;
         mnl_attr_put_u32(out, RTA_TABLE, RT_TABLE_LOCAL);
         device(out);
       },
       {}},
      {"no way at all",
       [&](rtmsg& info, nlmsghdr* out) {
         info.rtm_type = RTN_UNREACHABLE;
         device(out);
       },
       {}},
      {"a cached one",
       [&](rtmsg& info, nlmsghdr* out) {
         info.rtm_flags = RTM_F_CLONED;
         device(out);
       },
       {}},
      {"nowhere", [](rtmsg&, nlmsghdr*) {}, {}},
  };
  for (const RouteRow& row : rows) {
    Message message(RTM_NEWROUTE);
    auto& info = message.Put<rtmsg>();
    info.rtm_family = AF_INET;
    info.rtm_table = RT_TABLE_MAIN;
    info.rtm_type = RTN_UNICAST;
    row.fill(info, message.get());
    const std::vector<Marked> marked = ParseRoute(message.get());
    ASSERT_EQ(marked.size(), row.want.size()) << row.what;
    for (size_t i = 0; i < marked.size(); ++i) {
      EXPECT_EQ(marked[i].ifindex, row.want[i].first) << row.what;
      EXPECT_EQ(marked[i].marks, row.want[i].second) << row.what << " " << i;
    }
  }
}

// Whatever the length that a next hop claims to have.
TEST(ParseRoute, DamagedNextHops) {
  for (unsigned short length = 0; length < 40; ++length) {
    Message message(RTM_NEWROUTE);
    auto& info = message.Put<rtmsg>();
    info.rtm_family = AF_INET;
    info.rtm_type = RTN_UNICAST;
    alignas(4) unsigned char hops[16] = {};
    auto* hop = reinterpret_cast<rtnexthop*>(hops);
    hop->rtnh_ifindex = 12;
    hop->rtnh_len = length;
    mnl_attr_put(message.get(), RTA_MULTIPATH, sizeof(hops), hops);
    EXPECT_LE(ParseRoute(message.get()).size(), 2u) << length;
  }
}

TEST(TakeDump, OnlyAWholeOneSaysWhatIsGone) {
  const auto known = [](uint32_t ifindex, const char* name) {
    Device device;
    device.ifindex = ifindex;
    device.name = name;
    return std::pair(ifindex, device);
  };
  const DeviceMap dump = {known(2, "renamed"), known(4, "new")};
  for (const bool whole : {true, false}) {
    SCOPED_TRACE(whole);
    DeviceMap devices = {known(1, "one"), known(2, "two"), known(3, "three")};
    const std::vector<uint32_t> gone = TakeDump(dump, whole, &devices);
    EXPECT_EQ(gone, whole ? std::vector<uint32_t>({1, 3}) : std::vector<uint32_t>());
    DeviceMap expected = dump;
    if (!whole) expected.insert({known(1, "one"), known(3, "three")});
    EXPECT_EQ(devices, expected);
  }
}

TEST(NeedMarks, OnlyWhereTheKindLeavesItOpen) {
  struct {
    const char* kind;
    const char* port_kind;
    uint16_t hardware;
    bool need;
  } const rows[] = {
      {"veth", "", ARPHRD_ETHER, true},
      {"veth", "bridge", ARPHRD_ETHER, false},
      {"veth", "vrf", ARPHRD_ETHER, true},
      {"bridge", "", ARPHRD_ETHER, true},
      {"tun", "", ARPHRD_ETHER, true},
      {"tun", "", ARPHRD_NONE, false},
      {"", "", ARPHRD_ETHER, false},
      {"vxlan", "", ARPHRD_ETHER, false},
      {"veth", "openvswitch", ARPHRD_ETHER, false},
  };
  for (const auto& row : rows) {
    Device device;
    device.kind = row.kind;
    device.port_kind = row.port_kind;
    device.hardware = row.hardware;
    EXPECT_EQ(NeedMarks(device), row.need) << row.kind << " " << row.port_kind;
  }
}

TEST(AddMarks, TheOrderDoesNotMatter) {
  RouteMarks left, right;
  const RouteMarks a = {true, false, false, "10.0.0.1/24"};
  const RouteMarks b = {false, true, true, "192.168.0.1/16"};
  AddMarks(a, &left);
  AddMarks(b, &left);
  AddMarks(b, &right);
  AddMarks(a, &right);
  AddMarks({}, &right);
  EXPECT_EQ(left, right);
  EXPECT_EQ(left, (RouteMarks{true, true, true, "10.0.0.1/24"}));
}

}  // namespace
}  // namespace waggle::loader
