#include "userspace/kube_proxy/iptables_removal.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace waggle::kube_proxy {
namespace {

// Of the modes iptables and ipvs, now and in earlier versions.
constexpr std::string_view kChains[] = {"KUBE-SERVICES",
                                        "KUBE-EXTERNAL-SERVICES",
                                        "KUBE-NODEPORTS",
                                        "KUBE-POSTROUTING",
                                        "KUBE-MARK-MASQ",
                                        "KUBE-FORWARD",
                                        "KUBE-PROXY-CANARY",
                                        "KUBE-PROXY-FIREWALL",
                                        "KUBE-NODE-PORT",
                                        "KUBE-LOAD-BALANCER",
                                        "KUBE-IPVS-FILTER",
                                        "KUBE-IPVS-OUT-FILTER",
                                        "KUBE-SOURCE-RANGES-FIREWALL"};
constexpr std::string_view kPrefixes[] = {"KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-",
                                          "KUBE-EXT-", "KUBE-FW-",  "KUBE-XLB-"};
// One marks packets, the other masquerades what is marked.
constexpr std::string_view kMark = "KUBE-MARK-MASQ";
constexpr std::string_view kMasquerade = "KUBE-POSTROUTING";
// It accepts packets of established connections, in filter/FORWARD.
constexpr std::string_view kForward = "KUBE-FORWARD";
constexpr std::string_view kBuiltInForward = "FORWARD";
// Only mode ipvs has them.
constexpr std::string_view kIpvsChains[] = {"KUBE-NODE-PORT", "KUBE-LOAD-BALANCER",
                                            "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
                                            "KUBE-SOURCE-RANGES-FIREWALL"};

bool IsKubeProxys(std::string_view chain) {
  return std::find(std::begin(kChains), std::end(kChains), chain) != std::end(kChains) ||
         std::any_of(std::begin(kPrefixes), std::end(kPrefixes),
                     [chain](std::string_view prefix) { return chain.starts_with(prefix); });
}

struct Rule {
  std::string chain;
  std::string target = {};    // of -j or -g; empty: none
  std::string comment = {};   // the last
  bool unconditional = true;  // neither a match nor an address
  std::string text = {};      // behind "-A "
};

struct Table {
  std::string name = {};
  std::vector<std::string> chains = {};
  std::set<std::string, std::less<>> built_in = {};
  std::string forward_policy = {};
  std::vector<Rule> rules = {};
};

// Words as iptables-restore reads them: quotes keep spaces, a backslash keeps what follows.
// False where a quote does not end.
bool SplitWords(std::string_view text, std::vector<std::string>* words) {
  std::string word;
  bool quoted = false, any = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\' && i + 1 < text.size()) {
      word += text[++i];
      any = true;
    } else if (c == '"') {
      quoted = !quoted;
      any = true;
    } else if ((c == ' ' || c == '\t') && !quoted) {
      if (any) words->push_back(std::exchange(word, ""));
      any = false;
    } else {
      word += c;
      any = true;
    }
  }
  if (any) words->push_back(word);
  return !quoted;
}

// What stands behind "-A ". False where that is no rule.
bool ParseRule(std::string_view text, Rule* rule) {
  std::vector<std::string> words;
  if (!SplitWords(text, &words) || words.empty()) return false;
  rule->chain = words[0];
  rule->text = text;
  for (size_t i = 1; i < words.size(); ++i) {
    const bool more = i + 1 < words.size();
    if (more && words[i] == "--comment") {
      rule->comment = words[++i];  // may look like anything
    } else if (more && (words[i] == "-j" || words[i] == "-g")) {
      rule->target = words[++i];
    } else if (more && words[i] == "-m" && words[i + 1] == "comment") {
      ++i;
    } else if (rule->target.empty()) {
      rule->unconditional = false;  // what follows the target belongs to it
    }
  }
  return true;
}

absl::Status At(size_t line, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("iptables-save, line ", line, ": ", std::string(what)));
}

