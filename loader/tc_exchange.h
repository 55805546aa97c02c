// One way of attaching programs exchanged for the other while packets pass: each meets our
// program exactly once. Twice would be as bad as never, as what is translated already would be
// taken for a packet that has nothing to do with Services.
//
// For the time of the exchange both ways are in place, with a stand-in each. A tcx program runs
// before all filters, so its stand-in decides for every packet, by one word of memory that all
// devices share: it calls the program and leaves a mark in the packet's control block, or it
// leaves the packet to the filter's stand-in, which calls the program where there is no mark.
// Storing the word exchanges the ways; when a grace period is over, the old one can go.
//
// The stand-ins find the programs in a map, which the kernel empties when nobody holds it but
// programs: it is pinned as links/exchange_<id>, so that the agent may die at any moment. The next
// one puts stand-ins of its own in the place of those, one by one; they speak the same language.
#ifndef WAGGLE_LOADER_TC_EXCHANGE_H_
#define WAGGLE_LOADER_TC_EXCHANGE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bpf/abi.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {

// The name of every stand-in.
inline constexpr char kStandIn[] = "waggle_exchange";

class TcExchange {
 public:
  // `folder`: for the pin. `from`: the way in force (TCX or CLSACT); the stand-ins keep to it until
  // Flip().
  static absl::StatusOr<TcExchange> Open(const std::string& folder, waggle_tc_attach from);

  // Stand-ins for a program, as descriptors of this object's.
  absl::StatusOr<int> Link(int program_fd);
  absl::StatusOr<int> Filter(int program_fd);

  // Comes after all links have their stand-ins and before the filters get theirs: waits until
  // no packet is on its way from one to the other that met no stand-in.
  void Wait() const;
  // When it returns, no packet is with a program of the way that was in force before.
  absl::Status Flip();

 private:
  struct StandIns {
    os::UniqueFd link;
    os::UniqueFd filter;
  };

  TcExchange() = default;
  absl::StatusOr<StandIns*> For(int program_fd);

  waggle_tc_attach from_ = WAGGLE_TC_NONE;
  os::UniqueFd chosen_;    // an array of one word: enum waggle_tc_attach
  os::UniqueFd programs_;  // what the stand-ins call
  std::map<int, StandIns> stand_ins_;
};

// Removes the pins of all exchanges, when no stand-in is left; what was removed is added to
// `removed`. What is not ours stays.
absl::Status RemoveExchangePins(const std::string& folder, std::vector<std::string>* removed);

}  // namespace waggle::loader

#endif
