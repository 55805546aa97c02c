// One small HTTP server for all ports that the agent listens at: one thread, whatever their number.
//
// cpp-httplib reads requests and writes answers, from and to memory; sockets are never waited for
// one by one, so that a client which is slow, silent or hostile keeps nobody waiting. A connection
// serves one request: probes and scrapers come seldom. Only GET and HEAD are answered.
#ifndef WAGGLE_USERSPACE_HTTP_SERVER_H_
#define WAGGLE_USERSPACE_HTTP_SERVER_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "userspace/net/address.h"

namespace waggle::http {

struct Request {
  std::string path;  // decoded, without the query
  net::Endpoint at;  // the site's, as it was asked for
};

struct Response {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

// Called on the server's thread; must not block.
using Handler = std::function<Response(const Request&)>;

// One address and port, and who answers there. The unspecified address of a family stands for all
// of that family alone. Of two sites at one place the first has it.
struct Site {
  std::string name;  // for messages: "healthz"
  net::Endpoint at;
  Handler handler;
};

// False on a kernel without this family.
bool CanListen(net::Family family);
// The unspecified address of each family that this kernel has for an unspecified one, as Go
// listens; else `at` alone.
std::vector<net::Endpoint> WithBothFamilies(const net::Endpoint& at);

// What happened to a site: it listens (OK), or cannot. Told once, until it changes.
struct SiteNews {
  std::string name;
  net::Endpoint at;
  absl::Status status;
};

struct Times {
  using Duration = std::chrono::milliseconds;
  // A client has so long for its request, and for taking the answer.
  Duration request{5000};
  Duration answer{10000};
  // For closing its side, so that what it still sends does not cost it the answer.
  Duration farewell{1000};
  // What cannot be bound is tried again so often.
  Duration bind_again{5000};
};

class Server {
 public:
  // Of a request's line and headers.
  static constexpr size_t kMaxHead = size_t{16} << 10;
  // Beyond that the oldest is closed.
  static constexpr size_t kMaxConnections = 256;

  explicit Server(const Times& times = Times());
  ~Server();  // stops
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Listens, as far as that is possible at once (TakeNews() tells), and starts the thread. An
  // error: there is none. Once.
  absl::Status Start(std::vector<Site> sites);
  // What shall be served from now on. Sockets of addresses that stay are not touched. From any
  // thread, after Start(); does not wait.
  void SetSites(std::vector<Site> sites);
  // Since the last call. From any thread.
  std::vector<SiteNews> TakeNews();

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace waggle::http

#endif
