#include "loader/cleanup.h"

#include <bpf/bpf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bpf/abi.h"
#include "loader/link_info.h"
#include "loader/net_links.h"
#include "loader/pin_lock.h"
#include "loader/sock_links.h"
#include "loader/tc_exchange.h"
#include "maps/device_table.h"
#include "maps/layout.h"
#include "maps/pins.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/netns_cookie.h"
#include "userspace/os/unique_fd.h"

namespace waggle::loader {
namespace {

// What was sent to a Service is answered in this time, most of it.
constexpr std::chrono::milliseconds kAnswersTake{500};

// Does it translate what a process sends, rather than what it hears?
bool IsAsking(const SockHook& hook) {
  return hook.name.starts_with("connect") || hook.name.starts_with("sendmsg");
}

// What was removed, and what stays although it has a name of ours.
struct Outcome {
  std::vector<std::string>* removed;
  std::vector<std::string> strangers;

  // A pin that is not there, or is not ours, is no reason to stop.
  absl::Status Take(const absl::Status& status, const std::string& path) {
    if (status.ok()) removed->push_back(path);
    if (absl::IsFailedPrecondition(status)) strangers.push_back(path);
    if (absl::IsNotFound(status) || absl::IsFailedPrecondition(status)) return absl::OkStatus();
    return status;
  }
};

// Filters are seen from their own network namespace only; the folders that name them are the only
// record of where they are.
absl::Status CheckNamespace(std::string_view pin_path, const std::vector<NetPin>& pins) {
  const bool filters = std::any_of(pins.begin(), pins.end(), [](const NetPin& pin) {
    return pin.kind == NetPin::Kind::kClsact;
  });
  if (!filters) return absl::OkStatus();
  const absl::StatusOr<os::UniqueFd> map =
      maps::OpenPin(pin_path, "agent", maps::Access::kReadOnly);
  waggle_agent agent{};
  const uint32_t key = 0;
  if (!map.ok() || bpf_map_lookup_elem(map->get(), &key, &agent) != 0) return absl::OkStatus();
  const uint64_t here = os::NetnsCookie();
  if (here == 0 || agent.node_netns == 0 || here == agent.node_netns) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the programs of ", std::string(pin_path),
      " are filters at devices of another network namespace, the node's; nothing was removed. Run "
      "cleanup there (a pod with hostNetwork; `nsenter --net=/proc/1/ns/net`); if that namespace "
      "is gone, so are the filters: `rm -r ",
      std::string(pin_path), "` removes the rest"));
}

// Connections that begin from now on take the host's stack, and those that were beginning have
// time to. Of a handshake half of which took the short way connection tracking saw only the
// answer, and rules that drop what is invalid (kube-proxy has one) drop it.
void LeaveShortWay(std::string_view pin_path) {
  const absl::StatusOr<os::UniqueFd> map =
      maps::OpenPin(pin_path, "settings", maps::Access::kReadWrite);
  if (!map.ok()) return;
  absl::StatusOr<maps::SettingsRow> settings = maps::SettingsRow::Open(map->get());
  if (!settings.ok()) return;
  const waggle_settings before = settings->Get();
  if (before.forwarding != WAGGLE_FORWARDING_REDIRECT) return;
  settings->SetForwarding(WAGGLE_FORWARDING_STACK,
                          static_cast<waggle_forwarding>(before.forwarding_asked),
                          "cleanup is under way");
  std::this_thread::sleep_for(kAnswersTake);
}

// OK too when it stays because of what it holds. `is_mount`: because a file system is
// mounted right there, whose other content is nobody's mistake.
absl::Status RemoveFolder(const std::string& path, std::vector<std::string>* removed,
                          bool* is_mount) {
  *is_mount = false;
  if (rmdir(path.c_str()) == 0) {
    removed->push_back(path);
    return absl::OkStatus();
  }
  *is_mount = errno == EBUSY;
  if (*is_mount || errno == ENOTEMPTY || errno == ENOENT || errno == ENOTDIR) {
    return absl::OkStatus();
  }
  return os::ErrnoStatus(errno, absl::StrCat("remove ", path));
}

// Everything in the folder, sorted; a folder below it is named if it is empty, and by
// what it holds otherwise.
std::vector<std::string> WhatStays(const std::string& root) {
  std::vector<std::string> paths;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator at(root, error), end; !error && at != end;
       at.increment(error)) {
    std::error_code unreadable;
    if (at->is_directory(unreadable) && !std::filesystem::is_empty(at->path(), unreadable) &&
        !unreadable) {
      continue;
    }
    paths.push_back(at->path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

absl::Status Cleanup(std::string_view pin_path, std::vector<std::string>* removed) {
  struct stat found {};
  const std::string root(pin_path);
  if (stat(root.c_str(), &found) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return os::ErrnoStatus(errno, absl::StrCat("pin path ", root));
  }
  if (absl::Status status = maps::CheckBpffs(pin_path); !status.ok()) return status;
  const absl::StatusOr<os::UniqueFd> lock = LockPins(pin_path);
  if (!lock.ok()) return lock.status();

  const absl::StatusOr<std::vector<NetPin>> net_pins = ListNetPins(pin_path);
  if (!net_pins.ok()) return net_pins.status();
  if (absl::Status status = CheckNamespace(pin_path, *net_pins); !status.ok()) return status;

  Outcome outcome{removed, {}};
  const std::string links = maps::PinOf(pin_path, maps::kLinkFolder);
  if (!net_pins->empty()) LeaveShortWay(pin_path);
  // Devices first: else the packet path would take connections that sockets no longer
  // translate, and leave them half-way.
  for (const NetPin& pin : *net_pins) {
    if (absl::Status status = outcome.Take(RemoveNetPin(pin), pin.path); !status.ok()) {
      return status;
    }
  }
  // Hooks that answer last, and late enough for the answers to what has been asked.
  bool asks = false;
  for (auto hook = SockHooks().rbegin(); hook != SockHooks().rend(); ++hook) {
    if (std::exchange(asks, IsAsking(*hook)) && !asks && !removed->empty()) {
      std::this_thread::sleep_for(kAnswersTake);
    }
    for (const char* suffix : {"_new", ""}) {
      const std::string path = absl::StrCat(links, "/", std::string(hook->name), suffix);
      absl::Status status = outcome.Take(RemoveLink(path, LinkKind::kCgroup), path);
      if (!status.ok()) return status;
    }
  }
  if (absl::Status status = RemoveExchangePins(links, removed); !status.ok()) return status;
  bool is_mount = false;
  if (absl::Status status = RemoveFolder(links, removed, &is_mount); !status.ok()) return status;
  // `agent` is the last of kMaps: until it goes, a cleanup that was cut short can be seen.
  for (const maps::MapInfo& map : maps::kMaps) {
    for (const char* suffix : {"_new", ""}) {
      const std::string path = maps::PinOf(pin_path, map.name) + suffix;
      absl::Status status = outcome.Take(maps::RemoveMapPin(path, map.name), path);
      if (!status.ok()) return status;
    }
  }
  if (absl::Status status = RemoveFolder(root, removed, &is_mount); !status.ok()) return status;
  const std::vector<std::string> strangers = is_mount ? outcome.strangers : WhatStays(root);
  if (strangers.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "all that is Waggle's is gone; what is not stays: ", absl::StrJoin(strangers, ", ")));
}

}  // namespace waggle::loader
