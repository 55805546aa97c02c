// One connection to an endpoint, with TLS or without, whose every wait can be ended: by a
// descriptor that says stop, by a deadline, or by its user about once a second.
#ifndef WAGGLE_K8S_WATCH_CONNECTION_H_
#define WAGGLE_K8S_WATCH_CONNECTION_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "k8s-watch/client_config.h"
#include "k8s-watch/dial.h"
#include "userspace/os/unique_fd.h"

// OpenSSL's.
struct ssl_st;
struct ssl_ctx_st;

namespace waggle::k8s {

// Certificates and keys, ready for use.
class TlsContext {
 public:
  // Reads what `config` names, anew each time, as others renew it. InvalidArgument or
  // NotFound with the file and the field.
  static absl::StatusOr<std::unique_ptr<TlsContext>> Make(const ClientConfig& config,
                                                          const ClientSurroundings& surroundings);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  ssl_ctx_st* get() const { return context_; }

 private:
  explicit TlsContext(ssl_ctx_st* context) : context_(context) {}
  ssl_ctx_st* context_;
};

class Connection {
 public:
  // Connects, and with `tls` (else null) shakes hands: TLS 1.2 or later, a chain to the CA,
  // and a certificate for `server_name`, a name or an address. Unavailable says why not, so
  // that an operator can act on it; Cancelled when `stop_fd` became readable.
  static absl::StatusOr<std::unique_ptr<Connection>> Open(const ApiEndpoint& endpoint,
                                                          const TlsContext* tls,
                                                          const std::string& server_name,
                                                          int stop_fd, Deadline deadline);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // At least one byte, or 0 at the end of the stream. If there is nothing yet, `on_pause` is called
  // once; then `on_wait` about once a second, whose error ends the wait.
  absl::StatusOr<size_t> Read(char* to, size_t size, const std::function<void()>& on_pause,
                              const std::function<absl::Status()>& on_wait);
  // Cancelled when it is time to stop; does not wait.
  absl::Status CheckStop() const;
  // All of it.
  absl::Status Write(const char* from, size_t size);

  int fd() const { return fd_; }
  // Whoever closes the descriptor from now on is the caller.
  void ReleaseFd() { owned_.Release(); }
  // Says farewell, as far as that is possible without waiting, and lets go of TLS.
  void Shutdown(bool politely);

 private:
  Connection(os::UniqueFd fd, int stop_fd)
      : fd_(fd.get()), owned_(std::move(fd)), stop_fd_(stop_fd) {}
  absl::Status Handshake(const TlsContext& tls, const std::string& server_name, Deadline deadline);
  // What OpenSSL wants after a call that gave `result`: an event to wait for, or an error.
  absl::StatusOr<short> Want(int result, const char* doing);

  int fd_;
  os::UniqueFd owned_;
  const int stop_fd_;
  ssl_st* ssl_ = nullptr;
  bool broken_ = false;
};

}  // namespace waggle::k8s

#endif
