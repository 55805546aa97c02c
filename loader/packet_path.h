// The packet path of one node: its programs at the devices that there are, and at those that
// come, for as long as an agent lives.
#ifndef WAGGLE_LOADER_PACKET_PATH_H_
#define WAGGLE_LOADER_PACKET_PATH_H_

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bpf/abi.h"
#include "loader/device_watch.h"
#include "loader/net_links.h"
#include "loader/roles.h"
#include "maps/device_table.h"

namespace waggle::loader {

// Descriptors of loaded programs; they outlive the PacketPath.
struct PacketPrograms {
  int pod_in = -1;   // ingress of pods' devices
  int pod_out = -1;  // egress of pods' devices
  int net_in = -1;   // ingress of uplinks and tunnels with Ethernet headers
  int net_l3 = -1;   // of those without
};

// What happened to a device, for the log.
struct DeviceNews {
  enum class What : uint8_t {
    kCovered,    // carries our programs now (a bridge: is known)
    kLetGo,      // does no longer, as its role has changed
    kGone,       // has left; without a name: while no agent ran
    kFailed,     // cannot carry them; tried again each second
    kNoSockets,  // XDP in its driver hides the sockets of its packets
  };
  What what = What::kCovered;
  uint32_t ifindex = 0;
  std::string name;
  waggle_role role = WAGGLE_ROLE_NONE;
  std::string text;  // why it has its role, or why it failed
  // CLOCK_MONOTONIC_COARSE. With kGone: no later device has had this index by then.
  uint64_t when_ns = 0;
};

class PacketPath {
 public:
  // Begins to watch the devices of the calling thread's network namespace. Changes nothing.
  static absl::StatusOr<std::unique_ptr<PacketPath>> Open(std::string_view pin_path,
                                                          RoleRules rules);

  // Puts the programs in force at all devices: adopts what is pinned, updates each
  // atomically, lets go of what is not wanted. Uplinks and tunnels come before pods, so that
  // the answers to a redirected packet find the way back. `attach`: TCX or CLSACT.
  // Fails where not a single device can be had. Once.
  absl::Status Start(const PacketPrograms& programs, maps::DeviceTable table,
                     waggle_tc_attach attach);
  // Takes back what Start() attached where nothing was before.
  void TakeBack();

  // Readable when Update() has something to do.
  int event_fd() const { return watch_->fd(); }
  // Takes in what happened to the devices; after Start() acts on it. To be called when
  // event_fd() is readable, and each second. An error is one of reading; what is in force
  // stays so.
  absl::Status Update();

  // Asks whether all devices still carry what they were given: of a link that somebody detaches
  // nobody tells. Those that do not are covered by the next Update().
  void Inspect();

  // What happened since the last call.
  std::vector<DeviceNews> TakeNews() { return std::exchange(news_, {}); }
  // Devices with programs of ours in force, in the order of their indexes.
  std::vector<int> Covered(std::initializer_list<waggle_role> roles) const;

 private:
  struct State {
    std::string name;
    RoleDecision decision;
    bool in_force = false;
    std::string failure;                               // what was said last
    std::chrono::steady_clock::time_point retry_at{};  // after a failure
  };

  PacketPath(std::unique_ptr<DeviceWatch> watch, RoleRules rules)
      : watch_(std::move(watch)), rules_(std::move(rules)) {}
  absl::Status Sync();
  void Cover(uint32_t ifindex, const RoleDecision& decision);
  absl::Status Attach(uint32_t ifindex, const RoleDecision& decision, const State* before);
  void LetGo(uint32_t ifindex);
  void Gone(uint32_t ifindex);
  std::set<uint32_t> All() const;
  // Those whose programs somebody took away are to be covered again.
  void Verify(const std::set<uint32_t>& suspects, bool as_new_devices);
  void Tell(DeviceNews::What what, uint32_t ifindex, const State& state, std::string text);

  std::unique_ptr<DeviceWatch> watch_;
  RoleRules rules_;
  std::string pin_path_;
  std::optional<NetLinks> links_;  // after Start()
  std::optional<maps::DeviceTable> table_;
  PacketPrograms programs_;
  std::map<uint32_t, State> states_;  // of all devices that have, or shall have, a role
  std::set<uint32_t> pinned_before_;
  std::set<uint32_t> without_sockets_;
  std::vector<DeviceNews> news_;
};

}  // namespace waggle::loader

#endif
