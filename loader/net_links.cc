#include "loader/net_links.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "loader/link_info.h"
#include "maps/layout.h"
#include "userspace/os/errno_status.h"

namespace waggle::loader {
namespace {

// Before all others there (BPF_F_BEFORE without a neighbour): one that ends the chain must
// not keep packets of Services from us.
constexpr uint32_t kFirst = 1u << 3;

std::string Folder(std::string_view pin_path) {
  return maps::PinOf(pin_path, maps::kLinkFolder);
}

std::string LinkPath(std::string_view pin_path, uint32_t ifindex, TcHook hook) {
  return absl::StrCat(Folder(pin_path), "/tc_", ifindex, hook == TcHook::kIngress ? "_in" : "_out");
}

std::string ClsactPath(std::string_view pin_path, uint32_t ifindex) {
  return absl::StrCat(Folder(pin_path), "/clsact_", ifindex);
}

std::string MadePath(const std::string& clsact_path) {
  return clsact_path + "/made";
}

uint32_t AttachTypeOf(TcHook hook) {
  return hook == TcHook::kIngress ? kTcxIngress : kTcxEgress;
}

// What a file below links/ is by its name.
std::optional<NetPin> ParsePin(const std::string& folder, const std::string& name) {
  NetPin pin;
  pin.path = absl::StrCat(folder, "/", name);
  absl::string_view rest = name;
  if (absl::ConsumePrefix(&rest, "clsact_")) {
    pin.kind = NetPin::Kind::kClsact;
  } else if (absl::ConsumePrefix(&rest, "tc_")) {
    if (absl::ConsumeSuffix(&rest, "_out")) {
      pin.hook = TcHook::kEgress;
    } else if (!absl::ConsumeSuffix(&rest, "_in")) {
      return std::nullopt;
    }
  } else {
    return std::nullopt;
  }
  if (!absl::SimpleAtoi(rest, &pin.ifindex) || pin.ifindex == 0) return std::nullopt;
  return pin;
}

absl::Status OkIfGone(absl::Status status) {
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::Status RemoveMarker(const std::string& path) {
  if (rmdir(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  if (errno == ENOTDIR || errno == ENOTEMPTY) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is not Waggle's; it stays"));
  }
  return os::ErrnoStatus(errno, absl::StrCat("remove ", path));
}

absl::Status RemoveMarkers(const std::string& path) {
  if (absl::Status status = RemoveMarker(MadePath(path)); !status.ok()) return status;
  return RemoveMarker(path);
}

// Both filters, the clsact if it is ours and nobody else's filter is there, and the folder that
// says so.
absl::Status RemoveClsact(uint32_t ifindex, const std::string& path) {
  for (const TcHook hook : {TcHook::kIngress, TcHook::kEgress}) {
    absl::Status status = OkIfGone(RemoveFilter(ifindex, hook));
    if (!status.ok()) return status;
  }
  if (access(MadePath(path).c_str(), F_OK) == 0) {
    absl::Status status = RemoveEmptyClsact(ifindex);
    if (!status.ok() && !absl::IsFailedPrecondition(status) && !absl::IsNotFound(status)) {
      return status;
    }
  }
  return RemoveMarkers(path);
}

absl::StatusOr<bool> HasFilter(uint32_t ifindex, TcHook hook) {
  const absl::StatusOr<std::vector<TcFilter>> filters = ListFilters(ifindex, hook);
  if (!filters.ok()) return filters.status();
  return std::any_of(filters->begin(), filters->end(), IsOurs);
}

// The pinned link, if it is attached to this device now. One that is not (its device went, or
// moved to another namespace, where it goes on) is detached and its pin removed.
absl::StatusOr<os::UniqueFd> AdoptLink(uint32_t ifindex, TcHook hook, const std::string& path) {
  os::UniqueFd link(bpf_obj_get(path.c_str()));
  if (!link && errno == ENOENT) return link;
  if (!link) return os::ErrnoStatus(errno, absl::StrCat("open pinned link ", path));
  const absl::StatusOr<LinkInfo> info = AskLink(link.get());
  if (!info.ok() || info->kind != LinkKind::kTcx) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is not a tcx link; remove it, or give another --pin-path"));
  }
  if (info->attach_type == AttachTypeOf(hook) && info->ifindex == ifindex) {
    const auto here = TcxLinksOf(ifindex, info->attach_type);
    if (!here.ok()) return here.status();
    if (std::find(here->begin(), here->end(), info->id) != here->end()) return link;
  }
  if (absl::Status status = OkIfGone(RemoveLink(path, LinkKind::kTcx)); !status.ok()) {
    return status;
  }
  return os::UniqueFd();
}

absl::StatusOr<os::UniqueFd> MakeLink(uint32_t ifindex, TcHook hook, int program_fd,
                                      const std::string& path) {
  bpf_link_create_opts options{};
  options.sz = sizeof(options);
  options.flags = kFirst;
  os::UniqueFd link(bpf_link_create(program_fd, static_cast<int>(ifindex),
                                    static_cast<bpf_attach_type>(AttachTypeOf(hook)), &options));
  if (!link) return os::ErrnoStatus(errno, absl::StrCat("attach to tcx of device ", ifindex));
  if (bpf_obj_pin(link.get(), path.c_str()) != 0) {
    const int error = errno;
    bpf_link_detach(link.get());
    return os::ErrnoStatus(error, absl::StrCat("pin link at ", path));
  }
  return link;
}

}  // namespace

absl::StatusOr<std::vector<NetPin>> ListNetPins(std::string_view pin_path) {
  const std::string folder = Folder(pin_path);
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(folder.c_str()), closedir);
  std::vector<NetPin> pins;
  if (!entries && errno == ENOENT) return pins;
  if (!entries) return os::ErrnoStatus(errno, absl::StrCat("read folder ", folder));
  while (const dirent* entry = readdir(entries.get())) {
    if (std::optional<NetPin> pin = ParsePin(folder, entry->d_name)) pins.push_back(*pin);
  }
  std::sort(pins.begin(), pins.end());
  return pins;
}

absl::Status RemoveNetPin(const NetPin& pin) {
  if (pin.kind == NetPin::Kind::kClsact) return RemoveClsact(pin.ifindex, pin.path);
  return OkIfGone(RemoveLink(pin.path, LinkKind::kTcx));
}

absl::Status NetLinks::Set(uint32_t ifindex, TcHook hook, int program_fd) {
  return attach_ == WAGGLE_TC_TCX ? SetLink(ifindex, hook, program_fd)
                                  : SetFilter(ifindex, hook, program_fd);
}

absl::StatusOr<int> NetLinks::StandIn(int program_fd) {
  if (finished_) return program_fd;
  if (!exchange_) {
    absl::StatusOr<TcExchange> exchange = TcExchange::Open(
        Folder(pin_path_), attach_ == WAGGLE_TC_TCX ? WAGGLE_TC_CLSACT : WAGGLE_TC_TCX);
    if (!exchange.ok()) return exchange.status();
    exchange_ = *std::move(exchange);
  }
  return exchange_->Link(program_fd);
}

// After Finish() such a device is one where something could not be removed: it goes alone.
absl::Status NetLinks::AttachedTwice(const Exchanged& each) {
  if (finished_) return FinishOne(each);
  exchanged_.push_back(each);
  return absl::OkStatus();
}

absl::Status NetLinks::SetLink(uint32_t ifindex, TcHook hook, int program_fd) {
  const std::string path = LinkPath(pin_path_, ifindex, hook);
  absl::StatusOr<os::UniqueFd> link = AdoptLink(ifindex, hook, path);
  if (!link.ok()) return link.status();
  const bool marked = access(ClsactPath(pin_path_, ifindex).c_str(), F_OK) == 0;
  const absl::StatusOr<bool> filter = marked ? HasFilter(ifindex, hook) : false;
  if (!filter.ok()) return filter.status();
  const absl::StatusOr<int> first = *filter ? StandIn(program_fd) : program_fd;
  if (!first.ok()) return first.status();
  // ENOLINK when the device went between the two calls.
  if (*link && bpf_link_update(link->get(), *first, nullptr) != 0) {
    if (absl::Status status = OkIfGone(RemoveLink(path, LinkKind::kTcx)); !status.ok()) {
      return status;
    }
    link->Reset();
  }
  if (!*link) {
    link = MakeLink(ifindex, hook, *first, path);
    if (!link.ok()) return link.status();
  }
  return *filter ? AttachedTwice({ifindex, hook, program_fd}) : absl::OkStatus();
}

absl::Status NetLinks::SetFilter(uint32_t ifindex, TcHook hook, int program_fd) {
  const std::string marker = ClsactPath(pin_path_, ifindex);
  if (mkdir(marker.c_str(), 0700) != 0 && errno != EEXIST) {
    return os::ErrnoStatus(errno, absl::StrCat("make folder ", marker));
  }
  // The mark comes first: of an agent that dies in between nothing stays that nobody knows of.
  const std::string mark = MadePath(marker);
  const bool marked = mkdir(mark.c_str(), 0700) == 0;
  if (!marked && errno != EEXIST) return os::ErrnoStatus(errno, absl::StrCat("make folder ", mark));
  bool made = false;
  if (finished_) qdiscs_.clear();  // may be old
  const absl::Status clsact = EnsureClsact(ifindex, &qdiscs_, &made);
  if (marked && !made && rmdir(mark.c_str()) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("remove folder ", mark));
  }
  if (!clsact.ok()) return clsact;
  const absl::StatusOr<os::UniqueFd> link =
      AdoptLink(ifindex, hook, LinkPath(pin_path_, ifindex, hook));
  if (!link.ok()) return link.status();
  if (!*link) return PutFilter(ifindex, hook, program_fd);
  // Before the link is touched: one that cannot have a filter keeps what it has until it is told.
  const absl::StatusOr<std::optional<TcFilter>> filter = FindOurs(ifindex, hook);
  if (!filter.ok()) return filter.status();
  // The program itself is there: an exchange that was cut short, the link is idle already.
  if (*filter && !(*filter)->name.starts_with(kStandIn)) {
    return FinishOne({ifindex, hook, program_fd});
  }
  const absl::StatusOr<int> stand_in = StandIn(program_fd);
  if (!stand_in.ok()) return stand_in.status();
  if (bpf_link_update(link->get(), *stand_in, nullptr) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("update the link at device ", ifindex));
  }
  return AttachedTwice({ifindex, hook, program_fd});
}

