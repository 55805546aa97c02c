// From samples of all rounds to what people read: medians, and ratios to the
// reference *of the same round*, so that what slows the machine down for a while
// slows both.
#ifndef WAGGLE_BENCH_PATH_REPORT_H_
#define WAGGLE_BENCH_PATH_REPORT_H_

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "bench/path/peer.h"

namespace waggle::bench {

// One measurement.
struct Sample {
  int round = 0;
  int place = 0;  // in the round's order, from 0
  std::string variant;
  Kind kind = {};
  Outcome outcome;
};
void to_json(nlohmann::json& json, const Sample& sample);

// By linear interpolation between the two nearest; `values` is not empty.
double Quantile(std::vector<double> values, double q);

struct Spread {
  double median = 0;
  double lower = 0;  // quartiles
  double upper = 0;
};
Spread SpreadOf(const std::vector<double>& values);

// One row of the table.
struct Row {
  std::string variant;
  Kind kind = {};
  size_t rounds = 0;
  uint64_t errors = 0;
  double per_second = 0;     // median
  double cpu_ns_per_op = 0;  // median
  Spread ratio = {};         // operations per second, to the reference
  Spread cpu_ratio = {};     // CPU time of an operation, to the reference
};

// In the order in which they come first. Rounds in which the reference or the variant did nothing
// give no ratio.
std::vector<Row> Summarize(const std::vector<Sample>& samples, const std::string& reference);

// What others had of the machine's CPUs meanwhile, 0 to 1: busy time that is neither
// the client's nor the server's.
double OthersShare(const std::vector<Sample>& samples, int cpus);

// A table in Markdown for each kind.
std::string Tables(const std::vector<Row>& rows);

}  // namespace waggle::bench

#endif
