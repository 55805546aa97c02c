// A server on loopback that does what a test tells it to do to a client, down to the bytes, with
// TLS or without, and a certificate authority for it.
#ifndef WAGGLE_TESTS_UNIT_K8S_WATCH_FAKE_APISERVER_H_
#define WAGGLE_TESTS_UNIT_K8S_WATCH_FAKE_APISERVER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "userspace/os/unique_fd.h"

struct ssl_st;
struct ssl_ctx_st;

namespace waggle::k8s {

struct KeyPair {
  std::string certificate;  // PEM
  std::string key;
};

class TestAuthority {
 public:
  TestAuthority();
  const std::string& pem() const { return own_.certificate; }
  // Good for `names` ("IP:127.0.0.1,DNS:kubernetes"; empty: none), from a day before now until
  // `seconds_left` from now.
  KeyPair Issue(const std::string& common_name, const std::string& names,
                long seconds_left = 3600) const;

 private:
  KeyPair own_;
};

class FakeApiserver {
 public:
  // One request, and the means to answer it.
  class Exchange {
   public:
    std::string target;
    std::string head;       // request line and headers
    std::string content;    // by its Content-Length
    size_t connection = 0;  // which of the server's, from 1

    // Each false when the client is gone or the server stops.
    bool Send(std::string_view bytes);
    bool Head(int status, const std::string& headers = "Transfer-Encoding: chunked\r\n");
    bool Chunk(std::string_view bytes);
    bool EndChunks() { return Send("0\r\n\r\n"); }
    // A whole answer with Content-Length.
    bool Answer(int status, std::string_view body, const std::string& headers = "");
    // Until the server stops or the client has gone.
    void Hang();
    // After the handler: the connection ends without the farewell of TLS.
    void Cut() { cut_ = true; }

   private:
    friend class FakeApiserver;
    FakeApiserver* server_ = nullptr;
    int fd_ = -1;
    ssl_st* ssl_ = nullptr;
    bool cut_ = false;
  };
  using Handler = std::function<void(Exchange&)>;

  struct Options {
    KeyPair tls;            // empty: plain HTTP
    std::string client_ca;  // PEM; not empty: clients must have a certificate of it
    int max_tls = 0;        // 0: all
    bool never_handshake = false;
    bool v6 = false;    // listens at ::1, not at 127.0.0.1
    uint16_t port = 0;  // 0: any
  };
  FakeApiserver(Options options, Handler handler);
  ~FakeApiserver() { Stop(); }
  void Stop();

  uint16_t port() const { return port_; }
  std::string url() const;
  // So many connections have been accepted.
  size_t accepted() const { return accepted_; }

 private:
  void Accept();
  void Serve(os::UniqueFd fd, size_t number);
  // False: stopped, or the client has gone.
  bool WaitReadable(int fd) const;

  const Options options_;
  const Handler handler_;
  os::UniqueFd listener_;
  os::UniqueFd stop_fd_;
  uint16_t port_ = 0;
  std::atomic<size_t> accepted_ = 0;
  ssl_ctx_st* context_ = nullptr;
  std::mutex mutex_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace waggle::k8s

#endif
