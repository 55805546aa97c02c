#include "userspace/cli/status_report.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include "loader/sock_links.h"
#include "maps/text_table.h"
#include "userspace/cli/status_facts.h"

namespace waggle::cli {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
// Heartbeats come about once a second; five missed ones are no hiccup.
constexpr uint64_t kAliveWithin = 5 * kSecond;

// Fixed fields of the pins need not end in NUL.
template <size_t kSize>
std::string FixedText(const char (&field)[kSize]) {
  return {field, strnlen(field, kSize)};
}

std::string Number(uint64_t value) {
  return std::to_string(value);
}

// Titles are shorter than this.
constexpr size_t kIndent = 12;
constexpr size_t kColumns = 80;
// So many devices are named one by one.
constexpr size_t kNamedDevices = 4;

// Broken at spaces; a word that is too long stays whole.
void AddLine(std::string& text, std::string_view title, const std::string& value) {
  std::string line(title);
  line.resize(kIndent, ' ');
  bool empty = true;
  std::string_view rest = value;
  while (true) {
    const size_t space = rest.find(' ');
    const std::string word = maps::Printable(rest.substr(0, space));
    if (!empty && line.size() + 1 + word.size() > kColumns) {
      text += line + "\n";
      line.assign(kIndent, ' ');
      empty = true;
    }
    if (!empty) line += " ";
    line += word;
    empty = false;
    if (space == std::string_view::npos) break;
    rest.remove_prefix(space + 1);
  }
  text += line + "\n";
}

std::string AgentLine(const AgentHealth& health, const waggle_agent& agent) {
  std::string line = health.state + (health.alive ? ", alive" : ", not alive");
  if (agent.pid != 0) line += (health.alive ? ", pid " : ", last pid ") + Number(agent.pid);
  if (health.alive) line += ", up " + DurationText(health.uptime_ns);
  if (health.heartbeat_age_ns != 0) {
    line += ", last sign of life " + DurationText(health.heartbeat_age_ns) + " ago";
  }
  return line;
}

std::string PinsLine(const StatusInput& input) {
  const waggle_agent& agent = input.view.agent;
  std::string line = input.pin_path + " (layout version " + Number(agent.layout_version);
  if (agent.version[0] != '\0') line += ", made by " + FixedText(agent.version);
  return line + ")";
}

std::string SocketLbText(const StatusInput& input) {
  const SocketLbFacts facts =
      SocketLbOf(input.view.agent.socket_lb, HasPacketPath(input.view.settings));
  return facts.mode + ": " + facts.consequence;
}

std::string Plural(size_t count, const std::string& noun) {
  return Number(count) + " " + noun + (count == 1 ? "" : "s");
}

// "tcx: 37 pods, 1 bridge, 2 uplinks"
std::string PacketPathText(const StatusInput& input, const std::vector<DeviceFacts>& devices) {
  if (!input.view.settings) return "no packet path: the version that made the pins had none";
  if (!HasPacketPath(input.view.settings)) return "no packet path: nothing is attached at devices";
  std::string text;
  for (const char* role : {"pod", "bridge", "uplink", "tunnel", "unknown"}) {
    const auto count = static_cast<size_t>(std::count_if(
        devices.begin(), devices.end(), [role](const auto& each) { return each.role == role; }));
    if (count == 0) continue;
    const std::string noun = role == std::string("unknown") ? "unknown device" : role;
    text += (text.empty() ? "" : ", ") + Plural(count, noun);
  }
  const PacketPathFacts facts = PacketPathOf(*input.view.settings, input.view.now_monotonic_ns);
  return facts.attach + ": " + (text.empty() ? "no device yet" : text);
}

void AddPacketPath(std::string& text, const StatusInput& input,
                   const std::vector<DeviceFacts>& devices) {
  AddLine(text, "Packets:", PacketPathText(input, devices));
  if (!HasPacketPath(input.view.settings)) return;
  const PacketPathFacts facts = PacketPathOf(*input.view.settings, input.view.now_monotonic_ns);
  std::string forwarding = facts.forwarding;
  if (facts.forwarding_asked != facts.forwarding) {
    forwarding += " (asked for: " + facts.forwarding_asked + ")";
  }
  if (!facts.reason.empty()) forwarding += ": " + facts.reason;
  AddLine(text, "Forwarding:", forwarding);
  if (!facts.unknown_tcp_passes) return;
  AddLine(text, "Takeover:",
          "TCP connections from before the start pass untouched" +
              (facts.unknown_tcp_left_ns == 0
                   ? std::string()
                   : " for another " + DurationText(facts.unknown_tcp_left_ns)));
}

// By its hook: of one whose target is gone nothing else tells.
bool AtSocket(const loader::Attachment& attachment) {
  const std::vector<loader::SockHook>& hooks = loader::SockHooks();
  return std::any_of(hooks.begin(), hooks.end(),
                     [&](const loader::SockHook& hook) { return hook.name == attachment.hook; });
}

// Attachments of one program to many devices are one row, unless `wide`.
std::string AttachmentTable(const StatusInput& input, bool wide) {
  const uint32_t mode = input.view.agent.socket_lb;
  if (input.attachments.empty()) {
    const bool asked = mode == WAGGLE_SOCKET_LB_OFF && !HasPacketPath(input.view.settings);
    return asked ? "ATTACHED\nnothing, as --socket-lb=off asks\n"
                 : "ATTACHED\nnothing: no connection is translated; start `waggle agent`\n";
  }
  // By hook, program and whether it is alive: how many devices.
  std::map<std::tuple<std::string, uint32_t, bool>, size_t> devices;
  const auto group_of = [](const loader::Attachment& attachment) {
    return std::tuple(attachment.hook, attachment.program_id, attachment.alive);
  };
  bool sockets = false;
  for (const loader::Attachment& attachment : input.attachments) {
    if (DeviceOf(attachment) != 0) ++devices[group_of(attachment)];
    sockets = sockets || AtSocket(attachment);
  }
  std::vector<maps::TableRow> table = {{"ATTACHED", "PROGRAM", "TARGET"}};
  if (wide) table[0] = {"ATTACHED", "PROGRAM", "TAG", "TARGET"};
  for (const loader::Attachment& attachment : input.attachments) {
    std::string target = maps::Printable(attachment.target);
    const auto group = devices.find(group_of(attachment));
    if (!wide && DeviceOf(attachment) != 0 && group != devices.end()) {
      if (group->second == 0) continue;  // has its row
      if (group->second > kNamedDevices) {
        target = Plural(group->second, "device");
        group->second = 0;
      }
    }
    maps::TableRow row = {maps::Printable(attachment.hook, false), Number(attachment.program_id)};
    if (wide) row.push_back(maps::Printable(attachment.program_tag, false));
    row.push_back(target + (attachment.alive ? "" : " (it was removed)"));
    table.push_back(std::move(row));
  }
  std::string text = maps::Columns(table);
  if (!sockets && mode != WAGGLE_SOCKET_LB_OFF) {
    text += "no program at sockets: start `waggle agent`\n";
  }
  return text;
}

std::string Joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts)
    text += (text.empty() ? "" : ",") + maps::Printable(part, false);
  return text.empty() ? "<none>" : text;
}

