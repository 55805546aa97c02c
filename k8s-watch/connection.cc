#include "k8s-watch/connection.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "k8s-watch/quote.h"
#include "userspace/net/address.h"

namespace waggle::k8s {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kTick{1};
constexpr std::chrono::seconds kWriteTime{20};
constexpr size_t kMaxNamesTold = 10;

template <typename T, void (*Free)(T*)>
struct Deleter {
  void operator()(T* value) const { Free(value); }
};
using Bio = std::unique_ptr<BIO, Deleter<BIO, BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Deleter<X509, X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY, EVP_PKEY_free>>;
using Context = std::unique_ptr<SSL_CTX, Deleter<SSL_CTX, SSL_CTX_free>>;

// The reason that OpenSSL gave first, and nothing left for the next one who asks.
std::string LastError() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = ERR_reason_error_string(code);
  return reason == nullptr ? "unknown error" : reason;
}

Bio ReadOnly(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// A key that wants a passphrase must not ask for it on the terminal.
int NoPassphrase(char*, int, int, void*) {
  return -1;
}

absl::StatusOr<std::vector<Certificate>> ReadCertificates(const Credential& credential,
                                                          const std::string& text) {
  const Bio bio = ReadOnly(text);
  std::vector<Certificate> certificates;
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr)) {
    certificates.emplace_back(certificate);
  }
  const unsigned long error = ERR_peek_last_error();
  const bool at_end = ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  const std::string reason = LastError();
  if (at_end && !certificates.empty()) return certificates;
  return absl::InvalidArgumentError(absl::StrCat(
      credential.origin,
      ": holds no certificate that can be read: ", at_end ? "no PEM block CERTIFICATE" : reason));
}

absl::Status UseCa(const Credential& ca, const ClientSurroundings& surroundings, SSL_CTX* context) {
  if (!ca.given()) {
    if (SSL_CTX_set_default_verify_paths(context) == 1) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("the system's certificates: ", LastError()));
  }
  // Each of them is trusted by itself, an intermediate one without its root as well: as in Go.
  X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
  const auto text = ReadCredential(ca, surroundings);
  if (!text.ok()) return text.status();
  const auto certificates = ReadCertificates(ca, *text);
  if (!certificates.ok()) return certificates.status();
  for (const Certificate& certificate : *certificates) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate.get()) != 1) {
      return absl::InvalidArgumentError(absl::StrCat(ca.origin, ": ", LastError()));
    }
  }
  return absl::OkStatus();
}

absl::Status UseClientCertificate(const ClientConfig& config,
                                  const ClientSurroundings& surroundings, SSL_CTX* context) {
  if (!config.client_certificate.given()) return absl::OkStatus();
  const auto chain_text = ReadCredential(config.client_certificate, surroundings);
  if (!chain_text.ok()) return chain_text.status();
  auto chain = ReadCertificates(config.client_certificate, *chain_text);
  if (!chain.ok()) return chain.status();
  const auto key_text = ReadCredential(config.client_key, surroundings);
  if (!key_text.ok()) return key_text.status();
  const Bio bio = ReadOnly(*key_text);
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  if (key == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        config.client_key.origin, ": holds no private key that can be read: ", LastError()));
  }
  bool good = SSL_CTX_use_certificate(context, chain->front().get()) == 1;
  for (size_t i = 1; good && i < chain->size(); ++i) {
    good = SSL_CTX_add1_chain_cert(context, (*chain)[i].get()) == 1;
  }
  if (!good) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.client_certificate.origin, ": ", LastError()));
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        config.client_key.origin, ": does not belong to the client certificate: ", LastError()));
  }
  return absl::OkStatus();
}

// For which names and addresses a certificate is good.
std::string NamesOf(X509* certificate) {
  auto* names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  std::vector<std::string> told;
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (told.size() == kMaxNamesTold) {
      told.emplace_back("...");
      break;
    }
    if (name->type == GEN_DNS) {
      told.push_back(
          Printable({reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                     static_cast<size_t>(ASN1_STRING_length(name->d.dNSName))}));
    } else if (name->type == GEN_IPADD) {
      const unsigned char* bytes = ASN1_STRING_get0_data(name->d.iPAddress);
      const int length = ASN1_STRING_length(name->d.iPAddress);
      std::array<uint8_t, 16> address{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
      if (length != 4 && length != 16) continue;
      std::memcpy(address.data() + (16 - length), bytes, static_cast<size_t>(length));
      told.push_back(net::Address(address).ToString());
    }
  }
  if (names != nullptr) GENERAL_NAMES_free(names);
  return told.empty() ? "no name at all" : absl::StrJoin(told, ", ");
}

