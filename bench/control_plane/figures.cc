#include "bench/control_plane/figures.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "bench/path/report.h"

namespace waggle::bench {
namespace {

std::string Number(double value) {
  char text[64];
  std::snprintf(text, sizeof(text), value < 10 && value > -10 ? "%.2f" : "%.0f", value);
  return text;
}

}  // namespace

void Figures::Add(int services, const std::string& who, const std::string& what,
                  const std::string& unit, double value) {
  const nlohmann::json line = {
      {"services", services}, {"who", who}, {"what", what}, {"unit", unit}, {"value", value}};
  raw_ << line.dump() << std::endl;
  for (Row& row : rows_) {
    if (row.services == services && row.who == who && row.what == what) {
      return row.values.push_back(value);
    }
  }
  rows_.push_back({services, who, what, unit, {value}});
}

std::string Figures::Table() const {
  std::string text =
      "| Services | who | what | median | quartiles | p99 | number |\n"
      "|---:|---|---|---:|---|---:|---:|\n";
  for (const Row& row : rows_) {
    const Spread spread = SpreadOf(row.values);
    absl::StrAppend(&text, "| ", row.services, " | ", row.who, " | ", row.what, " | ",
                    Number(spread.median), " ", row.unit, " | ", Number(spread.lower), "-",
                    Number(spread.upper), " | ",
                    row.values.size() < 100 ? "" : Number(Quantile(row.values, 0.99)), " | ",
                    row.values.size(), " |\n");
  }
  return text;
}

}  // namespace waggle::bench
