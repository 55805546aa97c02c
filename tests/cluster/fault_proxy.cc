#include "tests/cluster/fault_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/lab/lab.h"

namespace waggle::cluster {
namespace {

using Kind = Fault::Kind;
using std::chrono::milliseconds;

// How soon a link that rests sees that a fault has begun.
constexpr int kTickMs = 20;
constexpr std::string_view kEventStart = R"({"type":")";
constexpr char kHeadEnd[] = "\r\n\r\n";

template <typename T, void (*Free)(T*)>
struct Deleter {
  void operator()(T* value) const { Free(value); }
};
using Ssl = std::unique_ptr<SSL, Deleter<SSL, SSL_free>>;
using Context = std::unique_ptr<SSL_CTX, Deleter<SSL_CTX, SSL_CTX_free>>;

Context ServerContext(const Certificate& certificate) {
  Context context(SSL_CTX_new(TLS_server_method()));
  if (SSL_CTX_use_certificate_chain_file(context.get(), certificate.cert.c_str()) != 1 ||
      SSL_CTX_use_PrivateKey_file(context.get(), certificate.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    lab::Fail("fault proxy: " + certificate.cert);
  }
  return context;
}

os::UniqueFd Listen(uint16_t* port) {
  os::UniqueFd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_any;
  socklen_t size = sizeof(address);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  const int both = 0;
  if (setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &both, sizeof(both)) != 0 ||
      bind(fd.get(), any, size) != 0 || listen(fd.get(), 64) != 0 ||
      getsockname(fd.get(), any, &size) != 0) {
    lab::Fail("fault proxy: listen");
  }
  *port = ntohs(address.sin6_port);
  return fd;
}

// Bytes leave at once, and nobody who is gone is waited for for ever.
void Prepare(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  const timeval patience{30, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

std::string StatusAnswer(const Fault& fault) {
  const std::string body = absl::StrCat(
      R"({"kind":"Status","apiVersion":"v1","status":"Failure","message":"by order","code":)",
      fault.status, "}");
  return absl::StrCat(
      "HTTP/1.1 ", fault.status, " Fault\r\nContent-Type: application/json\r\n",
      fault.retry_after_s > 0 ? absl::StrCat("Retry-After: ", fault.retry_after_s, "\r\n") : "",
      "Content-Length: ", body.size(), kHeadEnd, body);
}

// One whole HTTP answer from the first chunk of `data`, which ends in its middle; empty where
// `data` does not begin with a chunk of an event.
std::string EndInside(const std::string& data) {
  size_t size = 0;
  const char* const all = data.data() + data.size();
  const auto [end, error] = std::from_chars(data.data(), all, size, 16);
  const std::string_view rest(end, static_cast<size_t>(all - end));
  if (error != std::errc() || !rest.starts_with("\r\n{")) return "";
  const std::string half(rest.substr(2, std::min(size, rest.size()) / 2));
  return absl::StrCat(absl::Hex(half.size()), "\r\n", half, "\r\n0", kHeadEnd);
}

// Garbles events that begin in `data`. False: none does.
bool Garble(std::string* data) {
  bool any = false;
  for (size_t at = 0; (at = data->find(kEventStart, at)) != std::string::npos;) {
    for (size_t i = 0; i < kEventStart.size(); ++i)
      (*data)[at++] = static_cast<char>(0x80 + 17 * i);
    any = true;
  }
  return any;
}

}  // namespace

// A connection of an agent, and the one to the apiserver that belongs to it.
class FaultProxy::Link {
 public:
  Link(FaultProxy* owner, os::UniqueFd fd)
      : owner_(*owner), client_fd_(std::move(fd)), thread_([this] { Run(); }) {}
  ~Link() { thread_.join(); }

  // With the owner's mutex.
  bool Follows(std::set<std::string>* resources, Clock::time_point since) const {
    if (!answered_ || *answered_ > since) return false;
    resources->insert(resource_);
    return true;
  }

 private:
  // What a step says of the connection.
  enum class Then { kGoOn, kClose, kReset };

  void Run() {
    // OpenSSL writes to sockets that may be closed on the other side.
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, nullptr);

    Prepare(client_fd_.get());
    if (Serve() == Then::kReset) {
      const linger at_once{1, 0};
      setsockopt(client_fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    } else if (client_ != nullptr) {
      SSL_shutdown(client_.get());
    }
    Forget();
    client_.reset();
    server_.reset();
    client_fd_.Reset();
    server_fd_.Reset();
  }

  Then Serve() {
    std::unique_lock lock(owner_.mutex_);
    born_ = owner_.epoch_;
    if (!AwaitSound(&lock)) return Then::kReset;
    const Fault fault = owner_.fault_;
    born_ = owner_.epoch_;
    lock.unlock();
    const bool wrong = fault.kind == Kind::kCertificate;
    const Context context = ServerContext(wrong ? fault.certificate : owner_.certificate_);
    if (!Readable(client_fd_.get())) return Then::kReset;
    client_.reset(SSL_new(context.get()));
    SSL_set_fd(client_.get(), client_fd_.get());
    if (SSL_accept(client_.get()) != 1) {
      client_.reset();
      if (wrong) owner_.Strike("");
      return Then::kClose;
    }
    while (true) {
      const Then then = Step();
      if (then != Then::kGoOn) return then;
    }
  }

  // Waits where the proxy is silent. False: it ends.
  bool AwaitSound(std::unique_lock<std::mutex>* lock) {
    while (!owner_.stopping_ && owner_.fault_.kind == Kind::kSilent) {
      answered_.reset();
      ++owner_.strikes_;
      if (!resource_.empty()) owner_.struck_.insert(resource_);
      const uint64_t epoch = owner_.epoch_;
      owner_.changed_.wait(*lock, [&] { return owner_.stopping_ || owner_.epoch_ != epoch; });
    }
    return !owner_.stopping_;
  }

  Then Step() {
    Fault fault;
    {
      std::unique_lock lock(owner_.mutex_);
      if (!AwaitSound(&lock)) return Then::kReset;
      fault = owner_.fault_;
      const bool cuts = fault.kind == Kind::kStatus || fault.kind == Kind::kCertificate;
      if (cuts && born_ != owner_.epoch_) return Then::kReset;
    }
    pollfd polls[2] = {{client_fd_.get(), POLLIN, 0}, {server_fd_.get(), POLLIN, 0}};
    const bool pending =
        SSL_pending(client_.get()) > 0 || (server_ != nullptr && SSL_pending(server_.get()) > 0);
    if (poll(polls, server_ == nullptr ? 1 : 2, pending ? 0 : kTickMs) < 0) return Then::kGoOn;
    if (SSL_pending(client_.get()) > 0 || polls[0].revents != 0) {
      if (!TakeRequests(fault)) return Then::kClose;
    }
    if (server_ == nullptr) return Then::kGoOn;
    if (SSL_pending(server_.get()) > 0 || polls[1].revents != 0) return TakeAnswer(fault);
    return Then::kGoOn;
  }

  // Waits for the first bytes; false when it is time to stop.
  bool Readable(int fd) {
    while (true) {
      pollfd one = {fd, POLLIN, 0};
      if (poll(&one, 1, kTickMs) > 0) return true;
      const std::lock_guard lock(owner_.mutex_);
      if (owner_.stopping_) return false;
    }
  }

  bool TakeRequests(const Fault& fault) {
    std::array<char, size_t{16} << 10> buffer;
    size_t got = 0;
    if (SSL_read_ex(client_.get(), buffer.data(), buffer.size(), &got) != 1) return false;
    requests_.append(buffer.data(), got);
    for (size_t end; (end = requests_.find(kHeadEnd)) != std::string::npos;) {
      const std::string request = requests_.substr(0, end + sizeof(kHeadEnd) - 1);
      requests_.erase(0, request.size());
      Note(request);
      if (fault.kind == Kind::kStatus) {
        owner_.Strike(resource_);
        if (!Tell(StatusAnswer(fault))) return false;
        continue;
      }
      if (server_ == nullptr && !Connect()) return false;
      size_t written = 0;
      if (SSL_write_ex(server_.get(), request.data(), request.size(), &written) != 1) return false;
    }
    return true;
  }

  // "GET /api/v1/services?…&watch=true&… HTTP/1.1"
  void Note(const std::string& request) {
    const std::string target = request.substr(0, request.find(" HTTP/"));
    const size_t query = target.find('?');
    const size_t slash = target.rfind('/', query);
    const std::lock_guard lock(owner_.mutex_);
    resource_ = target.substr(slash + 1, query - slash - 1);
    watches_ = target.find("watch=true") != std::string::npos &&
               target.find("sendInitialEvents") == std::string::npos;
    answered_.reset();
  }

  Then TakeAnswer(const Fault& fault) {
    std::array<char, size_t{16} << 10> buffer;
    size_t got = 0;
    if (SSL_read_ex(server_.get(), buffer.data(), buffer.size(), &got) != 1) return Then::kClose;
    std::string data(buffer.data(), got);
    const std::string half = data.substr(0, data.size() / 2);
    switch (fault.kind) {
      case Kind::kCut:
        owner_.Strike(resource_);
        Tell(half);
        return Then::kReset;
      case Kind::kTruncated:
        owner_.Strike(resource_);
        Tell(half);
        return Then::kClose;
      case Kind::kEndsEarly: {
        const std::string whole = EndInside(data);
        if (whole.empty()) break;
        owner_.Strike(resource_);
        Tell(whole);
        return Then::kClose;
      }
      case Kind::kGarbage:
        if (Garble(&data)) owner_.Strike(resource_);
        break;
      case Kind::kSlow:
        owner_.Strike(resource_);
        return TellSlowly(data) ? Then::kGoOn : Then::kClose;
      default:
        break;
    }
    if (data.starts_with("HTTP/1.1 200") && watches_) {
      const std::lock_guard lock(owner_.mutex_);
      answered_ = Clock::now();
    }
    return Tell(data) ? Then::kGoOn : Then::kClose;
  }

  bool Tell(std::string_view data) {
    size_t written = 0;
    return data.empty() || SSL_write_ex(client_.get(), data.data(), data.size(), &written) == 1;
  }

  // Byte by byte until the fault is over, and then the rest.
  bool TellSlowly(std::string_view data) {
    while (!data.empty()) {
      if (!Tell(data.substr(0, 1))) return false;
      data.remove_prefix(1);
      std::unique_lock lock(owner_.mutex_);
      const uint64_t epoch = owner_.epoch_;
      const bool over = owner_.changed_.wait_for(lock, std::chrono::seconds(1), [&] {
        return owner_.stopping_ || owner_.epoch_ != epoch;
      });
      if (over) break;
    }
    return Tell(data);
  }

  bool Connect() {
    server_fd_.Reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    Prepare(server_fd_.get());
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(owner_.apiserver_port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(server_fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      return false;
    }
    const Context context(SSL_CTX_new(TLS_client_method()));
    server_.reset(SSL_new(context.get()));
    SSL_set_fd(server_.get(), server_fd_.get());
    return SSL_connect(server_.get()) == 1;
  }

  void Forget() {
    const std::lock_guard lock(owner_.mutex_);
    answered_.reset();
  }

  FaultProxy& owner_;
  os::UniqueFd client_fd_, server_fd_;
  Ssl client_, server_;
  uint64_t born_ = 0;     // the epoch in which it was accepted
  std::string requests_;  // bytes that are no whole one yet
  // With the owner's mutex: others ask.
  std::string resource_;
  bool watches_ = false;
  std::optional<Clock::time_point> answered_;
  std::thread thread_;
};

FaultProxy::FaultProxy(const Certificate& certificate, uint16_t apiserver_port)
    : certificate_(certificate),
      apiserver_port_(apiserver_port),
      listener_(Listen(&port_)),
      stop_fd_(eventfd(0, EFD_CLOEXEC)),
      acceptor_([this] { Accept(); }) {}

FaultProxy::~FaultProxy() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(stop_fd_.get(), &one, sizeof(one));
  acceptor_.join();
  links_.clear();
}

void FaultProxy::Accept() {
  while (true) {
    pollfd polls[2] = {{listener_.get(), POLLIN, 0}, {stop_fd_.get(), POLLIN, 0}};
    if (poll(polls, 2, -1) < 0) continue;
    if (polls[1].revents != 0) return;
    os::UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) continue;
    const std::lock_guard lock(mutex_);
    ++connections_;
    links_.emplace_back(this, std::move(fd));
  }
}

void FaultProxy::Strike(const std::string& resource) {
  const std::lock_guard lock(mutex_);
  ++strikes_;
  if (!resource.empty()) struck_.insert(resource);
}

void FaultProxy::Begin(const Fault& fault) {
  {
    const std::lock_guard lock(mutex_);
    fault_ = fault;
    ++epoch_;
    strikes_ = 0;
    struck_.clear();
  }
  changed_.notify_all();
}

void FaultProxy::End() {
  {
    const std::lock_guard lock(mutex_);
    fault_ = {};
    ++epoch_;
    ended_ = Clock::now();
  }
  changed_.notify_all();
}

size_t FaultProxy::strikes() const {
  const std::lock_guard lock(mutex_);
  return strikes_;
}

std::set<std::string> FaultProxy::struck() const {
  const std::lock_guard lock(mutex_);
  return struck_;
}

std::set<std::string> FaultProxy::Following(milliseconds age) const {
  const std::lock_guard lock(mutex_);
  std::set<std::string> resources;
  const Clock::time_point since = Clock::now() - age;
  if (ended_ > since) return resources;
  for (const Link& link : links_)
    link.Follows(&resources, since);
  return resources;
}

size_t FaultProxy::connections() const {
  const std::lock_guard lock(mutex_);
  return connections_;
}

}  // namespace waggle::cluster
