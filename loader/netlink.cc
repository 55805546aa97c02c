#include "loader/netlink.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "userspace/os/errno_status.h"

namespace waggle::loader {
namespace {

// The answer to a request comes at once, or something is very wrong.
constexpr timeval kPatience = {10, 0};

}  // namespace

void NetlinkCloser::operator()(mnl_socket* socket) const {
  mnl_socket_close(socket);
}

absl::StatusOr<NetlinkSocket> OpenNetlink(int protocol, int flags) {
  NetlinkSocket socket(mnl_socket_open2(protocol, SOCK_CLOEXEC | flags));
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) != 0) {
    return os::ErrnoStatus(errno, "open a netlink socket");
  }
  return socket;
}

std::string TextOf(const nlattr* attribute) {
  if (!attribute) return "";
  const auto* text = static_cast<const char*>(mnl_attr_get_payload(attribute));
  return {text, strnlen(text, mnl_attr_get_payload_len(attribute))};
}

uint32_t NumberOf(const nlattr* attribute) {
  return attribute && mnl_attr_get_payload_len(attribute) >= sizeof(uint32_t)
             ? mnl_attr_get_u32(attribute)
             : 0;
}

NetlinkRequest::NetlinkRequest(uint16_t type, uint16_t flags)
    : message_(mnl_nlmsg_put_header(buffer_)) {
  message_->nlmsg_type = type;
  message_->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
}

void* NetlinkRequest::PutBytes(size_t size) {
  return mnl_nlmsg_put_extra_header(message_, size);
}

absl::StatusOr<NetlinkQueries> NetlinkQueries::Open(int protocol) {
  absl::StatusOr<NetlinkSocket> socket = OpenNetlink(protocol, 0);
  if (!socket.ok()) return socket.status();
  NetlinkQueries queries;
  queries.socket_ = *std::move(socket);
  const int fd = mnl_socket_get_fd(queries.socket_.get());
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof(kPatience)) != 0) {
    return os::ErrnoStatus(errno, "netlink socket");
  }
  // Requests are taken at their word: a dump of one device's routes holds only those. Kernels
  // before 4.20 send all of them.
  int on = 1;
  mnl_socket_setsockopt(queries.socket_.get(), NETLINK_GET_STRICT_CHK, &on, sizeof(on));
  return queries;
}

absl::Status NetlinkQueries::Ask(NetlinkRequest& request, const Take& take) {
  error_ = 0;
  buffer_.resize(kNetlinkBuffer);
  request.message()->nlmsg_seq = ++sequence_;
  if (mnl_socket_sendto(socket_.get(), request.message(), request.message()->nlmsg_len) < 0) {
    error_ = errno;
    return os::ErrnoStatus(error_, "ask by netlink");
  }
  const bool dump = (request.message()->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
  bool changed = false;
  while (true) {
    const ssize_t size = mnl_socket_recvfrom(socket_.get(), buffer_.data(), buffer_.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) {
      error_ = errno;
      return os::ErrnoStatus(error_, "hear by netlink");
    }
    auto left = static_cast<int>(size);
    for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer_.data());
         mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
      if (message->nlmsg_seq != sequence_) continue;  // of an answer that was given up on
      changed |= (message->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
      if (message->nlmsg_type == NLMSG_ERROR || message->nlmsg_type == NLMSG_DONE) {
        int error = 0;
        if (mnl_nlmsg_get_payload_len(message) >= sizeof(error)) {
          std::memcpy(&error, mnl_nlmsg_get_payload(message), sizeof(error));
        }
        error_ = -error;
        if (error < 0) return os::ErrnoStatus(-error, "netlink");
        if (changed) return absl::UnavailableError("netlink: changed while it was read");
        return absl::OkStatus();
      }
      take(message);
      if (!dump || stopped_) return absl::OkStatus();
    }
  }
}

}  // namespace waggle::loader
