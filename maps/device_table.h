// The maps `devices` and `settings`: what the packet path knows of this node. Written by
// the agent's owner, before the programs are attached that read them.
#ifndef WAGGLE_MAPS_DEVICE_TABLE_H_
#define WAGGLE_MAPS_DEVICE_TABLE_H_

#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bpf/abi.h"
#include "maps/kernel_map_store.h"
#include "maps/reader.h"
#include "userspace/os/unique_fd.h"

namespace waggle::maps {

// All rows of an open map `devices`.
absl::StatusOr<Devices> ReadDevices(int fd);

class DeviceTable {
 public:
  // `fd`: an open map `devices`, readable and writable.
  explicit DeviceTable(os::UniqueFd fd) : fd_(std::move(fd)) {}

  // Inserts or replaces; a row that is there already, byte for byte, is left alone (a program
  // may miss a row while it is replaced). ResourceExhausted: the map is full.
  absl::Status Put(uint32_t ifindex, const waggle_device& device);
  // An ifindex that is not there is no error.
  absl::Status Delete(uint32_t ifindex);
  absl::StatusOr<Devices> Read() const { return ReadDevices(fd_.get()); }

 private:
  os::UniqueFd fd_;
};

// The one row of an open map `settings`. Programs read it at any moment: each field that they
// read is stored as one word.
class SettingsRow {
 public:
  // `fd`: an open map `settings`, readable and writable; needed only for the call.
  static absl::StatusOr<SettingsRow> Open(int fd);

  // CLOCK_MONOTONIC nanoseconds; 0: for ever (waggle_settings.lost_flows_pass_until_ns).
  void SetLostFlowsPassUntil(uint64_t ns);
  // `in_force`: STACK or REDIRECT, for flows that begin from now on; `asked`: by --forwarding;
  // `reason`: why, for people; cut to what the field holds, between characters of UTF-8.
  void SetForwarding(waggle_forwarding in_force, waggle_forwarding asked, std::string_view reason);
  void SetTcAttach(waggle_tc_attach attach);
  // A copy; its text ends in NUL.
  waggle_settings Get() const;

 private:
  waggle_settings* row() const { return static_cast<waggle_settings*>(mapping_.data()); }

  ArrayMapping mapping_;
};

// The one row, read without mapping it (a descriptor that is read-only will do). Its text
// ends in NUL.
absl::StatusOr<waggle_settings> ReadSettings(int fd);

}  // namespace waggle::maps

#endif
