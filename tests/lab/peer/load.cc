#include "tests/lab/peer/load.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "tests/lab/peer/dns.h"
#include "tests/lab/peer/sockets.h"

namespace waggle::lab {
namespace {

using Clock = std::chrono::steady_clock;

// The answer's backend name, or the step that failed and how.
struct Answer {
  bool ok = false;
  std::string name;
  std::string failure;
};

Answer Failure(const std::string& step) {
  int error = errno;
  bool timed_out = error == EAGAIN || error == EINPROGRESS;
  return {false, "", step + ": " + (timed_out ? "timeout" : ErrnoName(error))};
}

constexpr char kNotOurs[] = "answer: not an echo";

Answer ReadLine(const std::string& text, const std::string& sent) {
  nlohmann::json reply = nlohmann::json::parse(text, nullptr, false);
  if (reply.is_discarded() || !reply.contains("name")) {
    return {false, "", "answer: unreadable " + text};
  }
  if (reply.value("echo", "") != sent) return {false, "", kNotOurs};
  return {true, reply["name"], ""};
}

// What is asked: a line, or a question of DNS.
class Question {
 public:
  // The line `text`.
  explicit Question(std::string text) : text_(std::move(text)) {}
  Question(const std::string& name, uint16_t id, int family)
      : text_(DnsQuery(id, name, family)), dns_(true), id_(id) {}

  bool dns() const { return dns_; }
  const std::string& datagram() const { return text_; }
  std::string stream() const {
    if (!dns_) return text_ + "\n";
    return std::string{static_cast<char>(text_.size() >> 8), static_cast<char>(text_.size())} +
           text_;
  }
  // Of a stream: what came so far is the whole answer.
  bool Whole(const std::string& got) const {
    if (!dns_) return !got.empty() && got.back() == '\n';
    return got.size() >= 2 && got.size() >= size_t{2} + Byte(got[0]) * 256 + Byte(got[1]);
  }
  Answer ReadStream(const std::string& got) const { return Read(dns_ ? got.substr(2) : got); }
  Answer Read(const std::string& got) const {
    if (!dns_) return ReadLine(got, text_);
    const DnsAnswer answer = ReadDnsAnswer(got, id_);
    if (!answer.problem.empty()) {
      return {false, "", answer.ours ? "answer: " + answer.problem : kNotOurs};
    }
    return {true, answer.address, ""};
  }

 private:
  static size_t Byte(char c) { return static_cast<unsigned char>(c); }

