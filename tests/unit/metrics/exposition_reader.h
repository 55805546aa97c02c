// Reads Prometheus' text format as strictly as its own tools check it.
#ifndef WAGGLE_TESTS_UNIT_METRICS_EXPOSITION_READER_H_
#define WAGGLE_TESTS_UNIT_METRICS_EXPOSITION_READER_H_

#include <map>
#include <string>
#include <vector>

namespace waggle::metrics {

using LabelMap = std::map<std::string, std::string>;

struct ReadSample {
  std::string name;  // with _bucket, _sum or _count
  LabelMap labels;
  double value = 0;
};

struct ReadFamily {
  std::string name;
  std::string type;
  std::string help;
  std::vector<ReadSample> samples;
};

struct ReadExposition {
  std::vector<ReadFamily> families;
  std::vector<std::string> faults;

  // The value of a sample; NaN, which equals nothing, where there is none.
  double Value(const std::string& name, const LabelMap& labels = {}) const;
  std::vector<std::string> Names() const;  // of families, sorted
};

// Faults: a line that is none, HELP or TYPE missing, double or late, a family twice, a sample twice
// or of another family, an invalid name, a counter that is negative or does not end in _total
// unless `any_name` lists it, another type's name that does, a histogram whose buckets fall, lack
// +Inf, or do not sum up to _count.
ReadExposition ParseExposition(const std::string& text,
                               const std::vector<std::string>& any_name = {});

}  // namespace waggle::metrics

#endif