// Remarks of iptables-nft-save about tables that others changed by nft, beyond what iptables knows:
// "# Table `nat' is incompatible, …", "# Table `nat' contains incompatible base-chains, …".
void ParseRemark(std::string_view line, std::vector<HiddenTable>* hidden) {
  constexpr std::string_view kStart = "# Table `";
  const size_t end = line.find('\'');
  if (!line.starts_with(kStart) || end == std::string_view::npos) return;
  const std::string_view said = line.substr(end + 1);
  if (said.find("incompatible") == std::string_view::npos) return;
  hidden->push_back({.table = std::string(line.substr(kStart.size(), end - kStart.size())),
                     .whole = said.starts_with(" is "),
                     .reason = std::string(line.substr(2))});
}

absl::StatusOr<std::vector<Table>> Parse(std::string_view saved, std::vector<HiddenTable>* hidden) {
  std::vector<Table> tables;
  bool open = false;
  size_t number = 0;
  for (absl::string_view piece :
       absl::StrSplit(absl::string_view(saved.data(), saved.size()), '\n')) {
    ++number;
    std::string_view line(piece.data(), piece.size());
    if (line.starts_with('#')) ParseRemark(line, hidden);
    if (line.empty() || line[0] == '#') continue;
    if (line[0] == '*') {
      if (open) return At(number, "a table in another one");
      tables.push_back({.name = std::string(line.substr(1))});
      open = true;
      continue;
    }
    if (!open) return At(number, "outside of a table");
    if (line == "COMMIT") {
      open = false;
      continue;
    }
    Table& table = tables.back();
    if (line[0] == ':') {
      std::vector<std::string> words;
      if (!SplitWords(line.substr(1), &words) || words.size() < 2) {
        return At(number, "a chain without a policy");
      }
      table.chains.push_back(words[0]);
      if (words[1] != "-") table.built_in.insert(words[0]);
      if (words[0] == kBuiltInForward) table.forward_policy = words[1];
      continue;
    }
    if (line[0] == '[') line.remove_prefix(std::min(line.size(), line.find(']') + 2));
    Rule rule;
    if (!line.starts_with("-A ") || !ParseRule(line.substr(3), &rule)) {
      return At(number, "neither table nor chain nor rule");
    }
    table.rules.push_back(std::move(rule));
  }
  if (open) return At(number, "the table does not end");
  return tables;
}

// Chains of kube-proxy that somebody else needs, each with who that is.
std::map<std::string, std::string> Needed(const Table& table, const std::set<std::string>& ours) {
  std::map<std::string, std::string> needed;
  // Until nothing is added: what is needed needs others.
  for (bool grew = true; grew;) {
    grew = false;
    for (const Rule& rule : table.rules) {
      if (!ours.contains(rule.target) || table.built_in.contains(rule.chain)) continue;
      if (ours.contains(rule.chain) && !needed.contains(rule.chain)) continue;
      grew |= needed.emplace(rule.target, rule.chain).second;
    }
    const std::string mark(kMark), masquerade(kMasquerade);
    if (needed.contains(mark) && ours.contains(masquerade)) {
      grew |= needed.emplace(masquerade, mark).second;
    }
  }
  return needed;
}

// Why packets that no rule accepts are dropped in filter/FORWARD; empty: they are not.
std::string WhyForwardDrops(const Table& table) {
  if (table.name != "filter") return "";
  if (table.forward_policy == "DROP") return "the policy of FORWARD is DROP";
  for (const Rule& rule : table.rules) {
    if (rule.chain == kBuiltInForward && rule.unconditional &&
        (rule.target == "DROP" || rule.target == "REJECT")) {
      return "FORWARD ends in " + rule.target;
    }
  }
  return "";
}

