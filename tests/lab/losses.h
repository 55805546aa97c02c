// Packets of TCP that were lost, by the kernel's own counters. A client that waits long enough does
// not notice: the packet is sent again after 0.2 s, a SYN after 1 s.
#ifndef WAGGLE_TESTS_LAB_LOSSES_H_
#define WAGGLE_TESTS_LAB_LOSSES_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/lab/lab.h"

namespace waggle::lab {

// Of all TCP sockets of a network namespace since it exists.
struct TcpCounts {
  uint64_t sent_again = 0;   // segments
  uint64_t syns_again = 0;   // those of them that open a connection
  uint64_t had_already = 0;  // whoever got them said so (D-SACK): the first one was only late, or
                             // its acknowledgement lost
};
TcpCounts CountTcp(const Place& place);

// Whoever talks in these places: a loss is told by the one who sends again, so name clients and
// servers.
class LossWatch {
 public:
  explicit LossWatch(const std::vector<const Place*>& places);

  // What was lost since the last call or the start: "client sent 3 TCP segments again, 1 of them
  // SYNs". Empty: nothing.
  std::string Losses();

 private:
  std::vector<std::pair<const Place*, TcpCounts>> places_;
};

}  // namespace waggle::lab

#endif
