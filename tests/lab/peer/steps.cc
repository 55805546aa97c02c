#include "tests/lab/peer/steps.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <iostream>

#ifndef SOL_MPTCP
#define SOL_MPTCP 284
#endif
#ifndef MPTCP_INFO
#define MPTCP_INFO 1
#endif

namespace waggle::lab {
namespace {

using Json = nlohmann::json;

Json Failed(int error) {
  return {{"ok", false}, {"errno", ErrnoName(error)}};
}

// What a call just gave: errno is read here, after the call. EAGAIN and EINPROGRESS
// of a blocking call are its time-out.
Json Result(bool ok) {
  int error = errno;
  if (ok) return {{"ok", true}};
  Json out = Failed(error);
  if (error == EAGAIN || error == EINPROGRESS) out["timeout"] = true;
  return out;
}

std::vector<std::string> Split(const std::string& text) {
  std::vector<std::string> words;
  size_t at = 0;
  while (at < text.size()) {
    size_t space = text.find(' ', at);
    if (space == std::string::npos) space = text.size();
    if (space > at) words.push_back(text.substr(at, space - at));
    at = space + 1;
  }
  return words;
}

// Letters and digits that look random and follow from the seed. A lost, doubled or
// moved part shows.
class Pattern {
 public:
  explicit Pattern(uint32_t seed) : state_(seed * 2654435761U + 1) {}

  char Next() {
    state_ = state_ * 1664525U + 1013904223U;
    return "abcdefghijklmnopqrstuvwxyz012345"[state_ >> 27];
  }

