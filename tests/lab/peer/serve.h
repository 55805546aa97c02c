// The lab's backend: answers on many addresses at once and says, in each answer,
// who it is and whom it saw.
//
// One line (TCP) or datagram (UDP) in, one JSON object out:
//   {"name":"b1","peer":"10.244.1.2:40000","local":"10.244.1.3:8080","echo":"hello"}
// At the end of a TCP client's stream (half-close) it sends
//   {"name":"b1","peer":…,"local":…,"eof":true,"bytes":6}
// and closes. The line "bye" is answered, and then the server closes first.
//
// Listening on "echo:…" (TCP) it sends {"name":…,"peer":…,"local":…} and a newline, and
// then every byte back.
#ifndef WAGGLE_TESTS_LAB_PEER_SERVE_H_
#define WAGGLE_TESTS_LAB_PEER_SERVE_H_

#include <string>
#include <vector>

namespace waggle::lab {

struct ServeOptions {
  std::string name;
  // "tcp:10.0.0.1:80", "udp:[::]:53", "mptcp:…", "echo:…"; "tcp6only:[::]:80" and
  // "udp6only:…" do not take IPv4; all others on IPv6 wildcards do.
  std::vector<std::string> listen;
};

// Prints "ready" once all sockets are bound, then serves until SIGTERM. Returns
// the exit status; what went wrong is on stderr.
int Serve(const ServeOptions& options);

}  // namespace waggle::lab

#endif
