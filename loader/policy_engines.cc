#include "loader/policy_engines.h"

#include <netinet/in.h>  // first: the kernel's headers then leave out what it defines

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "loader/netlink.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {
namespace {

using Clock = std::chrono::steady_clock;

// A table of iptables-legacy that looks unchanged is read again after this: chains can
// change without a change of any number that the kernel tells.
constexpr std::chrono::minutes kLegacyTrusted{1};
// Only as a whole can it be read, and 60,000 rules take 90 ms: one part in this of the time.
constexpr int kLegacyShare = 100;
// More rules than this are not read: 200,000 of the usual length.
constexpr uint32_t kLegacyMost = 64u << 20;
// Names are clipped to this, so that a reason has room for a whole sentence.
constexpr size_t kNameMost = 32;
// Dumps whose objects change meanwhile can miss some: they are asked for again, this often,
// and all that was seen counts. An engine has many chains; that none is ever seen cannot be.
constexpr int kDumpTries = 3;

constexpr std::string_view kStrangers = "programs of others must see the packets";

struct NamedEngine {
  std::string_view name;
  std::string_view engine;
};

// Chains that an engine hangs into FORWARD, INPUT and OUTPUT of `filter`, before all others
// of its own, as the engines' sources have them. Whole names, because the kernel finds a
// chain by its name at once, while the list of all chains takes 90 ms where kube-proxy has
// 60,000 (and four times that for twice as many).
constexpr NamedEngine kChains[] = {
    {"cali-FORWARD", "Calico"},
    {"cali-INPUT", "Calico"},
    {"cali-OUTPUT", "Calico"},
    {"felix-FORWARD", "Calico"},             // until 2.0
    {"KUBE-ROUTER-FORWARD", "kube-router"},  // k3s has it built in
    {"KUBE-ROUTER-INPUT", "kube-router"},
    {"KUBE-ROUTER-OUTPUT", "kube-router"},
    {"KUBE-NWPLCY-DEFAULT", "kube-router"},
    {"CILIUM_FORWARD", "Cilium"},
    {"CILIUM_INPUT", "Cilium"},
    {"CILIUM_OUTPUT", "Cilium"},
    {"WEAVE-NPC", "Weave Net"},
    {"WEAVE-NPC-EGRESS", "Weave Net"},
    {"ANTREA-FORWARD", "Antrea"},
    {"AZURE-NPM", "Azure NPM"},
    {"ROMANA-FORWARD-IN", "Romana"},
    {"ROMANA-FORWARD-OUT", "Romana"},
};
// Beginnings of the names of tables that engines have for themselves in nftables.
constexpr NamedEngine kTables[] = {
    {"calico", "Calico"},
    {"kube-router", "kube-router"},
    {"antrea", "Antrea"},
    {"ovn-kubernetes", "OVN-Kubernetes"},
    {"kube-network-policies", "kube-network-policies"},
    {"kindnet-network-policies", "kube-network-policies"},
};

// Disciplines that only order or queue. All others may hold back or drop.
constexpr std::string_view kHarmlessQdiscs[] = {
    "noqueue", "pfifo_fast", "pfifo",  "bfifo", "fq_codel", "fq",     "codel",
    "sfq",     "mq",         "fq_pie", "pie",   "clsact",   "ingress"};

// Names are other people's: made printable and short.
std::string Shown(std::string_view name) {
  std::string shown(name.substr(0, kNameMost));
  for (char& c : shown) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  if (name.size() > kNameMost) shown.replace(kNameMost - 3, 3, "...");
  return shown;
}

std::string PolicyOf(std::string_view engine) {
  return absl::StrCat(std::string(engine), engine.back() == 's' ? "'" : "'s",
                      " policy must see the packets");
}

std::string_view FamilyName(uint8_t family) {
  switch (family) {
    case NFPROTO_INET:
      return "inet";
    case NFPROTO_IPV4:
      return "ip";
    case NFPROTO_ARP:
      return "arp";
    case NFPROTO_NETDEV:
      return "netdev";
    case NFPROTO_BRIDGE:
      return "bridge";
    case NFPROTO_IPV6:
      return "ip6";
    default:
      return "?";
  }
}

// What is found, without doubles.
class Findings {
 public:
  void Add(std::string where, std::string why) {
    if (seen_.insert(why).second) all_.push_back({std::move(where), std::move(why)});
  }
  void Add(const Findings& others) {
    for (const PolicyEngine& engine : others.all_)
      Add(engine.where, engine.why);
  }
  std::vector<PolicyEngine> Take() { return std::move(all_); }

