// Programs and maps: loads the programs over the pinned maps, attaches them, keeps
// both pinned so that they outlive the agent.
#ifndef WAGGLE_LOADER_DATAPATH_H_
#define WAGGLE_LOADER_DATAPATH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "loader/cgroup.h"
#include "loader/features.h"
#include "maps/desired.h"
#include "maps/kernel_map_store.h"
#include "maps/layout.h"
#include "userspace/os/unique_fd.h"

struct waggle_bpf;

namespace waggle::loader {

enum class SocketLb : uint8_t { kAll, kHost, kOff };

struct DatapathOptions {
  std::string pin_path;
  std::string cgroup_path;  // empty: the root of cgroup v2
  SocketLb socket_lb = SocketLb::kAll;
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

  // What the old pins held, when the maps had to be made anew in another size: to be
  // written into the new ones before Commit(). Empty otherwise.
  const std::vector<ResolvedService>& carried_over() const { return carried_over_; }
  // The pinned maps were of two generations, so that nothing of theirs was kept: what
  // is in force (the programs hold the old maps) is better than maps half filled.
  bool content_lost() const { return content_lost_; }
  // Sentences about what was decided on the way ("map backends changes from … to …");
  // Commit() may add some.
  const std::vector<std::string>& notes() const { return notes_; }

  // Puts programs and maps in force: pins new maps, attaches or updates links, lets
  // go of links that the mode does not want. Each link changes atomically, so traffic
  // goes on. Can be called again.
  absl::Status Commit();

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
  absl::Status PinMaps();
  absl::Status RecordContentIds();
  void CopyUdpFlows(maps::CopyFlows which);

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
  os::UniqueFd old_udp_flows_;  // that a new table of another size succeeds; else none
  std::vector<ResolvedService> carried_over_;
  std::vector<std::string> notes_;
};

}  // namespace waggle::loader

#endif
