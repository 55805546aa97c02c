#include "tests/lab/peer/serve.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/lab/peer/sockets.h"

namespace waggle::lab {
namespace {

constexpr size_t kMaxDatagram = 65536;
// An echo that nobody reads stops reading.
constexpr size_t kMaxUnsent = 1 << 18;

struct Connection {
  Fd fd;
  std::string peer;
  std::string local;
  std::string pending;  // lines: received, no newline yet; echo: not sent yet
  size_t bytes = 0;
  bool echo = false;
  bool eof = false;
};

class Server {
 public:
  explicit Server(const ServeOptions& options) : options_(options) {}

  int Run() {
    epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
    for (const std::string& listen : options_.listen) {
      if (!Listen(listen)) {
        std::fprintf(stderr, "%s: %s\n", listen.c_str(), ErrnoName(errno).c_str());
        return 1;
      }
    }
    std::puts("ready");
    std::fflush(stdout);
    while (true) {
      epoll_event events[64];
      int n = epoll_wait(epoll_.get(), events, 64, -1);
      for (int i = 0; i < n; ++i)
        Handle(events[i].data.fd, events[i].events);
    }
  }

 private:
  bool Listen(const std::string& text) {
    size_t colon = text.find(':');
    if (colon == std::string::npos) return Invalid();
    std::string protocol = text.substr(0, colon);
    bool v6only = protocol.ends_with("6only");
    if (v6only) protocol.resize(protocol.size() - 5);
    bool echo = protocol == "echo";
    if (echo) protocol = "tcp";
    std::optional<SocketAddress> address = ParseSocketAddress(text.substr(colon + 1));
    if (!address) return Invalid();
    std::optional<SocketKind> kind =
        ParseSocketKind(protocol + (address->family() == AF_INET6 ? "6" : "4"));
    if (!kind) return Invalid();
    Fd fd = OpenSocket(*kind);
    if (!fd.valid()) return false;
    int on = 1, backlog = 1024, only = v6only ? 1 : 0;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (kind->family == AF_INET6) {
      setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
    }
    if (bind(fd.get(), address->get(), address->length) != 0) return false;
    if (kind->type == SOCK_STREAM) {
      setsockopt(fd.get(), IPPROTO_TCP, TCP_FASTOPEN, &backlog, sizeof(backlog));
      if (listen(fd.get(), backlog) != 0) return false;
    }
    Watch(fd.get(), EPOLLIN, EPOLL_CTL_ADD);
    if (kind->type == SOCK_STREAM) {
      listeners_.emplace(fd.get(), echo);
    } else {
      datagrams_.emplace(fd.get(), ToText(*address));
    }
    sockets_.push_back(std::move(fd));
    return true;
  }

  static bool Invalid() {
    errno = EINVAL;
    return false;
  }

  void Watch(int fd, uint32_t events, int operation) const {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    epoll_ctl(epoll_.get(), operation, fd, &event);
  }

  void Handle(int fd, uint32_t events) {
    if (auto at = listeners_.find(fd); at != listeners_.end()) return Accept(fd, at->second);
    if (auto at = datagrams_.find(fd); at != datagrams_.end()) return Answer(fd, at->second);
    Connection& connection = connections_.at(fd);
    if (connection.echo) {
      if (!EchoBack(connection, events)) connections_.erase(fd);
      return;
    }
    Receive(fd);
  }

  nlohmann::ordered_json Identity(const std::string& peer, const std::string& local) const {
    return {{"name", options_.name}, {"peer", peer}, {"local", local}};
  }

  void Accept(int listener, bool echo) {
    SocketAddress peer, local;
    Fd fd(accept4(listener, peer.get(), &peer.length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) return;  // the client was faster than we: gone already
    getsockname(fd.get(), local.get(), &local.length);
    int number = fd.get();
    Watch(number, EPOLLIN, EPOLL_CTL_ADD);
    Connection connection{std::move(fd), ToText(peer), ToText(local), "", 0, echo, false};
    if (echo) Send(number, Identity(connection.peer, connection.local));
    connections_[number] = std::move(connection);
  }

  // Reads as long as what is not sent yet stays small. False: the connection is over.
  bool EchoBack(Connection& connection, uint32_t events) const {
    int fd = connection.fd.get();
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !connection.eof &&
        connection.pending.size() < kMaxUnsent) {
      char buffer[65536];
      ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
      if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
      if (n > 0) connection.pending.append(buffer, static_cast<size_t>(n));
      if (n == 0) connection.eof = true;
    }
    if (!connection.pending.empty()) {
      ssize_t n = send(fd, connection.pending.data(), connection.pending.size(), MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
      if (n > 0) connection.pending.erase(0, static_cast<size_t>(n));
    }
    if (connection.eof && connection.pending.empty()) return false;
    bool may_read = !connection.eof && connection.pending.size() < kMaxUnsent;
    Watch(fd, (may_read ? EPOLLIN : 0U) | (connection.pending.empty() ? 0U : EPOLLOUT),
          EPOLL_CTL_MOD);
    return true;
  }

  void Answer(int fd, const std::string& local) const {
    char buffer[kMaxDatagram];
    SocketAddress peer;
    ssize_t n = recvfrom(fd, buffer, sizeof(buffer), MSG_DONTWAIT, peer.get(), &peer.length);
    if (n < 0) return;  // an ICMP error of an earlier answer, or a spoilt checksum
    nlohmann::ordered_json reply = Identity(ToText(peer), local);
    reply["echo"] = std::string(buffer, static_cast<size_t>(n));
    std::string text = reply.dump();
    sendto(fd, text.data(), text.size(), MSG_NOSIGNAL, peer.get(), peer.length);
  }

  void Receive(int fd) {
    Connection& connection = connections_.at(fd);
    char buffer[4096];
    ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) {
      connection.bytes += static_cast<size_t>(n);
      connection.pending.append(buffer, static_cast<size_t>(n));
      size_t newline;
      while ((newline = connection.pending.find('\n')) != std::string::npos) {
        nlohmann::ordered_json reply = Identity(connection.peer, connection.local);
        std::string line = connection.pending.substr(0, newline);
        reply["echo"] = line;
        connection.pending.erase(0, newline + 1);
        Send(fd, reply);
        if (line == "bye") {
          connections_.erase(fd);
          return;
        }
      }
      return;
    }
    if (n == 0) {
      nlohmann::ordered_json reply = Identity(connection.peer, connection.local);
      reply["eof"] = true;
      reply["bytes"] = connection.bytes;
      Send(fd, reply);
    }
    connections_.erase(fd);
  }

  static void Send(int fd, const nlohmann::ordered_json& reply) {
    std::string text = reply.dump() + "\n";
    send(fd, text.data(), text.size(), MSG_NOSIGNAL);
  }

  const ServeOptions& options_;
  Fd epoll_;
  std::vector<Fd> sockets_;
  std::map<int, bool> listeners_;  // whether what they accept is echoed
  std::map<int, std::string> datagrams_;
  std::map<int, Connection> connections_;
};

}  // namespace

int Serve(const ServeOptions& options) {
  return Server(options).Run();
}

}  // namespace waggle::lab
