#include "userspace/cli/completion.h"

#include <set>
#include <string_view>
#include <vector>

namespace waggle::cli {
namespace {

// What may follow an option that takes a value.
struct ValueRule {
  std::string_view options;  // as a bash pattern
  std::string_view action;   // a command of the script below
};
constexpr ValueRule kValues[] = {
    {"--output|-o", "_waggle_words 'table wide json'"},
    {"--socket-lb", "_waggle_words 'all host off'"},
    {"--forwarding", "_waggle_words 'stack redirect auto'"},
    {"--tc-attach", "_waggle_words 'auto tcx clsact'"},
    {"--protocol", "_waggle_words 'TCP UDP'"},
    {"--mode", "_waggle_words 'stack peer neigh'"},
    {"--state",
     "_waggle_words 'syn-sent syn-recv established closing closed unreplied replied stream'"},
    {"--pin-path|--cgroup-path", "_waggle_files -d"},
    {"--manifests|--config|--write-config-to|--kubeconfig", "_waggle_files -f"},
    {"--proxy-mode", "_waggle_words 'iptables ipvs nftables'"},
    {"--detect-local-mode",
     "_waggle_words 'ClusterCIDR NodeCIDR BridgeInterface InterfaceNamePrefix'"},
    {"--namespace|-n", "_waggle_words \"$(_waggle_namespaces)\""},
    {"--service", "_waggle_words \"$(_waggle_services)\""},
};

// $cur is the word to complete. Bash splits words at '=', so `--output=j` comes as three.
constexpr std::string_view kHead =
    R"(# bash completion for waggle, written by `waggle completion bash`.

_waggle_words() {
  COMPREPLY=($(compgen -W "$1" -- "$cur"))
}

# Names with spaces stay whole; folders get a slash.
_waggle_files() {
  local IFS=$'\n'
  compopt -o filenames 2>/dev/null
  COMPREPLY=($(compgen "$1" -- "$cur"))
}

# The value that the line gives to an option.
_waggle_value_of() {
  local i
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ ${COMP_WORDS[i]} == "$1" ]]; then
      [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
      printf '%s' "${COMP_WORDS[i + 1]}"
      return
    fi
  done
}

# Only what can be a namespace gets through: compgen expands its words, and pins can
# hold anything.
_waggle_namespaces() {
  local pins manifests node
  if [[ $path == plan ]]; then
    manifests=$(_waggle_value_of --manifests)
    node=$(_waggle_value_of --node)
    # Standard input is the terminal.
    [[ -z $manifests || $manifests == - ]] && return
    "${COMP_WORDS[0]}" plan --manifests "$manifests" --node "${node:-none}" 2>/dev/null
  else
    pins=$(_waggle_value_of --pin-path)
    "${COMP_WORDS[0]}" service list ${pins:+--pin-path "$pins"} 2>/dev/null
  fi </dev/null | awk 'NR > 1 && $1 ~ /^[a-z0-9][-a-z0-9]*$/ { print $1 }' | sort -u
}

_waggle_services() {
  local pins
  pins=$(_waggle_value_of --pin-path)
  "${COMP_WORDS[0]}" service list ${pins:+--pin-path "$pins"} 2>/dev/null </dev/null |
    awk 'NR > 1 && $1 "/" $2 ~ /^[a-z0-9][-a-z0-9]*\/[a-z0-9][-a-z0-9]*$/ { print $1 "/" $2 }' |
    sort -u
}

_waggle() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} path= i
  COMPREPLY=()
  if [[ $cur == = ]]; then
    cur=
  elif [[ $prev == = ]]; then
    prev=${COMP_WORDS[COMP_CWORD - 2]}
  fi
)";

bool HasRule(std::string_view name) {
  for (const ValueRule& rule : kValues) {
    const std::string options = "|" + std::string(rule.options) + "|";
    if (options.find("|" + std::string(name) + "|") != std::string::npos) return true;
  }
  return false;
}

// Options that take a value of which nothing is known.
void AddFreeText(const CLI::App& app, std::set<std::string>& names) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional() || option->get_items_expected_max() == 0) continue;
    for (const std::string& name : option->get_lnames()) {
      if (!HasRule("--" + name)) names.insert("--" + name);
    }
    for (const std::string& name : option->get_snames()) {
      if (!HasRule("-" + name)) names.insert("-" + name);
    }
  }
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    AddFreeText(*command, names);
  }
}

void AddPaths(const CLI::App& app, const std::string& path, std::vector<std::string>& paths) {
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name().empty() || command->get_group().empty()) continue;
    paths.push_back(path.empty() ? command->get_name() : path + " " + command->get_name());
    AddPaths(*command, paths.back(), paths);
  }
}

// What may stand next in `app`: its commands and flags. Hidden ones have no group.
std::string WordsOf(const CLI::App& app) {
  std::string words;
  const auto add = [&words](const std::string& word) {
    if (!words.empty()) words += " ";
    words += word;
  };
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!command->get_name().empty() && !command->get_group().empty()) add(command->get_name());
  }
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;
    if (option->get_positional()) {
      // The only positional argument is the shell of `completion`.
      add("bash");
      continue;
    }
    for (const std::string& name : option->get_lnames())
      add("--" + name);
    for (const std::string& name : option->get_snames())
      add("-" + name);
  }
  return words;
}

void AddWords(const CLI::App& app, const std::string& path, std::string& script) {
  script += "    '" + path + "') _waggle_words '" + WordsOf(app) + "' ;;\n";
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name().empty() || command->get_group().empty()) continue;
    AddWords(*command, path.empty() ? command->get_name() : path + " " + command->get_name(),
             script);
  }
}

}  // namespace

std::string BashCompletion(const CLI::App& app) {
  std::vector<std::string> paths;
  AddPaths(app, "", paths);
  std::string pattern;
  for (const std::string& path : paths)
    pattern += (pattern.empty() ? "'" : "|'") + path + "'";

  std::string script{kHead};
  script += "  for ((i = 1; i < COMP_CWORD; i++)); do\n";
  script += "    case \"${path:+$path }${COMP_WORDS[i]}\" in\n";
  script += "      " + pattern + ") path=\"${path:+$path }${COMP_WORDS[i]}\" ;;\n";
  script += "    esac\n";
  script += "  done\n";
  script += "  case $prev in\n";
  for (const ValueRule& rule : kValues) {
    script +=
        "    " + std::string(rule.options) + ") " + std::string(rule.action) + "; return ;;\n";
  }
  // Free text (a node name, a number): nothing is offered, rather than something wrong.
  std::set<std::string> free_text;
  AddFreeText(app, free_text);
  for (const std::string& name : free_text)
    script += "    " + name + ") return ;;\n";
  script += "  esac\n";
  script += "  case $path in\n";
  AddWords(app, "", script);
  script += "  esac\n}\n\ncomplete -F _waggle waggle\n";
  return script;
}

}  // namespace waggle::cli