 private:
  std::set<std::string> seen_;
  std::vector<PolicyEngine> all_;
};

// The fixed part of a message; null when it is too short to have one.
template <typename T>
const T* Fixed(const nlmsghdr* message) {
  if (mnl_nlmsg_get_payload_len(message) < sizeof(T)) return nullptr;
  return static_cast<const T*>(mnl_nlmsg_get_payload(message));
}

// Asks for all objects, with several tries; `take` may get one more than once.
absl::Status Dump(NetlinkQueries& queries, NetlinkRequest& request,
                  const NetlinkQueries::Take& take) {
  for (int i = 0; i < kDumpTries; ++i) {
    const absl::Status status = queries.Ask(request, take);
    // Unavailable without an errno: objects changed meanwhile, some may be missing.
    if (!absl::IsUnavailable(status) || queries.error() != 0) return status;
  }
  return absl::OkStatus();
}

absl::Status Annotate(const absl::Status& status, std::string_view what) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(std::string(what), ": ", std::string(status.message())));
}

constexpr uint16_t NftType(int message) {
  return static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message);
}

// nftables as it was at one generation.
struct NftState {
  uint32_t generation = 0;
  Findings engines;
  std::map<std::string, std::string, std::less<>> bound;  // device → a chain bound to it
};

void TakeTable(const nlmsghdr* message, NftState& state) {
  const Attributes<NFTA_TABLE_NAME + 1> table(message, sizeof(nfgenmsg));
  const std::string name = TextOf(table[NFTA_TABLE_NAME]);
  const std::string_view engine = EngineOfTable(name);
  if (engine.empty()) return;
  const auto* fixed = Fixed<nfgenmsg>(message);
  state.engines.Add(
      absl::StrCat("table ", std::string(FamilyName(fixed->nfgen_family)), " ", Shown(name)),
      PolicyOf(engine));
}

std::string ChainText(std::string_view chain, uint8_t family, std::string_view table) {
  return absl::StrCat("chain ", Shown(chain), " in table ", std::string(FamilyName(family)), " ",
                      Shown(table));
}

// Only chains of the family netdev are bound to devices.
void TakeBoundChain(const nlmsghdr* message, NftState& state) {
  const Attributes<NFTA_CHAIN_HOOK + 1> chain(message, sizeof(nfgenmsg));
  const Attributes<NFTA_HOOK_DEVS + 1> hook(chain[NFTA_CHAIN_HOOK]);
  const auto bind = [&](const nlattr* device) {
    if (const std::string to = TextOf(device); !to.empty()) {
      state.bound.emplace(to, ChainText(TextOf(chain[NFTA_CHAIN_NAME]), NFPROTO_NETDEV,
                                        TextOf(chain[NFTA_CHAIN_TABLE])));
    }
  };
  bind(hook[NFTA_HOOK_DEV]);
  if (const nlattr* devices = hook[NFTA_HOOK_DEVS]) ForEachAttribute(devices, bind);
}

// Is there such a chain where iptables-nft has its table `filter`?
absl::Status AskForChain(NetlinkQueries& netlink, uint8_t family, const NamedEngine& named,
                         NftState& state) {
  constexpr char kTable[] = "filter";
  NetlinkRequest request(NftType(NFT_MSG_GETCHAIN), 0);
  auto* request_head = request.Put<nfgenmsg>();
  request_head->nfgen_family = family;
  mnl_attr_put_strz(request.message(), NFTA_CHAIN_TABLE, kTable);
  mnl_attr_put_strz(request.message(), NFTA_CHAIN_NAME, std::string(named.name).c_str());
  const absl::Status asked = netlink.Ask(request, [](const nlmsghdr*) {});
  if (asked.ok()) {
    state.engines.Add(ChainText(named.name, family, kTable), PolicyOf(named.engine));
  }
  return netlink.error() == ENOENT ? absl::OkStatus() : asked;
}

