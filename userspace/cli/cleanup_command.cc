// `waggle cleanup`: leaves nothing behind on this node, of Waggle or of kube-proxy.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "loader/cleanup.h"
#include "userspace/cli/cleanup.h"
#include "userspace/cli/commands.h"
#include "userspace/cli/exit_codes.h"
#include "userspace/cli/options.h"
#include "userspace/cli/terminal.h"
#include "userspace/kube_proxy/remains.h"

namespace waggle::cli {
namespace {

struct CleanupFlags {
  PinPathOption pins;
  bool kube_proxy = false;
  bool dry_run = false;
};

// Removes in order, or only says so. What cannot be removed harms nothing else.
void RemoveAll(const kube_proxy::Remains& found, bool dry_run, std::string* text,
               std::vector<absl::Status>* errors) {
  errors->insert(errors->end(), found.errors.begin(), found.errors.end());
  for (const kube_proxy::Remain& remain : found.remains) {
    if (dry_run) {
      absl::StrAppend(text, "would remove ", remain.name, "\n");
      for (const std::string& part : remain.parts)
        absl::StrAppend(text, "  ", part, "\n");
      continue;
    }
    if (absl::Status status = remain.remove(); status.ok()) {
      absl::StrAppend(text, "removed ", remain.name, "\n");
    } else {
      errors->push_back(absl::Status(
          status.code(), absl::StrCat(remain.name, ": ", std::string(status.message()))));
    }
  }
  for (const std::string& stays : found.stays)
    absl::StrAppend(text, "stays: ", stays, "\n");
}

int Report(const std::string& text, const std::vector<absl::Status>& errors) {
  const int printed = Print(text);
  int exit_code = printed;
  for (const absl::Status& error : errors) {
    Fail(error);
    exit_code = kExitError;
  }
  return exit_code;
}

int RunKubeProxy(const CleanupFlags& flags) {
  if (const int pid = kube_proxy::RunningKubeProxy(); pid != 0 && !flags.dry_run) {
    return Fail(absl::FailedPreconditionError(
        absl::StrCat("kube-proxy runs on this node (pid ", pid,
                     ") and would write its rules again: stop it first (delete its DaemonSet)")));
  }
  std::string text;
  std::vector<absl::Status> errors;
  const kube_proxy::Remains found = kube_proxy::FindRemains();
  if (!found.remains.empty() && !flags.dry_run) {
    if (absl::Status status = kube_proxy::KeepTranslations(); !status.ok()) return Fail(status);
  }
  RemoveAll(found, flags.dry_run, &text, &errors);
  RemoveAll(kube_proxy::FindKeepers(), flags.dry_run, &text, &errors);
  if (text.empty() && errors.empty()) text = "nothing of kube-proxy in this network namespace\n";
  return Report(text, errors);
}

}  // namespace

int CleanUp(const std::string& pin_path) {
  std::vector<std::string> removed;
  std::vector<absl::Status> errors;
  const absl::Status status = loader::Cleanup(pin_path, &removed);
  std::string text;
  // What is gone is gone, also when the rest failed.
  for (const std::string& path : removed)
    text += "removed " + path + "\n";
  if (status.ok() && removed.empty()) text = "nothing to remove in " + pin_path + "\n";
  if (!status.ok()) {
    const int printed = Print(text);
    const int failed = Fail(status);
    return printed != kExitOk ? printed : failed;
  }
  // What `--kube-proxy` left for a while. Who may not look at it has not made it.
  kube_proxy::Remains keepers = kube_proxy::FindKeepers();
  std::erase_if(keepers.errors,
                [](const absl::Status& error) { return absl::IsPermissionDenied(error); });
  RemoveAll(keepers, false, &text, &errors);
  return Report(text, errors);
}

void AddCleanupCommand(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<CleanupFlags>();
  CLI::App* command = app.add_subcommand(
      "cleanup",
      "Detach the programs and remove the pins (Services stop working); or remove what kube-proxy "
      "left");
  AddOption(*command, flags->pins);
  CLI::Option* kube_proxy = command->add_flag(
      "--kube-proxy", flags->kube_proxy,
      "Remove the rules that kube-proxy left on this node, in whatever mode it ran, and nothing of "
      "Waggle");
  command->add_flag("--dry-run", flags->dry_run, "Only print what --kube-proxy would remove")
      ->needs(kube_proxy);
  kube_proxy->excludes("--pin-path");
  SetExamples(*command, {"waggle cleanup", "waggle cleanup --pin-path /sys/fs/bpf/node-1",
                         "waggle cleanup --kube-proxy --dry-run", "waggle cleanup --kube-proxy"});
  command->callback([flags, exit_code] {
    *exit_code = flags->kube_proxy ? RunKubeProxy(*flags) : CleanUp(flags->pins.path);
  });
}

}  // namespace waggle::cli
