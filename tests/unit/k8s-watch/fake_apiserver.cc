#include "tests/unit/k8s-watch/fake_apiserver.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"

namespace waggle::k8s {
namespace {

void Check(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "fake apiserver: %s\n", what);
  std::abort();
}

std::string Drain(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

void AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  Check(extension != nullptr, value.c_str());
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

// Signed by `issuer`, or by itself when that is null.
KeyPair Make(const std::string& common_name, const std::string& names, long seconds_left,
             const KeyPair* issuer) {
  static std::atomic<long> serial = 1;
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -86'400);
  X509_gmtime_adj(X509_getm_notAfter(certificate), seconds_left);
  X509_set_pubkey(certificate, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1,
                             0);
  X509* issuer_certificate = certificate;
  EVP_PKEY* issuer_key = key;
  if (issuer != nullptr) {
    BIO* bio = BIO_new_mem_buf(issuer->certificate.data(), -1);
    issuer_certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    bio = BIO_new_mem_buf(issuer->key.data(), -1);
    issuer_key = PEM_read_bio_PrivateKey(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
  }
  X509_set_issuer_name(certificate, X509_get_subject_name(issuer_certificate));
  AddExtension(certificate, issuer_certificate, NID_basic_constraints,
               issuer == nullptr ? "critical,CA:TRUE" : "CA:FALSE");
  if (!names.empty()) AddExtension(certificate, issuer_certificate, NID_subject_alt_name, names);
  Check(X509_sign(certificate, issuer_key, EVP_sha256()) > 0, "X509_sign");
  KeyPair pair;
  BIO* out = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(out, certificate);
  pair.certificate = Drain(out);
  out = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
  pair.key = Drain(out);
  if (issuer != nullptr) {
    X509_free(issuer_certificate);
    EVP_PKEY_free(issuer_key);
  }
  X509_free(certificate);
  EVP_PKEY_free(key);
  return pair;
}

ssl_ctx_st* MakeContext(const FakeApiserver::Options& options) {
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  if (options.max_tls != 0) {
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context, options.max_tls);
  }
  BIO* bio = BIO_new_mem_buf(options.tls.certificate.data(), -1);
  X509* certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
  BIO_free(bio);
  bio = BIO_new_mem_buf(options.tls.key.data(), -1);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(bio, nullptr, nullptr, nullptr);
  BIO_free(bio);
  Check(SSL_CTX_use_certificate(context, certificate) == 1, "certificate");
  Check(SSL_CTX_use_PrivateKey(context, key) == 1, "key");
  X509_free(certificate);
  EVP_PKEY_free(key);
  if (!options.client_ca.empty()) {
    bio = BIO_new_mem_buf(options.client_ca.data(), -1);
    X509* ca = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), ca);
    X509_free(ca);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  return context;
}

}  // namespace

