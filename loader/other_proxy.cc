#include "loader/other_proxy.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/netfilter.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
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
// taken; `take` says whether it wants more. Unimplemented: the kernel has no such subsystem.
absl::Status Dump(uint16_t type, const std::function<void(NetlinkRequest&)>& fill,
                  const std::function<void()>& start,
                  const std::function<bool(const nlmsghdr*)>& take, std::string_view what) {
  constexpr int kTries = 5;
  absl::StatusOr<NetlinkQueries> netlink = NetlinkQueries::Open(NETLINK_NETFILTER);
  if (!netlink.ok()) return netlink.status();
  absl::Status asked;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    start();
    NetlinkRequest request(type, NLM_F_DUMP);
    fill(request);
    asked = netlink->Ask(request, [&](const nlmsghdr* message) {
      if (!take(message)) netlink->Stop();
    });
    if (NoSuchSubsystem(netlink->error())) {
      return absl::UnimplementedError(absl::StrCat(std::string(what), ": ", asked.message()));
    }
    if (!absl::IsUnavailable(asked)) break;
  }
  return Annotate(asked, what);
}

// Only those whose destination is translated. Kernels before 5.18 send all.
void AskForTranslated(NetlinkRequest& request) {
  mnl_attr_put_u32(request.message(), CTA_STATUS, htonl(IPS_DST_NAT));
  mnl_attr_put_u32(request.message(), CTA_STATUS_MASK, htonl(IPS_DST_NAT));
}

// Of those whose destination is translated, until `visit` returns false.
absl::Status VisitTranslated(net::Family family, const std::function<void()>& start,
                             const std::function<bool(const nlmsghdr*)>& visit) {
  const absl::Status status = Dump(
      Type(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET),
      [&](NetlinkRequest& request) {
        PutHead(request, ProtocolOf(family));
        AskForTranslated(request);
      },
      start,
      [&](const nlmsghdr* message) {
        const Attributes<CTA_STATUS + 1> entry(message, sizeof(nfgenmsg));
        return !(ntohl(NumberOf(entry[CTA_STATUS])) & IPS_DST_NAT) || visit(message);
      },
      "read connection tracking");
  if (!absl::IsUnimplemented(status)) return status;
  std::ifstream count("/proc/sys/net/netfilter/nf_conntrack_count");
  return WithoutCtnetlink({std::istreambuf_iterator<char>(count), {}});
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

// "TCP 10.96.0.1:443"; "" for nullopt.
std::string DestinationText(const std::optional<waggle_frontend_key>& key) {
  if (!key) return "";
  std::array<uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), key->addr, bytes.size());
  return absl::StrCat(std::string(net::ProtocolName(static_cast<net::Protocol>(key->protocol))),
                      " ", net::Endpoint{net::Address(bytes), ntohs(key->port_be)}.ToString());
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

// All of what nftables has of one kind in a family of its own.
absl::Status DumpNft(int message, uint8_t family,
                     const std::function<bool(const nlmsghdr*)>& take) {
  const absl::Status status = Dump(
      Type(NFNL_SUBSYS_NFTABLES, message),
      [&](NetlinkRequest& request) { PutHead(request, family); }, [] {}, take, "list nftables");
  return absl::IsUnimplemented(status) ? absl::OkStatus() : status;
}

