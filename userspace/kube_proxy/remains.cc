#include "userspace/kube_proxy/remains.h"

#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "loader/other_proxy.h"
#include "userspace/kube_proxy/ipsets.h"
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

// Does a rule of what iptables-save says translate?
bool TranslatesInIptables(std::string_view saved) {
  for (const char* target : {"MASQUERADE", "SNAT", "DNAT", "REDIRECT", "NETMAP"}) {
    if (saved.find(absl::StrCat(" -j ", target)) != std::string_view::npos) return true;
  }
  return false;
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
  const absl::StatusOr<std::string> chains = os::RunTool({"nft", "list", "chains", ip});
  if (!chains.ok()) found.errors.push_back(chains.status());
  if (chains.ok()) {
    for (std::string& service : ServedFromOutside(*chains))
      found.from_outside.insert(std::move(service));
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

// What iptables-nft-save does not show may hold chains of kube-proxy.
void TellHidden(const Iptables& one, const HiddenTable& hidden, Remains& found) {
  const std::string of = absl::StrCat("table ", hidden.table, " of ", one.title);
  if (!hidden.whole) {
    found.warnings.push_back(
        absl::StrCat(of,
                     ": not all of it can be seen, rules there that lead to kube-proxy's chains "
                     "would keep those: ",
                     hidden.reason));
    return;
  }
  std::string chains;
  for (const std::string_view chain : FixedChains()) {
    const absl::StatusOr<bool> has = loader::HasNftChain(one.family, hidden.table, chain);
    if (!has.ok()) found.errors.push_back(has.status());
    if (!has.ok()) return;
    if (*has) absl::StrAppend(&chains, chains.empty() ? "" : ", ", std::string(chain));
  }
  if (chains.empty()) return;
  found.errors.push_back(absl::FailedPreconditionError(absl::StrCat(
      of, " holds chains of kube-proxy (", chains, ") that cannot be removed: ", hidden.reason,
      " Remove the rules that others added there by nft (`nft -a list table ", IpOf(one.family),
      " ", hidden.table, "`), and run this again")));
}

void FindChains(const Iptables& one, const RemovalOptions& options, Remains& found) {
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
  const absl::StatusOr<IptablesRemoval> plan = PlanIptablesRemoval(*saved, options);
  if (!plan.ok()) {
    found.errors.push_back(absl::Status(
        plan.status().code(), absl::StrCat(one.title, ": ", std::string(plan.status().message()))));
    return;
  }
  for (const HiddenTable& hidden : plan->hidden)
    TellHidden(one, hidden, found);
  found.from_outside.insert(plan->from_outside.begin(), plan->from_outside.end());
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
    const std::string in = absl::StrCat("in table ", table.table, " of ", one.title, ": ");
    for (const std::string& text : table.keeps)
      found.stays.push_back(in + text);
    for (const std::string& text : table.warnings)
      found.warnings.push_back(in + text);
  }
  if (plan->script.empty()) return;
  // Wait for whoever else changes rules; iptables-nft has no lock and ignores it.
  const std::vector<std::string> argv = {restore, "--noflush", "--wait", "10"};
  found.remains.push_back(
      {absl::StrCat(Count(chains, "chain"), " and ", Count(rules, "rule"), " of ", one.title),
       std::move(parts), [argv, script = plan->script] { return Feed(argv, script); }});
}

// ---- What keeps connections alive

// Whose rules have the kernel translate, beside the keeper's: "table ip nat of nftables". Empty:
// nobody's, as far as can be seen.
std::string WhoElseTranslates(Family family) {
  const absl::StatusOr<std::string> table = loader::FindNatTable(family, kKeeperTable);
  if (table.ok() && !table->empty()) {
    return absl::StrCat("table ", *table, " of nftables");
  }
  for (const Iptables& one : kIptables) {
    const char* names =
        family == Family::kIpv4 ? "/proc/net/ip_tables_names" : "/proc/net/ip6_tables_names";
    if (one.family != family || !IsLegacy(one)) continue;
    // It would make a table that is not there.
    const std::string text = "\n" + ReadFile(names);
    if (text.find("\nnat\n") == std::string::npos) continue;
    const absl::StatusOr<std::string> saved =
        os::RunTool({absl::StrCat(one.program, "-save"), "-t", "nat"});
    if (saved.ok() && TranslatesInIptables(*saved)) return absl::StrCat("table nat of ", one.title);
  }
  return "";
}

void FindKeeper(Family family, Remains& found) {
  const absl::StatusOr<bool> there = loader::HasNftTable(family, kKeeperTable);
  if (!there.ok()) found.errors.push_back(there.status());
  if (!there.ok() || !*there) return;
  const std::string name = absl::StrCat("table ", IpOf(family), " ", std::string(kKeeperTable));
  const absl::StatusOr<loader::Translated> translated = loader::FindTranslated(family);
  if ((!translated.ok() || translated->count > 0) && WhoElseTranslates(family).empty()) {
    const std::string count =
        translated.ok() ? absl::StrCat(translated->count, " in connection tracking, one to ",
                                       translated->example)
                        : std::string(translated.status().message());
    found.stays.push_back(absl::StrCat(
        name, " of nftables: connections that kube-proxy translated go on by it (", count,
        "), and no other rules translate here; run this again when they have "
        "ended"));
    return;
  }
  const std::string script = absl::StrCat("delete ", name, "\n");
  found.remains.push_back({absl::StrCat(name, " of nftables"), {}, [script] {
                             return Feed({"nft", "-f", "-"}, script);
                           }});
}

// ---- IPVS

void FindIpvs(size_t servers, Remains& found) {
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
  size_t kept = 0;
  for (const std::string& set : *sets) {
    if (!IsKubeProxysSet(set)) continue;
    if (servers > 0) {
      ++kept;
      continue;
    }
    found.remains.push_back({"ipset " + set, {}, [set] { return loader::DestroyIpSet(set); }});
  }
  if (kept > 0) {
    found.stays.push_back(absl::StrCat(Count(kept, "ipset"),
                                       " of kube-proxy: its rules for virtual servers read them"));
  }
}

}  // namespace