  std::string text_;
  bool dns_ = false;
  uint16_t id_ = 0;
};

// Asks on a connected stream and reads the whole answer.
Answer AskStream(int fd, const Question& question) {
  std::string sent = question.stream();
  if (send(fd, sent.data(), sent.size(), MSG_NOSIGNAL) < 0) return Failure("send");
  std::string got;
  while (!question.Whole(got)) {
    char buffer[4096];
    ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
    if (n < 0) return Failure("recv");
    if (n == 0) return {false, "", "recv: end of stream"};
    got.append(buffer, static_cast<size_t>(n));
  }
  return question.ReadStream(got);
}

Answer AskConnectedDatagram(int fd, const Question& question) {
  const std::string& text = question.datagram();
  if (send(fd, text.data(), text.size(), MSG_NOSIGNAL) < 0) return Failure("send");
  char buffer[4096];
  ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
  if (n < 0) return Failure("recv");
  return question.Read(std::string(buffer, static_cast<size_t>(n)));
}

Fd Connected(const SocketAddress& to, int type, std::chrono::milliseconds timeout) {
  Fd fd = OpenSocket({to.family(), type, 0});
  if (!fd.valid()) return fd;
  SetTimeouts(fd.get(), timeout);
  if (connect(fd.get(), to.get(), to.length) != 0) {
    int error = errno;
    fd.Reset(-1);
    errno = error;
  }
  return fd;
}

Answer AskTcp(const SocketAddress& to, const Question& question,
              std::chrono::milliseconds timeout) {
  Fd fd = Connected(to, SOCK_STREAM, timeout);
  if (!fd.valid()) return Failure("connect");
  SocketAddress peer;
  if (getpeername(fd.get(), peer.get(), &peer.length) != 0) return Failure("getpeername");
  if (ToText(peer) != ToText(to)) return {false, "", "getpeername: " + ToText(peer)};
  Answer answer = AskStream(fd.get(), question);
  // Last words are our own servers' way.
  if (!answer.ok || question.dns()) return answer;
  if (shutdown(fd.get(), SHUT_WR) != 0) return Failure("shutdown");
  char buffer[4096];
  ssize_t n;
  bool last_words = false;
  while ((n = recv(fd.get(), buffer, sizeof(buffer), 0)) > 0)
    last_words = true;
  if (n < 0) return Failure("recv to the end");
  if (!last_words) return {false, "", "half-close: no last words"};
  return answer;
}

Answer AskUnconnected(int fd, const SocketAddress& to, const Question& question) {
  const std::string& text = question.datagram();
  if (sendto(fd, text.data(), text.size(), 0, to.get(), to.length) < 0) return Failure("sendto");
  // An answer to an earlier, timed-out query may still come: it is not ours.
  while (true) {
    char buffer[4096];
    SocketAddress from;
    ssize_t n = recvfrom(fd, buffer, sizeof(buffer), 0, from.get(), &from.length);
    if (n < 0) return Failure("recvfrom");
    Answer answer = question.Read(std::string(buffer, static_cast<size_t>(n)));
    if (answer.failure == kNotOurs) continue;
    if (answer.ok && ToText(from) != ToText(to)) {
      return {false, "", "recvfrom: answer from " + ToText(from)};
    }
    return answer;
  }
}

void Count(const Answer& answer, Clock::duration took, Tally& tally) {
  ++tally.attempts;
  if (answer.ok) {
    ++tally.ok;
    ++tally.names[answer.name];
  } else {
    ++tally.failures[answer.failure];
  }
  double ms = std::chrono::duration<double, std::milli>(took).count();
  if (ms > tally.slowest_ms) tally.slowest_ms = ms;
}

// Commands on stdin, taken between the rounds.
class Commands {
 public:
  // Waits for a command until `deadline`. Prints the tally at a mark. False: stop.
  bool Obey(Clock::time_point deadline, Tally& tally) {
    while (true) {
      auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
      pollfd waiting{STDIN_FILENO, POLLIN, 0};
      int wait_ms = left.count() > 0 ? static_cast<int>(left.count()) : 0;
      if (poll(&waiting, 1, wait_ms) <= 0) {
        if (Clock::now() >= deadline) return true;
        continue;
      }
      char buffer[256];
      ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));
      if (n <= 0) return false;
      pending_.append(buffer, static_cast<size_t>(n));
      size_t newline;
      while ((newline = pending_.find('\n')) != std::string::npos) {
        std::string command = pending_.substr(0, newline);
        pending_.erase(0, newline + 1);
        if (command != "mark") return false;
        Print(tally.ToJson());
        tally = {};
      }
    }
  }

  static void Print(const std::string& line) {
    std::puts(line.c_str());
    std::fflush(stdout);
  }

 private:
  std::string pending_;
};

bool ParseAll(const std::vector<std::string>& texts, std::vector<SocketAddress>& out) {
  for (const std::string& text : texts) {
    std::optional<SocketAddress> address = ParseSocketAddress(text);
    if (!address) {
      std::fprintf(stderr, "not an address and port: %s\n", text.c_str());
      return false;
    }
    out.push_back(*address);
  }
  return true;
}

// The sockets that are kept: AskMode::kUdp's, one a family, and AskMode::kUdpHeld's, one an
// address.
class KeptSockets {
 public:
  int For(int family, std::chrono::milliseconds timeout) {
    Fd& fd = family == AF_INET ? v4_ : v6_;
    if (!fd.valid()) {
      fd = OpenSocket({family, SOCK_DGRAM, 0});
      SetTimeouts(fd.get(), timeout);
    }
    return fd.get();
  }
  // Invalid where connect() fails; the reason is in errno.
  int ConnectedTo(const SocketAddress& to, std::chrono::milliseconds timeout) {
    Fd& fd = connected_[ToText(to)];
    if (!fd.valid()) fd = Connected(to, SOCK_DGRAM, timeout);
    return fd.get();
  }

 private:
  Fd v4_, v6_;
  std::map<std::string, Fd> connected_;
};