// Why the server's certificate is no good, in words that say what to do.
std::string CertificateFault(SSL* ssl, const std::string& server_name) {
  const long result = SSL_get_verify_result(ssl);
  const std::string reason = X509_verify_cert_error_string(result);
  // The session has no certificate before it is a session.
  const STACK_OF(X509)* chain = SSL_get0_verified_chain(ssl);
  X509* certificate = chain == nullptr ? nullptr : sk_X509_value(chain, 0);
  switch (result) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return absl::StrCat("its certificate is not for ", server_name, " but for ",
                          certificate == nullptr ? "another" : NamesOf(certificate),
                          "; use one of these, or name one as tls-server-name in the kubeconfig");
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return absl::StrCat("its certificate is not signed by the certificate-authority: ", reason);
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return absl::StrCat("its certificate is not valid now: ", reason,
                          " (is the clock of this node right?)");
    default:
      return absl::StrCat("its certificate is refused: ", reason);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<TlsContext>> TlsContext::Make(
    const ClientConfig& config, const ClientSurroundings& surroundings) {
  ERR_clear_error();
  Context context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr) return absl::InternalError(absl::StrCat("TLS: ", LastError()));
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
  constexpr unsigned char kAlpn[] = "\x08http/1.1";
  SSL_CTX_set_alpn_protos(context.get(), kAlpn, sizeof(kAlpn) - 1);
  if (auto status = UseCa(config.ca, surroundings, context.get()); !status.ok()) return status;
  if (auto status = UseClientCertificate(config, surroundings, context.get()); !status.ok()) {
    return status;
  }
  return std::unique_ptr<TlsContext>(new TlsContext(context.release()));
}

TlsContext::~TlsContext() {
  SSL_CTX_free(context_);
}

absl::StatusOr<std::unique_ptr<Connection>> Connection::Open(const ApiEndpoint& endpoint,
                                                             const TlsContext* tls,
                                                             const std::string& server_name,
                                                             int stop_fd, Deadline deadline) {
  auto fd = Dial(endpoint.host, endpoint.port, stop_fd, deadline);
  if (!fd.ok()) return fd.status();
  std::unique_ptr<Connection> connection(new Connection(*std::move(fd), stop_fd));
  if (tls != nullptr) {
    if (auto status = connection->Handshake(*tls, server_name, deadline); !status.ok()) {
      return status;
    }
  }
  return connection;
}

Connection::~Connection() {
  Shutdown(false);
}

absl::Status Connection::Handshake(const TlsContext& tls, const std::string& server_name,
                                   Deadline deadline) {
  ERR_clear_error();
  ssl_ = SSL_new(tls.get());
  if (ssl_ == nullptr || SSL_set_fd(ssl_, fd_) != 1) {
    return absl::InternalError(absl::StrCat("TLS: ", LastError()));
  }
  X509_VERIFY_PARAM* verify = SSL_get0_param(ssl_);
  // Names in the subject count no more, as with Go.
  X509_VERIFY_PARAM_set_hostflags(
      verify, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  bool named = false;
  if (net::Address::Parse(server_name)) {
    named = X509_VERIFY_PARAM_set1_ip_asc(verify, server_name.c_str()) == 1;
  } else {
    named = X509_VERIFY_PARAM_set1_host(verify, server_name.data(), server_name.size()) == 1 &&
            SSL_set_tlsext_host_name(ssl_, server_name.c_str()) == 1;
  }
  if (!named) return absl::InternalError(absl::StrCat("TLS: ", server_name, ": ", LastError()));
  SSL_set_connect_state(ssl_);
  while (true) {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_);
    if (result == 1) return absl::OkStatus();
    if (SSL_get_verify_result(ssl_) != X509_V_OK) {
      broken_ = true;
      const std::string fault = CertificateFault(ssl_, server_name);
      ERR_clear_error();
      return absl::UnavailableError(absl::StrCat("TLS: ", fault));
    }
    const auto want = Want(result, "TLS handshake");
    if (!want.ok()) return want.status();
    const absl::Status status = WaitFor(fd_, *want, stop_fd_, deadline);
    if (absl::IsDeadlineExceeded(status)) {
      return absl::UnavailableError("TLS handshake: no answer from there");
    }
    if (!status.ok()) return status;
  }
}

