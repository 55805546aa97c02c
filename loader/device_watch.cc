#include "loader/device_watch.h"

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "userspace/os/errno_status.h"

namespace waggle::loader {
namespace {

using std::chrono::steady_clock;

// Room for the events of some thousand devices that come at once; more means a resync.
constexpr int kEventBuffer = 4 << 20;
// So many devices are asked for one by one; for more the whole table is read.
constexpr size_t kFewDevices = 4;
// What changes while it is read is read again, so many times.
constexpr int kTries = 5;
// Looking through routes takes at most one part in so many of the time.
constexpr int kRest = 20;

}  // namespace

DeviceWatch::~DeviceWatch() = default;

absl::StatusOr<std::unique_ptr<DeviceWatch>> DeviceWatch::Open() {
  absl::StatusOr<NetlinkSocket> links = OpenNetlink(NETLINK_ROUTE, SOCK_NONBLOCK);
  if (!links.ok()) return links.status();
  absl::StatusOr<NetlinkSocket> routes = OpenNetlink(NETLINK_ROUTE, SOCK_NONBLOCK);
  if (!routes.ok()) return routes.status();
  absl::StatusOr<NetlinkQueries> queries = NetlinkQueries::Open(NETLINK_ROUTE);
  if (!queries.ok()) return queries.status();
  std::unique_ptr<DeviceWatch> watch(
      new DeviceWatch(*std::move(links), *std::move(routes), *std::move(queries)));
  watch->epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  // Before the dump, so that nothing falls between the two.
  absl::Status status = watch->Subscribe(watch->links_, {RTNLGRP_LINK, RTNLGRP_TC});
  if (status.ok()) {
    status = watch->Subscribe(watch->routes_, {RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
                                               RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE});
  }
  if (!status.ok()) return status;
  absl::StatusOr<DeviceMap> devices = watch->Dump();
  if (!devices.ok()) return devices.status();
  watch->devices_ = *std::move(devices);
  return watch;
}

absl::Status DeviceWatch::Subscribe(const NetlinkSocket& socket, const std::vector<int>& groups) {
  const int fd = mnl_socket_get_fd(socket.get());
  // More than the system's limit needs CAP_NET_ADMIN, which the agent has; without it what
  // is lost is read again.
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kEventBuffer, sizeof(kEventBuffer)) != 0) {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kEventBuffer, sizeof(kEventBuffer));
  }
  for (int group : groups) {
    if (mnl_socket_setsockopt(socket.get(), NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) != 0) {
      return os::ErrnoStatus(errno, absl::StrCat("watch devices: join rtnetlink group ", group));
    }
  }
  epoll_event event{};
  event.events = EPOLLIN;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return os::ErrnoStatus(errno, "watch devices: epoll_ctl");
  }
  return absl::OkStatus();
}

absl::Status DeviceWatch::AskLinks(uint32_t ifindex, const NetlinkQueries::Take& take) {
  NetlinkRequest request(RTM_GETLINK, ifindex == 0 ? NLM_F_DUMP : 0);
  auto* info = request.Put<ifinfomsg>();
  info->ifi_family = AF_UNSPEC;
  info->ifi_index = static_cast<int>(ifindex);
  mnl_attr_put_u32(request.message(), IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  return queries_.Ask(request, take);
}

// Addresses, then routes of both families; of one device, or (0) of all. What changes while
// it is read does not keep the rest from being read.
absl::Status DeviceWatch::AskMarks(uint32_t ifindex, const NetlinkQueries::Take& take) {
  NetlinkRequest addresses(RTM_GETADDR, NLM_F_DUMP);
  addresses.Put<ifaddrmsg>()->ifa_index = ifindex;
  absl::Status changed = queries_.Ask(addresses, take);
  if (!changed.ok() && !absl::IsUnavailable(changed)) return changed;
  for (const int family : {AF_INET, AF_INET6}) {
    NetlinkRequest routes(RTM_GETROUTE, NLM_F_DUMP);
    routes.Put<rtmsg>()->rtm_family = static_cast<unsigned char>(family);
    if (ifindex != 0) mnl_attr_put_u32(routes.message(), RTA_OIF, ifindex);
    const absl::Status status = queries_.Ask(routes, take);
    if (!status.ok() && !absl::IsUnavailable(status)) return status;
    changed.Update(status);
  }
  return changed;
}

absl::StatusOr<DeviceMap> DeviceWatch::Dump() {
  DeviceMap devices;
  absl::Status status;
  for (int tries = 0; tries < kTries; ++tries) {
    devices.clear();
    status = AskLinks(0, [&](const nlmsghdr* message) {
      Device device;
      if (message->nlmsg_type == RTM_NEWLINK && ParseLink(message, &device)) {
        devices[device.ifindex] = std::move(device);
      }
    });
    if (!absl::IsUnavailable(status)) break;
  }
  // Devices come and go all the time: what was missed is looked for again later.
  if (absl::IsUnavailable(status)) {
    resync_ = true;
    status = absl::OkStatus();
  }
  std::set<uint32_t> wanted;
  for (const auto& [ifindex, device] : devices) {
    if (NeedMarks(device)) wanted.insert(ifindex);
  }
  if (status.ok()) status = LookUpMarks(wanted, &devices);
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat("read the devices: ", status.message()));
  }
  return devices;
}