absl::StatusOr<std::set<uint32_t>> NetLinks::Finish() {
  finished_ = true;
  std::set<uint32_t> failed;
  if (!exchanged_.empty()) {
    exchange_->Wait();
    for (const Exchanged& each : exchanged_) {
      const absl::StatusOr<int> stand_in = exchange_->Filter(each.program_fd);
      if (!stand_in.ok()) return stand_in.status();
      // A device may have gone meanwhile, or its clsact; others must not wait for it.
      if (!PutFilter(each.ifindex, each.hook, *stand_in).ok()) failed.insert(each.ifindex);
    }
    if (absl::Status status = exchange_->Flip(); !status.ok()) return status;
    for (const Exchanged& each : exchanged_) {
      if (!failed.contains(each.ifindex) && !FinishOne(each).ok()) failed.insert(each.ifindex);
    }
    for (const uint32_t ifindex : failed)
      Remove(ifindex).IgnoreError();
  }
  exchanged_.clear();
  exchange_.reset();
  std::vector<std::string> removed;
  absl::Status status = RemoveExchangePins(Folder(pin_path_), &removed);
  if (!status.ok()) return status;
  return failed;
}

void NetLinks::DropExchanged(uint32_t ifindex) {
  std::erase_if(exchanged_, [&](const Exchanged& each) { return each.ifindex == ifindex; });
}