TestAuthority::TestAuthority() : own_(Make("authority", "", 86'400, nullptr)) {}

KeyPair TestAuthority::Issue(const std::string& common_name, const std::string& names,
                             long seconds_left) const {
  return Make(common_name, names, seconds_left, &own_);
}

FakeApiserver::FakeApiserver(Options options, Handler handler)
    : options_(std::move(options)),
      handler_(std::move(handler)),
      listener_(socket(options_.v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      stop_fd_(eventfd(0, EFD_CLOEXEC)) {
  signal(SIGPIPE, SIG_IGN);
  const int one = 1;
  setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  // The port stands at one place in both.
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } address{};
  socklen_t size = options_.v6 ? sizeof(address.v6) : sizeof(address.v4);
  if (options_.v6) {
    address.v6 = {.sin6_family = AF_INET6,
                  .sin6_port = htons(options_.port),
                  .sin6_flowinfo = 0,
                  .sin6_addr = in6addr_loopback,
                  .sin6_scope_id = 0};
  } else {
    address.v4.sin_family = AF_INET;
    address.v4.sin_port = htons(options_.port);
    address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  Check(bind(listener_.get(), &address.any, size) == 0, "bind");
  Check(listen(listener_.get(), 64) == 0, "listen");
  getsockname(listener_.get(), &address.any, &size);
  port_ = ntohs(options_.v6 ? address.v6.sin6_port : address.v4.sin_port);
  if (!options_.tls.key.empty()) context_ = MakeContext(options_);
  acceptor_ = std::thread([this] { Accept(); });
}

void FakeApiserver::Stop() {
  if (!acceptor_.joinable()) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(stop_fd_.get(), &one, sizeof(one));
  acceptor_.join();
  for (std::thread& thread : threads_)
    thread.join();
  threads_.clear();
  listener_.Reset();
  SSL_CTX_free(std::exchange(context_, nullptr));
}

std::string FakeApiserver::url() const {
  return absl::StrCat(options_.tls.key.empty() ? "http" : "https", "://",
                      options_.v6 ? "[::1]" : "127.0.0.1", ":", port_);
}

bool FakeApiserver::WaitReadable(int fd) const {
  pollfd polls[2] = {{fd, POLLIN, 0}, {stop_fd_.get(), POLLIN, 0}};
  while (poll(polls, 2, -1) < 0) {
  }
  return polls[1].revents == 0;
}

void FakeApiserver::Accept() {
  size_t number = 0;
  while (WaitReadable(listener_.get())) {
    os::UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) continue;
    ++accepted_;
    threads_.emplace_back(
        [this, number = ++number, fd = std::move(fd)]() mutable { Serve(std::move(fd), number); });
  }
}

void FakeApiserver::Serve(os::UniqueFd fd, size_t number) {
  // Head and body of an answer are two writes, and the second would wait for the first's receipt.
  const int one = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));

  Exchange exchange;
  exchange.server_ = this;
  exchange.fd_ = fd.get();
  exchange.connection = number;
  if (options_.never_handshake) return exchange.Hang();
  if (context_ != nullptr) {
    exchange.ssl_ = SSL_new(context_);
    SSL_set_fd(exchange.ssl_, fd.get());
    if (SSL_accept(exchange.ssl_) != 1) {
      SSL_free(exchange.ssl_);
      return;
    }
  }
  std::string received;
  const auto read_more = [&] {
    char buffer[4096];
    const bool pending = exchange.ssl_ != nullptr && SSL_pending(exchange.ssl_) > 0;
    if (!pending && !WaitReadable(fd.get())) return false;
    const ssize_t got = exchange.ssl_ != nullptr ? SSL_read(exchange.ssl_, buffer, sizeof(buffer))
                                                 : recv(fd.get(), buffer, sizeof(buffer), 0);
    if (got <= 0) return false;
    received.append(buffer, static_cast<size_t>(got));
    return true;
  };
  while (!exchange.cut_) {
    const size_t end = received.find("\r\n\r\n");
    if (end == std::string::npos) {
      if (!read_more()) break;
      continue;
    }
    exchange.head = received.substr(0, end + 2);
    constexpr char kLength[] = "Content-Length: ";
    const size_t length_at = exchange.head.find(kLength);
    const size_t length = length_at == std::string::npos
                              ? 0
                              : std::stoul(exchange.head.substr(length_at + sizeof(kLength) - 1));
    if (received.size() < end + 4 + length) {
      if (!read_more()) break;
      continue;
    }
    exchange.content = received.substr(end + 4, length);
    received.erase(0, end + 4 + length);
    const size_t target = exchange.head.find(' ') + 1;
    exchange.target = exchange.head.substr(target, exchange.head.find(' ', target) - target);
    handler_(exchange);
  }
  if (exchange.ssl_ != nullptr) {
    if (!exchange.cut_) SSL_shutdown(exchange.ssl_);
    SSL_free(exchange.ssl_);
  }
}

bool FakeApiserver::Exchange::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    // A client that takes nothing must not keep the server from stopping.
    pollfd polls[2] = {{fd_, POLLOUT, 0}, {server_->stop_fd_.get(), POLLIN, 0}};
    if (poll(polls, 2, -1) < 0) continue;
    if (polls[1].revents != 0) return false;
    const size_t size = std::min(bytes.size(), size_t{8192});
    const ssize_t sent = ssl_ != nullptr ? SSL_write(ssl_, bytes.data(), static_cast<int>(size))
                                         : send(fd_, bytes.data(), size, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool FakeApiserver::Exchange::Head(int status, const std::string& headers) {
  return Send(absl::StrCat("HTTP/1.1 ", status, " Word\r\nContent-Type: application/json\r\n",
                           headers, "\r\n"));
}

bool FakeApiserver::Exchange::Chunk(std::string_view bytes) {
  return Send(absl::StrCat(absl::Hex(bytes.size()), "\r\n",
                           absl::string_view(bytes.data(), bytes.size()), "\r\n"));
}

bool FakeApiserver::Exchange::Answer(int status, std::string_view body,
                                     const std::string& headers) {
  return Head(status, absl::StrCat("Content-Length: ", body.size(), "\r\n", headers)) && Send(body);
}

void FakeApiserver::Exchange::Hang() {
  pollfd polls[2] = {{fd_, POLLRDHUP, 0}, {server_->stop_fd_.get(), POLLIN, 0}};
  while (poll(polls, 2, -1) < 0) {
  }
  cut_ = true;
}

}  // namespace waggle::k8s
