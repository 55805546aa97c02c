// Questions to the kernel by netlink, with libmnl.
#ifndef WAGGLE_LOADER_NETLINK_H_
#define WAGGLE_LOADER_NETLINK_H_

#include <libmnl/libmnl.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace waggle::loader {

struct NetlinkCloser {
  void operator()(mnl_socket* socket) const;
};
using NetlinkSocket = std::unique_ptr<mnl_socket, NetlinkCloser>;

// `protocol`: NETLINK_ROUTE or another; `flags`: 0 or SOCK_NONBLOCK. Of the calling thread's
// network namespace, for ever.
absl::StatusOr<NetlinkSocket> OpenNetlink(int protocol, int flags);

// What one device's message can take: the kernel's own limit for a part of a dump.
inline constexpr size_t kNetlinkBuffer = 32768;

// Calls visit(const nlattr*) for each attribute that follows a header of `offset` bytes, or that
// is inside of another.
template <typename Visit>
void ForEachAttribute(const nlmsghdr* message, size_t offset, Visit visit) {
  mnl_attr_parse(
      message, static_cast<unsigned>(offset),
      [](const nlattr* attribute, void* data) {
        (*static_cast<Visit*>(data))(attribute);
        return MNL_CB_OK;
      },
      &visit);
}
template <typename Visit>
void ForEachAttribute(const nlattr* nest, Visit visit) {
  mnl_attr_parse_nested(
      nest,
      [](const nlattr* attribute, void* data) {
        (*static_cast<Visit*>(data))(attribute);
        return MNL_CB_OK;
      },
      &visit);
}

// The attributes behind a header of `offset` bytes, or within another, by type; null where there
// is none. Types from kTypes on are left out.
template <size_t kTypes>
class Attributes {
 public:
  Attributes(const nlmsghdr* message, size_t offset) {
    if (mnl_nlmsg_get_payload_len(message) < offset) return;
    ForEachAttribute(message, offset, [this](const nlattr* attribute) { Take(attribute); });
  }
  explicit Attributes(const nlattr* nest) {
    if (nest) ForEachAttribute(nest, [this](const nlattr* attribute) { Take(attribute); });
  }
  const nlattr* operator[](size_t type) const { return found_[type]; }

 private:
  void Take(const nlattr* attribute) {
    const size_t type = mnl_attr_get_type(attribute);
    if (type < kTypes) found_[type] = attribute;
  }
  const nlattr* found_[kTypes] = {};
};

// The value of a text attribute, whether or not it ends in NUL; empty for null.
std::string TextOf(const nlattr* attribute);
// Of a __u32; 0 where it is shorter, or null.
uint32_t NumberOf(const nlattr* attribute);

// A request under construction.
class NetlinkRequest {
 public:
  NetlinkRequest(uint16_t type, uint16_t flags);
  // The header that follows, zeroed.
  template <typename Header>
  Header* Put() {
    return static_cast<Header*>(PutBytes(sizeof(Header)));
  }
  nlmsghdr* message() { return message_; }

 private:
  void* PutBytes(size_t size);

  alignas(8) char buffer_[512] = {};
  nlmsghdr* message_;
};

// Asks and waits. For one thread.
class NetlinkQueries {
 public:
  using Take = std::function<void(const nlmsghdr*)>;

  static absl::StatusOr<NetlinkQueries> Open(int protocol);

  // Gives each message of the answer to `take`. Unavailable when the table changed while it was
  // read: all was given, but something may be missing or given twice. Else what the
  // kernel said.
  absl::Status Ask(NetlinkRequest& request, const Take& take);

  // For `take`: the rest of this answer is not wanted, Ask() returns OK. The kernel may be in the
  // middle of it, so nothing more can be asked.
  void Stop() { stopped_ = true; }

  // errno of the last Ask(); 0 with OK, and with Unavailable for a table that changed.
  int error() const { return error_; }

 private:
  NetlinkSocket socket_;
  uint32_t sequence_ = 0;
  int error_ = 0;
  bool stopped_ = false;
  std::vector<char> buffer_;
};

}  // namespace waggle::loader

#endif
