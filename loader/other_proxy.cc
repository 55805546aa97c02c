#include "loader/other_proxy.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/netfilter.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "bpf/abi.h"
#include "loader/netlink.h"
#include "maps/pins.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {
namespace {

// The oldest that kernels still take; before 4.20 they take no other.
constexpr uint8_t kIpSetProtocol = 6;

constexpr uint16_t Type(int subsystem, int message) {
  return static_cast<uint16_t>(subsystem << 8 | message);
}

uint8_t ProtocolOf(net::Family family) {
  return family == net::Family::kIpv4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
}

void PutHead(NetlinkRequest& request, uint8_t family) {
  auto* head = request.Put<nfgenmsg>();
  head->nfgen_family = family;
  head->version = NFNETLINK_V0;
}

absl::Status Annotate(const absl::Status& status, std::string_view what) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(std::string(what), ": ", std::string(status.message())));
}

// The kernel was built without that subsystem.
bool NoSuchSubsystem(int error) {
  return error == EINVAL || error == EOPNOTSUPP || error == EPROTONOSUPPORT;
}

// Asks for one thing: true where it is there.
absl::StatusOr<bool> Exists(NetlinkRequest& request, std::string_view what) {
  absl::StatusOr<NetlinkQueries> netlink = NetlinkQueries::Open(NETLINK_NETFILTER);
  if (!netlink.ok()) return netlink.status();
  const absl::Status asked = netlink->Ask(request, [](const nlmsghdr*) {});
  if (asked.ok()) return true;
  if (netlink->error() == ENOENT || NoSuchSubsystem(netlink->error())) return false;
  return Annotate(asked, what);
}

// A dump of what `fill` asks for, once more where it changed meanwhile. `start` forgets what was
// taken.
absl::Status Dump(uint16_t type, const std::function<void(NetlinkRequest&)>& fill,
                  const std::function<void()>& start, const NetlinkQueries::Take& take,
                  std::string_view what) {
  constexpr int kTries = 5;
  absl::StatusOr<NetlinkQueries> netlink = NetlinkQueries::Open(NETLINK_NETFILTER);
  if (!netlink.ok()) return netlink.status();
  absl::Status asked;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    start();
    NetlinkRequest request(type, NLM_F_DUMP);
    fill(request);
    asked = netlink->Ask(request, take);
    if (NoSuchSubsystem(netlink->error())) return absl::OkStatus();
    if (!absl::IsUnavailable(asked)) break;
  }
  return Annotate(asked, what);
}

// Of those whose destination is translated.
absl::Status VisitTranslated(net::Family family, const std::function<void()>& start,
                             const std::function<void(const nlmsghdr*)>& visit) {
  return Dump(
      Type(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET),
      [&](NetlinkRequest& request) { PutHead(request, ProtocolOf(family)); }, start,
      [&](const nlmsghdr* message) {
        const Attributes<CTA_STATUS + 1> entry(message, sizeof(nfgenmsg));
        if (ntohl(NumberOf(entry[CTA_STATUS])) & IPS_DST_NAT) visit(message);
      },
      "read connection tracking");
}

// Whom the client of an entry asked, as a frontend's key; nullopt for what has no port.
std::optional<waggle_frontend_key> DestinationOf(const nlmsghdr* message) {
  const Attributes<CTA_TUPLE_ORIG + 1> entry(message, sizeof(nfgenmsg));
  const Attributes<CTA_TUPLE_PROTO + 1> tuple(entry[CTA_TUPLE_ORIG]);
  const Attributes<CTA_IP_V6_DST + 1> ip(tuple[CTA_TUPLE_IP]);
  const Attributes<CTA_PROTO_DST_PORT + 1> protocol(tuple[CTA_TUPLE_PROTO]);
  waggle_frontend_key key{};
  key.scope = WAGGLE_SCOPE_INTERNAL;
  const auto copy = [](const nlattr* from, void* to, size_t size) {
    if (!from || mnl_attr_get_payload_len(from) != size) return false;
    std::memcpy(to, mnl_attr_get_payload(from), size);
    return true;
  };
  if (copy(ip[CTA_IP_V4_DST], &key.addr[12], 4)) {
    key.addr[10] = key.addr[11] = 0xff;
  } else if (!copy(ip[CTA_IP_V6_DST], key.addr, sizeof(key.addr))) {
    return std::nullopt;
  }
  if (!copy(protocol[CTA_PROTO_NUM], &key.protocol, sizeof(key.protocol)) ||
      !copy(protocol[CTA_PROTO_DST_PORT], &key.port_be, sizeof(key.port_be))) {
    return std::nullopt;
  }
  return key;
}

// Not one that both sides have closed.
bool IsOpenTcp(const nlmsghdr* message) {
  const Attributes<CTA_PROTOINFO + 1> entry(message, sizeof(nfgenmsg));
  const Attributes<CTA_PROTOINFO_TCP + 1> protocol(entry[CTA_PROTOINFO]);
  const Attributes<CTA_PROTOINFO_TCP_STATE + 1> tcp(protocol[CTA_PROTOINFO_TCP]);
  const nlattr* state = tcp[CTA_PROTOINFO_TCP_STATE];
  if (!state || mnl_attr_get_payload_len(state) < 1) return false;
  const uint8_t is = mnl_attr_get_u8(state);
  return is >= TCP_CONNTRACK_SYN_SENT && is <= TCP_CONNTRACK_LAST_ACK;
}

}  // namespace

