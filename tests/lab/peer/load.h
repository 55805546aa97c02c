// Clients that go on for a while, for tests that change something under them:
// `rate` asks at a steady rate, `hold` keeps connections open. Both count what
// failed, by step and errno, and who answered.
#ifndef WAGGLE_TESTS_LAB_PEER_LOAD_H_
#define WAGGLE_TESTS_LAB_PEER_LOAD_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace waggle::lab {

enum class AskMode {
  kTcp,           // connect, getpeername, ask, half-close, read to the end
  kUdp,           // one unconnected socket for all queries
  kUdpNew,        // an unconnected socket for each query
  kUdpConnected,  // a connected socket for each query
  kUdpHeld,       // one connected socket for all queries to an address
};

// What happened since the last mark.
struct Tally {
  uint64_t attempts = 0;
  uint64_t ok = 0;
  std::map<std::string, uint64_t> failures;  // "connect: ECONNREFUSED" → times
  std::map<std::string, uint64_t> names;     // backend name → answers
  double slowest_ms = 0;

  // {"attempts","ok","failures":{…},"names":{…},"slowestMs"}
  std::string ToJson() const;
};

struct RateOptions {
  AskMode mode = AskMode::kTcp;
  std::vector<std::string> to;  // taken in turn
  // Ask for the address of this name by DNS, and count addresses instead of backends. Empty:
  // ask a server of ours.
  std::string dns_name;
  uint32_t per_second = 0;  // 0: as fast as answers come
  uint64_t count = 0;       // 0: until told to stop
  std::chrono::milliseconds timeout{1000};
};

struct HoldOptions {
  std::vector<std::string> tcp;
  std::vector<std::string> udp;  // connected
  uint32_t connections = 1;      // to each address
  std::chrono::milliseconds interval{50};
  std::chrono::milliseconds timeout{1000};
};

// Both print "ready" when under way (hold: every connection is open and has
// answered once), then obey lines on stdin: "mark" prints the tally and starts a
// new one, "stop" (or end of file) prints it and ends. Exit status 0 unless an
// address cannot be read; hold: or a connection cannot be opened.
int Rate(const RateOptions& options);
int Hold(const HoldOptions& options);

}  // namespace waggle::lab

#endif
