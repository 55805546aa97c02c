// Who serves a Service right now, asked again and again from a pod, and since when.
#ifndef WAGGLE_BENCH_CONTROL_PLANE_PROBE_H_
#define WAGGLE_BENCH_CONTROL_PLANE_PROBE_H_

#include <chrono>
#include <cstdint>
#include <string>

#include "tests/lab/lab.h"
#include "tests/lab/process.h"

namespace waggle::bench {

// CLOCK_BOOTTIME, which agents use for what they tell.
int64_t BoottimeNs();

// A backend: answers each TCP connection with one letter.
class ProbeServer {
 public:
  ProbeServer(const lab::Place& pod, char letter, uint16_t port);

 private:
  lab::Process process_;
};

// A client that connects every 200 µs.
class Probe {
 public:
  // `target`: "10.96.0.1:80".
  Probe(const lab::Place& pod, const std::string& target);

  // Waits until `letter` answers; when its first answer had come. Ends the process when that
  // takes longer.
  int64_t AwaitAnswerOf(char letter, std::chrono::milliseconds patience);

 private:
  lab::Process process_;
};

// What the two run in their pods, in this program; for main().
int RunProbeServer(char letter, uint16_t port);
int RunProbe(const std::string& target);

}  // namespace waggle::bench

#endif
