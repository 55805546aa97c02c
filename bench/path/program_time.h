// What the kernel says that BPF programs took: runs and nanoseconds, counted while
// a RunTimeSwitch lives (the kernel counts for nobody otherwise, as it costs two
// readings of the clock a run; these are in the nanoseconds, see MeasureEmpty).
#ifndef WAGGLE_BENCH_PATH_PROGRAM_TIME_H_
#define WAGGLE_BENCH_PATH_PROGRAM_TIME_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "tests/lab/lab.h"
#include "tests/lab/peer/sockets.h"

namespace waggle::bench {

struct RunTime {
  std::string name;
  uint64_t runs = 0;
  uint64_t ns = 0;
};

// By program id.
using RunTimes = std::map<uint32_t, RunTime>;

// Counts while it lives. The process ends with a message where the kernel refuses.
class RunTimeSwitch {
 public:
  RunTimeSwitch();

 private:
  lab::Fd fd_;
};

// The programs of all links that are pinned below a folder.
RunTimes ReadRunTimes(const std::string& pin_path);

// What happened between two readings; programs that did not run are left out.
RunTimes Difference(const RunTimes& before, const RunTimes& after);

// Attaches a program that does nothing at tc ingress of a place's device while `body`
// runs: what the clock itself costs.
RunTime MeasureEmpty(const lab::Place& place, const std::string& device,
                     const std::function<void()>& body);

}  // namespace waggle::bench

#endif
