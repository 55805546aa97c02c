#include "userspace/cli/status_report.h"

#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

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

void AddLine(std::string& text, std::string_view title, const std::string& value) {
  text += title;
  text.append(title.size() < 12 ? 12 - title.size() : 1, ' ');
  text += maps::Printable(value) + "\n";
}

std::string AgentLine(const AgentHealth& health, const waggle_agent& agent) {
  std::string line = health.state + (health.alive ? ", alive" : ", not alive");
  if (agent.pid != 0) line += (health.alive ? ", pid " : ", last pid ") + Number(agent.pid);
  if (health.alive) line += ", up " + DurationText(health.uptime_ns);
  if (health.heartbeat_age_ns != 0) {
    line += ", last sign of life " + DurationText(health.heartbeat_age_ns) + " ago";
  }
  if (agent.version[0] != '\0') line += ", version " + FixedText(agent.version);
  return line;
}

std::string SocketLbText(const waggle_agent& agent) {
  const SocketLbFacts facts = SocketLbOf(agent.socket_lb);
  return facts.mode + ": " + facts.consequence;
}

std::string AttachmentTable(const StatusInput& input, bool wide) {
  if (input.attachments.empty()) {
    return input.view.agent.socket_lb == WAGGLE_SOCKET_LB_OFF
               ? "ATTACHED\nnothing, as --socket-lb=off asks\n"
               : "ATTACHED\nnothing: no connection is translated; start `waggle agent`\n";
  }
  std::vector<maps::TableRow> table = {{"ATTACHED", "PROGRAM", "TARGET"}};
  if (wide) table[0] = {"ATTACHED", "PROGRAM", "TAG", "TARGET"};
  for (const loader::Attachment& attachment : input.attachments) {
    maps::TableRow row = {maps::Printable(attachment.hook, false), Number(attachment.program_id)};
    if (wide) row.push_back(maps::Printable(attachment.program_tag, false));
    row.push_back(maps::Printable(attachment.target) +
                  (attachment.alive ? "" : " (it was removed)"));
    table.push_back(std::move(row));
  }
  return maps::Columns(table);
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

std::string CounterTable(const std::vector<uint64_t>& stats) {
  std::vector<maps::TableRow> table = {{"COUNTER", "COUNT", "EFFECT", "MEANING"}};
  for (size_t i = 0; i < Reasons().size(); ++i) {
    const ReasonInfo& reason = Reasons()[i];
    table.push_back({std::string(reason.label), Number(CountOf(stats, i)),
                     std::string(reason.effect), std::string(reason.text)});
  }
  return maps::Columns(table);
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
  AddLine(text, "Socket LB:", SocketLbText(agent));
  for (const FeatureFacts& feature : FeaturesOf(agent.features)) {
    if (!feature.present) AddLine(text, "Kernel:", "no " + feature.name + ": " + feature.fallback);
  }
  AddLine(text, "Pins:", input.pin_path + " (layout version " + Number(agent.layout_version) + ")");
  text += "\n" + AttachmentTable(input, wide);
  text += "\n" + MapTable(input.view.maps);
  text += "\n" + CounterTable(input.view.stats);
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