Answer Ask(AskMode mode, const SocketAddress& to, const Question& question,
           std::chrono::milliseconds timeout, KeptSockets& kept) {
  switch (mode) {
    case AskMode::kTcp:
      return AskTcp(to, question, timeout);
    case AskMode::kUdp:
      return AskUnconnected(kept.For(to.family(), timeout), to, question);
    case AskMode::kUdpNew: {
      Fd fd = OpenSocket({to.family(), SOCK_DGRAM, 0});
      SetTimeouts(fd.get(), timeout);
      return AskUnconnected(fd.get(), to, question);
    }
    case AskMode::kUdpConnected: {
      Fd fd = Connected(to, SOCK_DGRAM, timeout);
      if (!fd.valid()) return Failure("connect");
      return AskConnectedDatagram(fd.get(), question);
    }
    case AskMode::kUdpHeld: {
      const int fd = kept.ConnectedTo(to, timeout);
      if (fd < 0) return Failure("connect");
      return AskConnectedDatagram(fd, question);
    }
  }
  return {};
}

struct HeldConnection {
  Fd fd;
  bool stream;
};

Answer AskHeld(const HeldConnection& connection, const std::string& text) {
  const Question question(text);
  return connection.stream ? AskStream(connection.fd.get(), question)
                           : AskConnectedDatagram(connection.fd.get(), question);
}

}  // namespace

std::string Tally::ToJson() const {
  nlohmann::ordered_json out = {{"attempts", attempts}, {"ok", ok}};
  out["failures"] = failures;
  out["names"] = names;
  out["slowestMs"] = slowest_ms;
  return out.dump();
}

int Rate(const RateOptions& options) {
  std::vector<SocketAddress> targets;
  if (!ParseAll(options.to, targets) || targets.empty()) return 2;
  Commands commands;
  KeptSockets kept;
  Tally tally;
  Commands::Print("ready");
  auto period = options.per_second == 0 ? Clock::duration::zero()
                                        : Clock::duration(std::chrono::seconds(1)) /
                                              static_cast<int>(options.per_second);
  auto next = Clock::now();
  for (uint64_t round = 0; options.count == 0 || round < options.count; ++round) {
    auto start = Clock::now();
    const SocketAddress& to = targets[round % targets.size()];
    const Question question =
        options.dns_name.empty()
            ? Question("q" + std::to_string(round))
            : Question(options.dns_name, static_cast<uint16_t>(round), to.family());
    Answer answer = Ask(options.mode, to, question, options.timeout, kept);
    Count(answer, Clock::now() - start, tally);
    // A slow answer must not be followed by a burst that hides the rate.
    next = std::max(next + period, Clock::now());
    if (!commands.Obey(next, tally)) break;
  }
  Commands::Print(tally.ToJson());
  return 0;
}

int Hold(const HoldOptions& options) {
  std::vector<SocketAddress> tcp, udp;
  if (!ParseAll(options.tcp, tcp) || !ParseAll(options.udp, udp)) return 2;
  std::vector<HeldConnection> held;
  auto open = [&](const SocketAddress& to, int type) {
    Fd fd = Connected(to, type, options.timeout);
    Answer answer = fd.valid() ? Answer{true, "", ""} : Failure("connect");
    if (answer.ok) {
      held.push_back({std::move(fd), type == SOCK_STREAM});
      answer = AskHeld(held.back(), "open");
    }
    if (!answer.ok) std::fprintf(stderr, "%s: %s\n", ToText(to).c_str(), answer.failure.c_str());
    return answer.ok;
  };
  for (uint32_t i = 0; i < options.connections; ++i) {
    for (const SocketAddress& to : tcp) {
      if (!open(to, SOCK_STREAM)) return 1;
    }
    for (const SocketAddress& to : udp) {
      if (!open(to, SOCK_DGRAM)) return 1;
    }
  }
  Commands commands;
  Tally tally;
  Commands::Print("ready");
  uint64_t round = 0;
  do {
    std::string text = "h" + std::to_string(round++);
    for (const HeldConnection& connection : held) {
      auto start = Clock::now();
      Answer answer = AskHeld(connection, text);
      Count(answer, Clock::now() - start, tally);
    }
  } while (commands.Obey(Clock::now() + options.interval, tally));
  Commands::Print(tally.ToJson());
  return 0;
}

}  // namespace waggle::lab
