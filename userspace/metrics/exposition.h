// Prometheus' text format, version 0.0.4.
#ifndef WAGGLE_USERSPACE_METRICS_EXPOSITION_H_
#define WAGGLE_USERSPACE_METRICS_EXPOSITION_H_

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "userspace/metrics/values.h"

namespace waggle::metrics {

inline constexpr char kContentType[] = "text/plain; version=0.0.4; charset=utf-8";

enum class Type : uint8_t { kCounter, kGauge, kHistogram };

class Exposition {
 public:
  using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

  // Begins a family, once each; the samples that follow are its own.
  Exposition& Family(std::string_view name, Type type, std::string_view help);
  Exposition& Sample(Labels labels, double value);
  Exposition& Sample(Labels labels, const Counter& value) {
    return Sample(labels, static_cast<double>(value.value()));
  }
  Exposition& Sample(Labels labels, const Gauge& value) { return Sample(labels, value.value()); }
  Exposition& Sample(Labels labels, const Histogram& value) {
    return Buckets(labels, value.bounds(), value.counts(), value.sum());
  }
  // A histogram by what each bucket holds alone; the last one has no bound.
  Exposition& Buckets(Labels labels, std::span<const double> bounds,
                      const std::vector<uint64_t>& counts, double sum);

  const std::string& text() const { return text_; }

 private:
  void Line(std::string_view suffix, Labels labels, std::string_view le, double value);

  std::string name_;
  std::string text_;
};

}  // namespace waggle::metrics

#endif