TableRemoval PlanTable(const Table& table, const RemovalOptions& options, bool keep_all) {
  std::set<std::string> ours;
  for (const std::string& chain : table.chains) {
    if (IsKubeProxys(chain) && !table.built_in.contains(chain)) ours.insert(chain);
  }
  TableRemoval removal{.table = table.name};
  if (keep_all && !ours.empty()) {
    removal.keeps.push_back(absl::StrCat(
        "kube-proxy's chains (", absl::StrJoin(ours, ", "),
        "): IPVS has virtual servers, whose packets would go unmasqueraded or be dropped without "
        "them; when those may go, run `ipvsadm --clear`, and this again"));
    return removal;
  }
  const std::map<std::string, std::string> needed = Needed(table, ours);
  const std::string drops = WhyForwardDrops(table);
  const std::string forward(kForward);
  const bool accepts = ours.contains(forward) && !needed.contains(forward) && !drops.empty();
  const auto stays = [&](const std::string& chain) {
    return needed.contains(chain) || (accepts && !options.force && chain == forward);
  };
  if (accepts && !options.force) {
    removal.keeps.push_back(
        absl::StrCat("chain ", forward, ": ", drops,
                     ", and it accepts packets of established connections; once "
                     "other rules accept them in both directions, --force removes it"));
  } else if (accepts) {
    removal.warnings.push_back(
        absl::StrCat("chain ", forward, " goes: ", drops,
                     ", and what it accepted (packets of established connections) is dropped "
                     "unless other rules accept it"));
  }
  for (const std::string& chain : table.chains) {
    if (ours.contains(chain) && !stays(chain)) removal.chains.push_back(chain);
  }
  for (const auto& [chain, by] : needed)
    removal.stay.push_back(absl::StrCat(chain, " (", by, " leads there)"));
  for (const Rule& rule : table.rules) {
    const bool leads = ours.contains(rule.target) && !stays(rule.target);
    if (leads && table.built_in.contains(rule.chain)) removal.rules.push_back(rule.text);
  }
  return removal;
}

// Chains of modes iptables (now and earlier) that hold what comes from outside.
bool LeadsFromOutside(const Rule& rule) {
  if (rule.chain == "KUBE-NODEPORTS") return rule.target.starts_with("KUBE-");
  return rule.chain == "KUBE-SERVICES" &&
         (rule.target.starts_with("KUBE-EXT-") || rule.target.starts_with("KUBE-FW-") ||
          rule.target.starts_with("KUBE-XLB-") || rule.comment.ends_with(" external IP") ||
          rule.comment.ends_with(" loadbalancer IP"));
}

void CollectFromOutside(const Table& table, std::set<std::string>* services) {
  if (table.name != "nat") return;
  for (const Rule& rule : table.rules) {
    if (!LeadsFromOutside(rule)) continue;
    const std::string name = rule.comment.substr(0, rule.comment.find(' '));
    services->insert(name.empty() ? rule.target : name);
  }
}

bool IsOfModeIpvs(const std::vector<Table>& tables) {
  for (const Table& table : tables) {
    for (const std::string& chain : table.chains) {
      if (std::find(std::begin(kIpvsChains), std::end(kIpvsChains), chain) != std::end(kIpvsChains))
        return true;
    }
  }
  return false;
}

}  // namespace

const std::vector<std::string_view>& FixedChains() {
  static const std::vector<std::string_view> chains(std::begin(kChains), std::end(kChains));
  return chains;
}

absl::StatusOr<IptablesRemoval> PlanIptablesRemoval(std::string_view saved,
                                                    const RemovalOptions& options) {
  IptablesRemoval plan;
  absl::StatusOr<std::vector<Table>> tables = Parse(saved, &plan.hidden);
  if (!tables.ok()) return tables.status();
  const bool keep_all = options.virtual_servers && IsOfModeIpvs(*tables);
  std::set<std::string> from_outside;
  for (const Table& table : *tables) {
    TableRemoval removal = PlanTable(table, options, keep_all);
    if (!keep_all) CollectFromOutside(table, &from_outside);
    if (!removal.chains.empty()) {
      absl::StrAppend(&plan.script, "*", table.name, "\n");
      // Declared again, a chain is empty: then no chain holds another one.
      for (const std::string& chain : removal.chains)
        absl::StrAppend(&plan.script, ":", chain, " - [0:0]\n");
      for (const std::string& rule : removal.rules)
        absl::StrAppend(&plan.script, "-D ", rule, "\n");
      for (const std::string& chain : removal.chains)
        absl::StrAppend(&plan.script, "-X ", chain, "\n");
      absl::StrAppend(&plan.script, "COMMIT\n");
    }
    if (!removal.chains.empty() || !removal.stay.empty() || !removal.keeps.empty()) {
      plan.tables.push_back(std::move(removal));
    }
  }
  plan.from_outside.assign(from_outside.begin(), from_outside.end());
  return plan;
}

}  // namespace waggle::kube_proxy
