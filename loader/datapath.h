// Programs and maps: loads the programs over the pinned maps, attaches them, keeps
// both pinned so that they outlive the agent.
#ifndef WAGGLE_LOADER_DATAPATH_H_
#define WAGGLE_LOADER_DATAPATH_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "loader/cgroup.h"
#include "loader/features.h"
#include "loader/packet_path.h"
#include "loader/roles.h"
#include "maps/desired.h"
#include "maps/device_table.h"
#include "maps/flow_collector.h"
#include "maps/flow_table.h"
#include "maps/kernel_map_store.h"
#include "maps/layout.h"
#include "userspace/os/unique_fd.h"

struct waggle_bpf;

namespace waggle::loader {

enum class SocketLb : uint8_t { kAll, kHost, kOff };

// How programs get to devices. kAuto: by tcx links where the kernel has them (6.6).
enum class TcAttach : uint8_t { kAuto, kTcx, kClsact };

struct DatapathOptions {
  std::string pin_path;
  std::string cgroup_path;  // empty: the root of cgroup v2
  SocketLb socket_lb = SocketLb::kAll;
  TcAttach tc_attach = TcAttach::kAuto;
  RoleRules devices;
  maps::Sizes sizes;
  std::vector<std::string> disabled_features;
};

class Datapath {
 public:
  // Checks rights, pins and cgroup, adopts the pinned maps or makes new ones, loads
  // the programs. Touches nothing that is in force. The caller holds the lock of the
  // pin path (pin_lock.h).
  static absl::StatusOr<std::unique_ptr<Datapath>> Load(const DatapathOptions& options);
  ~Datapath();

  // The maps to fill; once.
  absl::StatusOr<std::unique_ptr<maps::MapStore>> OpenStore();
  // What programs ask while they run.
  absl::StatusOr<maps::SettingsRow> OpenSettings();
  std::unique_ptr<maps::FlowCollector> OpenCollector();

  // What the old pins held, when the maps had to be made anew in another size: to be
  // written into the new ones before Commit(). Empty otherwise.
  const std::vector<ResolvedService>& carried_over() const { return carried_over_; }
  // The pinned maps were of two generations, so that nothing of theirs was kept: what
  // is in force (the programs hold the old maps) is better than maps half filled.
  bool content_lost() const { return content_lost_; }
  // Sentences about what was decided on the way ("map backends changes from … to …");
  // Commit() may add some.
  const std::vector<std::string>& notes() const { return notes_; }

  // Puts programs and maps in force: pins new maps, attaches or updates programs at the
  // devices, then those at sockets, lets go of what is not wanted. Each changes
  // atomically, so traffic goes on. After an error nothing is attached where nothing was.
  // Once.
  absl::Status Commit();

  // The programs at devices; in force after Commit().
  PacketPath& packet_path() { return *packet_path_; }
  // Ids of the programs at devices.
  std::vector<uint32_t> PacketProgramIds() const;
  waggle_tc_attach tc_attach() const { return tc_attach_; }

  const Features& features() const { return features_; }
  uint64_t node_netns() const { return node_netns_; }
  // 0 when no program is attached (--socket-lb=off).
  uint64_t cgroup_id() const { return cgroup_.id; }
  const std::string& cgroup_path() const { return cgroup_.path; }

 private:
  Datapath() = default;
  absl::Status AdoptMaps();
  absl::Status CarryOver();
  absl::Status LoadPrograms();
  absl::Status PinMaps();  // aside
  absl::Status RenamePins();
  absl::Status RecordContentIds();
  absl::Status StartPacketPath();
  absl::Status SyncSockets();
  // Entries of maps that change their size.
  void CopyFlows(maps::CopyFlows which);
  int MapFd(std::string_view name) const;

  struct SkeletonDeleter {
    void operator()(waggle_bpf* skeleton) const;
  };

  DatapathOptions options_;
  Features features_;
  uint64_t node_netns_ = 0;
  Cgroup cgroup_;
  std::unique_ptr<waggle_bpf, SkeletonDeleter> skeleton_;
  std::vector<std::string> fresh_maps_;  // made by this process and not pinned yet
  bool content_lost_ = false;
  waggle_tc_attach tc_attach_ = WAGGLE_TC_NONE;
  std::unique_ptr<PacketPath> packet_path_;
  // Those that a new map of another size succeeds, by name.
  std::map<std::string, os::UniqueFd> old_maps_;
  std::map<std::string, maps::FlowTableCopy> flow_copies_;  // out of these
  std::vector<ResolvedService> carried_over_;
  std::vector<std::string> notes_;
};

}  // namespace waggle::loader

#endif
