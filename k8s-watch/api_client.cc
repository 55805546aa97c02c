#include "k8s-watch/api_client.h"

#include <httplib.h>

#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "k8s-watch/connection.h"

namespace waggle::k8s {
namespace {

constexpr std::chrono::seconds kConnectTime{15};
// Whoever is let in, and others, may ask for it, and it costs nothing.
constexpr char kVersion[] = "/version";
constexpr std::chrono::seconds kWaitEvery{1};
constexpr std::chrono::seconds kAskerRests{60};
// The most that may come before the body, or between two pieces of it: httplib reads lines
// of any length.
constexpr size_t kMaxOverhead = size_t{64} << 10;
// A line before the body: httplib matches the first one with std::regex, whose recursion is as
// deep as the line is long.
constexpr size_t kMaxHeadLine = size_t{8} << 10;

// What httplib reads from and writes to. Keeps the first error.
class ConnectionStream final : public httplib::Stream {
 public:
  // `on_wait` and `on_pause` as of ResponseReader; `on_bytes`: some have come.
  ConnectionStream(Connection* connection, std::function<absl::Status()> on_wait,
                   std::function<void()> on_pause, std::function<void()> on_bytes,
                   absl::Status* status)
      : connection_(connection),
        on_wait_(std::move(on_wait)),
        on_pause_(std::move(on_pause)),
        on_bytes_(std::move(on_bytes)),
        status_(status) {}

  bool is_readable() const override { return true; }
  bool is_writable() const override { return true; }
  ssize_t read(char* to, size_t size) override {
    if (begin_ == end_) {
      if (!status_->ok()) return -1;
      const auto wait = [this] {
        last_wait_ = std::chrono::steady_clock::now();
        return on_wait_();
      };
      auto got = connection_->Read(buffer_.data(), buffer_.size(), on_pause_, wait);
      if (!got.ok()) {
        *status_ = got.status();
        return -1;
      }
      if (*got > 0) on_bytes_();
      // That bytes come is no reason not to look at the time, and whether to stop.
      if (std::chrono::steady_clock::now() - last_wait_ >= kWaitEvery) {
        if (*status_ = connection_->CheckStop(); !status_->ok()) return -1;
        if (*status_ = wait(); !status_->ok()) return -1;
      }
      begin_ = 0;
      end_ = *got;
    }
    const size_t given = std::min(size, end_ - begin_);
    overhead_ += given;
    if (overhead_ > kMaxOverhead) {
      *status_ = absl::UnavailableError("the answer's headers, or those of a chunk, are too long");
      return -1;
    }
    std::memcpy(to, buffer_.data() + begin_, given);
    if (!head_came_ && !CheckLine({to, given})) return -1;
    begin_ += given;
    return static_cast<ssize_t>(given);
  }
  ssize_t write(const char* from, size_t size) override {
    if (status_->ok()) *status_ = connection_->Write(from, size);
    return status_->ok() ? static_cast<ssize_t>(size) : -1;
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    ip.clear();
    port = 0;
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    get_remote_ip_and_port(ip, port);
  }
  socket_t socket() const override { return connection_->fd(); }

  // The head, or a part of the body, has been handed on.
  void BodyCame() {
    overhead_ = 0;
    head_came_ = true;
  }

 private:
  bool CheckLine(std::string_view bytes) {
    const size_t end = bytes.rfind('\n');
    line_ = end == std::string_view::npos ? line_ + bytes.size() : bytes.size() - end - 1;
    if (line_ <= kMaxHeadLine) return true;
    *status_ = absl::UnavailableError("a line of the answer's head is too long");
    return false;
  }

  Connection* const connection_;
  const std::function<absl::Status()> on_wait_;
  const std::function<void()> on_pause_;
  const std::function<void()> on_bytes_;
  absl::Status* const status_;
  // As much as one TLS record brings.
  std::array<char, size_t{16} << 10> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t overhead_ = 0;
  bool head_came_ = false;
  size_t line_ = 0;  // bytes of the head since the last line ended
  std::chrono::steady_clock::time_point last_wait_ = std::chrono::steady_clock::now();
};

// Whether there is an answer at all, of whatever status.
class AnyAnswer final : public ResponseReader {
 public:
  explicit AnyAnswer(Deadline deadline) : deadline_(deadline) {}

