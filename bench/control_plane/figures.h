// What was measured, number by number, and as a table.
#ifndef WAGGLE_BENCH_CONTROL_PLANE_FIGURES_H_
#define WAGGLE_BENCH_CONTROL_PLANE_FIGURES_H_

#include <ostream>
#include <string>
#include <vector>

namespace waggle::bench {

class Figures {
 public:
  // Every number goes to `raw` at once, as a line of JSON.
  explicit Figures(std::ostream& raw) : raw_(raw) {}

  void Add(int services, const std::string& who, const std::string& what, const std::string& unit,
           double value);

  // In Markdown, rows in order of first mention.
  std::string Table() const;

 private:
  // One measured thing: all its values.
  struct Row {
    int services;
    std::string who;
    std::string what;
    std::string unit;
    std::vector<double> values;
  };

  std::ostream& raw_;
  std::vector<Row> rows_;
};

}  // namespace waggle::bench

#endif
