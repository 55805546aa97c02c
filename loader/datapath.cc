#include "loader/datapath.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bpf/abi.h"
#include "loader/sock_links.h"
#include "maps/pins.h"
#include "maps/reader.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/netns_cookie.h"
#include "waggle_bpf.skel.h"

namespace waggle::loader {
namespace {

// libbpf and the verifier speak through a callback; a failed load shows the end of it.
constexpr size_t kMaxLog = 4096;

// A new pin waits under its name and this until it is renamed.
constexpr char kAside[] = "_new";

std::string& BpfLog() {
  thread_local std::string log;
  return log;
}

int Capture(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  char line[1024];
  vsnprintf(line, sizeof(line), format, arguments);
  std::string& log = BpfLog();
  log += line;
  if (log.size() > kMaxLog) log.erase(0, log.size() - kMaxLog);
  return 0;
}

bool IsContent(std::string_view name) {
  return std::find(maps::kContentMaps.begin(), maps::kContentMaps.end(), name) !=
         maps::kContentMaps.end();
}

// What a crash left between the pinning aside and the renaming.
absl::Status RemoveLeftovers(std::string_view pin_path) {
  for (const maps::MapInfo& info : maps::kMaps) {
    absl::Status status = maps::RemoveMapPin(maps::PinOf(pin_path, info.name) + kAside, info.name);
    if (!status.ok() && !absl::IsNotFound(status)) return status;
  }
  return absl::OkStatus();
}

absl::Status BpfError(int error, std::string_view what) {
  std::string text(what);
  if (!BpfLog().empty()) absl::StrAppend(&text, " [", BpfLog(), "]");
  if (error == EPERM) {
    return absl::PermissionDeniedError(absl::StrCat(text, ": ", PermissionHint()));
  }
  return os::ErrnoStatus(error, text);
}

}  // namespace

void Datapath::SkeletonDeleter::operator()(waggle_bpf* skeleton) const {
  waggle_bpf__destroy(skeleton);
}

Datapath::~Datapath() = default;

absl::StatusOr<std::unique_ptr<Datapath>> Datapath::Load(const DatapathOptions& options) {
  libbpf_set_print(Capture);
  std::unique_ptr<Datapath> datapath(new Datapath);
  datapath->options_ = options;
  absl::StatusOr<Features> features = ProbeFeatures(options.disabled_features);
  if (!features.ok()) return features.status();
  datapath->features_ = *features;
  if (absl::Status status = maps::CheckPins(options.pin_path); !status.ok()) return status;
  if (options.socket_lb != SocketLb::kOff) {
    absl::StatusOr<Cgroup> cgroup =
        options.cgroup_path.empty() ? FindRootCgroup() : OpenCgroup(options.cgroup_path);
    if (!cgroup.ok()) return cgroup.status();
    datapath->cgroup_ = *std::move(cgroup);
  }
  datapath->node_netns_ = os::NetnsCookie();  // 0 means the initial one to the programs
  if (options.tc_attach == TcAttach::kTcx && !datapath->features_.tcx) {
    return absl::FailedPreconditionError(
        "--tc-attach=tcx: this kernel has no tcx links (Linux 6.6 has); use auto or clsact");
  }
  const bool tcx = datapath->features_.tcx && options.tc_attach != TcAttach::kClsact;
  datapath->tc_attach_ = tcx ? WAGGLE_TC_TCX : WAGGLE_TC_CLSACT;
  absl::StatusOr<std::unique_ptr<PacketPath>> packet_path =
      PacketPath::Open(options.pin_path, options.devices);
  if (!packet_path.ok()) return packet_path.status();
  datapath->packet_path_ = *std::move(packet_path);

  BpfLog().clear();
  datapath->skeleton_.reset(waggle_bpf__open());
  if (!datapath->skeleton_) return BpfError(errno, "open the BPF object");
  if (absl::Status status = datapath->AdoptMaps(); !status.ok()) return status;
  if (absl::Status status = datapath->LoadPrograms(); !status.ok()) return status;
  if (options.socket_lb != SocketLb::kOff) {
    // Before anything is put in force: all hooks or none.
    absl::Status status = CheckSockHooks(options.pin_path, datapath->cgroup_);
    if (!status.ok()) return status;
  }
  return datapath;
}

// Reuses what is pinned. The maps with the Services are made anew, all four, when one
// of them is missing, is of another generation or has another size than the flags say.
absl::Status Datapath::AdoptMaps() {
  if (absl::Status status = RemoveLeftovers(options_.pin_path); !status.ok()) return status;
  bool content_resized = false;
  maps::ContentIds pinned_ids{};
  std::optional<maps::ContentIds> recorded_ids;
  std::vector<std::pair<std::string, os::UniqueFd>> pinned;
  for (const maps::MapInfo& info : maps::kMaps) {
    const std::string name(info.name);
    absl::StatusOr<os::UniqueFd> fd =
        maps::OpenPin(options_.pin_path, info.name, maps::Access::kReadWrite);
    if (absl::IsNotFound(fd.status())) continue;
    if (!fd.ok()) return fd.status();
    const absl::StatusOr<uint32_t> id = maps::MapId(fd->get());
    if (!id.ok()) return id.status();
    for (size_t i = 0; i < maps::kContentMaps.size(); ++i) {
      if (maps::kContentMaps[i] == info.name) pinned_ids[i] = *id;
    }
    if (info.name == "agent") {
      const absl::StatusOr<maps::ContentIds> recorded = maps::ReadContentIds(fd->get());
      if (!recorded.ok()) return recorded.status();
      recorded_ids = *recorded;
    }
    const absl::StatusOr<uint32_t> capacity = maps::MapCapacity(fd->get());
    if (!capacity.ok()) return capacity.status();
    const uint32_t wanted = info.size ? info.size(options_.sizes) : *capacity;
    if (*capacity != wanted) {
      notes_.push_back(
          absl::StrCat("map ", name, " changes from ", *capacity, " to ", wanted, " entries"));
      if (!IsContent(name)) {
        old_maps_[name] = *std::move(fd);
        continue;
      }
      content_resized = true;
    }
    pinned.emplace_back(name, *std::move(fd));
  }
  const maps::Content content = maps::JudgeContent(pinned_ids, recorded_ids);
  content_lost_ = content == maps::Content::kMixed;
  if (content == maps::Content::kWhole && content_resized) {
    absl::Status status = CarryOver();
    // Another map is missing: somebody took pins away, and there is no telling which.
    content_lost_ = absl::IsNotFound(status);
    if (!status.ok() && !content_lost_) return status;
  }
  if (content_lost_) {
    notes_.push_back(
        "the pinned maps are not all of one generation (a change of their size was cut short, or "
        "pins were removed): the maps with the Services are made anew, and put in force when all "
        "sources are complete");
  }

  const bool keep_content = content == maps::Content::kWhole && !content_resized;
  for (const maps::MapInfo& info : maps::kMaps) {
    const std::string name(info.name);
    bpf_map* map = bpf_object__find_map_by_name(skeleton_->obj, name.c_str());
    if (!map) return absl::InternalError(absl::StrCat("no map ", name, " in the BPF object"));
    const auto found = std::find_if(pinned.begin(), pinned.end(),
                                    [&](const auto& pin) { return pin.first == name; });
    if (found != pinned.end() && (keep_content || !IsContent(name))) {
      if (const int error = bpf_map__reuse_fd(map, found->second.get()); error != 0) {
        return BpfError(-error, absl::StrCat("reuse map ", name));
      }
      continue;
    }
    fresh_maps_.push_back(name);
    if (info.size) bpf_map__set_max_entries(map, info.size(options_.sizes));
  }
  return absl::OkStatus();
}

absl::Status Datapath::CarryOver() {
  absl::StatusOr<maps::KernelView> view = maps::ReadPins(options_.pin_path);
  if (!view.ok()) return view.status();
  carried_over_ = std::move(view->services);
  return absl::OkStatus();
}

absl::Status Datapath::LoadPrograms() {
  auto* config = const_cast<waggle_config*>(&skeleton_->rodata_config->waggle_config);
  config->node_netns = node_netns_;
  config->host_only = options_.socket_lb == SocketLb::kHost;
  config->have_set_retval = features_.set_retval;
  config->have_mptcp_sock = features_.mptcp_sock;
  config->have_skip_neigh = features_.skip_neigh;
  config->have_coarse_clock = features_.coarse_clock;
  config->packet_path = 1;
  if (const int error = waggle_bpf__load(skeleton_.get()); error != 0) {
    return BpfError(-error, "load the BPF programs");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<maps::MapStore>> Datapath::OpenStore() {
  const auto duplicate = [](const bpf_map* map) { return os::UniqueFd(dup(bpf_map__fd(map))); };
  maps::MapFds fds;
  fds.frontends = duplicate(skeleton_->maps.frontends);
  fds.lists = duplicate(skeleton_->maps.lists);
  fds.backends = duplicate(skeleton_->maps.backends);
  fds.services = duplicate(skeleton_->maps.services);
  fds.agent = duplicate(skeleton_->maps.agent);
  absl::StatusOr<std::unique_ptr<maps::KernelMapStore>> store =
      maps::KernelMapStore::Create(std::move(fds));
  if (!store.ok()) return store.status();
  return *std::move(store);
}

absl::StatusOr<maps::SettingsRow> Datapath::OpenSettings() {
  return maps::SettingsRow::Open(MapFd("settings"));
}

std::unique_ptr<maps::FlowCollector> Datapath::OpenCollector() {
  return std::make_unique<maps::FlowCollector>(os::UniqueFd(dup(MapFd("flows"))),
                                               os::UniqueFd(dup(MapFd("half_open"))));
}

int Datapath::MapFd(std::string_view name) const {
  return bpf_object__find_map_fd_by_name(skeleton_->obj, std::string(name).c_str());
}

std::vector<uint32_t> Datapath::PacketProgramIds() const {
  std::vector<uint32_t> ids;
  for (const bpf_program* program :
       {skeleton_->progs.waggle_pod_in, skeleton_->progs.waggle_pod_out,
        skeleton_->progs.waggle_net_in, skeleton_->progs.waggle_net_l3}) {
    bpf_prog_info info{};
    uint32_t length = sizeof(info);
    if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &length) == 0) {
      ids.push_back(info.id);
    }
  }
  return ids;
}

// Devices before sockets: a pod's datagram that a socket program lets through counts on
// the programs at the devices.
absl::Status Datapath::Commit() {
  const auto old_stats = old_maps_.find("stats");
  if (old_stats != old_maps_.end()) {
    absl::Status status = maps::CopyCounters(old_stats->second.get(), MapFd("stats"));
    if (!status.ok()) notes_.push_back(absl::StrCat("counters begin anew: ", status.message()));
    old_maps_.erase(old_stats);
  }
  CopyFlows(maps::CopyFlows::kAll);
  // What began while the first pass, a long one, was under way.
  CopyFlows(maps::CopyFlows::kMissing);
  if (absl::Status status = PinMaps(); !status.ok()) return status;
  absl::Status status = StartPacketPath();
  if (status.ok()) status = SyncSockets();
  if (!status.ok()) {
    packet_path_->TakeBack();
    rmdir(maps::PinOf(options_.pin_path, maps::kLinkFolder).c_str());  // if it is empty
    // The next agent needs the maps of the programs that go on, which are the old ones unless a
    // device has new ones already.
    if (packet_path_->Covered({WAGGLE_ROLE_POD, WAGGLE_ROLE_UPLINK, WAGGLE_ROLE_TUNNEL}).empty()) {
      RemoveLeftovers(options_.pin_path).IgnoreError();
      return status;
    }
  }
  if (absl::Status renamed = RenamePins(); status.ok()) status = renamed;
  // And since, under the old programs.
  CopyFlows(maps::CopyFlows::kMissing);
  flow_copies_.clear();
  old_maps_.clear();
  return status;
}

absl::Status Datapath::StartPacketPath() {
  const std::string links = maps::PinOf(options_.pin_path, maps::kLinkFolder);
  if (mkdir(links.c_str(), 0700) != 0 && errno != EEXIST) {
    return os::ErrnoStatus(errno, absl::StrCat("make folder ", links));
  }
  absl::StatusOr<maps::SettingsRow> settings = OpenSettings();
  if (!settings.ok()) return settings.status();
  const PacketPrograms programs = {bpf_program__fd(skeleton_->progs.waggle_pod_in),
                                   bpf_program__fd(skeleton_->progs.waggle_pod_out),
                                   bpf_program__fd(skeleton_->progs.waggle_net_in),
                                   bpf_program__fd(skeleton_->progs.waggle_net_l3)};
  absl::Status status = packet_path_->Start(
      programs, maps::DeviceTable(os::UniqueFd(dup(MapFd("devices")))), tc_attach_);
  if (!status.ok()) return status;
  settings->SetTcAttach(tc_attach_);
  return absl::OkStatus();
}

absl::Status Datapath::SyncSockets() {
  SockPrograms programs;
  if (options_.socket_lb != SocketLb::kOff) {
    programs = {{"connect4", bpf_program__fd(skeleton_->progs.waggle_connect4)},
                {"connect6", bpf_program__fd(skeleton_->progs.waggle_connect6)},
                {"sendmsg4", bpf_program__fd(skeleton_->progs.waggle_sendmsg4)},
                {"sendmsg6", bpf_program__fd(skeleton_->progs.waggle_sendmsg6)},
                {"recvmsg4", bpf_program__fd(skeleton_->progs.waggle_recvmsg4)},
                {"recvmsg6", bpf_program__fd(skeleton_->progs.waggle_recvmsg6)},
                {"getpeername4", bpf_program__fd(skeleton_->progs.waggle_getpeername4)},
                {"getpeername6", bpf_program__fd(skeleton_->progs.waggle_getpeername6)}};
  }
  return SyncSockLinks(options_.pin_path, cgroup_, programs);
}

// Flows survive a change of their table's size. One that is lost begins anew, which is no
// reason to fail.
void Datapath::CopyFlows(maps::CopyFlows which) {
  for (const auto& [name, old] : old_maps_) {
    absl::Status status;
    if (name == "udp_flows") status = maps::CopyUdpFlows(old.get(), MapFd(name), which);
    if (name == "flows" || name == "half_open") {
      status = flow_copies_.try_emplace(name, old.get(), MapFd(name)).first->second.Pass();
    }
    if (status.ok()) continue;
    notes_.push_back(absl::StrCat("some entries did not move to the new map ", name,
                                  ", their conversations begin anew: ", status.message()));
  }
}

// Who reads the pins later can tell by these whether all renames came to pass.
absl::Status Datapath::RecordContentIds() {
  maps::ContentIds ids{};
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string name(maps::kContentMaps[i]);
    const absl::StatusOr<uint32_t> id =
        maps::MapId(bpf_object__find_map_fd_by_name(skeleton_->obj, name.c_str()));
    if (!id.ok()) return id.status();
    ids[i] = *id;
  }
  return maps::WriteContentIds(bpf_map__fd(skeleton_->maps.agent), ids);
}