absl::Status DeviceWatch::LookUpMarks(const std::set<uint32_t>& wanted, DeviceMap* devices) {
  if (wanted.empty()) return absl::OkStatus();
  const auto begin = steady_clock::now();
  std::map<uint32_t, RouteMarks> found;
  const auto take = [&](const nlmsghdr* message) {
    std::vector<Marked> marked;
    if (message->nlmsg_type == RTM_NEWADDR) marked = ParseAddress(message);
    if (message->nlmsg_type == RTM_NEWROUTE) marked = ParseRoute(message);
    for (const Marked& one : marked) {
      // Not every kernel leaves out what was not asked for.
      if (wanted.contains(one.ifindex)) AddMarks(one.marks, &found[one.ifindex]);
    }
  };
  absl::Status status;
  for (int tries = 0; tries < kTries; ++tries) {
    found.clear();
    status = absl::OkStatus();
    if (wanted.size() > kFewDevices) {
      status = AskMarks(0, take);
    } else {
      for (const uint32_t ifindex : wanted) {
        status = AskMarks(ifindex, take);
        if (absl::IsNotFound(status)) status = absl::OkStatus();  // the device went meanwhile
        if (!status.ok()) break;
      }
    }
    if (!absl::IsUnavailable(status)) break;
  }
  next_look_ = steady_clock::now() + kRest * (steady_clock::now() - begin);
  // Routes that change all the time: what was not seen may be there as before. Looked at again.
  const bool whole = !absl::IsUnavailable(status);
  if (whole && !status.ok()) return status;
  for (const uint32_t ifindex : wanted) {
    if (whole) stale_.erase(ifindex);
    const auto device = devices->find(ifindex);
    if (device == devices->end()) continue;
    const auto known = devices_.find(ifindex);
    if (!whole && known != devices_.end()) AddMarks(known->second.marks, &found[ifindex]);
    if (!whole) stale_.insert(ifindex);
    device->second.marks = found[ifindex];
  }
  return absl::OkStatus();
}

absl::Status DeviceWatch::Drain(const NetlinkSocket& socket, DeviceChanges* changes, bool* lost) {
  std::vector<char> buffer(kNetlinkBuffer);
  while (true) {
    const ssize_t size = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
    if (size < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return absl::OkStatus();
      // No room in the socket, or a message that is too long for us.
      if (errno != ENOBUFS && errno != ENOSPC) return os::ErrnoStatus(errno, "watch devices");
      *lost = true;
      continue;
    }
    auto left = static_cast<int>(size);
    for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data());
         mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
      Handle(message, changes);
    }
  }
}

absl::StatusOr<DeviceChanges> DeviceWatch::Read() {
  DeviceChanges changes;
  bool routes_lost = false;
  absl::Status status = Drain(links_, &changes, &resync_);
  if (status.ok()) status = Drain(routes_, &changes, &routes_lost);
  if (routes_lost) {
    for (const auto& [ifindex, device] : devices_)
      stale_.insert(ifindex);
  }
  if (status.ok()) status = resync_ ? Resync(&changes) : Refresh(&changes);
  // What is known by now counts; what could not be asked is asked again.
  if (!status.ok() && !changes.any && changes.gone.empty() && changes.stripped.empty()) {
    return status;
  }
  return changes;
}

