#include "userspace/http/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "userspace/http/exchange.h"
#include "userspace/os/errno_status.h"
#include "userspace/os/unique_fd.h"

namespace waggle::http {
namespace {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;

constexpr int kBacklog = 1024;
// So many are accepted, or so many bytes read from one, before others have their turn.
constexpr int kAcceptAtOnce = 32;
constexpr size_t kReadAtOnce = size_t{8} << 10;
constexpr std::chrono::milliseconds kOutOfDescriptors{50};

net::Address Unspecified(net::Family family) {
  return *net::Address::Parse(family == net::Family::kIpv4 ? "0.0.0.0" : "::");
}

bool IsUnspecified(const net::Address& address) {
  return address == Unspecified(address.family());
}

os::UniqueFd NewSocket(net::Family family) {
  return os::UniqueFd(socket(family == net::Family::kIpv4 ? AF_INET : AF_INET6,
                             SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
}

absl::StatusOr<os::UniqueFd> Listen(const net::Endpoint& at) {
  const bool v4 = at.address.family() == net::Family::kIpv4;
  os::UniqueFd fd = NewSocket(at.address.family());
  if (!fd) return os::ErrnoStatus(errno, "socket");
  const int one = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  sockaddr_storage address{};
  socklen_t size = 0;
  const auto& bytes = at.address.bytes();
  if (v4) {
    auto* in = reinterpret_cast<sockaddr_in*>(&address);
    in->sin_family = AF_INET;
    in->sin_port = htons(at.port);
    std::memcpy(&in->sin_addr, bytes.data() + 12, 4);
    size = sizeof(*in);
  } else {
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    auto* in = reinterpret_cast<sockaddr_in6*>(&address);
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(at.port);
    std::memcpy(&in->sin6_addr, bytes.data(), 16);
    size = sizeof(*in);
  }
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    return os::ErrnoStatus(errno, "bind");
  }
  if (listen(fd.get(), kBacklog) != 0) return os::ErrnoStatus(errno, "listen");
  return fd;
}

}  // namespace

bool CanListen(net::Family family) {
  return static_cast<bool>(NewSocket(family));
}

std::vector<net::Endpoint> WithBothFamilies(const net::Endpoint& at) {
  if (!IsUnspecified(at.address)) return {at};
  std::vector<net::Endpoint> both;
  for (const net::Family family : {net::Family::kIpv4, net::Family::kIpv6}) {
    if (CanListen(family)) both.push_back({Unspecified(family), at.port});
  }
  return both;
}

class Server::Loop {
 public:
  explicit Loop(const Times& times) : times_(times) {}
  ~Loop() {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    Wake();
    thread_.join();
  }

