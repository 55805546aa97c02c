// The status as JSON; the text stands in status_report.cc.
#include <cstring>
#include <nlohmann/json.hpp>

#include "userspace/cli/status_facts.h"
#include "userspace/cli/status_report.h"

namespace waggle::cli {
namespace {

using Json = nlohmann::ordered_json;

Json AgentJson(const waggle_agent& agent, const AgentHealth& health) {
  return {{"state", health.state},
          {"alive", health.alive},
          {"ready", health.ready},
          {"pid", agent.pid},
          {"version", std::string(agent.version, strnlen(agent.version, sizeof(agent.version)))},
          {"uptimeSeconds", Seconds(health.uptime_ns)},
          {"heartbeatAgeSeconds", Seconds(health.heartbeat_age_ns)},
          {"secondsToReady",
           agent.ready_ns > agent.started_ns ? Seconds(agent.ready_ns - agent.started_ns) : 0.0},
          {"meaning", health.meaning}};
}

Json SocketLbJson(const maps::KernelView& view) {
  const waggle_agent& agent = view.agent;
  const SocketLbFacts facts = SocketLbOf(agent.socket_lb, HasPacketPath(view.settings));
  Json features = Json::array();
  for (const FeatureFacts& feature : FeaturesOf(agent.features)) {
    features.push_back(
        {{"name", feature.name}, {"present", feature.present}, {"withoutIt", feature.fallback}});
  }
  return {{"mode", facts.mode}, {"consequence", facts.consequence}, {"features", features}};
}

Json DevicesJson(const StatusInput& input) {
  Json devices = Json::array();
  for (const DeviceFacts& facts :
       DevicesOf(input.view.devices, input.device_names, input.attachments)) {
    const waggle_device& device = facts.device;
    devices.push_back(
        {{"ifindex", facts.ifindex},
         {"name", facts.name},
         {"role", facts.role},
         {"programs", facts.programs},
         {"missing", facts.missing},
         {"bridge", device.bridge == 0 ? Json() : Json(device.bridge)},
         {"netnsId",
          device.role == WAGGLE_ROLE_POD && device.netns_id >= 0 ? Json(device.netns_id) : Json()},
         {"layer3", device.layer3 != 0}});
  }
  return devices;
}

// null: the version that made the pins had none.
Json PacketPathJson(const StatusInput& input) {
  if (!input.view.settings) return {};
  const PacketPathFacts facts = PacketPathOf(*input.view.settings, input.view.now_monotonic_ns);
  return {{"attach", facts.attach},
          {"forwarding", facts.forwarding},
          {"forwardingAsked", facts.forwarding_asked},
          {"forwardingReason", facts.reason},
          {"unknownTcpPasses", facts.unknown_tcp_passes},
          {"unknownTcpPassesSeconds",
           facts.unknown_tcp_left_ns == 0 ? Json() : Json(Seconds(facts.unknown_tcp_left_ns))},
          {"devices", DevicesJson(input)}};
}

Json WorkJson(const waggle_agent& agent) {
  Json json = Json::object();
  for (const WorkFacts& work : WorkOf(agent))
    json[std::string(work.key)] = work.value;
  return json;
}

}  // namespace

std::string RenderStatusJson(const StatusInput& input) {
  const waggle_agent& agent = input.view.agent;
  const Totals totals = TotalsOf(input.view.services);

  Json attachments = Json::array();
  for (const loader::Attachment& attachment : input.attachments) {
    attachments.push_back({{"hook", attachment.hook},
                           {"target", attachment.target},
                           {"programId", attachment.program_id},
                           {"programTag", attachment.program_tag},
                           {"alive", attachment.alive}});
  }
  Json maps_used = Json::array();
  for (const maps::MapUsage& usage : input.view.maps) {
    Json row = {{"name", usage.name}, {"flag", usage.flag}};
    // Unbounded: neither number is known, and 0 would be a lie.
    row["used"] = usage.max == 0 ? Json() : Json(usage.used);
    row["max"] = usage.max == 0 ? Json() : Json(usage.max);
    maps_used.push_back(std::move(row));
  }
  Json counters = Json::array();
  for (size_t i = 0; i < Reasons().size(); ++i) {
    const ReasonInfo& reason = Reasons()[i];
    counters.push_back({{"reason", reason.label},
                        {"effect", reason.effect},
                        {"count", i < input.view.stats.size() ? input.view.stats[i] : 0},
                        {"meaning", reason.text}});
  }
  Json problems = Json::array();
  for (const Problem& problem : input.view.problems) {
    problems.push_back({{"object", problem.object.ToString()},
                        {"field", problem.field},
                        {"reason", ProblemReasonName(problem.reason)},
                        {"text", problem.text}});
  }
  const Json status = {
      {"node", std::string(agent.node, strnlen(agent.node, sizeof(agent.node)))},
      {"pinPath", input.pin_path},
      {"layoutVersion", agent.layout_version},
      {"agent", AgentJson(agent, HealthOf(agent, input.view.locked, input.view.now_boottime_ns))},
      {"services",
       {{"count", totals.services},
        {"frontends", totals.frontends},
        {"backends", totals.backends},
        {"leftOut", agent.services_left_out}}},
      {"inputProblems", agent.problems},
      {"sourcesComplete", agent.sources_incomplete == 0},
      {"socketLb", SocketLbJson(input.view)},
      {"packetPath", PacketPathJson(input)},
      {"attachments", attachments},
      {"maps", maps_used},
      {"counters", counters},
      {"work", WorkJson(agent)},
      {"pinProblems", problems}};
  return status.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace waggle::cli
