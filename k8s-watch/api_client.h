// The Transport over HTTP to real apiservers: one connection at a time, kept between requests,
// to one of several endpoints.
//
// cpp-httplib does the HTTP. Its own sockets are not used, by overriding the functions in which it
// makes and reads them: it can neither be stopped while it connects or shakes hands, nor tell why a
// certificate was refused, nor verify for another name than it connects to, and it accepts names in
// a certificate's subject. Connection does all that, for the price of one Stream.
#ifndef WAGGLE_K8S_WATCH_API_CLIENT_H_
#define WAGGLE_K8S_WATCH_API_CLIENT_H_

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "k8s-watch/client_config.h"
#include "k8s-watch/liveness.h"
#include "k8s-watch/transport.h"

namespace waggle::k8s {

struct ApiRequest {
  std::string method = "GET";
  std::string target;  // path and query
  std::string accept = "application/json";
  std::string content_type;  // of `body`
  std::string body;
};

class ApiClient final : public Transport {
 public:
  struct Options {
    std::string user_agent = "waggle";
    // The endpoint to begin with; taken modulo their number.
    size_t first_endpoint = 0;
    // Added to the text as long as there has been no connection to any endpoint: what to do.
    std::string advice;
    // Shared by all who ask the same endpoints. While a body does not go on, it says whether the
    // server still lives; without it that is TCP's business alone.
    std::shared_ptr<Liveness> liveness;
    std::chrono::milliseconds ask_time{10'000};
  };

  // Ends what it is doing as soon as `stop_fd` is readable, which must outlive it. The thread
  // that uses it should block SIGPIPE.
  ApiClient(ClientConfig config, Options options, ClientSurroundings surroundings, int stop_fd);
  ~ApiClient() override;

  absl::Status Get(const std::string& target, ResponseReader* reader) override;
  // The same for any request. One that was sent may have been obeyed, whatever is returned.
  absl::Status Send(const ApiRequest& request, ResponseReader* reader);
  void FailOver() override;
  size_t endpoints() const override { return config_.endpoints.size(); }
  std::string endpoint() const override { return config_.endpoints[current_].ToString(); }

 private:
  class Http;

  const ClientConfig config_;
  const Options options_;
  const ClientSurroundings surroundings_;
  const int stop_fd_;
  size_t current_;
  bool reached_ = false;        // there was a connection
  std::unique_ptr<Http> http_;  // to the current endpoint; made when it is needed
};

}  // namespace waggle::k8s

#endif
