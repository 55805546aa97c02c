#include "userspace/kube_proxy/iptables_removal.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
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

bool IsKubeProxys(std::string_view chain) {
  return std::find(std::begin(kChains), std::end(kChains), chain) != std::end(kChains) ||
         std::any_of(std::begin(kPrefixes), std::end(kPrefixes),
                     [chain](std::string_view prefix) { return chain.starts_with(prefix); });
}

struct Rule {
  std::string chain;
  std::string target;  // of -j or -g; empty: none
  std::string text;    // behind "-A "
};

struct Table {
  std::string name = {};
  std::vector<std::string> chains = {};
  std::set<std::string, std::less<>> built_in = {};
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
  for (size_t i = 1; i + 1 < words.size(); ++i) {
    if (words[i] == "--comment") {
      ++i;  // may look like anything
    } else if (words[i] == "-j" || words[i] == "-g") {
      rule->target = words[++i];
    }
  }
  return true;
}

absl::Status At(size_t line, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("iptables-save, line ", line, ": ", std::string(what)));
}

absl::StatusOr<std::vector<Table>> Parse(std::string_view saved) {
  std::vector<Table> tables;
  bool open = false;
  size_t number = 0;
  for (absl::string_view piece :
       absl::StrSplit(absl::string_view(saved.data(), saved.size()), '\n')) {
    ++number;
    std::string_view line(piece.data(), piece.size());
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

TableRemoval PlanTable(const Table& table) {
  std::set<std::string> ours;
  for (const std::string& chain : table.chains) {
    if (IsKubeProxys(chain) && !table.built_in.contains(chain)) ours.insert(chain);
  }
  const std::map<std::string, std::string> needed = Needed(table, ours);
  TableRemoval removal{.table = table.name};
  for (const std::string& chain : table.chains) {
    if (ours.contains(chain) && !needed.contains(chain)) removal.chains.push_back(chain);
  }
  for (const auto& [chain, by] : needed)
    removal.stay.push_back(absl::StrCat(chain, " (", by, " leads there)"));
  for (const Rule& rule : table.rules) {
    const bool leads = ours.contains(rule.target) && !needed.contains(rule.target);
    if (leads && table.built_in.contains(rule.chain)) removal.rules.push_back(rule.text);
  }
  return removal;
}

}  // namespace

absl::StatusOr<IptablesRemoval> PlanIptablesRemoval(std::string_view saved) {
  absl::StatusOr<std::vector<Table>> tables = Parse(saved);
  if (!tables.ok()) return tables.status();
  IptablesRemoval plan;
  for (const Table& table : *tables) {
    TableRemoval removal = PlanTable(table);
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
    if (!removal.chains.empty() || !removal.stay.empty()) plan.tables.push_back(std::move(removal));
  }
  return plan;
}

}  // namespace waggle::kube_proxy