// Brings `state` up to date. A kernel without nf_tables has no chains.
absl::Status ReadNftables(std::optional<NftState>& state) {
  absl::StatusOr<NetlinkQueries> netlink = NetlinkQueries::Open(NETLINK_NETFILTER);
  if (!netlink.ok()) {
    return absl::IsUnimplemented(netlink.status()) ? absl::OkStatus() : netlink.status();
  }
  NftState fresh;
  NetlinkRequest generation(NftType(NFT_MSG_GETGEN), 0);
  generation.Put<nfgenmsg>();
  const absl::Status asked = netlink->Ask(generation, [&](const nlmsghdr* message) {
    const Attributes<NFTA_GEN_ID + 1> found(message, sizeof(nfgenmsg));
    const nlattr* id = found[NFTA_GEN_ID];
    if (id && mnl_attr_validate(id, MNL_TYPE_U32) >= 0) {
      fresh.generation = ntohl(mnl_attr_get_u32(id));
    }
  });
  if (netlink->error() == EINVAL || netlink->error() == EOPNOTSUPP) {
    state.reset();
    return absl::OkStatus();
  }
  if (!asked.ok()) return asked;
  if (state && state->generation == fresh.generation) return absl::OkStatus();

  NetlinkRequest tables(NftType(NFT_MSG_GETTABLE), NLM_F_DUMP);
  tables.Put<nfgenmsg>();
  absl::Status status =
      Dump(*netlink, tables, [&](const nlmsghdr* message) { TakeTable(message, fresh); });
  if (!status.ok()) return status;
  for (const uint8_t family : {NFPROTO_IPV4, NFPROTO_IPV6}) {
    for (const NamedEngine& named : kChains) {
      status = AskForChain(*netlink, family, named, fresh);
      if (!status.ok()) return status;
    }
  }
  NetlinkRequest chains(NftType(NFT_MSG_GETCHAIN), NLM_F_DUMP);
  auto* chains_head = chains.Put<nfgenmsg>();
  chains_head->nfgen_family = NFPROTO_NETDEV;
  status = Dump(*netlink, chains, [&](const nlmsghdr* message) { TakeBoundChain(message, fresh); });
  if (!status.ok()) return status;
  state = std::move(fresh);
  return absl::OkStatus();
}

// iptables-legacy, of one family. Both have the same structures, but for the entries.
struct LegacyFamily {
  int domain;
  int level;
  const char* names;  // file with the tables in use; asking for others would make them
  const char* command;
  bool ipv6;
};
constexpr LegacyFamily kLegacyFamilies[] = {
    {AF_INET, SOL_IP, "/proc/thread-self/net/ip_tables_names", "iptables-legacy", false},
    {AF_INET6, SOL_IPV6, "/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy", true},
};
static_assert(sizeof(ipt_getinfo) == sizeof(ip6t_getinfo));
static_assert(offsetof(ipt_getinfo, size) == offsetof(ip6t_getinfo, size));
static_assert(offsetof(ipt_get_entries, size) == offsetof(ip6t_get_entries, size));
static_assert(int{IPT_SO_GET_INFO} == int{IP6T_SO_GET_INFO});
static_assert(int{IPT_SO_GET_ENTRIES} == int{IP6T_SO_GET_ENTRIES});

struct LegacyTable {
  ipt_getinfo info{};
  Clock::time_point read;
  Clock::duration took{};
  Findings engines;
};

