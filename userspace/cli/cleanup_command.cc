// `waggle cleanup`: leaves nothing behind on this node, of Waggle or of kube-proxy.
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bpf/abi.h"
#include "loader/attachment.h"
#include "loader/cleanup.h"
#include "maps/reader.h"
#include "userspace/cli/cleanup.h"
#include "userspace/cli/commands.h"
#include "userspace/cli/exit_codes.h"
#include "userspace/cli/options.h"
#include "userspace/cli/terminal.h"
#include "userspace/kube_proxy/remains.h"
#include "userspace/kube_proxy/running.h"
#include "userspace/os/netns_cookie.h"

namespace waggle::cli {
namespace {

struct CleanupFlags {
  PinPathOption pins;
  bool kube_proxy = false;
  bool dry_run = false;
  bool force = false;
};

// Programs that hold a kube-proxy: it looks after its rules each 30 s.
constexpr std::chrono::seconds kComesBackWithin{35};
constexpr std::chrono::milliseconds kLookEvery{500};
constexpr size_t kMaxNames = 10;

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
  for (const std::string& warning : found.warnings)
    absl::StrAppend(text, "warning: ", warning, "\n");
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

// Do the programs pinned there serve this node in kube-proxy's place? An agent need not run.
absl::Status CheckInForce(const std::string& pin_path) {
  const absl::StatusOr<maps::KernelCounters> pins = maps::ReadCounters(pin_path, false);
  if (!pins.ok()) return pins.status();
  const waggle_agent& agent = pins->agent;
  const auto refuse = [&](std::string_view why) {
    return absl::FailedPreconditionError(absl::StrCat(pin_path, ": ", std::string(why)));
  };
  if (agent.ready_ns == 0) return refuse("the agent has not put its first complete list in force");
  if (agent.sources_incomplete != 0) {
    return refuse("part of the agent's input could not be read (`waggle status`: Sources)");
  }
  const uint64_t here = os::NetnsCookie();
  if (here != 0 && agent.node_netns != 0 && here != agent.node_netns) {
    return refuse("its programs serve another network namespace");
  }
  const absl::StatusOr<std::vector<loader::Attachment>> attachments =
      loader::ListAttachments(pin_path);
  if (!attachments.ok()) return attachments.status();
  bool sockets = agent.socket_lb == WAGGLE_SOCKET_LB_OFF, any = false;
  for (const loader::Attachment& attachment : *attachments) {
    any |= attachment.alive;
    sockets |= attachment.alive && attachment.hook == "connect4";
  }
  if (!any || !sockets) return refuse("no programs are attached");
  return absl::OkStatus();
}

// "" or one line: Services that only kube-proxy's rules serve from outside of the cluster.
std::string FromOutsideText(const std::set<std::string>& services) {
  if (services.empty()) return "";
  std::vector<std::string> names(services.begin(), services.end());
  std::string more;
  if (names.size() > kMaxNames) {
    more = absl::StrCat(" and ", names.size() - kMaxNames, " more");
    names.resize(kMaxNames);
  }
  return absl::StrCat(
      "warning: NodePorts, load balancers' addresses and external IPs, which Waggle does not serve "
      "yet, end with kube-proxy's rules: ",
      absl::StrJoin(names, ", "), more, "\n");
}

// Waits for rules that come back, where a program runs that may write them.
absl::Status WatchForReturn() {
  const std::string holder = kube_proxy::MayHoldKubeProxy();
  if (holder.empty()) return absl::OkStatus();
  const int printed =
      Print(absl::StrCat("looking for ", kComesBackWithin / std::chrono::seconds(1), " s whether ",
                         holder, " holds a kube-proxy that writes its rules again\n"));
  if (printed != kExitOk) return absl::InternalError("nobody hears");
  const auto end = std::chrono::steady_clock::now() + kComesBackWithin;
  for (; std::chrono::steady_clock::now() < end; std::this_thread::sleep_for(kLookEvery)) {
    const kube_proxy::Remains found = kube_proxy::FindRemains();
    if (found.remains.empty()) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(found.remains[0].name, " came back: ", holder,
                     " holds a kube-proxy; switch it off (k3s and RKE2: disable-kube-proxy) and "
                     "run this again"));
  }
  return absl::OkStatus();
}

int RunKubeProxy(const CleanupFlags& flags) {
  const std::string running = kube_proxy::RunningKubeProxy();
  const absl::Status runs =
      running.empty() ? absl::OkStatus()
                      : absl::FailedPreconditionError(absl::StrCat(
                            "kube-proxy runs on this node, ", running,
                            ", and would write its rules again: stop it first (delete its "
                            "DaemonSet; k3s and RKE2: disable-kube-proxy)"));
  if (!runs.ok() && !flags.dry_run) return Fail(runs);
  std::string text;
  std::vector<absl::Status> errors;
  const kube_proxy::Remains found = kube_proxy::FindRemains({.force = flags.force});
  absl::Status in_force;
  if (!found.remains.empty() && !flags.force) in_force = CheckInForce(flags.pins.path);
  if (!in_force.ok()) {
    in_force = absl::Status(in_force.code(),
                            absl::StrCat("Waggle is not in force on this node, so nobody would "
                                         "serve Services (--force: remove all the same): ",
                                         in_force.message()));
    if (!flags.dry_run) return Fail(in_force);
  }
  if (!found.remains.empty() && !flags.dry_run) {
    if (absl::Status status = kube_proxy::KeepTranslations(); !status.ok()) return Fail(status);
  }
  RemoveAll(found, flags.dry_run, &text, &errors);
  text += FromOutsideText(found.from_outside);
  RemoveAll(kube_proxy::FindKeepers(), flags.dry_run, &text, &errors);
  if (flags.dry_run) {
    for (const absl::Status& refusal : {runs, in_force}) {
      if (!refusal.ok()) absl::StrAppend(&text, "would refuse: ", refusal.message(), "\n");
    }
  }
  if (text.empty() && errors.empty()) text = "nothing of kube-proxy in this network namespace\n";
  const int reported = Report(text, errors);
  if (reported != kExitOk || found.remains.empty() || flags.dry_run) return reported;
  const absl::Status returned = WatchForReturn();
  return returned.ok() ? kExitOk : Fail(returned);
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
  command
      ->add_flag("--force", flags->force,
                 "With --kube-proxy: also when Waggle is not in force here, and KUBE-FORWARD where "
                 "FORWARD drops what nobody accepts")
      ->needs(kube_proxy);
  SetExamples(*command, {"waggle cleanup", "waggle cleanup --pin-path /sys/fs/bpf/node-1",
                         "waggle cleanup --kube-proxy --dry-run", "waggle cleanup --kube-proxy"});
  command->callback([flags, exit_code] {
    *exit_code = flags->kube_proxy ? RunKubeProxy(*flags) : CleanUp(flags->pins.path);
  });
}

}  // namespace waggle::cli
