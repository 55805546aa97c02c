#include "userspace/cli/flow_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "maps/text_table.h"
#include "userspace/cli/status_facts.h"
#include "userspace/cli/status_report.h"

namespace waggle::cli {
namespace {

using Json = nlohmann::ordered_json;

// The sink is called with about so much.
constexpr size_t kPiece = 1 << 16;

auto IdentityOf(const maps::Flow& flow) {
  return std::tie(flow.protocol, flow.client, flow.frontend, flow.backend);
}

std::string Cell(std::string_view text) {
  return text.empty() ? "<none>" : maps::Printable(text, /*spaces=*/false);
}

std::string DeviceText(uint32_t ifindex, const FlowNames& names) {
  if (ifindex == 0) return "<none>";
  const std::string name = names.device(ifindex);
  return name.empty() ? "#" + std::to_string(ifindex) : Cell(name);
}

const maps::ServicePort* ServiceOf(const maps::Flow& flow, const FlowNames& names) {
  const auto found = names.services.find(flow.service_id);
  return flow.direct || found == names.services.end() ? nullptr : &found->second;
}

std::string ServiceText(const maps::Flow& flow, const FlowNames& names, bool wide) {
  if (flow.direct) return "<none>";
  const maps::ServicePort* service = ServiceOf(flow, names);
  if (!service) return "<unknown>";
  std::string text = service->name.ToString();
  if (wide && !service->port_name.empty()) text += ":" + service->port_name;
  return Cell(text);
}

std::string NotesOf(const maps::Flow& flow) {
  std::string text;
  const auto add = [&text](bool holds, std::string_view note) {
    if (!holds) return;
    if (!text.empty()) text += ",";
    text += note;
  };
  add(!flow.established, "half-open");
  add(flow.half, "half");
  add(flow.socket, "socket");
  add(flow.hairpin, "hairpin");
  add(flow.direct, "direct");
  return Cell(text);
}

maps::TableRow TitlesOf(bool wide) {
  maps::TableRow titles = {"PROTOCOL", "CLIENT", "FRONTEND", "BACKEND", "STATE", "MODE", "IDLE"};
  if (wide) {
    titles.insert(titles.end(), {"LEFT", "AGE", "CLIENT-AS", "DEVICE", "OUT", "NOTES"});
  }
  titles.push_back("SERVICE");
  return titles;
}

maps::TableRow RowOf(const maps::Flow& flow, const FlowNames& names, bool wide) {
  maps::TableRow row = {std::string(net::ProtocolName(flow.protocol)),
                        flow.client.ToString(),
                        flow.frontend_known ? flow.frontend.ToString() : "<unknown>",
                        flow.backend.ToString(),
                        std::string(maps::FlowStateName(flow.state)),
                        std::string(maps::FlowModeName(flow.mode)),
                        DurationText(flow.idle_ns)};
  if (wide) {
    row.push_back(DurationText(flow.remaining_ns));
    row.push_back(DurationText(flow.age_ns));
    row.push_back(flow.source ? flow.source->ToString() : "<none>");
    row.push_back(DeviceText(flow.device, names));
    row.push_back(DeviceText(flow.out_device, names));
    row.push_back(NotesOf(flow));
  }
  row.push_back(ServiceText(flow, names, wide));
  return row;
}

Json DeviceJson(uint32_t ifindex, const FlowNames& names) {
  if (ifindex == 0) return {};
  return {{"ifindex", ifindex}, {"name", names.device(ifindex)}};
}

Json ToJson(const maps::Flow& flow, const FlowNames& names) {
  const maps::ServicePort* service = ServiceOf(flow, names);
  Json json = {{"protocol", net::ProtocolName(flow.protocol)},
               {"family", net::FamilyName(flow.client.address.family())},
               {"client", flow.client.ToString()},
               {"frontend", flow.frontend_known ? Json(flow.frontend.ToString()) : Json()},
               {"backend", flow.backend.ToString()},
               {"clientAs", flow.source.value_or(flow.client).ToString()},
               {"state", maps::FlowStateName(flow.state)},
               {"mode", maps::FlowModeName(flow.mode)},
               {"namespace", service ? service->name.ns : ""},
               {"name", service ? service->name.name : ""},
               {"portName", service ? service->port_name : ""},
               {"established", flow.established},
               {"half", flow.half},
               {"socket", flow.socket},
               {"hairpin", flow.hairpin},
               {"direct", flow.direct},
               {"device", DeviceJson(flow.device, names)},
               {"outDevice", DeviceJson(flow.out_device, names)},
               {"ageSeconds", Seconds(flow.age_ns)},
               {"idleSeconds", Seconds(flow.idle_ns)},
               {"remainingSeconds", Seconds(flow.remaining_ns)}};
  return json;
}

}  // namespace

void SortFlows(std::vector<maps::Flow>& flows, size_t limit) {
  std::sort(flows.begin(), flows.end(), [](const maps::Flow& left, const maps::Flow& right) {
    if (IdentityOf(left) != IdentityOf(right)) return IdentityOf(left) < IdentityOf(right);
    return left.established && !right.established;
  });
  const auto same = [](const maps::Flow& left, const maps::Flow& right) {
    return IdentityOf(left) == IdentityOf(right);
  };
  flows.erase(std::unique(flows.begin(), flows.end(), same), flows.end());
  if (limit != 0 && flows.size() > limit) flows.erase(flows.begin() + limit, flows.end());
}

// As maps::Columns() prints, in two passes: the cells of all flows would take many times the
// memory of the flows.
void WriteFlowsTable(const std::vector<maps::Flow>& flows, const FlowNames& names, bool wide,
                     const TextSink& sink) {
  const maps::TableRow titles = TitlesOf(wide);
  std::vector<size_t> widths(titles.size());
  const auto widen = [&widths](const maps::TableRow& row) {
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], row[i].size());
  };
  std::string text;
  const auto add = [&](const maps::TableRow& row) {
    for (size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text.append(widths[i] - row[i].size() + 3, ' ');
    }
    text += "\n";
    if (text.size() < kPiece) return true;
    const bool go_on = sink(text);
    text.clear();
    return go_on;
  };
  widen(titles);
  for (const maps::Flow& flow : flows)
    widen(RowOf(flow, names, wide));
  if (!add(titles)) return;
  for (const maps::Flow& flow : flows) {
    if (!add(RowOf(flow, names, wide))) return;
  }
  if (!text.empty()) sink(text);
}

void WriteFlowsJson(const std::vector<maps::Flow>& flows, const FlowNames& names,
                    const TextSink& sink) {
  std::string text = flows.empty() ? "[]\n" : "[";
  bool first = true;
  for (const maps::Flow& flow : flows) {
    text += first ? "\n" : ",\n";
    first = false;
    text += ToJson(flow, names).dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() < kPiece) continue;
    if (!sink(text)) return;
    text.clear();
  }
  if (!flows.empty()) text += "\n]\n";
  sink(text);
}

}  // namespace waggle::cli
