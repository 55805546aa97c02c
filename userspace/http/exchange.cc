#include "userspace/http/exchange.h"

#include <httplib.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace waggle::http {
namespace {

constexpr std::string_view kEndOfHead = "\r\n\r\n";

// A request that has come, and an answer that will be sent.
class MemoryStream final : public httplib::Stream {
 public:
  explicit MemoryStream(std::string_view input) : input_(input) {}

  bool is_readable() const override { return !input_.empty(); }
  bool is_writable() const override { return true; }
  ssize_t read(char* to, size_t size) override {
    const size_t given = std::min(size, input_.size());
    std::memcpy(to, input_.data(), given);
    input_.remove_prefix(given);
    return static_cast<ssize_t>(given);
  }
  ssize_t write(const char* from, size_t size) override {
    output_.append(from, size);
    return static_cast<ssize_t>(size);
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    ip.clear();
    port = 0;
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    get_remote_ip_and_port(ip, port);
  }
  socket_t socket() const override { return INVALID_SOCKET; }

  std::string TakeOutput() { return std::move(output_); }

 private:
  std::string_view input_;
  std::string output_;
};

// httplib's part that knows HTTP, without its sockets and threads.
class Parser final : public httplib::Server {
 public:
  Parser(const net::Endpoint& at, const http::Handler& handler) {
    // Before any body is looked for: none is ever read.
    set_pre_routing_handler([&at, &handler](const httplib::Request& in, httplib::Response& out) {
      if (in.method != "GET" && in.method != "HEAD") {
        out.status = 405;
        out.set_header("Allow", "GET, HEAD");
        return HandlerResponse::Handled;
      }
      http::Response response = handler({in.path, at});
      out.status = response.status;
      for (const auto& [name, value] : response.headers)
        out.set_header(name, value);
      out.set_content(std::move(response.body), response.content_type);
      return HandlerResponse::Handled;
    });
  }

  std::string Answer(std::string_view head) {
    MemoryStream stream(head);
    bool closed = false;
    // Pieces of an answer are of no use here, and many small ones are an attack.
    process_request(stream, true, closed,
                    [](httplib::Request& request) { request.ranges.clear(); });
    return stream.TakeOutput();
  }
};

}  // namespace

size_t HeadSize(std::string_view received) {
  const size_t end = received.find(kEndOfHead);
  return end == std::string_view::npos ? 0 : end + kEndOfHead.size();
}

std::string Answer(std::string_view head, const net::Endpoint& at, const Handler& handler) {
  std::string answer = Parser(at, handler).Answer(head);
  return answer.empty() ? Refusal(400, "Bad Request") : answer;
}

std::string Refusal(int status, std::string_view reason) {
  return absl::StrCat("HTTP/1.1 ", status, " ", absl::string_view(reason.data(), reason.size()),
                      "\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
}

}  // namespace waggle::http
