#include "userspace/metrics/agent_metrics.h"

#include <vector>

namespace waggle::metrics {
namespace {

std::vector<double> MakeProgrammingSeconds() {
  std::vector<double> bounds = {0.25, 0.5};
  for (int s = 1; s < 60; ++s)
    bounds.push_back(s);
  for (int s = 60; s < 120; s += 5)
    bounds.push_back(s);
  for (int s = 120; s <= 300; s += 30)
    bounds.push_back(s);
  return bounds;
}

}  // namespace

std::span<const double> SyncSeconds() {
  static constexpr std::array<double, 15> kBounds = {0.001, 0.002, 0.004, 0.008, 0.016,
                                                     0.032, 0.064, 0.128, 0.256, 0.512,
                                                     1.024, 2.048, 4.096, 8.192, 16.384};
  return kBounds;
}

std::span<const double> ProgrammingSeconds() {
  static const auto* const bounds = new std::vector<double>(MakeProgrammingSeconds());
  return *bounds;
}

std::span<const double> SwitchSeconds() {
  static constexpr std::array<double, 19> kBounds = {
      10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3,
      20e-3, 50e-3, 0.1,   0.2,    0.5,    1,      2,    5,    10};
  return kBounds;
}

}  // namespace waggle::metrics
