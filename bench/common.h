// What the benchmarks that run in a lab share: options, and their way from main() to the sandbox.
#ifndef WAGGLE_BENCH_COMMON_H_
#define WAGGLE_BENCH_COMMON_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

namespace waggle::bench {

struct CommonOptions {
  int endpoints = 5;  // of each Service
  std::vector<std::string> agent_flags;
  std::string raw;  // a file
};

void AddCommonOptions(CLI::App& app, CommonOptions& options);

// An option that is a number from `least` to `most`; shows its default.
CLI::Option* AddNumber(CLI::App& app, const std::string& name, int& value, const std::string& what,
                       int least, int most);

// The first line of raw measurements: when and where this was.
nlohmann::json RunHeader();

// Runs `measure` in the sandbox; what it writes goes to the file of raw measurements, or nowhere.
// The exit status; 2 where that file cannot be written.
int RunInLab(const CommonOptions& options, const std::function<int(std::ostream& raw)>& measure);

}  // namespace waggle::bench

#endif