  // Some hundred bytes, which are read so that the connection can be used again.
  absl::Status OnHead(const ResponseHead&) override {
    came_ = true;
    return absl::OkStatus();
  }
  absl::Status OnData(std::string_view) override { return absl::OkStatus(); }
  void OnPause() override {}
  absl::Status OnWait() override {
    if (std::chrono::steady_clock::now() < deadline_) return absl::OkStatus();
    return absl::DeadlineExceededError("no answer from there");
  }
  bool came() const { return came_; }

 private:
  const Deadline deadline_;
  bool came_ = false;
};

}  // namespace

class ApiClient::Http final : public httplib::ClientImpl {
 public:
  // `asks`: it is only to find out whether the server lives.
  Http(ApiClient* owner, const ApiEndpoint& endpoint, bool asks = false)
      : ClientImpl(endpoint.host, endpoint.port), owner_(*owner), endpoint_(endpoint), asks_(asks) {
    set_keep_alive(true);
    set_follow_location(false);
    set_decompress(false);
    set_url_encode(false);
  }
  ~Http() override { Drop(false); }

  absl::Status Send(const ApiRequest& asked, const std::string& token, ResponseReader* reader) {
    reader_ = reader;
    token_ = token;
    status_ = absl::OkStatus();
    head_came_ = false;
    httplib::Request request;
    request.method = asked.method;
    request.path = endpoint_.prefix + asked.target;
    const std::string authority = endpoint_.ToString();
    const size_t host = authority.find("://") + 3;
    request.set_header("Host", authority.substr(host, authority.find('/', host) - host));
    request.set_header("Accept", asked.accept);
    if (!asked.body.empty()) {
      request.set_header("Content-Type", asked.content_type);
      request.body = asked.body;
    }
    request.set_header("User-Agent", owner_.options_.user_agent);
    if (!token.empty()) request.set_header("Authorization", "Bearer " + token);
    request.response_handler = [&](const httplib::Response& response) {
      head_came_ = true;
      refused_ = response.status == 401;
      if (stream_ != nullptr) stream_->BodyCame();
      return Take(reader_->OnHead({response.status, response.get_header_value("Retry-After")}));
    };
    request.content_receiver = [this](const char* data, size_t size, uint64_t, uint64_t) {
      if (stream_ != nullptr) stream_->BodyCame();
      return Take(reader_->OnData({data, size}));
    };
    reused_ = is_socket_open() != 0;
    httplib::Response response;
    httplib::Error error = httplib::Error::Success;
    if (send(request, response, error)) {
      // Without a body the handler is not asked.
      if (!head_came_) Take(reader_->OnHead({response.status, ""}));
      return status_;
    }
    if (status_.ok()) {
      status_ = absl::UnavailableError(head_came_ ? "the answer was cut short, or is no HTTP"
                                                  : "no HTTP answer: the connection was closed");
    }
    // The server may close a connection that rests just when it is used again.
    if (reused_ && !head_came_ && absl::IsUnavailable(status_)) return Send(asked, token, reader);
    return status_;
  }

  // The last answer was that nobody knows us.
  bool refused() const { return refused_; }

 private:
  bool Take(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
    return status_.ok();
  }

  absl::Status OnWait() {
    if (auto over = reader_->OnWait(); !over.ok()) return over;
    Liveness* const liveness = owner_.options_.liveness.get();
    if (!head_came_ || asks_ || liveness == nullptr) return absl::OkStatus();
    const absl::Status lives = liveness->Check(owner_.current_, [this] { return Ask(); });
    if (!absl::IsUnavailable(lives)) return lives;
    return absl::UnavailableError(
        absl::StrCat("nothing is heard, and another connection finds: ", lives.message()));
  }
  // By a connection of its own. OK: the server answers, or we cannot ask.
  absl::Status Ask() {
    // A connection that rested for long may be forgotten by something on the way.
    const auto now = std::chrono::steady_clock::now();
    if (asker_ == nullptr || now - asked_at_ > kAskerRests) {
      asker_ = std::make_unique<Http>(&owner_, endpoint_, true);
    }
    asked_at_ = now;
    AnyAnswer answer(now + owner_.options_.ask_time);
    ApiRequest request;
    request.target = kVersion;
    const absl::Status status = asker_->Send(request, token_, &answer);
    if (!answer.came()) asker_.reset();
    if (answer.came() || absl::IsFailedPrecondition(status)) return absl::OkStatus();
    if (absl::IsCancelled(status)) return status;
    return absl::UnavailableError(std::string(status.message()));
  }