// A pin is replaced by rename, so that at every moment each name is pinned. Whatever can
// fail comes before the first rename. Only when the programs are in force: what fails before
// changes no pin.
absl::Status Datapath::PinMaps() {
  for (const std::string& name : fresh_maps_) {
    const std::string aside = maps::PinOf(options_.pin_path, name) + kAside;
    absl::Status status = maps::RemoveMapPin(aside, name);
    if (!status.ok() && !absl::IsNotFound(status)) return status;
    const bpf_map* map = bpf_object__find_map_by_name(skeleton_->obj, name.c_str());
    if (bpf_obj_pin(bpf_map__fd(map), aside.c_str()) != 0) {
      return os::ErrnoStatus(errno, absl::StrCat("pin map ", name, " at ", aside));
    }
  }
  return absl::OkStatus();
}

// The map `agent` comes last: its version says that the others are there.
absl::Status Datapath::RenamePins() {
  if (absl::Status status = RecordContentIds(); !status.ok()) return status;
  while (!fresh_maps_.empty()) {
    const std::string path = maps::PinOf(options_.pin_path, fresh_maps_.front());
    if (rename((path + kAside).c_str(), path.c_str()) != 0) {
      return os::ErrnoStatus(errno, absl::StrCat("pin map at ", path));
    }
    fresh_maps_.erase(fresh_maps_.begin());
  }
  return absl::OkStatus();
}

}  // namespace waggle::loader