absl::Status KeepTranslations() {
  for (const Family family : kFamilies) {
    const absl::StatusOr<loader::Translated> translated = loader::FindTranslated(family);
    // There are some, and which cannot be seen: as if they were translated.
    const bool unseen = absl::IsUnimplemented(translated.status());
    if (!translated.ok() && !unseen) return translated.status();
    if (translated.ok() && translated->count == 0) continue;
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
      return absl::Status(status.code(),
                          absl::StrCat("connections that kube-proxy may have translated would end, "
                                       "and what keeps them cannot be added; nothing was removed: ",
                                       std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

Remains FindRemains(const LookOptions& options) {
  Remains found;
  const size_t servers = CountVirtualServers(ReadFile("/proc/net/ip_vs"));
  for (const Family family : kFamilies)
    FindTable(family, found);
  for (const Iptables& one : kIptables)
    FindChains(one, {.virtual_servers = servers > 0, .force = options.force}, found);
  // Rules refer to ipsets.
  FindIpvs(servers, found);
  return found;
}

Remains FindKeepers() {
  Remains found;
  for (const Family family : kFamilies)
    FindKeeper(family, found);
  return found;
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

std::vector<std::string> ServedFromOutside(std::string_view chains) {
  // "chain external-ABCDEFGH-ns/name/tcp/port {", in a table that is named before.
  constexpr std::string_view kStart = "external-";
  constexpr size_t kHash = 9;
  std::vector<std::string> services;
  bool kube_proxys = false;
  for (absl::string_view line :
       absl::StrSplit(absl::string_view(chains.data(), chains.size()), '\n')) {
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\""), absl::SkipEmpty());
    if (words.size() >= 3 && words[0] == "table") kube_proxys = words[2] == kTable;
    if (!kube_proxys || words.size() < 2 || words[0] != "chain") continue;
    if (words[1].starts_with(kStart) && words[1].size() > kStart.size() + kHash) {
      services.push_back(words[1].substr(kStart.size() + kHash));
    }
  }
  return services;
}

}  // namespace waggle::kube_proxy