std::string DeviceTable(const std::vector<DeviceFacts>& devices, bool wide) {
  const auto in_order = [](const DeviceFacts& facts) {
    return facts.role == "pod" && facts.missing.empty();
  };
  const auto pods = static_cast<size_t>(std::count_if(devices.begin(), devices.end(), in_order));
  const bool together = !wide && pods > kNamedDevices;
  std::vector<maps::TableRow> table = {{"DEVICE", "IFINDEX", "ROLE", "PROGRAMS", "MISSING"}};
  if (wide) table[0].insert(table[0].end(), {"BRIDGE", "NETNS"});
  if (together) {
    table.push_back({Number(pods) + "-pods", "<many>", "pod", "pod_in,pod_out", "<none>"});
  }
  for (const DeviceFacts& facts : devices) {
    if (together && in_order(facts)) continue;
    maps::TableRow row = {facts.name.empty() ? "<gone>" : maps::Printable(facts.name, false),
                          Number(facts.ifindex), facts.role, Joined(facts.programs),
                          Joined(facts.missing)};
    if (wide) {
      row.push_back(facts.device.bridge == 0 ? "<none>" : Number(facts.device.bridge));
      row.push_back(facts.device.role != WAGGLE_ROLE_POD || facts.device.netns_id < 0
                        ? "<none>"
                        : std::to_string(facts.device.netns_id));
    }
    table.push_back(std::move(row));
  }
  return maps::Columns(table);
}