 private:
  uint32_t state_;
};

std::optional<size_t> ParseCount(const std::string& text) {
  size_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

void AddReply(const std::string& text, Json& out) {
  Json reply = Json::parse(text, nullptr, false);
  if (reply.is_discarded()) {
    out["text"] = text;
  } else {
    out["reply"] = reply;
  }
}

}  // namespace

Json StepClient::Do(const std::string& step) {
  auto start = std::chrono::steady_clock::now();
  Words words = Split(step);
  Json out;
  if (words.empty()) {
    out = Failed(EINVAL);
  } else {
    std::string verb = words.front();
    words.erase(words.begin());
    out = Perform(verb, words);
  }
  std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  out["step"] = step;
  out["ms"] = took.count();
  return out;
}

Json StepClient::Perform(const std::string& verb, const Words& words) {
  if (verb == "socket") return Open(words);
  if (verb == "timeout" && words.size() == 1) {
    timeout_ = std::chrono::milliseconds(std::stoi(words[0]));
    if (fd_.valid()) SetTimeouts(fd_.get(), timeout_);
    return {{"ok", true}};
  }
  if (!fd_.valid()) return Failed(EBADF);

  std::string text = words.empty() ? "" : words.back();
  if (verb == "close") {
    fd_.Reset(-1);
    return {{"ok", true}};
  }
  if (verb == "getpeername" || verb == "getsockname") return Name(verb);
  if (verb == "shutdown") return Result(shutdown(fd_.get(), SHUT_WR) == 0);
  if (verb == "disconnect") {
    sockaddr unspecified{};
    unspecified.sa_family = AF_UNSPEC;
    return Result(connect(fd_.get(), &unspecified, sizeof(unspecified)) == 0);
  }
  if (verb == "fastopen-connect") return Option(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1);
  if (verb == "tcpinfo") return TcpInfo();
  if (verb == "send") return Send(nullptr, text, 0, false);
  if (verb == "recv" || verb == "read" || verb == "recvfrom" || verb == "recvmsg") {
    return Receive(verb);
  }
  if (verb == "dont-fragment") return DontFragment();
  if (verb == "may-fragment") return Option(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
  if (verb == "mtu") return Mtu();
  if (verb == "send-bytes" || verb == "ask-bytes" || verb == "transfer") {
    std::optional<size_t> bytes = ParseCount(text);
    if (!bytes) return Failed(EINVAL);
    if (verb == "send-bytes") return Send(nullptr, NextText(*bytes), 0, false);
    return verb == "ask-bytes" ? AskBytes(nullptr, *bytes) : Transfer(*bytes);
  }
  if (verb == "ask") {
    Json sent = Send(nullptr, text, 0, false);
    return sent["ok"] == true ? Receive("recv") : sent;
  }

  std::optional<SocketAddress> address =
      words.empty() ? std::nullopt : ParseSocketAddress(words[0]);
  if (!address) return Failed(EINVAL);
  if (verb == "bind") return Result(bind(fd_.get(), address->get(), address->length) == 0);
  if (verb == "connect") {
    return Result(connect(fd_.get(), address->get(), address->length) == 0);
  }
  if (verb == "connect-nb") return ConnectNonBlocking(*address);
  if (verb == "sendto") return Send(&*address, text, 0, false);
  if (verb == "sendmsg") return Send(&*address, text, 0, true);
  if (verb == "fastopen") return Send(&*address, text, MSG_FASTOPEN, false);
  if (verb == "query-bytes") {
    std::optional<size_t> bytes = ParseCount(text);
    return bytes ? AskBytes(&*address, *bytes) : Failed(EINVAL);
  }
  if (verb == "query") {
    Json sent = Send(&*address, text, 0, false);
    return sent["ok"] == true ? Receive("recvfrom") : sent;
  }
  return Failed(EINVAL);
}

Json StepClient::Open(const Words& words) {
  std::optional<SocketKind> kind = words.empty() ? std::nullopt : ParseSocketKind(words[0]);
  if (!kind) return Failed(EINVAL);
  fd_ = OpenSocket(*kind);
  if (!fd_.valid()) return Failed(errno);
  kind_ = *kind;
  SetTimeouts(fd_.get(), timeout_);
  for (size_t i = 1; i < words.size(); ++i) {
    Json out = words[i] == "v6only"  ? Option(IPPROTO_IPV6, IPV6_V6ONLY, 1)
               : words[i] == "reuse" ? Option(SOL_SOCKET, SO_REUSEADDR, 1)
                                     : Failed(EINVAL);
    if (out["ok"] == false) return out;
  }
  return {{"ok", true}};
}

Json StepClient::ConnectNonBlocking(const SocketAddress& to) {
  int flags = fcntl(fd_.get(), F_GETFL);
  fcntl(fd_.get(), F_SETFL, flags | O_NONBLOCK);
  int error = connect(fd_.get(), to.get(), to.length) == 0 ? 0 : errno;
  std::string immediate = ErrnoName(error);
  bool timed_out = false;
  if (error == EINPROGRESS) {
    pollfd waiting{fd_.get(), POLLOUT, 0};
    if (poll(&waiting, 1, static_cast<int>(timeout_.count())) == 1) {
      socklen_t length = sizeof(error);
      getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    } else {
      timed_out = true;
    }
  }
  fcntl(fd_.get(), F_SETFL, flags);
  Json out = error == 0 ? Json{{"ok", true}} : Failed(error);
  if (timed_out) out["timeout"] = true;
  out["immediate"] = immediate;
  return out;
}

Json StepClient::Name(const std::string& verb) {
  SocketAddress address;
  int result = verb == "getpeername" ? getpeername(fd_.get(), address.get(), &address.length)
                                     : getsockname(fd_.get(), address.get(), &address.length);
  Json out = Result(result == 0);
  if (result == 0) out["address"] = ToText(address);
  return out;
}

Json StepClient::Send(const SocketAddress* to, const std::string& text, int flags,
                      bool as_message) {
  std::string payload = stream() ? text + "\n" : text;
  SocketAddress target;
  if (to != nullptr) target = *to;
  ssize_t sent;
  if (as_message) {
    iovec part{payload.data(), payload.size()};
    msghdr message{};
    message.msg_name = to != nullptr ? target.get() : nullptr;
    message.msg_namelen = to != nullptr ? target.length : 0;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    sent = sendmsg(fd_.get(), &message, MSG_NOSIGNAL | flags);
  } else {
    sent = sendto(fd_.get(), payload.data(), payload.size(), MSG_NOSIGNAL | flags,
                  to != nullptr ? target.get() : nullptr, to != nullptr ? target.length : 0);
  }
  return Result(sent == static_cast<ssize_t>(payload.size()));
}

// A stream is read up to a newline or its end, a datagram once.
Json StepClient::Receive(const std::string& verb) {
  std::string text;
  SocketAddress from;
  ssize_t n = 0;
  do {
    char buffer[65536];
    from.length = sizeof(from.storage);
    if (verb == "recvfrom") {
      n = recvfrom(fd_.get(), buffer, sizeof(buffer), 0, from.get(), &from.length);
    } else if (verb == "recvmsg") {
      iovec part{buffer, sizeof(buffer)};
      msghdr message{};
      message.msg_name = from.get();
      message.msg_namelen = from.length;
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      n = recvmsg(fd_.get(), &message, 0);
      from.length = message.msg_namelen;
    } else if (verb == "read") {
      n = read(fd_.get(), buffer, sizeof(buffer));
    } else {
      n = recv(fd_.get(), buffer, sizeof(buffer), 0);
    }
    if (n > 0) text.append(buffer, static_cast<size_t>(n));
  } while (stream() && n > 0 && text.back() != '\n');

  Json out = Result(n >= 0);
  if (n < 0) return out;
  out["bytes"] = text.size();
  if (!text.empty()) AddReply(text, out);
  if ((verb == "recvfrom" || verb == "recvmsg") && from.length > 0 && !stream()) {
    out["from"] = ToText(from);
  }
  return out;
}

Json StepClient::Option(int level, int name, int value) {
  return Result(setsockopt(fd_.get(), level, name, &value, sizeof(value)) == 0);
}

Json StepClient::TcpInfo() {
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return Failed(errno);
  char mptcp[256];
  socklen_t mptcp_length = sizeof(mptcp);
  bool is_mptcp = getsockopt(fd_.get(), SOL_MPTCP, MPTCP_INFO, mptcp, &mptcp_length) == 0;
  return {{"ok", true},
          {"synData", (info.tcpi_options & TCPI_OPT_SYN_DATA) != 0},
          {"mptcp", is_mptcp},
          {"mss", info.tcpi_snd_mss}};
}

std::string StepClient::NextText(size_t bytes) {
  Pattern pattern(seed_++);
  std::string text(bytes, ' ');
  for (char& c : text)
    c = pattern.Next();
  return text;
}

Json StepClient::AskBytes(const SocketAddress* to, size_t bytes) {
  std::string text = NextText(bytes);
  Json out = Send(to, text, 0, false);
  if (out["ok"] == false) return out;
  out = Receive(to != nullptr ? "recvfrom" : "recv");
  if (out["ok"] == false) return out;
  if (!out.contains("reply") || out["reply"].value("echo", "") != text) {
    out["ok"] = false;
    out["problem"] = "not what was sent";
  }
  // Too long to be shown.
  if (out.contains("reply")) out["reply"].erase("echo");
  out.erase("text");
  return out;
}

Json StepClient::Transfer(size_t bytes) {
  const uint32_t seed = seed_++;
  Pattern sends(seed), expects(seed);
  std::string outgoing;
  size_t made = 0, sent = 0, received = 0;
  int flags = fcntl(fd_.get(), F_GETFL);
  fcntl(fd_.get(), F_SETFL, flags | O_NONBLOCK);
  Json out = {{"ok", true}};
  while (received < bytes && out["ok"] == true) {
    pollfd waiting{fd_.get(), static_cast<short>(sent < bytes ? POLLIN | POLLOUT : POLLIN), 0};
    if (poll(&waiting, 1, static_cast<int>(timeout_.count())) == 0) {
      out = {{"ok", false}, {"errno", "ETIMEDOUT"}, {"timeout", true}};
      break;
    }
    if ((waiting.revents & POLLOUT) != 0) {
      while (made < bytes && outgoing.size() < 65536) {
        outgoing.push_back(sends.Next());
        ++made;
      }
      ssize_t n = send(fd_.get(), outgoing.data(), outgoing.size(), MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN) out = Failed(errno);
      if (n > 0) {
        outgoing.erase(0, static_cast<size_t>(n));
        sent += static_cast<size_t>(n);
      }
    }
    if ((waiting.revents & (POLLIN | POLLERR | POLLHUP)) != 0) {
      char buffer[65536];
      ssize_t n = recv(fd_.get(), buffer, sizeof(buffer), 0);
      if (n < 0 && errno != EAGAIN) out = Failed(errno);
      if (n == 0) out = {{"ok", false}, {"problem", "closed too early"}};
      for (ssize_t i = 0; i < n; ++i, ++received) {
        if (buffer[i] == expects.Next()) continue;
        out = {{"ok", false}, {"problem", "another byte at " + std::to_string(received)}};
        break;
      }
    }
  }
  fcntl(fd_.get(), F_SETFL, flags);
  out["sent"] = sent;
  out["bytes"] = received;
  return out;
}

Json StepClient::DontFragment() {
  if (kind_.family == AF_INET) return Option(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
  Json out = Option(IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
  return out["ok"] == true ? Option(IPPROTO_IPV6, IPV6_DONTFRAG, 1) : out;
}

Json StepClient::Mtu() {
  int value = 0;
  socklen_t length = sizeof(value);
  int result = kind_.family == AF_INET
                   ? getsockopt(fd_.get(), IPPROTO_IP, IP_MTU, &value, &length)
                   : getsockopt(fd_.get(), IPPROTO_IPV6, IPV6_MTU, &value, &length);
  Json out = Result(result == 0);
  if (result == 0) out["mtu"] = value;
  return out;
}

int RunSteps() {
  StepClient client;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout << client.Do(line).dump() << std::endl;
  }
  return 0;
}

}  // namespace waggle::lab
