// How a reflector asks an apiserver: one request at a time, its answer streamed. The real one
// is api_client.h; tests have their own.
#ifndef WAGGLE_K8S_WATCH_TRANSPORT_H_
#define WAGGLE_K8S_WATCH_TRANSPORT_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace waggle::k8s {

struct ResponseHead {
  int status = 0;
  std::string retry_after;  // the header as it came; empty when absent
};

// Takes an answer as it comes. An error of any of these ends the request, and is what
// Transport::Get() returns.
class ResponseReader {
 public:
  virtual ~ResponseReader() = default;

  virtual absl::Status OnHead(const ResponseHead& head) = 0;
  virtual absl::Status OnData(std::string_view bytes) = 0;
  // Called about once a second while nothing comes, before the head too.
  virtual absl::Status OnWait() = 0;
  // All that has come was handed on, and now it waits for more; before the head too.
  virtual void OnPause() = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;

  // GET of path and query. OK: the answer, of whatever status, came to its end. Cancelled: the
  // transport was stopped. Unavailable: no connection, or it was cut; the text goes behind the
  // endpoint's name. FailedPrecondition: credentials that cannot be read. Else what the reader
  // returned.
  virtual absl::Status Get(const std::string& target, ResponseReader* reader) = 0;

  // The next request goes to the next endpoint.
  virtual void FailOver() = 0;
  virtual size_t endpoints() const = 0;
  // "https://10.0.0.1:6443", where the next request goes.
  virtual std::string endpoint() const = 0;
};

}  // namespace waggle::k8s

#endif
