// `waggle status`: reads or waits for the pins, and hands them to the report.
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "loader/attachment.h"
#include "loader/device_watch.h"
#include "maps/pins.h"
#include "maps/reader.h"
#include "userspace/cli/commands.h"
#include "userspace/cli/exit_codes.h"
#include "userspace/cli/options.h"
#include "userspace/cli/status_report.h"
#include "userspace/cli/terminal.h"
#include "userspace/cli/wait.h"

namespace waggle::cli {
namespace {

struct StatusFlags {
  PinPathOption pins;
  OutputOption output;
  bool wait = false;
  std::string timeout = "30s";
  std::string probe;
};

// An agent without a sign of life for so long will not come back by itself.
constexpr uint64_t kStuckNs = 60'000'000'000;

absl::Status NotSo(const AgentHealth& health) {
  return absl::DeadlineExceededError(absl::StrCat("agent ", health.state, ": ", health.meaning));
}

// Some system calls, whatever the number of Services: kubelets and --wait ask often.
absl::StatusOr<AgentHealth> AskHealth(const std::string& pin_path) {
  const absl::StatusOr<bool> locked = maps::PinsLocked(pin_path);
  if (!locked.ok()) return locked.status();
  const auto counters = maps::ReadCounters(pin_path, /*walk=*/false);
  if (!counters.ok()) return counters.status();
  return HealthOf(counters->agent, *locked, counters->now_boottime_ns);
}

absl::Status CheckReady(const std::string& pin_path) {
  const absl::StatusOr<AgentHealth> health = AskHealth(pin_path);
  if (!health.ok()) return health.status();
  return health->ready ? absl::OkStatus() : NotSo(*health);
}

absl::Status CheckAlive(const std::string& pin_path) {
  const absl::StatusOr<AgentHealth> health = AskHealth(pin_path);
  if (!health.ok()) return health.status();
  return health->alive && health->heartbeat_age_ns <= kStuckNs ? absl::OkStatus() : NotSo(*health);
}

// What the devices of the pins are now. What cannot be asked is left out.
void AddDeviceFacts(StatusInput& input) {
  if (input.view.devices.empty()) return;
  const absl::StatusOr<std::unique_ptr<loader::DeviceWatch>> watch = loader::DeviceWatch::Open();
  if (!watch.ok()) return;
  for (const auto& [ifindex, row] : input.view.devices) {
    const auto device = (*watch)->devices().find(ifindex);
    if (device == (*watch)->devices().end()) continue;
    input.device_names[ifindex] = device->second.name;
    if (device->second.native_xdp) input.native_xdp.insert(ifindex);
  }
}

int Run(const StatusFlags& flags) {
  if (!flags.probe.empty()) {
    const absl::Status status =
        flags.probe == "ready" ? CheckReady(flags.pins.path) : CheckAlive(flags.pins.path);
    return status.ok() ? kExitOk : Fail(status);
  }
  StatusInput input;
  input.pin_path = flags.pins.path;
  if (flags.wait) {
    const absl::Status ready = WaitUntil([&] { return CheckReady(input.pin_path); },
                                         *ParseTimeout(flags.timeout), RealClock());
    if (!ready.ok()) return Fail(ready);
  }
  absl::StatusOr<maps::KernelView> view = maps::ReadPins(input.pin_path);
  if (!view.ok()) return Fail(view.status());
  input.view = *std::move(view);
  absl::StatusOr<std::vector<loader::Attachment>> attachments =
      loader::ListAttachments(input.pin_path);
  if (!attachments.ok()) return Fail(attachments.status());
  input.attachments = *std::move(attachments);
  AddDeviceFacts(input);
  return Print(flags.output.json() ? RenderStatusJson(input)
                                   : RenderStatusText(input, flags.output.wide()));
}

}  // namespace

void AddStatusCommand(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<StatusFlags>();
  CLI::App* command = app.add_subcommand(
      "status", "Agent, attachments, maps and counters of this node, from the pins");
  CLI::Option* wait = command->add_flag(
      "--wait", flags->wait, "Wait until the agent is alive and everything known is programmed");
  command->add_option("--timeout", flags->timeout, "Longest wait, with --wait; then exit with 3")
      ->type_name("DURATION")
      ->capture_default_str()
      ->needs(wait)
      ->check([](const std::string& text) {
        return std::string(ParseTimeout(text).status().message());
      });
  command
      ->add_option("--probe", flags->probe,
                   "Print nothing and exit with 0 if the agent is alive, or ready; with 3 if not")
      ->type_name("STATE")
      ->excludes(wait)
      ->check(CLI::IsMember({"alive", "ready"}).description(""));
  AddOption(*command, flags->output);
  AddOption(*command, flags->pins);
  SetExamples(*command, {"waggle status", "waggle status --wait --timeout 1m",
                         "waggle status -o json | jq .agent.ready", "waggle status --probe alive"});
  command->callback([flags, exit_code] { *exit_code = Run(*flags); });
}

}  // namespace waggle::cli