absl::StatusOr<short> Connection::Want(int result, const char* doing) {
  const int system_error = errno;
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      return POLLIN;
    case SSL_ERROR_WANT_WRITE:
      return POLLOUT;
    case SSL_ERROR_ZERO_RETURN:
      return absl::UnavailableError(absl::StrCat(doing, ": the server closed the connection"));
    case SSL_ERROR_SYSCALL:
      broken_ = true;
      ERR_clear_error();
      return absl::UnavailableError(absl::StrCat(
          doing, ": ", system_error == 0 ? "the connection was cut" : std::strerror(system_error)));
    default:
      break;
  }
  broken_ = true;
  const unsigned long code = ERR_peek_error();
  const int reason = ERR_GET_REASON(code);
  if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
    ERR_clear_error();
    return absl::UnavailableError(absl::StrCat(doing, ": the connection was cut"));
  }
  std::string text = LastError();
  if (reason == SSL_R_WRONG_VERSION_NUMBER) text += " (is this a TLS port?)";
  if (reason == SSL_R_UNSUPPORTED_PROTOCOL || reason == SSL_R_TLSV1_ALERT_PROTOCOL_VERSION) {
    text += " (TLS 1.2 or later is needed)";
  }
  return absl::UnavailableError(absl::StrCat(doing, ": ", text));
}

absl::StatusOr<size_t> Connection::Read(char* to, size_t size,
                                        const std::function<void()>& on_pause,
                                        const std::function<absl::Status()>& on_wait) {
  bool paused = false;
  while (true) {
    short want = POLLIN;
    if (ssl_ != nullptr) {
      ERR_clear_error();
      errno = 0;
      size_t got = 0;
      const int result = SSL_read_ex(ssl_, to, size, &got);
      if (result == 1) return got;
      if (SSL_get_error(ssl_, result) == SSL_ERROR_ZERO_RETURN) return size_t{0};
      const auto event = Want(result, "read");
      if (!event.ok()) return event.status();
      want = *event;
    } else {
      const ssize_t got = recv(fd_, to, size, 0);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno == EINTR) continue;
      if (errno != EAGAIN) {
        return absl::UnavailableError(absl::StrCat("read: ", std::strerror(errno)));
      }
    }
    if (!std::exchange(paused, true)) on_pause();
    const absl::Status status = WaitFor(fd_, want, stop_fd_, steady_clock::now() + kTick);
    if (status.ok()) continue;
    if (!absl::IsDeadlineExceeded(status)) return status;
    if (auto over = on_wait(); !over.ok()) return over;
  }
}

absl::Status Connection::CheckStop() const {
  const absl::Status status = WaitFor(-1, 0, stop_fd_, steady_clock::now());
  return absl::IsDeadlineExceeded(status) ? absl::OkStatus() : status;
}

absl::Status Connection::Write(const char* from, size_t size) {
  const Deadline deadline = steady_clock::now() + kWriteTime;
  while (size > 0) {
    short want = POLLOUT;
    size_t written = 0;
    if (ssl_ != nullptr) {
      ERR_clear_error();
      errno = 0;
      const int result = SSL_write_ex(ssl_, from, size, &written);
      if (result != 1) {
        const auto event = Want(result, "write");
        if (!event.ok()) return event.status();
        want = *event;
      }
    } else {
      const ssize_t sent = send(fd_, from, size, MSG_NOSIGNAL);
      if (sent >= 0) {
        written = static_cast<size_t>(sent);
      } else if (errno != EAGAIN && errno != EINTR) {
        return absl::UnavailableError(absl::StrCat("write: ", std::strerror(errno)));
      }
    }
    if (written > 0) {
      from += written;
      size -= written;
      continue;
    }
    const absl::Status status = WaitFor(fd_, want, stop_fd_, deadline);
    if (absl::IsDeadlineExceeded(status)) {
      return absl::UnavailableError("write: the server takes nothing");
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

void Connection::Shutdown(bool politely) {
  if (ssl_ == nullptr) return;
  ERR_clear_error();
  if (politely && !broken_ && SSL_is_init_finished(ssl_) == 1) SSL_shutdown(ssl_);
  SSL_free(std::exchange(ssl_, nullptr));
  ERR_clear_error();
}

}  // namespace waggle::k8s