absl::Status DeviceWatch::Resync(DeviceChanges* changes) {
  resync_ = false;
  absl::StatusOr<DeviceMap> devices = Dump();
  if (!devices.ok()) {
    resync_ = true;
    return devices.status();
  }
  for (const uint32_t ifindex : TakeDump(*std::move(devices), /*whole=*/!resync_, &devices_))
    changes->gone.push_back(ifindex);
  peer_moved_.clear();
  changes->any = true;
  changes->resynced = true;
  return absl::OkStatus();
}

// Looks up what events did not say.
absl::Status DeviceWatch::Refresh(DeviceChanges* changes) {
  for (const uint32_t ifindex : std::exchange(peer_moved_, {})) {
    const absl::Status status = AskLinks(ifindex, [&](const nlmsghdr* message) {
      if (message->nlmsg_type == RTM_NEWLINK) HandleLink(message, changes);
    });
    if (!status.ok() && !absl::IsNotFound(status)) {
      resync_ = true;
      return status;
    }
  }
  std::erase_if(stale_, [&](uint32_t ifindex) {
    const auto device = devices_.find(ifindex);
    return device == devices_.end() || !NeedMarks(device->second);
  });
  if (stale_.empty() || steady_clock::now() < next_look_) return absl::OkStatus();
  absl::Status status = LookUpMarks(std::set<uint32_t>(stale_), &devices_);
  if (!status.ok()) return status;
  changes->any = true;
  return absl::OkStatus();
}

void DeviceWatch::Handle(const nlmsghdr* message, DeviceChanges* changes) {
  switch (message->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      HandleLink(message, changes);
      break;
    case RTM_NEWADDR:
    case RTM_DELADDR:
      HandleMarks(message, ParseAddress(message), message->nlmsg_type == RTM_DELADDR, changes);
      break;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      HandleMarks(message, ParseRoute(message), message->nlmsg_type == RTM_DELROUTE, changes);
      break;
    case RTM_DELQDISC:
    case RTM_DELTFILTER:
      if (mnl_nlmsg_get_payload_len(message) >= sizeof(tcmsg)) {
        const auto* info = static_cast<const tcmsg*>(mnl_nlmsg_get_payload(message));
        if (info->tcm_ifindex > 0) {
          changes->stripped.push_back(static_cast<uint32_t>(info->tcm_ifindex));
        }
      }
      break;
    default:
      break;
  }
}

void DeviceWatch::HandleLink(const nlmsghdr* message, DeviceChanges* changes) {
  Device device;
  if (!ParseLink(message, &device)) return;
  const uint32_t ifindex = device.ifindex;
  if (message->nlmsg_type == RTM_DELLINK) {
    changes->any = true;
    changes->gone.push_back(ifindex);
    devices_.erase(ifindex);
    stale_.erase(ifindex);
    // It may have moved into another namespace, where a device that stays has its peer now:
    // of that nobody tells.
    for (const auto& [index, other] : devices_) {
      if (other.link == ifindex && other.peer_netns < 0) peer_moved_.insert(index);
    }
    return;
  }
  const auto known = devices_.find(ifindex);
  if (known != devices_.end()) {
    device.marks = known->second.marks;
    // A device that goes down loses its routes without a word; its role is not to change by
    // that. When it comes up again its routes are looked at.
    if (device.up && !known->second.up) stale_.insert(ifindex);
    if (NeedMarks(device) != NeedMarks(known->second)) stale_.insert(ifindex);
    if (known->second == device) return;
  }
  changes->any = true;
  devices_[ifindex] = std::move(device);
}

void DeviceWatch::HandleMarks(const nlmsghdr* message, const std::vector<Marked>& marked,
                              bool removed, DeviceChanges* changes) {
  const bool replaced = (message->nlmsg_flags & NLM_F_REPLACE) != 0;
  if (replaced && message->nlmsg_type == RTM_NEWROUTE) {
    // Which way it went before is not said.
    for (const auto& [ifindex, device] : devices_) {
      if (device.marks.default_route || device.marks.gateway_route) stale_.insert(ifindex);
    }
  }
  for (const Marked& one : marked) {
    const auto device = devices_.find(one.ifindex);
    if (device == devices_.end() || !NeedMarks(device->second)) continue;
    if (removed) {
      // Another may be left that says the same.
      if (device->second.up) stale_.insert(one.ifindex);
      continue;
    }
    RouteMarks now = device->second.marks;
    AddMarks(one.marks, &now);
    if (now == device->second.marks) continue;
    device->second.marks = now;
    changes->any = true;
  }
}

}  // namespace waggle::loader
