// Programs run inside a chosen network namespace and cgroup.
#ifndef WAGGLE_TESTS_LAB_PROCESS_H_
#define WAGGLE_TESTS_LAB_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "tests/lab/peer/sockets.h"

namespace waggle::lab {

using Argv = std::vector<std::string>;

inline constexpr std::chrono::seconds kPatience{20};

// Where and how a program runs. Empty: as the test itself does.
struct Surroundings {
  std::string netns = {};                 // path of a network namespace
  std::string cgroup = {};                // path of a cgroup v2 directory
  std::string input = {};                 // what stdin holds
  bool no_bpf_rights = false;             // without CAP_BPF, CAP_SYS_ADMIN and CAP_NET_ADMIN
  bool private_cgroup_namespace = false;  // and a cgroup2 mount that shows only that
};

struct RunResult {
  int status = -1;  // exit status; 128 + signal; -1: did not end in time and was killed
  std::string out;
  std::string err;

  bool ok() const { return status == 0; }
  // Everything, for the text of a failure.
  std::string ToString() const;
};

// Runs a program to its end, or kills it at the deadline.
RunResult RunProgram(const Surroundings& where, const Argv& argv,
                     std::chrono::milliseconds patience = kPatience);

// A program that runs beside the test. Killed when it goes out of scope.
class Process {
 public:
  enum class Output { kToMemory, kToPipe };

  Process(const Surroundings& where, const Argv& argv, Output output);
  ~Process();
  Process(Process&&) = default;
  Process& operator=(Process&&) = default;

  pid_t pid() const { return pid_; }
  bool running();
  void Signal(int signal);
  // Waits for the end; the status as in RunResult, nullopt at the deadline.
  std::optional<int> Wait(std::chrono::milliseconds patience = kPatience);
  // Kills and reaps.
  void Kill();

  // Output::kToPipe: the next line of stdout, nullopt at end of file or deadline.
  std::optional<std::string> ReadLine(std::chrono::milliseconds patience = kPatience);
  void WriteLine(const std::string& line);
  void CloseInput() { stdin_.Reset(-1); }

  // stdout (Output::kToMemory) and stderr so far.
  std::string Out() const;
  std::string Err() const;

 private:
  // A moved-from pid is nobody's.
  struct Pid {
    pid_t value = -1;
    Pid() = default;
    Pid(Pid&& other) noexcept : value(other.value) { other.value = -1; }
    Pid& operator=(Pid&& other) noexcept {
      std::swap(value, other.value);
      return *this;
    }
    operator pid_t() const { return value; }
  };

  Pid pid_;
  Fd pidfd_;
  Fd stdin_, stdout_, stderr_;
  std::string pending_;
  std::optional<int> status_;
};

}  // namespace waggle::lab

#endif
