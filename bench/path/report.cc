#include "bench/path/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

namespace waggle::bench {
namespace {

const char* Describe(Op op) {
  switch (op) {
    case Op::kTcpConnect:
      return "TCP: connect, 1 byte each way, close";
    case Op::kTcpOpen:
      return "TCP: 1 byte each way on an open connection";
    case Op::kUdpNew:
      return "UDP: new socket, 1 datagram each way, close";
    case Op::kUdpOpen:
      return "UDP: 1 datagram each way on an open socket";
  }
  return "";
}

template <typename... Arguments>
std::string Format(const char* format, Arguments... arguments) {
  char text[256];
  std::snprintf(text, sizeof(text), format, arguments...);
  return text;
}

// "14,100": the rest is noise.
std::string Rounded(double value) {
  const long tens = std::lround(value / 10) * 10;
  return tens < 1000 ? std::to_string(tens) : Format("%ld,%03ld", tens / 1000, tens % 1000);
}

}  // namespace

void to_json(nlohmann::json& json, const Sample& sample) {
  json = sample.outcome;
  json["type"] = "sample";
  json["round"] = sample.round;
  json["place"] = sample.place;
  json["variant"] = sample.variant;
  json["op"] = NameOf(sample.kind.op);
  json["family"] = NameOf(sample.kind.family);
  json["cpus"] = NameOf(sample.kind.cpus);
  json["perSecond"] = sample.outcome.per_second();
}

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (at - static_cast<double>(below));
}

Spread SpreadOf(const std::vector<double>& values) {
  if (values.empty()) return {};
  return {Quantile(values, 0.5), Quantile(values, 0.25), Quantile(values, 0.75)};
}

std::vector<Row> Summarize(const std::vector<Sample>& samples, const std::string& reference) {
  std::map<std::pair<Kind, int>, const Outcome*> references;
  for (const Sample& sample : samples) {
    if (sample.variant == reference && sample.outcome.ops > 0) {
      references[{sample.kind, sample.round}] = &sample.outcome;
    }
  }
  struct Values {
    std::vector<double> per_second, cpu, ratio, cpu_ratio;
  };
  std::vector<Row> rows;
  std::vector<Values> values;
  std::map<std::pair<Kind, std::string>, size_t> index;
  for (const Sample& sample : samples) {
    const auto [at, is_new] = index.try_emplace({sample.kind, sample.variant}, rows.size());
    if (is_new) {
      rows.push_back({sample.variant, sample.kind});
      values.emplace_back();
    }
    Row& row = rows[at->second];
    Values& mine = values[at->second];
    const Outcome& outcome = sample.outcome;
    ++row.rounds;
    row.errors += outcome.errors;
    mine.per_second.push_back(outcome.per_second());
    if (outcome.ops == 0) continue;
    mine.cpu.push_back(outcome.cpu_ns_per_op());
    const auto direct = references.find({sample.kind, sample.round});
    if (direct == references.end()) continue;
    mine.ratio.push_back(outcome.per_second() / direct->second->per_second());
    mine.cpu_ratio.push_back(outcome.cpu_ns_per_op() / direct->second->cpu_ns_per_op());
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].per_second = SpreadOf(values[i].per_second).median;
    rows[i].cpu_ns_per_op = SpreadOf(values[i].cpu).median;
    rows[i].ratio = SpreadOf(values[i].ratio);
    rows[i].cpu_ratio = SpreadOf(values[i].cpu_ratio);
  }
  return rows;
}

double OthersShare(const std::vector<Sample>& samples, int cpus) {
  double busy = 0, ours = 0, all = 0;
  for (const Sample& sample : samples) {
    const Outcome& outcome = sample.outcome;
    busy += static_cast<double>(outcome.machine_busy_ns + outcome.machine_steal_ns);
    ours += static_cast<double>(outcome.client_cpu_ns + outcome.server_cpu_ns);
    all += static_cast<double>(outcome.elapsed_ns) * cpus;
  }
  return all > 0 ? std::max(0.0, (busy - ours) / all) : 0;
}

std::string Tables(const std::vector<Row>& rows) {
  std::vector<Kind> kinds;
  for (const Row& row : rows) {
    if (std::find(kinds.begin(), kinds.end(), row.kind) == kinds.end()) kinds.push_back(row.kind);
  }
  std::sort(kinds.begin(), kinds.end());
  std::string text;
  for (const Kind& kind : kinds) {
    text += Format("%s%s; %s, client and server on %s\n\n", text.empty() ? "" : "\n",
                   Describe(kind.op), kind.family == net::Family::kIpv4 ? "IPv4" : "IPv6",
                   kind.cpus == Cpus::kApart ? "two CPUs" : "one CPU");
    text += "| way                 |   per s | of direct | quartiles   | CPU us | of direct |\n";
    text += "|---------------------|--------:|----------:|-------------|-------:|----------:|\n";
    for (const Row& row : rows) {
      if (row.kind != kind) continue;
      text += Format("| %-19s | %7s | %9.3f | %.3f-%.3f | %6.2f | %9.3f |%s\n", row.variant.c_str(),
                     Rounded(row.per_second).c_str(), row.ratio.median, row.ratio.lower,
                     row.ratio.upper, row.cpu_ns_per_op / 1000, row.cpu_ratio.median,
                     row.errors == 0 ? "" : Format(" %lu errors", row.errors).c_str());
    }
  }
  return text;
}

}  // namespace waggle::bench
