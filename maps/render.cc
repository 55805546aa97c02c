#include "maps/render.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "maps/text_table.h"

namespace waggle::maps {
namespace {

using Json = nlohmann::ordered_json;

// The fields of the JSON in its order, which is also the order of the rows.
struct ServiceRow {
  std::string_view ns;
  std::string_view name;
  std::string_view port_name;
  std::string_view protocol;
  std::string_view family;
  std::string_view kind;
  std::string address;
  uint16_t port = 0;
  std::string_view scope;
  std::string_view policy;
  std::string_view fate;
  std::vector<std::string> backends;
  uint32_t affinity_s = 0;

  friend auto operator<=>(const ServiceRow&, const ServiceRow&) = default;
};

struct BackendRow {
  std::string_view ns;
  std::string_view name;
  std::string_view port_name;
  std::string_view protocol;
  std::string_view family;
  std::string address;
  uint16_t port = 0;
  bool local = false;
  bool terminating = false;
  std::vector<std::string> frontends;

  friend auto operator<=>(const BackendRow&, const BackendRow&) = default;
};

std::vector<std::string> EndpointTexts(const std::vector<Backend>& backends) {
  std::vector<std::string> texts;
  texts.reserve(backends.size());
  for (const Backend& backend : backends)
    texts.push_back(backend.endpoint.ToString());
  return texts;
}

std::vector<ServiceRow> ServiceRows(const std::vector<ResolvedService>& services) {
  std::vector<ServiceRow> rows;
  for (const ResolvedService& service : services) {
    for (const ResolvedPort& port : service.ports) {
      for (const BackendList& list : port.lists) {
        const std::vector<std::string> backends = EndpointTexts(list.backends);
        for (const Frontend& frontend : list.frontends) {
          ServiceRow row;
          row.ns = service.name.ns;
          row.name = service.name.name;
          row.port_name = port.name;
          row.protocol = net::ProtocolName(port.protocol);
          row.family = net::FamilyName(frontend.endpoint.address.family());
          row.kind = KindName(frontend.kind);
          row.address = frontend.endpoint.address.ToString();
          row.port = frontend.endpoint.port;
          row.scope = ScopeName(frontend.scope);
          row.policy = PolicyName(list.policy);
          row.fate = FateName(list.fate);
          row.backends = backends;
          row.affinity_s = list.affinity_s;
          rows.push_back(std::move(row));
        }
      }
    }
  }
  std::sort(rows.begin(), rows.end());
  return rows;
}

// A backend that several lists of a port hold (an internal and an external one) is
// one backend to people: one row, with all the frontends that lead to it.
std::vector<BackendRow> BackendRows(const std::vector<ResolvedService>& services) {
  std::vector<BackendRow> rows;
  for (const ResolvedService& service : services) {
    for (const ResolvedPort& port : service.ports) {
      std::map<std::pair<net::Family, Backend>, std::set<net::Endpoint>> frontends_of;
      for (const BackendList& list : port.lists) {
        for (const Frontend& frontend : list.frontends) {
          const net::Family family = frontend.endpoint.address.family();
          for (const Backend& backend : list.backends) {
            frontends_of[{family, backend}].insert(frontend.endpoint);
          }
        }
      }
      for (const auto& [key, frontends] : frontends_of) {
        const auto& [family, backend] = key;
        BackendRow row;
        row.ns = service.name.ns;
        row.name = service.name.name;
        row.port_name = port.name;
        row.protocol = net::ProtocolName(port.protocol);
        row.family = net::FamilyName(family);
        row.address = backend.endpoint.address.ToString();
        row.port = backend.endpoint.port;
        row.local = backend.local;
        row.terminating = backend.terminating;
        for (const net::Endpoint& frontend : frontends) {
          row.frontends.push_back(frontend.ToString());
        }
        rows.push_back(std::move(row));
      }
    }
  }
  std::sort(rows.begin(), rows.end());
  return rows;
}

Json ToJson(const ServiceRow& row) {
  return Json{{"namespace", row.ns},
              {"name", row.name},
              {"portName", row.port_name},
              {"protocol", row.protocol},
              {"family", row.family},
              {"kind", row.kind},
              {"address", row.address},
              {"port", row.port},
              {"scope", row.scope},
              {"policy", row.policy},
              {"fate", row.fate},
              {"backends", row.backends},
              {"affinitySeconds", row.affinity_s},
              // Of LoadBalancer IPs only; no frontend of this version has any.
              {"sourceRanges", Json::array()}};
}

Json ToJson(const BackendRow& row) {
  return Json{{"namespace", row.ns},       {"name", row.name},     {"portName", row.port_name},
              {"protocol", row.protocol},  {"family", row.family}, {"address", row.address},
              {"port", row.port},          {"local", row.local},   {"terminating", row.terminating},
              {"frontends", row.frontends}};
}

// One row a line, so that diff and grep work on it. Names may come from pins that a
// stranger edited: bytes that are not UTF-8 become U+FFFD, so that the output parses.
template <typename Row>
std::string JsonLines(const std::vector<Row>& rows) {
  if (rows.empty()) return "[]\n";
  std::string text = "[";
  for (const Row& row : rows) {
    text += text.size() == 1 ? "\n" : ",\n";
    text += ToJson(row).dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  return text + "\n]\n";
}

// An empty cell would shift the columns of whoever splits a line at spaces.
std::string Cell(std::string_view text) {
  return text.empty() ? "<none>" : Printable(text, /*spaces=*/false);
}

std::string Join(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) {
    if (!text.empty()) text += ",";
    text += part;
  }
  return text;
}

}  // namespace

std::string RenderServicesJson(const std::vector<ResolvedService>& services) {
  return JsonLines(ServiceRows(services));
}

std::string RenderServicesTable(const std::vector<ResolvedService>& services, bool wide) {
  std::vector<TableRow> table = {
      {"NAMESPACE", "NAME", "PORT-NAME", "PROTOCOL", "KIND", "ADDRESS", "PORT", "FATE"}};
  for (const char* title : {"SCOPE", "POLICY", "AFFINITY"}) {
    if (wide) table[0].push_back(title);
  }
  table[0].push_back("BACKENDS");
  for (const ServiceRow& row : ServiceRows(services)) {
    TableRow cells = {
        Cell(row.ns),          Cell(row.name), Cell(row.port_name),      std::string(row.protocol),
        std::string(row.kind), row.address,    std::to_string(row.port), std::string(row.fate)};
    if (wide) {
      cells.emplace_back(row.scope);
      cells.emplace_back(row.policy);
      cells.push_back(row.affinity_s == 0 ? "<none>" : std::to_string(row.affinity_s) + "s");
      cells.push_back(Cell(Join(row.backends)));
    } else {
      cells.push_back(std::to_string(row.backends.size()));
    }
    table.push_back(std::move(cells));
  }
  return Columns(table);
}

std::string RenderBackendsJson(const std::vector<ResolvedService>& services) {
  return JsonLines(BackendRows(services));
}

std::string RenderBackendsTable(const std::vector<ResolvedService>& services, bool wide) {
  std::vector<TableRow> table = {
      {"NAMESPACE", "NAME", "PORT-NAME", "PROTOCOL", "BACKEND", "LOCAL", "TERMINATING"}};
  if (wide) table[0].push_back("FRONTENDS");
  for (const BackendRow& row : BackendRows(services)) {
    const bool v6 = row.family == net::FamilyName(net::Family::kIpv6);
    TableRow cells = {Cell(row.ns),
                      Cell(row.name),
                      Cell(row.port_name),
                      std::string(row.protocol),
                      (v6 ? "[" + row.address + "]" : row.address) + ":" + std::to_string(row.port),
                      row.local ? "yes" : "no",
                      row.terminating ? "yes" : "no"};
    if (wide) cells.push_back(Cell(Join(row.frontends)));
    table.push_back(std::move(cells));
  }
  return Columns(table);
}

}  // namespace waggle::maps
