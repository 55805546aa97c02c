// This process as Prometheus' client libraries describe one.
#ifndef WAGGLE_USERSPACE_METRICS_PROCESS_H_
#define WAGGLE_USERSPACE_METRICS_PROCESS_H_

namespace waggle::metrics {

struct ProcessFacts {
  double cpu_seconds = 0;
  double resident_bytes = 0;
  double virtual_bytes = 0;
  double start_time = 0;  // Unix seconds
  double open_fds = 0;
  double max_fds = 0;
};

// What /proc does not tell stays 0.
ProcessFacts ReadProcess();

}  // namespace waggle::metrics

#endif