  bool create_and_connect_socket(Socket& socket, httplib::Error& error) override {
    error = httplib::Error::Connection;
    reused_ = false;
    std::unique_ptr<TlsContext> tls;
    if (endpoint_.tls) {
      auto made = TlsContext::Make(owner_.config_, owner_.surroundings_);
      if (!made.ok()) {
        return Take(absl::FailedPreconditionError(std::string(made.status().message())));
      }
      tls = *std::move(made);
    }
    const std::string& name = owner_.config_.tls_server_name;
    auto connection = Connection::Open(
        endpoint_, tls.get(), name.empty() ? endpoint_.host : name, owner_.stop_fd_,
        std::chrono::steady_clock::now() + (asks_ ? owner_.options_.ask_time : kConnectTime));
    if (!connection.ok()) {
      const bool advise = !owner_.reached_ && !owner_.options_.advice.empty();
      if (!absl::IsUnavailable(connection.status()) || !advise) {
        return Take(connection.status());
      }
      return Take(absl::UnavailableError(
          absl::StrCat(std::string(connection.status().message()), "; ", owner_.options_.advice)));
    }
    owner_.reached_ = true;
    connection_ = *std::move(connection);
    socket.sock = connection_->fd();
    connection_->ReleaseFd();  // httplib closes it
    error = httplib::Error::Success;
    return true;
  }
  void shutdown_ssl(Socket&, bool gracefully) override { Drop(gracefully && status_.ok()); }
  bool process_socket(const Socket&,
                      std::function<bool(httplib::Stream& stream)> callback) override {
    const auto heard = [this] {
      if (owner_.options_.liveness) owner_.options_.liveness->Heard(owner_.current_);
    };
    ConnectionStream stream(
        connection_.get(), [this] { return OnWait(); }, [this] { reader_->OnPause(); }, heard,
        &status_);
    stream_ = &stream;
    const bool done = callback(stream);
    stream_ = nullptr;
    return done;
  }

  void Drop(bool politely) {
    if (connection_ == nullptr) return;
    connection_->Shutdown(politely);
    connection_.reset();
  }

  ApiClient& owner_;
  const ApiEndpoint endpoint_;
  const bool asks_;
  std::unique_ptr<Http> asker_;
  std::chrono::steady_clock::time_point asked_at_;
  std::unique_ptr<Connection> connection_;
  // Of the request that is being made.
  ResponseReader* reader_ = nullptr;
  std::string token_;
  bool reused_ = false;  // the request went out on a connection that had served another
  bool head_came_ = false;
  ConnectionStream* stream_ = nullptr;
  bool refused_ = false;
  absl::Status status_;
};

ApiClient::ApiClient(ClientConfig config, Options options, ClientSurroundings surroundings,
                     int stop_fd)
    : config_(std::move(config)),
      options_(std::move(options)),
      surroundings_(std::move(surroundings)),
      stop_fd_(stop_fd),
      current_(options_.first_endpoint % config_.endpoints.size()) {}

ApiClient::~ApiClient() = default;

absl::Status ApiClient::Get(const std::string& target, ResponseReader* reader) {
  ApiRequest request;
  request.target = target;
  return Send(request, reader);
}

absl::Status ApiClient::Send(const ApiRequest& request, ResponseReader* reader) {
  std::string token;
  if (config_.token.given()) {
    auto read = ReadToken(config_.token, surroundings_);
    if (!read.ok()) return absl::FailedPreconditionError(std::string(read.status().message()));
    token = *std::move(read);
  }
  if (http_ == nullptr) http_ = std::make_unique<Http>(this, config_.endpoints[current_]);
  absl::Status result = http_->Send(request, token, reader);
  // A renewed client certificate is shown only to a new connection.
  if (http_->refused()) http_.reset();
  return result;
}

void ApiClient::FailOver() {
  current_ = (current_ + 1) % config_.endpoints.size();
  http_.reset();
}

}  // namespace waggle::k8s
