// Stands between an agent and an apiserver: ends TLS with a certificate of its own, passes
// requests and answers on, and does to them, while told so, what networks, middleboxes and
// servers in trouble do.
#ifndef WAGGLE_TESTS_CLUSTER_FAULT_PROXY_H_
#define WAGGLE_TESTS_CLUSTER_FAULT_PROXY_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "tests/cluster/certificates.h"
#include "userspace/os/unique_fd.h"

struct ssl_ctx_st;

namespace waggle::cluster {

struct Fault {
  enum class Kind {
    kNone,
    kCut,          // half of what comes next, then a reset
    kTruncated,    // the same, then an orderly end of TLS and TCP, inside a chunk
    kEndsEarly,    // a whole HTTP answer, which ends in the middle of an object
    kGarbage,      // events begin with bytes that are no JSON
    kSilent,       // takes everything and says nothing, on old and new connections
    kSlow,         // answers at one byte a second
    kStatus,       // cuts what there is, and answers each request with `status`
    kCertificate,  // cuts what there is, and shows `certificate`
  };
  Kind kind = Kind::kNone;
  int status = 0;
  int retry_after_s = 0;  // 0: not said
  Certificate certificate = {};
};

class FaultProxy {
 public:
  // Listens on a port of its own, on all addresses, IPv4 and IPv6. The apiserver is at this
  // port of the loopback.
  FaultProxy(const Certificate& certificate, uint16_t apiserver_port);
  ~FaultProxy();
  FaultProxy(const FaultProxy&) = delete;
  FaultProxy& operator=(const FaultProxy&) = delete;

  uint16_t port() const { return port_; }

  void Begin(const Fault& fault);
  void End();

  // Since Begin(): how often the fault met something, and which resources ("services").
  size_t strikes() const;
  std::set<std::string> struck() const;
  // Resources whose watch has been answered well and has been undisturbed for so long.
  std::set<std::string> Following(std::chrono::milliseconds age) const;
  // Since the beginning.
  size_t connections() const;

 private:
  using Clock = std::chrono::steady_clock;
  class Link;
  friend class Link;

  void Accept();
  void Strike(const std::string& resource);

  const Certificate certificate_;
  const uint16_t apiserver_port_;
  uint16_t port_ = 0;  // before listener_, which sets it
  os::UniqueFd listener_;
  os::UniqueFd stop_fd_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  Fault fault_;
  uint64_t epoch_ = 0;  // of Begin() and End()
  Clock::time_point ended_ = Clock::now();
  size_t strikes_ = 0;
  std::set<std::string> struck_;
  size_t connections_ = 0;
  std::list<Link> links_;  // never removed before the end: each is a thread
  std::thread acceptor_;
};

}  // namespace waggle::cluster

#endif
