// Packets of TCP that were lost, by the kernel's own counters. A client that waits long enough does
// not notice: the packet is sent again after 0.2 s, a SYN after 1 s.
#ifndef WAGGLE_TESTS_LAB_LOSSES_H_
#define WAGGLE_TESTS_LAB_LOSSES_H_

#include <cstdint>
#include <string>
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
// servers. No matter of time, but for one thing: where nobody has a closed connection any more, its
// last segment may be sent again on a busy machine, and nobody says that it had come. So stop
// clients that hold connections after the last look.
class LossWatch {
 public:
  // `busy`: where others talk, too, who come and go. Of these only SYNs count.
  explicit LossWatch(const std::vector<const Place*>& places,
                     const std::vector<const Place*>& busy = {});

  // What was lost since the last call or the start: "client sent 3 TCP segments again, 1 of them
  // SYNs". Empty: nothing.
  std::string Losses();

 private:
  struct Watched {
    const Place* place;
    bool only_syns;
    TcpCounts before;
  };

  std::vector<Watched> places_;
};

}  // namespace waggle::lab

#endif