// Below the table of devices: which of them have lost something that no program can give back.
std::string NativeXdpText(const StatusInput& input, const std::vector<DeviceFacts>& devices) {
  std::vector<std::string> names;
  for (const DeviceFacts& facts : devices) {
    if (facts.device.role != WAGGLE_ROLE_POD || input.native_xdp.count(facts.ifindex) == 0)
      continue;
    names.push_back(facts.name.empty() ? Number(facts.ifindex) : facts.name);
  }
  if (names.empty()) return "";
  std::string text = names.size() > kNamedDevices ? Plural(names.size(), "pod") : "";
  if (text.empty()) {
    for (const std::string& name : names)
      text += (text.empty() ? "" : ", ") + maps::Printable(name, false);
  }
  std::string lines;
  AddLine(lines, "Native XDP:",
          text +
              ": packets come without their socket, so connections that are translated at "
              "their socket do not take the short way");
  return lines;
}

std::string MapTable(const std::vector<maps::MapUsage>& maps_used) {
  std::vector<maps::TableRow> table = {{"MAP", "USED", "MAX", "FLAG"}};
  for (const maps::MapUsage& usage : maps_used) {
    table.push_back({usage.name, usage.max == 0 ? "unknown" : Number(usage.used),
                     usage.max == 0 ? "unbounded" : Number(usage.max),
                     usage.flag.empty() ? "<none>" : usage.flag});
  }
  return maps::Columns(table);
}

uint64_t CountOf(const std::vector<uint64_t>& stats, size_t reason) {
  return reason < stats.size() ? stats[reason] : 0;
}

// What went well comes first, what should not happen last; zeros only if `wide`.
std::string CounterTable(const std::vector<uint64_t>& stats, bool wide) {
  std::vector<maps::TableRow> table = {{"COUNTER", "COUNT", "EFFECT"}};
  if (wide) table[0].push_back("MEANING");
  size_t zeros = 0;
  for (const std::string_view effect : Effects()) {
    for (size_t i = 0; i < Reasons().size(); ++i) {
      const ReasonInfo& reason = Reasons()[i];
      if (reason.effect != effect) continue;
      const uint64_t count = CountOf(stats, i);
      if (!wide && count == 0) {
        ++zeros;
        continue;
      }
      table.push_back({std::string(reason.label), Number(count), std::string(reason.effect)});
      if (wide) table.back().emplace_back(reason.text);
    }
  }
  std::string text = maps::Columns(table);
  if (zeros > 0) text += Number(zeros) + " more are 0; -o wide shows them, and what each means\n";
  return text;
}

std::string WorkTable(const waggle_agent& agent) {
  std::vector<maps::TableRow> table = {{"WORK", "COUNT"}};
  for (const WorkFacts& work : WorkOf(agent)) {
    table.push_back({std::string(work.key), Number(work.value)});
  }
  return maps::Columns(table);
}

}  // namespace

std::string DurationText(uint64_t nanoseconds) {
  const uint64_t seconds = nanoseconds / kSecond;
  if (seconds >= 86400) {
    return Number(seconds / 86400) + "d" + Number(seconds % 86400 / 3600) + "h";
  }
  if (seconds >= 3600) return Number(seconds / 3600) + "h" + Number(seconds % 3600 / 60) + "m";
  if (seconds >= 60) return Number(seconds / 60) + "m" + Number(seconds % 60) + "s";
  return Number(seconds) + "." + Number(nanoseconds % kSecond / 100'000'000) + "s";
}

