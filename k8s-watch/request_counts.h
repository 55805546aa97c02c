// What a reflector has asked of an apiserver so far, for metrics. Written by the reflector's
// thread, read by any.
#ifndef WAGGLE_K8S_WATCH_REQUEST_COUNTS_H_
#define WAGGLE_K8S_WATCH_REQUEST_COUNTS_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace waggle::k8s {

struct RequestCounts {
  using Count = std::atomic<uint64_t>;
  // Upper ends of head_times, as client-go has them; the last bucket has none.
  static constexpr std::array<double, 12> kHeadSeconds = {0.005, 0.025, 0.1, 0.25, 0.5, 1,
                                                          2,     4,     8,   15,   30,  60};

  std::string_view resource;  // "services"; of a literal

  Count lists = 0;                      // that came to their end
  Count watches = 0;                    // that were answered
  Count events = 0;                     // of watches, bookmarks included
  Count failures = 0;                   // requests that were not answered as they should be
  Count bytes = 0;                      // of answers
  Count unanswered = 0;                 // requests without an HTTP status
  std::array<Count, 600> answers = {};  // by HTTP status
  // From a request to the head of its answer.
  std::array<Count, kHeadSeconds.size() + 1> head_times = {};
  Count head_ns = 0;                    // summed
  std::atomic<bool> connected = false;  // the last request was answered as it should be

  void HeadCame(int status, uint64_t after_ns) {
    if (status > 0 && static_cast<size_t>(status) < answers.size()) {
      ++answers[static_cast<size_t>(status)];
    }
    const auto bucket = std::lower_bound(kHeadSeconds.begin(), kHeadSeconds.end(),
                                         static_cast<double>(after_ns) / 1e9);
    ++head_times[static_cast<size_t>(bucket - kHeadSeconds.begin())];
    head_ns += after_ns;
  }
};

}  // namespace waggle::k8s

#endif