// The old way is idle by now.
absl::Status NetLinks::FinishOne(const Exchanged& each) {
  const std::string path = LinkPath(pin_path_, each.ifindex, each.hook);
  if (attach_ == WAGGLE_TC_CLSACT) {
    absl::Status status = PutFilter(each.ifindex, each.hook, each.program_fd);
    return status.ok() ? RemoveLink(path, LinkKind::kTcx) : status;
  }
  absl::Status status = OkIfGone(RemoveFilter(each.ifindex, each.hook));
  if (!status.ok()) return status;
  const os::UniqueFd link(bpf_obj_get(path.c_str()));
  if (link && bpf_link_update(link.get(), each.program_fd, nullptr) == 0) return status;
  // ENOLINK: the device is gone.
  if (errno == ENOLINK) return absl::NotFoundError("no device");
  return os::ErrnoStatus(errno, absl::StrCat("update link ", path));
}

absl::Status NetLinks::Clear(uint32_t ifindex, TcHook hook) {
  const std::string path = LinkPath(pin_path_, ifindex, hook);
  if (absl::Status status = OkIfGone(RemoveLink(path, LinkKind::kTcx)); !status.ok()) return status;
  if (access(ClsactPath(pin_path_, ifindex).c_str(), F_OK) != 0) return absl::OkStatus();
  return OkIfGone(RemoveFilter(ifindex, hook));
}

absl::Status NetLinks::Remove(uint32_t ifindex) {
  DropExchanged(ifindex);
  for (const TcHook hook : {TcHook::kIngress, TcHook::kEgress}) {
    const std::string path = LinkPath(pin_path_, ifindex, hook);
    absl::Status status = OkIfGone(RemoveLink(path, LinkKind::kTcx));
    if (!status.ok()) return status;
  }
  const std::string marker = ClsactPath(pin_path_, ifindex);
  if (access(marker.c_str(), F_OK) != 0) return absl::OkStatus();
  return RemoveClsact(ifindex, marker);
}

absl::Status NetLinks::Forget(uint32_t ifindex) {
  DropExchanged(ifindex);
  for (const TcHook hook : {TcHook::kIngress, TcHook::kEgress}) {
    const std::string path = LinkPath(pin_path_, ifindex, hook);
    absl::Status status = OkIfGone(RemoveLink(path, LinkKind::kTcx));
    if (!status.ok()) return status;
  }
  return RemoveMarkers(ClsactPath(pin_path_, ifindex));
}

absl::StatusOr<bool> NetLinks::InForce(uint32_t ifindex, TcHook hook) const {
  if (attach_ == WAGGLE_TC_CLSACT) return HasFilter(ifindex, hook);
  const os::UniqueFd link(bpf_obj_get(LinkPath(pin_path_, ifindex, hook).c_str()));
  if (!link) return false;
  const absl::StatusOr<LinkInfo> info = AskLink(link.get());
  if (!info.ok() || info->kind != LinkKind::kTcx || info->ifindex != ifindex) return false;
  const auto here = TcxLinksOf(ifindex, AttachTypeOf(hook));
  if (absl::IsNotFound(here.status())) return false;
  if (!here.ok()) return here.status();
  return std::find(here->begin(), here->end(), info->id) != here->end();
}

}  // namespace waggle::loader