absl::StatusOr<bool> HasNftTable(net::Family family, std::string_view table) {
  NetlinkRequest request(Type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE), 0);
  PutHead(request, ProtocolOf(family));
  mnl_attr_put_strz(request.message(), NFTA_TABLE_NAME, std::string(table).c_str());
  return Exists(request, "ask for a table of nftables");
}

absl::StatusOr<bool> HasNftChain(net::Family family, std::string_view table,
                                 std::string_view chain) {
  NetlinkRequest request(Type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN), 0);
  PutHead(request, ProtocolOf(family));
  mnl_attr_put_strz(request.message(), NFTA_CHAIN_TABLE, std::string(table).c_str());
  mnl_attr_put_strz(request.message(), NFTA_CHAIN_NAME, std::string(chain).c_str());
  return Exists(request, "ask for a chain of nftables");
}

absl::StatusOr<size_t> CountTranslated(net::Family family) {
  size_t count = 0;
  const absl::Status status = VisitTranslated(
      family, [&] { count = 0; }, [&](const nlmsghdr*) { ++count; });
  if (!status.ok()) return status;
  return count;
}

absl::StatusOr<size_t> CountOldConnections(std::string_view pin_path) {
  const absl::StatusOr<os::UniqueFd> frontends =
      maps::OpenPin(pin_path, "frontends", maps::Access::kReadOnly);
  if (!frontends.ok()) return frontends.status();
  size_t sum = 0;
  for (const net::Family family : {net::Family::kIpv4, net::Family::kIpv6}) {
    size_t count = 0;
    const absl::Status status = VisitTranslated(
        family, [&] { count = 0; },
        [&](const nlmsghdr* entry) {
          const std::optional<waggle_frontend_key> key = DestinationOf(entry);
          waggle_frontend frontend{};
          if (key && IsOpenTcp(entry) &&
              bpf_map_lookup_elem(frontends->get(), &*key, &frontend) == 0) {
            ++count;
          }
        });
    if (!status.ok()) return status;
    sum += count;
  }
  return sum;
}

absl::StatusOr<std::vector<std::string>> ListIpSets() {
  std::vector<std::string> sets;
  const absl::Status status = Dump(
      Type(NFNL_SUBSYS_IPSET, IPSET_CMD_LIST),
      [](NetlinkRequest& request) {
        PutHead(request, NFPROTO_IPV4);
        mnl_attr_put_u8(request.message(), IPSET_ATTR_PROTOCOL, kIpSetProtocol);
        mnl_attr_put_u32(request.message(), IPSET_ATTR_FLAGS | NLA_F_NET_BYTEORDER,
                         htonl(IPSET_FLAG_LIST_SETNAME));
      },
      [&] { sets.clear(); },
      [&](const nlmsghdr* message) {
        const Attributes<IPSET_ATTR_SETNAME + 1> set(message, sizeof(nfgenmsg));
        if (std::string name = TextOf(set[IPSET_ATTR_SETNAME]); !name.empty()) {
          sets.push_back(std::move(name));
        }
      },
      "list the ipsets");
  if (!status.ok()) return status;
  return sets;
}

absl::Status DestroyIpSet(const std::string& name) {
  absl::StatusOr<NetlinkQueries> netlink = NetlinkQueries::Open(NETLINK_NETFILTER);
  if (!netlink.ok()) return netlink.status();
  NetlinkRequest request(Type(NFNL_SUBSYS_IPSET, IPSET_CMD_DESTROY), NLM_F_ACK);
  PutHead(request, NFPROTO_IPV4);
  mnl_attr_put_u8(request.message(), IPSET_ATTR_PROTOCOL, kIpSetProtocol);
  mnl_attr_put_strz(request.message(), IPSET_ATTR_SETNAME, name.c_str());
  const absl::Status status = netlink->Ask(request, [](const nlmsghdr*) {});
  if (netlink->error() == IPSET_ERR_BUSY) {
    return absl::FailedPreconditionError(absl::StrCat("a rule refers to the ipset ", name));
  }
  return Annotate(status, absl::StrCat("destroy the ipset ", name));
}

bool HasDevice(const std::string& name) {
  return if_nametoindex(name.c_str()) != 0;
}

absl::Status RemoveDevice(const std::string& name) {
  const unsigned index = if_nametoindex(name.c_str());
  if (index == 0) return os::ErrnoStatus(errno, "device " + name);
  absl::StatusOr<NetlinkQueries> netlink = NetlinkQueries::Open(NETLINK_ROUTE);
  if (!netlink.ok()) return netlink.status();
  NetlinkRequest request(RTM_DELLINK, NLM_F_ACK);
  request.Put<ifinfomsg>()->ifi_index = static_cast<int>(index);
  return Annotate(netlink->Ask(request, [](const nlmsghdr*) {}), "remove the device " + name);
}

}  // namespace waggle::loader