AgentHealth HealthOf(const waggle_agent& agent, bool locked, uint64_t now_boottime_ns) {
  AgentHealth health;
  // A heartbeat may be written between the two readings of the clock: a moment in the
  // future is now. Far in the future is no heartbeat of this boot.
  const bool future = agent.heartbeat_ns > now_boottime_ns;
  const uint64_t distance =
      future ? agent.heartbeat_ns - now_boottime_ns : now_boottime_ns - agent.heartbeat_ns;
  const bool fresh = agent.heartbeat_ns != 0 && distance <= kAliveWithin;
  if (agent.heartbeat_ns != 0 && !future) health.heartbeat_age_ns = distance;

  const bool running = agent.state == WAGGLE_AGENT_STARTING || agent.state == WAGGLE_AGENT_READY;
  health.alive = running && locked;
  health.ready = health.alive && fresh && agent.state == WAGGLE_AGENT_READY;
  if (health.alive && now_boottime_ns > agent.started_ns) {
    health.uptime_ns = now_boottime_ns - agent.started_ns;
  }
  if (health.ready) {
    health.state = "ready";
    health.meaning = "everything known is programmed";
  } else if (health.alive && agent.state == WAGGLE_AGENT_READY) {
    health.state = "hung";
    health.meaning =
        "the agent lives but has not moved for more than five seconds: programs go on with what is "
        "pinned, changes of the cluster are not followed";
  } else if (health.alive) {
    health.state = "starting";
    health.meaning = "the first complete list is not programmed yet; nothing is removed until then";
  } else if (running) {
    health.state = "killed";
    health.meaning =
        "the agent is gone without a word: programs go on with what is pinned, changes of the "
        "cluster are not followed";
  } else if (agent.state == WAGGLE_AGENT_STOPPED) {
    health.state = "stopped";
    health.meaning =
        "the agent ended in good order: programs go on with what is pinned, changes of the cluster "
        "are not followed";
  } else {
    health.state = "none";
    health.meaning = "no agent has run on these pins";
  }
  return health;
}

std::string RenderStatusText(const StatusInput& input, bool wide) {
  const waggle_agent& agent = input.view.agent;
  const AgentHealth health = HealthOf(agent, input.view.locked, input.view.now_boottime_ns);
  const Totals totals = TotalsOf(input.view.services);
  const std::vector<DeviceFacts> devices =
      DevicesOf(input.view.devices, input.device_names, input.attachments);

  std::string text;
  AddLine(text, "Node:", FixedText(agent.node));
  AddLine(text, "Agent:", AgentLine(health, agent));
  AddLine(text, "", health.meaning);
  AddLine(text, "Services:",
          Number(totals.services) + " with " + Number(totals.frontends) + " frontends and " +
              Number(totals.backends) + " backends; " + Number(agent.services_left_out) +
              " left out or in part");
  AddLine(text, "Problems:",
          Number(agent.problems) + " in the input" +
              (agent.problems == 0 ? "" : " (the agent's log names them)") + ", " +
              Number(input.view.problems.size()) + " in the pins");
  AddLine(text, "Sources:",
          agent.sources_incomplete == 0
              ? "complete"
              : "incomplete: part of the input could not be read; nothing is removed until it can");
  AddLine(text, "Socket LB:", SocketLbText(input));
  AddPacketPath(text, input, devices);
  for (const FeatureFacts& feature : FeaturesOf(agent.features)) {
    if (!feature.present) AddLine(text, "Kernel:", "no " + feature.name + ": " + feature.fallback);
  }
  AddLine(text, "Pins:", PinsLine(input));
  text += "\n" + AttachmentTable(input, wide);
  if (!devices.empty()) text += "\n" + DeviceTable(devices, wide) + NativeXdpText(input, devices);
  text += "\n" + MapTable(input.view.maps);
  text += "\n" + CounterTable(input.view.stats, wide);
  if (wide) text += "\n" + WorkTable(agent);
  if (!input.view.problems.empty()) {
    text += "\nPROBLEMS IN THE PINS\n";
    for (const Problem& problem : input.view.problems) {
      text += maps::Printable(problem.ToString()) + "\n";
    }
  }
  return text;
}

}  // namespace waggle::cli