absl::Status ReadLegacyTable(int fd, const LegacyFamily& family, const std::string& name,
                             std::map<std::string, LegacyTable>& tables) {
  const std::string what = absl::StrCat("table ", name, " of ", family.command);
  for (int tries = 0;; ++tries) {
    ipt_getinfo info{};
    name.copy(info.name, sizeof(info.name) - 1);
    socklen_t length = sizeof(info);
    if (getsockopt(fd, family.level, IPT_SO_GET_INFO, &info, &length) != 0) {
      if (errno == ENOENT) {  // gone meanwhile
        tables.erase(name);
        return absl::OkStatus();
      }
      return os::ErrnoStatus(errno, what);
    }
    const Clock::time_point begin = Clock::now();
    if (const auto known = tables.find(name); known != tables.end()) {
      const bool same = std::memcmp(&known->second.info, &info, sizeof(info)) == 0;
      const Clock::duration trusted =
          same ? Clock::duration(kLegacyTrusted) : kLegacyShare * known->second.took;
      if (begin - known->second.read < trusted) return absl::OkStatus();
    }
    if (info.size > kLegacyMost) {
      return absl::ResourceExhaustedError(
          absl::StrCat(what, " holds ", info.size >> 20, " MiB of rules, more than waggle reads"));
    }
    // Aligned as the entries want it.
    constexpr size_t kBefore = offsetof(ipt_get_entries, entrytable);
    std::vector<uint64_t> room((kBefore + info.size + 7) / 8);
    auto* bytes = reinterpret_cast<uint8_t*>(room.data());
    name.copy(reinterpret_cast<char*>(bytes), sizeof(info.name) - 1);
    std::memcpy(bytes + offsetof(ipt_get_entries, size), &info.size, sizeof(info.size));
    length = static_cast<socklen_t>(kBefore + info.size);
    if (getsockopt(fd, family.level, IPT_SO_GET_ENTRIES, bytes, &length) != 0) {
      // It changed its size between the two questions.
      if (errno == EAGAIN && tries < 10) continue;
      return os::ErrnoStatus(errno, what);
    }
    const absl::StatusOr<std::vector<std::string>> chains =
        LegacyChains({bytes + kBefore, info.size}, family.ipv6);
    if (!chains.ok()) return Annotate(chains.status(), what);
    LegacyTable fresh{info, begin, Clock::now() - begin, {}};
    for (const std::string& chain : *chains) {
      if (const std::string_view engine = EngineOfChain(chain); !engine.empty()) {
        fresh.engines.Add(absl::StrCat("chain ", Shown(chain), " in ", what), PolicyOf(engine));
      }
    }
    tables.insert_or_assign(name, std::move(fresh));
    return absl::OkStatus();
  }
}

