// Questions to rtnetlink, with libmnl.
#ifndef WAGGLE_LOADER_RTNETLINK_H_
#define WAGGLE_LOADER_RTNETLINK_H_

#include <libmnl/libmnl.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace waggle::loader {

struct RtSocketCloser {
  void operator()(mnl_socket* socket) const;
};
using RtSocket = std::unique_ptr<mnl_socket, RtSocketCloser>;

// `flags`: 0 or SOCK_NONBLOCK. Of the calling thread's network namespace, for ever.
absl::StatusOr<RtSocket> OpenRtSocket(int flags);

// What one device's message can take: the kernel's own limit for a part of a dump.
inline constexpr size_t kRtBuffer = 32768;

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

// The value of a text attribute, whether or not it ends in NUL.
std::string TextOf(const nlattr* attribute);
// Of a __u32; 0 where it is shorter.
uint32_t NumberOf(const nlattr* attribute);

// A request under construction.
class RtRequest {
 public:
  RtRequest(uint16_t type, uint16_t flags);
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
class RtQueries {
 public:
  using Take = std::function<void(const nlmsghdr*)>;

  static absl::StatusOr<RtQueries> Open();

  // Gives each message of the answer to `take`. Unavailable when the table changed while it was
  // read: all was given, but something may be missing or given twice. Else what the
  // kernel said.
  absl::Status Ask(RtRequest& request, const Take& take);

 private:
  RtSocket socket_;
  uint32_t sequence_ = 0;
};

}  // namespace waggle::loader

#endif