// Does an expression of a rule translate addresses? iptables-nft has its own kind.
bool Translates(const nlattr* element) {
  const Attributes<NFTA_EXPR_DATA + 1> expression(element);
  const std::string name = TextOf(expression[NFTA_EXPR_NAME]);
  if (name == "nat" || name == "masq" || name == "redir") return true;
  if (name != "target") return false;
  const Attributes<NFTA_TARGET_NAME + 1> target(expression[NFTA_EXPR_DATA]);
  const std::string does = TextOf(target[NFTA_TARGET_NAME]);
  return does == "MASQUERADE" || does == "SNAT" || does == "DNAT" || does == "REDIRECT" ||
         does == "NETMAP";
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

absl::StatusOr<std::string> FindNatTable(net::Family family, std::string_view except) {
  for (const uint8_t in : {ProtocolOf(family), static_cast<uint8_t>(NFPROTO_INET)}) {
    std::set<std::string> dormant, with_nat;
    std::string found;
    absl::Status status = DumpNft(NFT_MSG_GETTABLE, in, [&](const nlmsghdr* message) {
      const Attributes<NFTA_TABLE_FLAGS + 1> table(message, sizeof(nfgenmsg));
      if (ntohl(NumberOf(table[NFTA_TABLE_FLAGS])) & NFT_TABLE_F_DORMANT) {
        dormant.insert(TextOf(table[NFTA_TABLE_NAME]));
      }
      return true;
    });
    if (!status.ok()) return status;
    status = DumpNft(NFT_MSG_GETCHAIN, in, [&](const nlmsghdr* message) {
      const Attributes<NFTA_CHAIN_TYPE + 1> chain(message, sizeof(nfgenmsg));
      const std::string table = TextOf(chain[NFTA_CHAIN_TABLE]);
      if (TextOf(chain[NFTA_CHAIN_TYPE]) == "nat" && table != except && !dormant.contains(table)) {
        with_nat.insert(table);
      }
      return true;
    });
    if (!status.ok()) return status;
    if (with_nat.empty()) continue;
    status = DumpNft(NFT_MSG_GETRULE, in, [&](const nlmsghdr* message) {
      const Attributes<NFTA_RULE_EXPRESSIONS + 1> rule(message, sizeof(nfgenmsg));
      const std::string table = TextOf(rule[NFTA_RULE_TABLE]);
      if (!with_nat.contains(table) || !rule[NFTA_RULE_EXPRESSIONS]) return true;
      ForEachAttribute(rule[NFTA_RULE_EXPRESSIONS], [&](const nlattr* element) {
        if (Translates(element)) found = table;
      });
      return found.empty();
    });
    if (!found.empty()) return found;
    if (!status.ok()) return status;
  }
  return "";
}

absl::Status WithoutCtnetlink(const std::string& count) {
  uint64_t number = 0;
  // No such file: nothing is tracked here.
  if (count.empty() || (absl::SimpleAtoi(count, &number) && number == 0)) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("this kernel tracks connections (", absl::StripAsciiWhitespace(count),
                   ") and has no ctnetlink (module nf_conntrack_netlink) to read them"));
}

absl::StatusOr<Translated> FindTranslated(net::Family family) {
  Translated found;
  const absl::Status status = VisitTranslated(
      family, [&] { found = {}; },
      [&](const nlmsghdr* entry) {
        if (found.count++ == 0) found.example = DestinationText(DestinationOf(entry));
        return true;
      });
  if (!status.ok()) return status;
  return found;
}

absl::StatusOr<std::string> FindOldConnection(std::string_view pin_path) {
  const absl::StatusOr<os::UniqueFd> frontends =
      maps::OpenPin(pin_path, "frontends", maps::Access::kReadOnly);
  if (!frontends.ok()) return frontends.status();
  std::string found;
  for (const net::Family family : {net::Family::kIpv4, net::Family::kIpv6}) {
    const absl::Status status = VisitTranslated(
        family, [] {},
        [&](const nlmsghdr* entry) {
          if (!IsOpenTcp(entry)) return true;
          const std::optional<waggle_frontend_key> key = DestinationOf(entry);
          waggle_frontend frontend{};
          if (key && bpf_map_lookup_elem(frontends->get(), &*key, &frontend) == 0) {
            found = DestinationText(key);
          }
          return found.empty();
        });
    if (!found.empty()) break;
    if (!status.ok()) return status;
  }
  return found;
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
        return true;
      },
      "list the ipsets");
  if (!status.ok() && !absl::IsUnimplemented(status)) return status;
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