absl::Status ReadLegacy(const LegacyFamily& family, std::map<std::string, LegacyTable>& tables) {
  std::set<std::string> names;
  {
    errno = 0;
    std::ifstream file(family.names);
    if (!file) {
      tables.clear();
      return errno == ENOENT ? absl::OkStatus() : os::ErrnoStatus(errno, family.names);
    }
    for (std::string name; std::getline(file, name);) {
      // Nobody's policy is in `nat`: it sees the first packet of a connection only. It is
      // also where kube-proxy has its tens of thousands of chains.
      if (!name.empty() && name != "nat" && name.size() < sizeof(ipt_getinfo::name)) {
        names.insert(name);
      }
    }
  }
  std::erase_if(tables, [&](const auto& table) { return names.count(table.first) == 0; });
  if (names.empty()) return absl::OkStatus();
  // Any socket of the family will do; a raw one would need one more right.
  const os::UniqueFd fd(socket(family.domain, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return os::ErrnoStatus(errno, absl::StrCat("open a socket for ", family.command));
  for (const std::string& name : names) {
    if (absl::Status status = ReadLegacyTable(fd.get(), family, name, tables); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

struct Device {
  std::string name;
  bool pod = false;
  bool filters = false;  // has a clsact or ingress discipline
};
using Devices = std::map<int, Device>;  // by ifindex

// Their names, and those that are ports of Open vSwitch.
absl::Status ReadLinks(NetlinkQueries& netlink, Devices& devices, Findings& findings) {
  NetlinkRequest request(RTM_GETLINK, NLM_F_DUMP);
  request.Put<ifinfomsg>();
  return Dump(netlink, request, [&](const nlmsghdr* message) {
    const Attributes<IFLA_LINKINFO + 1> link(message, sizeof(ifinfomsg));
    const auto* fixed = Fixed<ifinfomsg>(message);
    const auto device = fixed ? devices.find(fixed->ifi_index) : devices.end();
    if (device == devices.end()) return;
    device->second.name = TextOf(link[IFLA_IFNAME]);
    const Attributes<IFLA_INFO_SLAVE_KIND + 1> kind(link[IFLA_LINKINFO]);
    if (device->second.pod && TextOf(kind[IFLA_INFO_SLAVE_KIND]) == "openvswitch") {
      findings.Add(absl::StrCat(Shown(device->second.name), " is a port of Open vSwitch"),
                   "its flows hold the policy");
    }
  });
}

absl::Status ReadQdiscs(NetlinkQueries& netlink, Devices& devices, Findings& findings) {
  NetlinkRequest request(RTM_GETQDISC, NLM_F_DUMP);
  request.Put<tcmsg>();
  return Dump(netlink, request, [&](const nlmsghdr* message) {
    const Attributes<TCA_KIND + 1> qdisc(message, sizeof(tcmsg));
    const auto* fixed = Fixed<tcmsg>(message);
    const auto found = fixed ? devices.find(fixed->tcm_ifindex) : devices.end();
    if (found == devices.end()) return;
    Device& device = found->second;
    const std::string kind = TextOf(qdisc[TCA_KIND]);
    if (kind == "clsact" || kind == "ingress") device.filters = true;
    // On an uplink they see our packets like all others.
    if (device.pod && std::find(std::begin(kHarmlessQdiscs), std::end(kHarmlessQdiscs), kind) ==
                          std::end(kHarmlessQdiscs)) {
      findings.Add(absl::StrCat("qdisc ", Shown(kind), " on ", Shown(device.name)),
                   "it limits what goes to the pod");
    }
  });
}

struct Direction {
  const char* name;
  uint32_t parent;
  bpf_attach_type tcx;
  // What leaves by an uplink meets the programs there, whoever sends it.
  bool pods_only;
};
// BPF_TCX_INGRESS and BPF_TCX_EGRESS; Debian 12's headers are older than they are.
constexpr Direction kDirections[] = {
    {"ingress", TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), static_cast<bpf_attach_type>(46), false},
    {"egress", TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS), static_cast<bpf_attach_type>(47), true},
};

bool IsOurName(std::string_view name) {
  constexpr std::string_view kOurs = "waggle_";
  return name.substr(0, kOurs.size()) == kOurs;
}

// The name by which a program is a stranger's; empty: it is ours, or gone.
std::string StrangerById(uint32_t id, const PolicyScope& scope) {
  if (std::find(scope.own_programs.begin(), scope.own_programs.end(), id) !=
      scope.own_programs.end()) {
    return {};
  }
  const std::string number = absl::StrCat("program ", id);
  const os::UniqueFd program(bpf_prog_get_fd_by_id(id));
  // It may be of a Waggle with other pins, but also a policy: better the host's stack for nothing.
  if (!program && errno == EPERM) return absl::StrCat(number, " of unknown name");
  if (!program) return errno == ENOENT ? std::string() : number;
  bpf_prog_info info{};
  uint32_t length = sizeof(info);
  if (bpf_obj_get_info_by_fd(program.get(), &info, &length) != 0) return number;
  const std::string_view name(info.name, strnlen(info.name, sizeof(info.name)));
  if (IsOurName(name)) return {};
  return name.empty() ? number : absl::StrCat("program ", Shown(name));
}

absl::Status ReadTcx(int ifindex, const Device& device, const Direction& direction,
                     const PolicyScope& scope, Findings& findings) {
  std::vector<uint32_t> ids(16);
  uint32_t count = static_cast<uint32_t>(ids.size());
  while (bpf_prog_query(ifindex, direction.tcx, 0, nullptr, ids.data(), &count) != 0) {
    // Before 6.6 there is no tcx; the device may be gone.
    if (errno == EINVAL || errno == ENODEV) return absl::OkStatus();
    if (errno != ENOSPC || count <= ids.size()) {
      return os::ErrnoStatus(errno, absl::StrCat("ask for the tcx programs of ", device.name));
    }
    ids.resize(count);
  }
  ids.resize(std::min<size_t>(count, ids.size()));
  for (const uint32_t id : ids) {
    if (const std::string name = StrangerById(id, scope); !name.empty()) {
      findings.Add(absl::StrCat(name, " at tcx ", direction.name, " of ", Shown(device.name)),
                   std::string(kStrangers));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadFilters(NetlinkQueries& netlink, int ifindex, const Device& device,
                         const Direction& direction, const PolicyScope& scope, Findings& findings) {
  NetlinkRequest request(RTM_GETTFILTER, NLM_F_DUMP);
  auto* head = request.Put<tcmsg>();
  head->tcm_ifindex = ifindex;
  head->tcm_parent = direction.parent;
  const absl::Status status = Dump(netlink, request, [&](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWTFILTER) return;
    const Attributes<TCA_OPTIONS + 1> filter(message, sizeof(tcmsg));
    if (!filter[TCA_OPTIONS]) return;  // a class of filters, without one in it
    const std::string kind = TextOf(filter[TCA_KIND]);
    std::string name;
    if (kind == "bpf") {
      const Attributes<TCA_BPF_ID + 1> bpf(filter[TCA_OPTIONS]);
      name = TextOf(bpf[TCA_BPF_NAME]);
      if (IsOurName(name)) return;
      const nlattr* id = bpf[TCA_BPF_ID];
      if (id && mnl_attr_validate(id, MNL_TYPE_U32) >= 0 &&
          StrangerById(mnl_attr_get_u32(id), scope).empty()) {
        return;
      }
    }
    findings.Add(absl::StrCat("filter ", Shown(kind), name.empty() ? "" : " ", Shown(name),
                              " at tc ", direction.name, " of ", Shown(device.name)),
                 std::string(kStrangers));
  });
  // The device, or its discipline, went meanwhile.
  const int error = netlink.error();
  if (error == EINVAL || error == ENOENT || error == ENODEV) return absl::OkStatus();
  return Annotate(status, absl::StrCat("read the tc filters of ", device.name));
}

absl::Status ReadDevices(const PolicyScope& scope, const std::optional<NftState>& nft,
                         Findings& findings) {
  Devices devices;
  for (const int ifindex : scope.uplinks)
    devices[ifindex];
  for (const int ifindex : scope.pods)
    devices[ifindex].pod = true;
  if (devices.empty()) return absl::OkStatus();
  absl::StatusOr<NetlinkQueries> netlink = NetlinkQueries::Open(NETLINK_ROUTE);
  if (!netlink.ok()) return netlink.status();
  if (absl::Status status = ReadLinks(*netlink, devices, findings); !status.ok()) {
    return Annotate(status, "read the devices");
  }
  std::erase_if(devices, [](const auto& device) { return device.second.name.empty(); });
  if (absl::Status status = ReadQdiscs(*netlink, devices, findings); !status.ok()) {
    return Annotate(status, "read the queueing disciplines");
  }
  for (const auto& [ifindex, device] : devices) {
    if (nft) {
      if (const auto chain = nft->bound.find(device.name); chain != nft->bound.end()) {
        findings.Add(absl::StrCat(chain->second, " on device ", Shown(device.name)),
                     "other people's rules must see the packets");
      }
    }
    for (const Direction& direction : kDirections) {
      if (direction.pods_only && !device.pod) continue;
      absl::Status status = ReadTcx(ifindex, device, direction, scope, findings);
      if (status.ok() && device.filters) {
        status = ReadFilters(*netlink, ifindex, device, direction, scope, findings);
      }
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace

struct PolicyEngineFinder::Memory {
  std::optional<NftState> nft;
  std::map<std::string, LegacyTable> legacy[std::size(kLegacyFamilies)];
};

PolicyEngineFinder::PolicyEngineFinder() : memory_(std::make_unique<Memory>()) {}
PolicyEngineFinder::~PolicyEngineFinder() = default;

absl::StatusOr<std::vector<PolicyEngine>> PolicyEngineFinder::Find(const PolicyScope& scope) {
  Findings findings;
  if (absl::Status status = ReadNftables(memory_->nft); !status.ok()) {
    return Annotate(status, "read the chains of nftables");
  }
  if (memory_->nft) findings.Add(memory_->nft->engines);
  for (size_t i = 0; i < std::size(kLegacyFamilies); ++i) {
    if (absl::Status status = ReadLegacy(kLegacyFamilies[i], memory_->legacy[i]); !status.ok()) {
      return Annotate(status, "read the chains of iptables-legacy");
    }
    for (const auto& [name, table] : memory_->legacy[i])
      findings.Add(table.engines);
  }
  if (absl::Status status = ReadDevices(scope, memory_->nft, findings); !status.ok()) {
    return status;
  }
  return findings.Take();
}

absl::StatusOr<std::vector<PolicyEngine>> FindPolicyEngines(const PolicyScope& scope) {
  return PolicyEngineFinder().Find(scope);
}

std::string_view EngineOfChain(std::string_view chain) {
  for (const NamedEngine& named : kChains) {
    if (chain == named.name) return named.engine;
  }
  return {};
}

std::string_view EngineOfTable(std::string_view table) {
  for (const NamedEngine& named : kTables) {
    if (table.substr(0, named.name.size()) == named.name) return named.engine;
  }
  return {};
}

}  // namespace waggle::loader
