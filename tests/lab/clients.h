// Servers and clients (tests/lab/peer) run in the lab's places.
#ifndef WAGGLE_TESTS_LAB_CLIENTS_H_
#define WAGGLE_TESTS_LAB_CLIENTS_H_

#include <iosfwd>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/lab/lab.h"
#include "tests/lab/process.h"

namespace waggle::lab {

// A backend that answers with its name until it goes out of scope.
class Server {
 public:
  // `listen` as in peer/serve.h. Ready on return.
  Server(const Place& place, const std::string& name, const std::vector<std::string>& listen);

  void Stop() { process_.Kill(); }

 private:
  Process process_;
};

// TCP and UDP on both addresses of the place, named as the place is; on kEchoPort every
// byte comes back.
inline constexpr uint16_t kEchoPort = 7;
Server ServeAll(const Place& place, uint16_t port = 8080);

// What one step of a client gave (tests/lab/peer/steps.h).
class StepResult {
 public:
  explicit StepResult(nlohmann::json json) : json_(std::move(json)) {}

  bool ok() const { return json_.value("ok", false); }
  bool timed_out() const { return json_.value("timeout", false); }
  std::string error() const { return json_.value("errno", ""); }
  std::string immediate() const { return json_.value("immediate", ""); }
  std::string address() const { return json_.value("address", ""); }
  std::string from() const { return json_.value("from", ""); }
  // The server's answer: who it is, whom it saw, what it was sent.
  std::string name() const { return Reply("name"); }
  std::string peer() const { return Reply("peer"); }
  std::string local() const { return Reply("local"); }
  std::string echo() const { return Reply("echo"); }
  bool eof() const;
  bool syn_data() const { return json_.value("synData", false); }
  bool mptcp() const { return json_.value("mptcp", false); }
  int mss() const { return json_.value("mss", 0); }
  int mtu() const { return json_.value("mtu", 0); }
  double ms() const { return json_.value("ms", 0.0); }

  friend std::ostream& operator<<(std::ostream& out, const StepResult& result);

 private:
  std::string Reply(const char* field) const;

  nlohmann::json json_;
};

// One client socket, step by step.
class Client {
 public:
  explicit Client(const Place& place);

  // Does the step and returns what it gave, good or bad.
  StepResult Do(const std::string& step);
  // Does the steps; each must succeed (a test failure names the one that did not).
  // Returns the last one's result.
  StepResult Must(const std::vector<std::string>& steps);

 private:
  std::string place_;
  Process process_;
};

// Counts of a client under load (tests/lab/peer/load.h).
struct Tally {
  uint64_t attempts = 0;
  uint64_t ok = 0;
  std::map<std::string, uint64_t> failures;
  std::map<std::string, uint64_t> names;
  double slowest_ms = 0;
  // Of `clash` (peer/clash.h).
  uint64_t shared = 0;
  uint64_t changed = 0;
  std::string text;

  bool AllOk() const { return attempts > 0 && ok == attempts && failures.empty(); }
  friend std::ostream& operator<<(std::ostream& out, const Tally& tally);
};

// A client that goes on until told to stop.
class Load {
 public:
  // Arguments of waggle-lab-peer: {"rate", …}, {"hold", …} or {"clash", …}. Under way on
  // return.
  Load(const Place& place, const Argv& arguments);

  // What happened since the last mark.
  Tally Mark();
  Tally Stop();
  // Waits for a client with --count, or `clash`, to be done.
  Tally Finish(std::chrono::milliseconds patience = kPatience) { return Read(patience); }

 private:
  Tally Read(std::chrono::milliseconds patience = kPatience);

  std::string place_;
  Process process_;
};

// Asks `count` times, one after the other, as fast as answers come. Mode as
// waggle-lab-peer names it: tcp, udp, udp-new, udp-connected.
Tally AskMany(const Place& place, const std::string& mode, const std::string& to, int count);

}  // namespace waggle::lab

#endif
