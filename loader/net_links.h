// Our programs at tc of devices: adopted, updated, made, let go. By tcx links, pinned as
// links/tc_<ifindex>_in and _out, or by filters at clsact, which no pin can hold: a folder
// links/clsact_<ifindex> says that there are some (in it one named `made` says that the
// clsact is ours as well).
#ifndef WAGGLE_LOADER_NET_LINKS_H_
#define WAGGLE_LOADER_NET_LINKS_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bpf/abi.h"
#include "loader/tc_exchange.h"
#include "loader/tc_filters.h"

namespace waggle::loader {

// One pin as it was found.
struct NetPin {
  enum class Kind : uint8_t { kLink, kClsact };

  Kind kind = Kind::kLink;
  TcHook hook = TcHook::kIngress;  // kLink
  uint32_t ifindex = 0;
  std::string path;

  auto operator<=>(const NetPin&) const = default;
};

// Sorted: links at ingress, links at egress, folders. Empty when there are none.
absl::StatusOr<std::vector<NetPin>> ListNetPins(std::string_view pin_path);

// Detaches what the pin stands for and removes it. FailedPrecondition: it is not ours; it
// stays.
absl::Status RemoveNetPin(const NetPin& pin);

// Devices are those of the calling thread's network namespace.
class NetLinks {
 public:
  // `attach`: how. Changes nothing yet.
  NetLinks(std::string_view pin_path, waggle_tc_attach attach)
      : pin_path_(pin_path), attach_(attach) {}

  // Makes `program_fd` the program there; what is ours there gets it atomically. Where ours is
  // attached the other way, as the last agent did it or one that died while it exchanged them,
  // the two are exchanged (tc_exchange.h): in part here, and at all devices together by
  // Finish(). NotFound: no such device.
  absl::Status Set(uint32_t ifindex, TcHook hook, int program_fd);
  // After Set() at all devices that there were at the start: the new way alone is in force. A
  // clsact of ours stays: while it is taken away the kernel drops packets. Returns the devices
  // that could not have it: nothing of ours is at them any more.
  absl::StatusOr<std::set<uint32_t>> Finish();
  // Takes what is ours from one hook. Nothing there: OK.
  absl::Status Clear(uint32_t ifindex, TcHook hook);
  // Takes everything of ours from the device, the clsact too if we made it and nobody else's
  // filter is there.
  absl::Status Remove(uint32_t ifindex);
  // The same after the device has left this namespace, or the world.
  absl::Status Forget(uint32_t ifindex);

  // Is what Set() made still in force?
  absl::StatusOr<bool> InForce(uint32_t ifindex, TcHook hook) const;

 private:
  absl::Status SetLink(uint32_t ifindex, TcHook hook, int program_fd);
  absl::Status SetFilter(uint32_t ifindex, TcHook hook, int program_fd);
  // What is attached in both ways.
  struct Exchanged {
    uint32_t ifindex;
    TcHook hook;
    int program_fd;
  };
  // The stand-in for a link.
  absl::StatusOr<int> StandIn(int program_fd);
  // What is attached the other way too: to be exchanged.
  absl::Status AttachedTwice(const Exchanged& each);
  absl::Status FinishOne(const Exchanged& each);
  void DropExchanged(uint32_t ifindex);

  std::string pin_path_;
  waggle_tc_attach attach_;
  std::optional<TcExchange> exchange_;  // from the first one of these on, until Finish()
  std::vector<Exchanged> exchanged_;
  bool finished_ = false;
  IngressQdiscs qdiscs_;  // while all devices are asked for one after the other
};

}  // namespace waggle::loader

#endif
