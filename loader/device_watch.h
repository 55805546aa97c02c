// Keeps the facts of all devices true while they come, go and change.
#ifndef WAGGLE_LOADER_DEVICE_WATCH_H_
#define WAGGLE_LOADER_DEVICE_WATCH_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "loader/devices.h"
#include "loader/netlink.h"
#include "userspace/os/unique_fd.h"

struct nlmsghdr;

namespace waggle::loader {

// What one Read() brought.
struct DeviceChanges {
  bool any = false;  // devices() has changed
  // Devices that left, those among them whose index another one has by now.
  std::vector<uint32_t> gone;
  // Filters or queueing disciplines were removed from these, by whom ever.
  std::vector<uint32_t> stripped;
  // Events were lost, and everything was read anew: a device may have been replaced by
  // another with the same index.
  bool resynced = false;
};

class DeviceWatch {
 public:
  // Watches the devices of the calling thread's network namespace, and reads all of them.
  static absl::StatusOr<std::unique_ptr<DeviceWatch>> Open();
  ~DeviceWatch();

  // Becomes readable when there is something for Read(); for epoll.
  int fd() const { return epoll_.get(); }
  // Takes in everything that waits, without blocking. After an error devices() is what
  // it was; call again later.
  absl::StatusOr<DeviceChanges> Read();
  // Facts that were left for later so that a node with very many routes is not kept busy:
  // when true, call Read() again within a second or so.
  bool pending() const { return resync_ || !stale_.empty(); }

  const DeviceMap& devices() const { return devices_; }

 private:
  DeviceWatch(NetlinkSocket links, NetlinkSocket routes, NetlinkQueries queries)
      : links_(std::move(links)), routes_(std::move(routes)), queries_(std::move(queries)) {}
  absl::Status Subscribe(const NetlinkSocket& socket, const std::vector<int>& groups);
  // Handles what waits at a socket. `lost`: some events were, for want of room.
  absl::Status Drain(const NetlinkSocket& socket, DeviceChanges* changes, bool* lost);
  // One device, or (0) all.
  absl::Status AskLinks(uint32_t ifindex, const NetlinkQueries::Take& take);
  absl::Status AskMarks(uint32_t ifindex, const NetlinkQueries::Take& take);

  // All devices. With resync_ some may be missing.
  absl::StatusOr<DeviceMap> Dump();
  // Looks up the marks of these among `devices`; those that remain uncertain are stale_.
  absl::Status LookUpMarks(const std::set<uint32_t>& wanted, DeviceMap* devices);
  absl::Status Refresh(DeviceChanges* changes);
  absl::Status Resync(DeviceChanges* changes);

  void Handle(const nlmsghdr* message, DeviceChanges* changes);
  void HandleLink(const nlmsghdr* message, DeviceChanges* changes);
  void HandleMarks(const nlmsghdr* message, const std::vector<Marked>& marked, bool removed,
                   DeviceChanges* changes);

  os::UniqueFd epoll_;  // of the two sockets
  NetlinkSocket links_;
  // Apart, as a routing daemon may change very many at once: what is lost here costs a look at
  // the routes some time later, and no device.
  NetlinkSocket routes_;
  NetlinkQueries queries_;
  DeviceMap devices_;
  bool resync_ = false;            // everything must be read anew
  std::set<uint32_t> stale_;       // devices whose marks must be looked up again
  std::set<uint32_t> peer_moved_;  // devices whose peer may have moved to another namespace
  std::chrono::steady_clock::time_point next_look_{};  // not before: routes can be very many
};

}  // namespace waggle::loader

#endif