  absl::Status Start(std::vector<Site> sites) {
    epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
    wake_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!epoll_ || !wake_) return os::ErrnoStatus(errno, "HTTP server");
    if (absl::Status status = Watch(wake_.get(), EPOLLIN, EPOLL_CTL_ADD); !status.ok()) {
      return status;
    }
    Apply(std::move(sites));
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "waggle-http");
      Run();
    });
    return absl::OkStatus();
  }

  void SetSites(std::vector<Site> sites) {
    {
      const std::lock_guard lock(mutex_);
      wanted_ = std::move(sites);
    }
    Wake();
  }

  std::vector<SiteNews> TakeNews() {
    const std::lock_guard lock(mutex_);
    return std::exchange(news_, {});
  }

 private:
  struct Listener {
    std::string name;
    Handler handler;
    os::UniqueFd fd;  // none while it cannot listen
    std::string error;
    bool told = false;
  };
  enum class State : uint8_t { kReceiving, kAnswering, kLeaving };
  struct Connection {
    os::UniqueFd fd;
    net::Endpoint at;
    State state = State::kReceiving;
    Time deadline;
    std::string buffer;  // what came, then what is to be sent
    size_t sent = 0;
  };
  using Connections = std::list<Connection>;  // oldest first

  void Wake() {
    const uint64_t one = 1;
    // Fails only when the counter is full, and then the thread is awake anyway.
    [[maybe_unused]] const ssize_t ignored = write(wake_.get(), &one, sizeof(one));
  }

  absl::Status Watch(int fd, uint32_t events, int operation) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (epoll_ctl(epoll_.get(), operation, fd, &event) == 0) return absl::OkStatus();
    return os::ErrnoStatus(errno, "epoll_ctl");
  }

  // ---- Sites.

  void Apply(std::vector<Site> sites) {
    std::map<net::Endpoint, Listener> before = std::exchange(listeners_, {});
    for (Site& site : sites) {
      if (listeners_.contains(site.at)) continue;
      const auto found = before.find(site.at);
      Listener& listener = listeners_[site.at];
      if (found != before.end()) listener = std::move(found->second);
      if (listener.name != site.name) listener.told = false;
      listener.name = std::move(site.name);
      listener.handler = std::move(site.handler);
    }
    // What is gone is closed first, as an address may have been taken over.
    before.clear();
    by_fd_.clear();
    for (const auto& [at, listener] : listeners_) {
      if (listener.fd) by_fd_[listener.fd.get()] = at;
    }
    Bind();
  }

  // Whatever does not listen yet.
  void Bind() {
    bind_again_.reset();
    for (auto& [at, listener] : listeners_) {
      if (listener.fd) continue;
      absl::StatusOr<os::UniqueFd> fd = Listen(at);
      absl::Status status = fd.status();
      if (status.ok()) status = Watch(fd->get(), EPOLLIN, EPOLL_CTL_ADD);
      if (status.ok()) {
        by_fd_[fd->get()] = at;
        listener.fd = *std::move(fd);
      } else {
        bind_again_ = Clock::now() + times_.bind_again;
      }
      Tell(at, &listener, status);
    }
  }

  void Tell(const net::Endpoint& at, Listener* listener, const absl::Status& status) {
    const std::string error(status.message());
    if (listener->told && listener->error == error) return;
    listener->told = true;
    listener->error = error;
    const std::lock_guard lock(mutex_);
    news_.push_back({listener->name, at, status});
  }

  // ---- Connections.

  void Accept(int listener_fd, const net::Endpoint& at) {
    for (int i = 0; i < kAcceptAtOnce; ++i) {
      os::UniqueFd fd(accept4(listener_fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!fd) {
        if (errno == ECONNABORTED || errno == EINTR) continue;
        if (errno == EAGAIN) return;
        // No descriptor or memory is left.
        if (connections_.empty()) {
          poll(nullptr, 0, static_cast<int>(kOutOfDescriptors.count()));
        } else {
          Close(connections_.begin());
        }
        return;
      }
      if (connections_.size() >= kMaxConnections) Close(connections_.begin());
      const int one = 1;
      setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
      const int number = fd.get();
      if (!Watch(number, EPOLLIN, EPOLL_CTL_ADD).ok()) continue;
      connections_.push_back(
          {std::move(fd), at, State::kReceiving, Clock::now() + times_.request, std::string(), 0});
      connection_by_fd_[number] = std::prev(connections_.end());
    }
  }

  void Close(Connections::iterator connection) {
    connection_by_fd_.erase(connection->fd.get());
    connections_.erase(connection);
  }

  // By a reset: what the client does not take shall not stay in the kernel either.
  void Abort(Connections::iterator connection) {
    const linger now = {1, 0};
    setsockopt(connection->fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    Close(connection);
  }

  void Serve(Connections::iterator connection) {
    switch (connection->state) {
      case State::kReceiving:
        return Receive(connection);
      case State::kAnswering:
        return Send(connection);
      case State::kLeaving:
        return Discard(connection);
    }
  }

  void Receive(Connections::iterator connection) {
    std::array<char, kReadAtOnce> chunk{};
    const ssize_t got = recv(connection->fd.get(), chunk.data(), chunk.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return Close(connection);
    std::string& buffer = connection->buffer;
    buffer.append(chunk.data(), static_cast<size_t>(got));
    const size_t head = HeadSize(buffer);
    if (head == 0 && buffer.size() <= kMaxHead) return;
    if (head == 0 || head > kMaxHead) {
      buffer = Refusal(431, "Request Header Fields Too Large");
    } else {
      const auto listener = listeners_.find(connection->at);
      // Its site was closed meanwhile.
      if (listener == listeners_.end()) return Close(connection);
      buffer = Answer(std::string_view(buffer).substr(0, head), connection->at,
                      listener->second.handler);
    }
    connection->state = State::kAnswering;
    connection->deadline = Clock::now() + times_.answer;
    Send(connection);
  }

  void Send(Connections::iterator connection) {
    while (connection->sent < connection->buffer.size()) {
      const ssize_t sent = send(connection->fd.get(), connection->buffer.data() + connection->sent,
                                connection->buffer.size() - connection->sent, MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno == EAGAIN) {
        if (!Watch(connection->fd.get(), EPOLLOUT, EPOLL_CTL_MOD).ok()) Close(connection);
        return;
      }
      if (sent < 0) return Close(connection);
      connection->sent += static_cast<size_t>(sent);
    }
    // To close while something waits to be read would throw the answer away on the other side.
    shutdown(connection->fd.get(), SHUT_WR);
    connection->state = State::kLeaving;
    connection->deadline = Clock::now() + times_.farewell;
    connection->buffer.clear();
    connection->buffer.shrink_to_fit();
    if (!Watch(connection->fd.get(), EPOLLIN, EPOLL_CTL_MOD).ok()) return Close(connection);
    Discard(connection);
  }

  void Discard(Connections::iterator connection) {
    std::array<char, kReadAtOnce> chunk{};
    const ssize_t got = recv(connection->fd.get(), chunk.data(), chunk.size(), 0);
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) return;
    Close(connection);
  }

  // ---- The thread.

  // Closes what is over its time. Returns the milliseconds until the next is; -1: none.
  int Expire() {
    const Time now = Clock::now();
    if (bind_again_ && *bind_again_ <= now) Bind();
    std::optional<Time> next = bind_again_;
    for (auto connection = connections_.begin(); connection != connections_.end();) {
      const auto each = connection++;
      if (each->deadline <= now) {
        Abort(each);
      } else if (!next || each->deadline < *next) {
        next = each->deadline;
      }
    }
    if (!next) return -1;
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(*next - now);
    return static_cast<int>(std::max<int64_t>(wait.count(), 0));
  }

  // False: it is time to stop.
  bool Woken() {
    uint64_t count = 0;
    // Before the lock: what comes in between wakes again.
    [[maybe_unused]] const ssize_t ignored = read(wake_.get(), &count, sizeof(count));
    std::optional<std::vector<Site>> sites;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return false;
      sites = std::exchange(wanted_, std::nullopt);
    }
    if (sites) Apply(*std::move(sites));
    return true;
  }

  void Run() {
    while (true) {
      std::array<epoll_event, 64> events{};
      const int count = epoll_wait(epoll_.get(), events.data(), events.size(), Expire());
      // What an event is of may be closed, and its number another's, by an earlier one: nothing
      // here blocks, so that the other one is only asked in vain.
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<size_t>(i)].data.fd;
        if (fd == wake_.get()) {
          if (!Woken()) return;
        } else if (const auto listener = by_fd_.find(fd); listener != by_fd_.end()) {
          Accept(fd, listener->second);
        } else if (const auto found = connection_by_fd_.find(fd);
                   found != connection_by_fd_.end()) {
          Serve(found->second);
        }
      }
    }
  }

  const Times times_;
  os::UniqueFd epoll_;
  os::UniqueFd wake_;
  // Of the thread, once it runs.
  std::map<net::Endpoint, Listener> listeners_;
  std::unordered_map<int, net::Endpoint> by_fd_;  // those that listen
  Connections connections_;
  std::unordered_map<int, Connections::iterator> connection_by_fd_;
  std::optional<Time> bind_again_;
  // Shared.
  std::mutex mutex_;
  bool stopping_ = false;
  std::optional<std::vector<Site>> wanted_;
  std::vector<SiteNews> news_;

  std::thread thread_;
};

Server::Server(const Times& times) : loop_(std::make_unique<Loop>(times)) {}
Server::~Server() = default;

absl::Status Server::Start(std::vector<Site> sites) {
  return loop_->Start(std::move(sites));
}
void Server::SetSites(std::vector<Site> sites) {
  loop_->SetSites(std::move(sites));
}
std::vector<SiteNews> Server::TakeNews() {
  return loop_->TakeNews();
}

}  // namespace waggle::http
