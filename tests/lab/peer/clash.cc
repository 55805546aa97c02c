#include "tests/lab/peer/clash.h"

#include <cerrno>
#include <cstdio>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "tests/lab/peer/load.h"
#include "tests/lab/peer/sockets.h"

namespace waggle::lab {
namespace {

using Clock = std::chrono::steady_clock;

struct Target {
  SocketAddress address;
  std::string text;  // the address as the kernel would say it
  std::string name;
};

struct Open {
  Fd fd;
  std::string source;
  uint64_t number = 0;
};

// Empty: all is well.
using Problem = std::string;

Problem Because(const std::string& step) {
  int error = errno;
  bool timed_out = error == EAGAIN || error == EINPROGRESS;
  return step + ": " + (timed_out ? "timeout" : ErrnoName(error));
}

class Clasher {
 public:
  Clasher(const ClashOptions& options, std::vector<Target> targets)
      : options_(options), targets_(std::move(targets)), open_(targets_.size()) {}

  void Run() {
    for (uint64_t i = 0; i < options_.count; ++i) {
      size_t at = i % targets_.size();
      auto start = Clock::now();
      ++tally_.attempts;
      Open one;
      Problem problem = Begin(targets_[at], i, one);
      double ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
      if (ms > tally_.slowest_ms) tally_.slowest_ms = ms;
      if (!problem.empty()) {
        ++tally_.failures[problem];
        continue;
      }
      if (++sources_[one.source] > 1) ++shared_;
      open_[at].push_back(std::move(one));
      if (open_[at].size() > options_.open) FinishOldest(at);
    }
    for (size_t at = 0; at < targets_.size(); ++at) {
      while (!open_[at].empty())
        FinishOldest(at);
    }
  }

  std::string ToJson() const {
    nlohmann::ordered_json out = nlohmann::ordered_json::parse(tally_.ToJson());
    out["shared"] = shared_;
    out["changed"] = changed_;
    return out.dump();
  }

 private:
  Problem Begin(const Target& target, uint64_t number, Open& one) {
    one.fd = OpenSocket({target.address.family(), options_.udp ? SOCK_DGRAM : SOCK_STREAM, 0});
    one.number = number;
    int fd = one.fd.get();
    SetTimeouts(fd, options_.timeout);
    if (options_.udp && !BindTo(fd, target, number)) return Because("bind");
    if (connect(fd, target.address.get(), target.address.length) != 0) return Because("connect");
    SocketAddress source, peer;
    if (getsockname(fd, source.get(), &source.length) != 0) return Because("getsockname");
    if (getpeername(fd, peer.get(), &peer.length) != 0) return Because("getpeername");
    if (ToText(peer) != target.text) return "getpeername: another address";
    one.source = ToText(source);
    std::string seen;
    Problem problem = Ask(one, target, "first", &seen);
    if (problem.empty() && seen != one.source) ++changed_;
    return problem;
  }

  // The same port for each round of targets.
  bool BindTo(int fd, const Target& target, uint64_t number) const {
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    unsigned ports = options_.last_port - options_.first_port + 1U;
    auto port = static_cast<uint16_t>(options_.first_port + number / targets_.size() % ports);
    std::string any = target.address.family() == AF_INET ? "0.0.0.0:" : "[::]:";
    std::optional<SocketAddress> source = ParseSocketAddress(any + std::to_string(port));
    return bind(fd, source->get(), source->length) == 0;
  }

  Problem Ask(const Open& one, const Target& target, const std::string& when, std::string* seen) {
    std::string text = when + "-" + std::to_string(one.number);
    return AskText(one, target, when, text, seen);
  }

  Problem AskText(const Open& one, const Target& target, const std::string& when,
                  const std::string& text, std::string* seen) {
    std::string line = options_.udp ? text : text + "\n";
    if (send(one.fd.get(), line.data(), line.size(), MSG_NOSIGNAL) < 0) {
      return Because(when + " send");
    }
    std::string got;
    do {
      char buffer[4096];
      ssize_t n = recv(one.fd.get(), buffer, sizeof(buffer), 0);
      if (n < 0) return Because(when + " recv");
      if (n == 0) return when + " recv: end of stream";
      got.append(buffer, static_cast<size_t>(n));
    } while (!options_.udp && got.back() != '\n');
    nlohmann::json reply = nlohmann::json::parse(got, nullptr, false);
    if (reply.is_discarded() || !reply.contains("name")) return when + " answer: unreadable";
    if (reply.value("echo", "") != text) return when + " answer: somebody else's";
    if (reply["name"] != target.name) return when + " answer: from another server";
    if (seen != nullptr) *seen = reply.value("peer", "");
    return "";
  }

  void FinishOldest(size_t at) {
    Open one = std::move(open_[at].front());
    open_[at].pop_front();
    Problem problem = Ask(one, targets_[at], "last", nullptr);
    if (problem.empty() && !options_.udp) problem = Close(one, targets_[at]);
    if (auto source = sources_.find(one.source); --source->second == 0) sources_.erase(source);
    if (problem.empty()) {
      ++tally_.ok;
      ++tally_.names[targets_[at].name];
    } else {
      ++tally_.failures[problem];
    }
  }

  Problem Close(Open& one, const Target& target) {
    int fd = one.fd.get();
    switch (one.number / targets_.size() % 4) {
      case 0:
        if (shutdown(fd, SHUT_WR) != 0) return Because("shutdown");
        return ReadToEnd(fd);
      case 1:
        if (Problem problem = AskText(one, target, "bye", "bye", nullptr); !problem.empty()) {
          return problem;
        }
        return ReadToEnd(fd);
      case 2: {
        linger reset{1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        return "";
      }
      default:
        // The server's last words meet a closed socket: FIN and reset at once.
        return "";
    }
  }

  static Problem ReadToEnd(int fd) {
    char buffer[4096];
    ssize_t n;
    while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0) {
    }
    return n < 0 ? Because("recv to the end") : "";
  }

  const ClashOptions& options_;
  std::vector<Target> targets_;
  std::vector<std::deque<Open>> open_;
  std::map<std::string, int> sources_;  // address and port → open connections
  Tally tally_;
  uint64_t shared_ = 0, changed_ = 0;
};

std::optional<Target> ParseTarget(const std::string& text) {
  size_t equals = text.find('=');
  if (equals == std::string::npos) return std::nullopt;
  std::optional<SocketAddress> address = ParseSocketAddress(text.substr(0, equals));
  if (!address) return std::nullopt;
  return Target{*address, ToText(*address), text.substr(equals + 1)};
}

}  // namespace

int Clash(const ClashOptions& options) {
  std::vector<Target> targets;
  for (const std::string& text : options.to) {
    std::optional<Target> target = ParseTarget(text);
    if (!target) {
      std::fprintf(stderr, "not ADDRESS:PORT=NAME: %s\n", text.c_str());
      return 2;
    }
    targets.push_back(*target);
  }
  if (targets.empty() || (options.udp && options.first_port == 0) ||
      options.last_port < options.first_port) {
    std::fprintf(stderr, "no targets, or no source ports\n");
    return 2;
  }
  std::puts("ready");
  std::fflush(stdout);
  Clasher clasher(options, std::move(targets));
  clasher.Run();
  std::puts(clasher.ToJson().c_str());
  std::fflush(stdout);
  return 0;
}

}  // namespace waggle::lab
