// Many connections at a time from few source ports to several addresses: what the
// client's kernel tells apart by the address that was asked may be the same to the
// backend that serves two of them. Each connection is asked when it opens and again
// before it closes; both answers must be its own.
#ifndef WAGGLE_TESTS_LAB_PEER_CLASH_H_
#define WAGGLE_TESTS_LAB_PEER_CLASH_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace waggle::lab {

struct ClashOptions {
  bool udp = false;
  std::vector<std::string> to;  // "10.96.0.10:80=b1": who must answer there; taken in turn
  uint64_t count = 0;           // connections in all
  uint32_t open = 100;          // to one address at a time
  // UDP: source ports. One is used for all addresses at the same time. (TCP: the kernel
  // chooses from net.ipv4.ip_local_port_range.)
  uint16_t first_port = 0;
  uint16_t last_port = 0;
  std::chrono::milliseconds timeout{1000};
};

// Prints "ready", does it all, and prints a tally (load.h) with two more fields:
// "shared", how many had the source port of another open connection of the family, and
// "changed", of how many the server saw another source port. Four ways of closing take
// turns: by the client, by the server, by a reset, and at once by both. Exit status 0
// unless an argument cannot be read.
int Clash(const ClashOptions& options);

}  // namespace waggle::lab

#endif
