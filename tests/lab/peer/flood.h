// Many clients that never were: packets with source addresses and ports of all kinds, as
// fast as the kernel takes them. Needs a raw socket.
#ifndef WAGGLE_TESTS_LAB_PEER_FLOOD_H_
#define WAGGLE_TESTS_LAB_PEER_FLOOD_H_

#include <cstdint>
#include <string>

namespace waggle::lab {

struct FloodOptions {
  bool udp = false;           // else TCP segments
  std::string flags = "syn";  // of those: "syn", "ack", "rst"
  std::string to;             // "10.96.0.10:80"
  // The first source. Each packet has a source of its own: the ports from first_port to
  // last_port with this address, then with the one behind it, and so on.
  std::string from;
  uint16_t first_port = 1024;
  uint16_t last_port = 65535;
  uint64_t count = 0;
};

// Sends `count` packets and prints {"sent":…,"seconds":…}. Exit status 0 when all were sent;
// 2 for options that cannot be read; else what went wrong is on stderr.
int Flood(const FloodOptions& options);

}  // namespace waggle::lab

#endif
