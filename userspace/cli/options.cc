#include "userspace/cli/options.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "k8s-watch/fields.h"

namespace waggle::cli {

void AddOption(CLI::App& command, OutputOption& option) {
  command.add_option("-o,--output", option.format, "table, wide or json")
      ->type_name("FORMAT")
      ->capture_default_str()
      ->check(CLI::IsMember({"table", "wide", "json"}).description(""));
}

void AddOption(CLI::App& command, PinPathOption& option) {
  command.add_option("--pin-path", option.path, "Folder of a bpf file system for the pins")
      ->type_name("DIR")
      ->capture_default_str();
}

void AddOption(CLI::App& command, NamespaceOption& option) {
  command.add_option("-n,--namespace", option.ns, "Only this namespace (default: all)")
      ->type_name("NS");
}

CLI::Option* AddNodeOption(CLI::App& command, std::string& node, const std::string& names) {
  // As with kube-proxy: `--hostname-override=`.
  const bool may_say_nothing = names != "--node";
  return command.add_option(names, node, "Name of this node, as its Node object has it")
      ->type_name("NAME")
      ->required()
      ->transform(CLI::Validator(
          [may_say_nothing](std::string& name) {
            if (name.empty() && may_say_nothing) return std::string();
            absl::AsciiStrToLower(&name);
            return k8s::IsSubdomain(name) ? std::string()
                                          : "is not a node name (RFC 1123: letters, digits, '-' "
                                            "and '.', at most 253)";
          },
          ""));
}

void SetExamples(CLI::App& command, const std::vector<std::string>& lines) {
  std::string text = "Examples:";
  for (const std::string& line : lines)
    text += "\n  " + line;
  command.footer(text);
}

std::vector<ResolvedService> InNamespace(std::vector<ResolvedService> services,
                                         const NamespaceOption& option) {
  if (!option.ns.empty()) {
    std::erase_if(services,
                  [&](const ResolvedService& service) { return service.name.ns != option.ns; });
  }
  return services;
}

std::vector<Problem> InNamespace(std::vector<Problem> problems, const NamespaceOption& option) {
  if (!option.ns.empty()) {
    std::erase_if(problems, [&](const Problem& problem) {
      return !problem.object.ns.empty() && problem.object.ns != option.ns;
    });
  }
  return problems;
}

}  // namespace waggle::cli
