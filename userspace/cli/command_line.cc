#include "userspace/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "userspace/cli/agent_command.h"
#include "userspace/cli/commands.h"
#include "userspace/cli/exit_codes.h"
#include "userspace/cli/options.h"
#include "userspace/cli/terminal.h"

namespace waggle::cli {
namespace {

// The command that the line got to.
const CLI::App& LeafOf(const CLI::App& app) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty())
    at = at->get_subcommands().front();
  return *at;
}

// "waggle service list"
std::string PathOf(const CLI::App& command) {
  if (command.get_parent() == nullptr) return command.get_name();
  return PathOf(*command.get_parent()) + " " + command.get_name();
}

// A usage error in one line, with the place to look up what is right.
std::string UsageText(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = LeafOf(app);
  std::string text = error.what();
  // CLI11 says the same of `waggle` and of `waggle wrong`.
  if (command.get_require_subcommand_min() > 0) {
    const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
    text = "a command is missing";
    if (!unknown.empty()) {
      const std::string& word = unknown.front();
      text = (word.starts_with('-') ? "unknown option '" : "unknown command '") + word + "'";
    }
  }
  return text + "; see `" + PathOf(command) + " --help`";
}

// "--name=" gives an empty value; the parser would take the word behind it. In reverse, as it
// wants them.
std::vector<std::string> WordsOf(int argc, const char* const* argv) {
  std::vector<std::string> words;
  for (int i = argc - 1; i > 0; --i) {
    const std::string word = argv[i];
    if (word.size() > 3 && word.starts_with("--") && word.find('=') == word.size() - 1) {
      words.emplace_back();
      words.push_back(word.substr(0, word.size() - 1));
    } else {
      words.push_back(word);
    }
  }
  return words;
}

}  // namespace

int RunCommandLine(int argc, const char* const* argv) {
  CLI::App app("Services of Kubernetes on this node, carried by BPF", "waggle");
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.set_version_flag("--version", "waggle " WAGGLE_VERSION, "Print the version and exit");
  app.footer(std::string("Examples:\n"
                         "  waggle plan --manifests ./manifests --node node-1\n"
                         "  waggle agent --manifests ./manifests --node node-1\n"
                         "  waggle status --wait\n"
                         "  waggle service list -n default -o wide\n"
                         "  source <(waggle completion bash)\n\n") +
             kExitCodesHelp);

  int exit_code = kExitOk;
  AddAgentCommand(app, &exit_code);
  AddPlanCommand(app, &exit_code);
  AddServiceCommand(app, &exit_code);
  AddBackendCommand(app, &exit_code);
  AddFlowCommand(app, &exit_code);
  AddStatusCommand(app, &exit_code);
  AddCleanupCommand(app, &exit_code);
  AddVersionCommand(app, &exit_code);
  AddCompletionCommand(app, &exit_code);
  try {
    app.parse(WordsOf(argc, argv));
  } catch (const CLI::CallForHelp&) {
    return Print(app.help());
  } catch (const CLI::CallForVersion& version) {
    return Print(std::string(version.what()) + "\n");
  } catch (const CLI::ParseError& error) {
    Complain(UsageText(app, error));
    return kExitUsage;
  }
  return exit_code;
}

}  // namespace waggle::cli
