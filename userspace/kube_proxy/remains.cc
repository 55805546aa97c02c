#include "userspace/kube_proxy/remains.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "loader/other_proxy.h"
#include "userspace/kube_proxy/iptables_removal.h"
#include "userspace/os/tool.h"

namespace waggle::kube_proxy {
namespace {

using net::Family;

constexpr char kTable[] = "kube-proxy";
constexpr char kDummyDevice[] = "kube-ipvs0";
constexpr Family kFamilies[] = {Family::kIpv4, Family::kIpv6};

std::string IpOf(Family family) {
  return family == Family::kIpv4 ? "ip" : "ip6";
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Runs a tool that prints nothing worth knowing.
absl::Status Feed(const std::vector<std::string>& argv, const std::string& input) {
  return os::RunTool(argv, input).status();
}

// ---- nftables

void FindTable(Family family, Remains& found) {
  const absl::StatusOr<bool> there = loader::HasNftTable(family, kTable);
  if (!there.ok()) found.errors.push_back(there.status());
  if (!there.ok() || !*there) return;
  const std::string ip = IpOf(family);
  const std::string name = absl::StrCat("table ", ip, " ", kTable);
  if (os::FindTool("nft").empty()) {
    found.errors.push_back(absl::NotFoundError(
        absl::StrCat(name, " of nftables is there, and no program nft that could remove it")));
    return;
  }
  const std::string script = absl::StrCat("delete ", name, "\n");
  found.remains.push_back({absl::StrCat(name, " of nftables"), {}, [script] {
                             return Feed({"nft", "-f", "-"}, script);
                           }});
}

// ---- iptables

struct Iptables {
  Family family;
  const char* program;  // "iptables-nft"
  const char* title;
};

constexpr Iptables kIptables[] = {{Family::kIpv4, "iptables-nft", "iptables-nft"},
                                  {Family::kIpv6, "ip6tables-nft", "ip6tables-nft"},
                                  {Family::kIpv4, "iptables-legacy", "iptables-legacy"},
                                  {Family::kIpv6, "ip6tables-legacy", "ip6tables-legacy"}};

bool IsLegacy(const Iptables& one) {
  return std::string_view(one.program).ends_with("-legacy");
}

// Is there something that this one has to be asked for?
absl::StatusOr<bool> MayHold(const Iptables& one) {
  if (IsLegacy(one)) {
    return !ReadFile(one.family == Family::kIpv4 ? "/proc/net/ip_tables_names"
                                                 : "/proc/net/ip6_tables_names")
                .empty();
  }
  // kube-proxy has one of these chains in whatever mode. (Asked for by name, because programs of
  // iptables make all tables that they look at.)
  for (const auto& [table, chain] :
       {std::pair{"nat", "KUBE-SERVICES"}, std::pair{"nat", "KUBE-POSTROUTING"},
        std::pair{"nat", "KUBE-MARK-MASQ"}, std::pair{"nat", "KUBE-PROXY-CANARY"},
        std::pair{"filter", "KUBE-FORWARD"}, std::pair{"filter", "KUBE-PROXY-CANARY"},
        std::pair{"mangle", "KUBE-PROXY-CANARY"}}) {
    const absl::StatusOr<bool> has = loader::HasNftChain(one.family, table, chain);
    if (!has.ok() || *has) return has;
  }
  return false;
}

std::string Count(size_t count, std::string_view what) {
  return absl::StrCat(count, " ", std::string(what), count == 1 ? "" : "s");
}

void FindChains(const Iptables& one, Remains& found) {
  const absl::StatusOr<bool> may_hold = MayHold(one);
  if (!may_hold.ok()) found.errors.push_back(may_hold.status());
  if (!may_hold.ok() || !*may_hold) return;
  const std::string save = absl::StrCat(one.program, "-save");
  const std::string restore = absl::StrCat(one.program, "-restore");
  for (const std::string& tool : {save, restore}) {
    if (!os::FindTool(tool).empty()) continue;
    found.errors.push_back(
        absl::NotFoundError(absl::StrCat("there are tables of ", one.title,
                                         ", which may hold chains of kube-proxy, and no "
                                         "program ",
                                         tool, " to look at them or to change them")));
    return;
  }
  const absl::StatusOr<std::string> saved = os::RunTool({save});
  if (!saved.ok()) {
    found.errors.push_back(saved.status());
    return;
  }
  const absl::StatusOr<IptablesRemoval> plan = PlanIptablesRemoval(*saved);
  if (!plan.ok()) {
    found.errors.push_back(absl::Status(
        plan.status().code(), absl::StrCat(one.title, ": ", std::string(plan.status().message()))));
    return;
  }
  size_t rules = 0, chains = 0;
  std::vector<std::string> parts;
  for (const TableRemoval& table : plan->tables) {
    rules += table.rules.size();
    chains += table.chains.size();
    for (const std::string& rule : table.rules)
      parts.push_back(absl::StrCat("rule in ", table.table, ": -A ", rule));
    for (const std::string& chain : table.chains)
      parts.push_back(absl::StrCat("chain in ", table.table, ": ", chain));
    for (const std::string& chain : table.stay) {
      found.stays.push_back(absl::StrCat("in table ", table.table, " of ", one.title, ": chain ",
                                         chain, ", which is not kube-proxy's"));
    }
  }
  if (plan->script.empty()) return;
  // Wait for whoever else changes rules; iptables-nft has no lock and ignores it.
  const std::vector<std::string> argv = {restore, "--noflush", "--wait", "10"};
  found.remains.push_back(
      {absl::StrCat(Count(chains, "chain"), " and ", Count(rules, "rule"), " of ", one.title),
       std::move(parts), [argv, script = plan->script] { return Feed(argv, script); }});
}

// ---- What keeps connections alive

// Its rules do then what the keeper's do.
bool KubeProxyIsBack(Family family) {
  absl::StatusOr<bool> has = loader::HasNftTable(family, kTable);
  for (const Iptables& one : kIptables) {
    if (has.ok() && *has) return true;
    if (one.family == family && !IsLegacy(one)) has = MayHold(one);
  }
  return has.ok() && *has;
}

void FindKeeper(Family family, Remains& found) {
  const absl::StatusOr<bool> there = loader::HasNftTable(family, kKeeperTable);
  if (!there.ok()) found.errors.push_back(there.status());
  if (!there.ok() || !*there) return;
  const std::string name = absl::StrCat("table ", IpOf(family), " ", std::string(kKeeperTable));
  const absl::StatusOr<size_t> translated = loader::CountTranslated(family);
  if (!KubeProxyIsBack(family) && (!translated.ok() || *translated > 0)) {
    const std::string count = translated.ok() ? absl::StrCat(*translated, " in connection tracking")
                                              : std::string(translated.status().message());
    found.stays.push_back(
        absl::StrCat(name, " of nftables: connections that kube-proxy translated go on by it (",
                     count, "); run this again when they have ended"));
    return;
  }
  const std::string script = absl::StrCat("delete ", name, "\n");
  found.remains.push_back({absl::StrCat(name, " of nftables"), {}, [script] {
                             return Feed({"nft", "-f", "-"}, script);
                           }});
}

// ---- IPVS

void FindIpvs(Remains& found) {
  const size_t servers = CountVirtualServers(ReadFile("/proc/net/ip_vs"));
  const bool device = loader::HasDevice(kDummyDevice);
  if (servers > 0) {
    // They are not marked as anybody's, and connections through them end with them.
    found.stays.push_back(absl::StrCat(
        Count(servers, "virtual server"), " of IPVS", device ? " and the device kube-ipvs0" : "",
        ": connections through them end when they go; then run `ipvsadm --clear`, and this again"));
  } else if (device) {
    found.remains.push_back({absl::StrCat("device ", kDummyDevice), {}, [] {
                               return loader::RemoveDevice(kDummyDevice);
                             }});
  }
  const absl::StatusOr<std::vector<std::string>> sets = loader::ListIpSets();
  if (!sets.ok()) {
    found.errors.push_back(sets.status());
    return;
  }
  for (const std::string& set : *sets) {
    if (!set.starts_with("KUBE-")) continue;
    found.remains.push_back({"ipset " + set, {}, [set] { return loader::DestroyIpSet(set); }});
  }
}

}  // namespace

absl::Status KeepTranslations() {
  for (const Family family : kFamilies) {
    const absl::StatusOr<size_t> translated = loader::CountTranslated(family);
    if (!translated.ok()) return translated.status();
    if (*translated == 0) continue;
    // A chain of this type holds translation, its rule holds tracking. It sees the first
    // packet of a connection, after everybody else, and lets it go on.
    const std::string keeper = absl::StrCat(IpOf(family), " ", std::string(kKeeperTable));
    const absl::Status status =
        Feed({"nft", "-f", "-"},
             absl::StrCat("add table ", keeper, "\nadd chain ", keeper,
                          " postrouting { type nat hook postrouting priority 300; }\n"
                          "flush chain ",
                          keeper,
                          " postrouting\n"
                          "add rule ",
                          keeper, " postrouting ct state new accept\n"));
    if (!status.ok()) {
      return absl::Status(
          status.code(), absl::StrCat(*translated,
                                      " connections that kube-proxy may have translated would end, "
                                      "and what keeps them cannot be added; nothing was removed: ",
                                      std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

Remains FindRemains() {
  Remains found;
  for (const Family family : kFamilies)
    FindTable(family, found);
  for (const Iptables& one : kIptables)
    FindChains(one, found);
  // Rules refer to ipsets.
  FindIpvs(found);
  return found;
}

Remains FindKeepers() {
  Remains found;
  for (const Family family : kFamilies)
    FindKeeper(family, found);
  return found;
}

int RunningKubeProxy() {
  struct stat here {};
  if (stat("/proc/self/ns/net", &here) != 0) return 0;
  std::error_code error;
  for (std::filesystem::directory_iterator at("/proc", error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename();
    int pid = 0;
    const auto [rest, bad] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (bad != std::errc() || rest != name.data() + name.size()) continue;
    struct stat there {};
    if (ReadFile(at->path().string() + "/comm") == "kube-proxy\n" &&
        stat((at->path().string() + "/ns/net").c_str(), &there) == 0 &&
        there.st_ino == here.st_ino) {
      return pid;
    }
  }
  return 0;
}

size_t CountVirtualServers(std::string_view ip_vs) {
  size_t count = 0;
  for (absl::string_view line :
       absl::StrSplit(absl::string_view(ip_vs.data(), ip_vs.size()), '\n')) {
    // Those of the first two lines that explain the others have other words.
    for (const char* kind : {"TCP ", "UDP ", "SCTP ", "FWM "})
      count += line.substr(0, std::string_view(kind).size()) == kind;
  }
  return count;
}

}  // namespace waggle::kube_proxy
