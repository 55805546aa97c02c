#include "k8s-watch/api_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/await.h"
#include "tests/unit/k8s-watch/fake_apiserver.h"
#include "userspace/os/unique_fd.h"

namespace waggle::k8s {
namespace {

using Exchange = FakeApiserver::Exchange;
using std::chrono::steady_clock;

class Recorder final : public ResponseReader {
 public:
  absl::Status OnHead(const ResponseHead& head) override {
    status = head.status;
    retry_after = head.retry_after;
    at_head();
    return absl::OkStatus();
  }
  absl::Status OnData(std::string_view bytes) override {
    body.append(bytes);
    received = true;
    return absl::OkStatus();
  }
  absl::Status OnWait() override {
    ++waits;
    return max_waits > 0 && waits >= max_waits ? absl::DeadlineExceededError("enough")
                                               : absl::OkStatus();
  }
  void OnPause() override {
    const std::lock_guard lock(mutex);
    at_pause = body;
    sizes_at_pause.push_back(body.size());
    changed.notify_all();
  }
  // What had come at a pause.
  bool AwaitAtPause(const std::string& text) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(20), [&] { return at_pause == text; });
  }

  int status = 0;
  std::string retry_after;
  std::string body;
  std::atomic<bool> received = false;
  std::atomic<int> waits = 0;
  int max_waits = 0;
  std::mutex mutex;
  std::condition_variable changed;
  std::string at_pause;
  std::vector<size_t> sizes_at_pause;
  std::function<void()> at_head = [] {};
};

const TestAuthority& Authority() {
  static const TestAuthority authority;
  return authority;
}

class ApiClientTest : public testing::Test {
 protected:
  void Serve(FakeApiserver::Handler handler, FakeApiserver::Options options = {}) {
    server_ = std::make_unique<FakeApiserver>(std::move(options), std::move(handler));
    config_.endpoints = {*ParseEndpoint(server_->url())};
  }
  void ServeTls(FakeApiserver::Handler handler, const std::string& names = "IP:127.0.0.1") {
    FakeApiserver::Options options;
    options.tls = Authority().Issue("server", names);
    Serve(std::move(handler), std::move(options));
    config_.ca = {Authority().pem(), "", "ca"};
  }
  absl::Status Get(Recorder* recorder, const std::string& target = "/x?y=%2F") {
    if (client_ == nullptr) {
      client_ = std::make_unique<ApiClient>(config_, ApiClient::Options{}, RealSurroundings(),
                                            stop_fd_.get());
    }
    return client_->Get(target, recorder);
  }
  void StopClient() {
    const uint64_t one = 1;
    ASSERT_EQ(write(stop_fd_.get(), &one, sizeof(one)), 8);
  }

  os::UniqueFd stop_fd_{eventfd(0, EFD_CLOEXEC)};
  ClientConfig config_;
  std::unique_ptr<FakeApiserver> server_;
  std::unique_ptr<ApiClient> client_;
};

TEST_F(ApiClientTest, AsksAndKeepsTheConnection) {
  std::vector<std::string> heads;
  std::vector<size_t> connections;
  ServeTls([&](Exchange& exchange) {
    heads.push_back(exchange.head);
    connections.push_back(exchange.connection);
    exchange.Head(200);
    exchange.Chunk("a");
    exchange.Chunk("bc");
    exchange.EndChunks();
  });
  config_.token = {"secret", "", "token"};
  config_.endpoints[0].prefix = "/clusters/one";
  Recorder first;
  ASSERT_TRUE(Get(&first).ok());
  EXPECT_EQ(first.status, 200);
  EXPECT_EQ(first.body, "abc");
  Recorder second;
  ASSERT_TRUE(Get(&second).ok());
  EXPECT_EQ(connections, (std::vector<size_t>{1, 1}));
  ASSERT_EQ(heads.size(), 2);
  EXPECT_TRUE(absl::StartsWith(heads[0], "GET /clusters/one/x?y=%2F HTTP/1.1\r\n")) << heads[0];
  for (const std::string line :
       {"Authorization: Bearer secret", "Accept: application/json", "User-Agent: waggle"}) {
    EXPECT_TRUE(absl::StrContains(heads[0], "\r\n" + line + "\r\n")) << heads[0];
  }
  EXPECT_TRUE(
      absl::StrContains(heads[0], absl::StrCat("Host: 127.0.0.1:", server_->port(), "\r\n")));
  EXPECT_FALSE(absl::StrContains(heads[0], "gzip"));
}

TEST_F(ApiClientTest, AConnectionThatWasClosedMeanwhileIsMadeAgain) {
  ServeTls([&](Exchange& exchange) {
    exchange.Answer(200, "hello");
    exchange.Cut();
  });
  for (int i = 0; i < 3; ++i) {
    Recorder recorder;
    ASSERT_TRUE(Get(&recorder).ok());
    EXPECT_EQ(recorder.body, "hello");
  }
}

TEST_F(ApiClientTest, HandsOnAnyStatus) {
  for (const int status : {401, 403, 410, 429, 500, 503}) {
    ServeTls([&](Exchange& exchange) { exchange.Answer(status, "why", "Retry-After: 7\r\n"); });
    client_.reset();
    Recorder recorder;
    ASSERT_TRUE(Get(&recorder).ok());
    EXPECT_EQ(recorder.status, status);
    EXPECT_EQ(recorder.body, "why");
    EXPECT_EQ(recorder.retry_after, "7");
  }
}

// Each event of a watch is followed by a pause, with all of it handed on.
TEST_F(ApiClientTest, PausesBeforeItWaits) {
  Recorder recorder;
  std::vector<bool> paused;
  for (const bool tls : {false, true}) {
    recorder.body.clear();
    const auto serve = [&](Exchange& exchange) {
      exchange.Head(200);
      std::string sent;
      for (const std::string text : {"first", "second", "third"}) {
        exchange.Chunk(text);
        sent += text;
        paused.push_back(recorder.AwaitAtPause(sent));
      }
      exchange.EndChunks();
    };
    tls ? ServeTls(serve) : Serve(serve);
    client_.reset();
    ASSERT_TRUE(Get(&recorder).ok());
  }
  EXPECT_EQ(paused, std::vector<bool>(6, true));
}

// What has come already is no reason to wait, over however many records.
TEST_F(ApiClientTest, DoesNotPauseWhileThereIsMore) {
  std::string all;
  for (int i = 0; i < 12; ++i)
    all += std::string(4096, static_cast<char>('a' + i));
  for (const bool tls : {false, true}) {
    Recorder recorder;
    std::mutex mutex;
    std::condition_variable changed;
    bool sent = false;
    bool paused = false;
    recorder.at_head = [&] {
      std::unique_lock lock(mutex);
      EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(20), [&] { return sent; }));
    };
    const auto serve = [&](Exchange& exchange) {
      exchange.Head(200);
      for (size_t i = 0; i < all.size(); i += 4096)
        exchange.Chunk(all.substr(i, 4096));
      {
        const std::lock_guard lock(mutex);
        sent = true;
        changed.notify_all();
      }
      paused = recorder.AwaitAtPause(all);
      exchange.EndChunks();
    };
    tls ? ServeTls(serve) : Serve(serve);
    client_.reset();
    ASSERT_TRUE(Get(&recorder).ok());
    EXPECT_TRUE(paused);
    for (const size_t size : recorder.sizes_at_pause)
      EXPECT_THAT(size, testing::AnyOf(0u, all.size()));
  }
}

TEST_F(ApiClientTest, ShowsItselfAnewWhenItIsNotAccepted) {
  std::vector<size_t> connections;
  Serve([&](Exchange& exchange) {
    connections.push_back(exchange.connection);
    exchange.Answer(connections.size() == 2 ? 401 : 200, "");
  });
  Recorder recorder;
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(Get(&recorder).ok());
  }
  EXPECT_EQ(connections, (std::vector<size_t>{1, 1, 2, 2}));
}

TEST_F(ApiClientTest, TheTokenFileIsReadForEachRequest) {
  std::string head;
  Serve([&](Exchange& exchange) {
    head = exchange.head;
    exchange.Answer(200, "");
  });
  config_.token = {"", "/token", "token"};
  std::string token = "one\n";
  ClientSurroundings surroundings = RealSurroundings();
  surroundings.read_file = [&](const std::string&) -> absl::StatusOr<std::string> {
    if (token.empty()) return absl::NotFoundError("cannot be opened");
    return token;
  };
  client_ =
      std::make_unique<ApiClient>(config_, ApiClient::Options{}, surroundings, stop_fd_.get());
  Recorder recorder;
  ASSERT_TRUE(Get(&recorder).ok());
  EXPECT_TRUE(absl::StrContains(head, "Bearer one\r\n")) << head;
  token = "two";
  ASSERT_TRUE(Get(&recorder).ok());
  EXPECT_TRUE(absl::StrContains(head, "Bearer two\r\n")) << head;
  token = "";
  const absl::Status status = Get(&recorder);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(std::string(status.message()), "token: the file \"/token\" cannot be opened");
}

// What a server does to an answer, and what comes of it.
struct FaultCase {
  const char* name;
  FakeApiserver::Handler handler;
  std::string error;
};
void PrintTo(const FaultCase& test, std::ostream* out) {
  *out << test.name;
}

class Faults : public ApiClientTest, public testing::WithParamInterface<FaultCase> {};

TEST_P(Faults, AreToldAndTheNextRequestWorks) {
  std::atomic<int> requests = 0;
  ServeTls([&](Exchange& exchange) {
    if (requests++ > 0) {
      exchange.Answer(200, "fine");
      return;
    }
    GetParam().handler(exchange);
    exchange.Cut();
  });
  Recorder recorder;
  const absl::Status status = Get(&recorder);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(std::string(status.message()), GetParam().error);
  Recorder next;
  const absl::Status second = Get(&next);
  EXPECT_TRUE(second.ok()) << second;
  EXPECT_EQ(next.body, "fine");
}

INSTANTIATE_TEST_SUITE_P(
    Answers, Faults,
    testing::Values(FaultCase{"CutBeforeTheHead", [](Exchange&) {}, "read: the connection was cut"},
                    FaultCase{"CutInTheHead", [](Exchange& e) { e.Send("HTTP/1.1 200 O"); },
                              "read: the connection was cut"},
                    FaultCase{"NoHttp", [](Exchange& e) { e.Send("SSH-2.0-hello\r\n\r\n"); },
                              "no HTTP answer: the connection was closed"},
                    FaultCase{"EndlessHeader",
                              [](Exchange& e) {
                                e.Send("HTTP/1.1 200 OK\r\nX: ");
                                while (e.Send(std::string(4096, 'x'))) {
                                }
                              },
                              "a line of the answer's head is too long"},
                    // Not even with what std::regex would make of it.
                    FaultCase{"EndlessStatusLine",
                              [](Exchange& e) {
                                e.Send("HTTP/1.1 200 ");
                                while (e.Send(std::string(4096, 'x'))) {
                                }
                              },
                              "a line of the answer's head is too long"},
                    FaultCase{"EndlessHeaders",
                              [](Exchange& e) {
                                e.Send("HTTP/1.1 200 OK\r\n");
                                while (e.Send("X: " + std::string(1000, 'x') + "\r\n")) {
                                }
                              },
                              "the answer's headers, or those of a chunk, are too long"},
                    FaultCase{"EndlessChunkSize",
                              [](Exchange& e) {
                                e.Head(200);
                                while (e.Send(std::string(4096, '0'))) {
                                }
                              },
                              "the answer's headers, or those of a chunk, are too long"},
                    FaultCase{"CutInABody",
                              [](Exchange& e) {
                                e.Head(200, "Content-Length: 100\r\n");
                                e.Send("half");
                              },
                              "read: the connection was cut"},
                    FaultCase{"TruncatedChunk",
                              [](Exchange& e) {
                                e.Head(200);
                                e.Send("64\r\nhalf");
                              },
                              "read: the connection was cut"},
                    FaultCase{"NoLastChunk",
                              [](Exchange& e) {
                                e.Head(200);
                                e.Chunk("all");
                              },
                              "read: the connection was cut"},
                    FaultCase{"NoChunkSize",
                              [](Exchange& e) {
                                e.Head(200);
                                e.Send("zzz\r\n");
                              },
                              "the answer was cut short, or is no HTTP"}),
    [](const testing::TestParamInfo<FaultCase>& test) { return test.param.name; });

// A server's certificate and what the client expects of it.
struct TlsCase {
  const char* name;
  std::string names;
  std::string server_name;  // tls-server-name
  std::string error;        // empty: it works
  long seconds_left = 3600;
  int max_tls = 0;
  bool other_ca = false;
};
void PrintTo(const TlsCase& test, std::ostream* out) {
  *out << test.name;
}

class Certificates : public ApiClientTest, public testing::WithParamInterface<TlsCase> {};

TEST_P(Certificates, AreChecked) {
  const TlsCase& test = GetParam();
  FakeApiserver::Options options;
  options.tls = Authority().Issue("127.0.0.1", test.names, test.seconds_left);
  options.max_tls = test.max_tls;
  Serve([](Exchange& exchange) { exchange.Answer(200, "secret"); }, std::move(options));
  config_.ca = {test.other_ca ? TestAuthority().pem() : Authority().pem(), "", "ca"};
  config_.tls_server_name = test.server_name;
  Recorder recorder;
  const absl::Status status = Get(&recorder);
  EXPECT_EQ(std::string(status.message()), test.error);
  EXPECT_EQ(recorder.body, test.error.empty() ? "secret" : "");
}

const char* const kAdvice = "; use one of these, or name one as tls-server-name in the kubeconfig";

INSTANTIATE_TEST_SUITE_P(
    Names, Certificates,
    testing::Values(
        TlsCase{"Address", "IP:127.0.0.1", "", ""},
        TlsCase{"V6AmongOthers", "IP:::1,DNS:a,IP:127.0.0.1", "", ""},
        TlsCase{
            "OtherAddress", "IP:127.0.0.2,IP:fd00::1,DNS:kubernetes", "",
            absl::StrCat("TLS: its certificate is not for 127.0.0.1 but for 127.0.0.2, fd00::1, "
                         "kubernetes",
                         kAdvice)},
        // The subject's name is 127.0.0.1.
        TlsCase{"SubjectDoesNotCount", "", "",
                absl::StrCat("TLS: its certificate is not for 127.0.0.1 but for no name at all",
                             kAdvice)},
        TlsCase{"ServerName", "DNS:kubernetes", "kubernetes", ""},
        TlsCase{"ServerNameByWildcard", "DNS:*.k8s.example", "api.k8s.example", ""},
        TlsCase{"OtherServerName", "DNS:kubernetes,IP:127.0.0.1", "other",
                absl::StrCat("TLS: its certificate is not for other but for kubernetes, 127.0.0.1",
                             kAdvice)},
        TlsCase{"ServerNameIsAnAddress", "IP:10.0.0.1", "10.0.0.1", ""},
        TlsCase{"Expired", "IP:127.0.0.1", "",
                "TLS: its certificate is not valid now: certificate has expired (is the clock of "
                "this node right?)",
                -60},
        TlsCase{"OtherAuthority", "IP:127.0.0.1", "",
                "TLS: its certificate is not signed by the certificate-authority: certificate "
                "signature failure",
                3600, 0, true},
        TlsCase{"Tls12", "IP:127.0.0.1", "", "", 3600, TLS1_2_VERSION},
        TlsCase{"Tls11", "IP:127.0.0.1", "",
                "TLS handshake: tlsv1 alert protocol version (TLS 1.2 or later is needed)", 3600,
                TLS1_1_VERSION}),
    [](const testing::TestParamInfo<TlsCase>& test) { return test.param.name; });

TEST_F(ApiClientTest, ShowsItsCertificate) {
  FakeApiserver::Options options;
  options.tls = Authority().Issue("server", "IP:127.0.0.1");
  options.client_ca = Authority().pem();
  Serve([](Exchange& exchange) { exchange.Answer(200, "welcome"); }, std::move(options));
  config_.ca = {Authority().pem(), "", "ca"};
  Recorder without;
  EXPECT_TRUE(absl::IsUnavailable(Get(&without)));
  client_.reset();
  const KeyPair pair = Authority().Issue("client", "");
  config_.client_certificate = {pair.certificate, "", "cert"};
  config_.client_key = {pair.key, "", "key"};
  Recorder with;
  const absl::Status status = Get(&with);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(with.body, "welcome");
  client_.reset();
  config_.client_key.data = Authority().Issue("another", "").key;
  EXPECT_TRUE(absl::IsFailedPrecondition(Get(&with)));
}

TEST_F(ApiClientTest, NobodyListens) {
  Serve([](Exchange&) {});
  server_->Stop();
  Recorder recorder;
  EXPECT_EQ(std::string(Get(&recorder).message()), "connect: Connection refused");
}

TEST_F(ApiClientTest, AdvisesUntilItHasBeenThere) {
  Serve([](Exchange& exchange) {
    exchange.Answer(200, "");
    exchange.Cut();
  });
  const uint16_t port = server_->port();
  server_->Stop();
  ApiClient::Options options;
  options.advice = "do this";
  client_ = std::make_unique<ApiClient>(config_, options, RealSurroundings(), stop_fd_.get());
  Recorder recorder;
  EXPECT_EQ(std::string(Get(&recorder).message()), "connect: Connection refused; do this");
  FakeApiserver::Options same;
  same.port = port;
  Serve(
      [](Exchange& exchange) {
        exchange.Answer(200, "");
        exchange.Cut();
      },
      same);
  EXPECT_TRUE(Get(&recorder).ok());
  server_->Stop();
  EXPECT_EQ(std::string(Get(&recorder).message()), "connect: Connection refused");
}

TEST_F(ApiClientTest, PlainHttpWhereTlsIsExpected) {
  Serve([](Exchange& exchange) { exchange.Answer(400, "no"); });
  config_.endpoints[0].tls = true;
  config_.ca = {Authority().pem(), "", "ca"};
  Recorder recorder;
  const absl::Status status = Get(&recorder);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(absl::StartsWith(status.message(), "TLS handshake: ")) << status;
}

TEST_F(ApiClientTest, ANameWithoutAddress) {
  config_.endpoints = {*ParseEndpoint("https://no-such-host.invalid:6443")};
  Recorder recorder;
  const absl::Status status = Get(&recorder);
  EXPECT_TRUE(absl::StartsWith(status.message(), "the name no-such-host.invalid ")) << status;
}

TEST_F(ApiClientTest, FailsOver) {
  FakeApiserver other({}, [](Exchange& exchange) { exchange.Answer(200, "other"); });
  Serve([](Exchange& exchange) { exchange.Answer(200, "first"); });
  config_.endpoints.push_back(*ParseEndpoint(other.url()));
  for (const std::string expected : {"first", "other", "first"}) {
    Recorder recorder;
    ASSERT_TRUE(Get(&recorder).ok());
    EXPECT_EQ(recorder.body, expected);
    client_->FailOver();
  }
}

TEST_F(ApiClientTest, OverIpv6) {
  for (const bool right : {true, false}) {
    client_.reset();
    FakeApiserver::Options options;
    options.v6 = true;
    options.tls = Authority().Issue("server", right ? "IP:::1" : "IP:127.0.0.1");
    Serve([](Exchange& exchange) { exchange.Answer(200, "six"); }, std::move(options));
    config_.ca = {Authority().pem(), "", "ca"};
    Recorder recorder;
    const absl::Status status = Get(&recorder);
    EXPECT_EQ(status.ok(), right) << status;
    EXPECT_EQ(recorder.body, right ? "six" : "");
    if (!right) {
      EXPECT_THAT(std::string(status.message()),
                  testing::HasSubstr("its certificate is not for ::1 but for 127.0.0.1"));
    }
  }
}

// While a body does not go on, the server is asked by the way whether it lives.
TEST_F(ApiClientTest, AsksASilentServerWhetherItLives) {
  std::atomic<bool> lives = true;
  std::atomic<int> asked = 0;
  ServeTls([&](Exchange& exchange) {
    if (absl::StartsWith(exchange.target, "/x")) {
      exchange.Head(200);
      exchange.Chunk("a");
      exchange.Hang();
    } else {
      EXPECT_EQ(exchange.target, "/version");
      EXPECT_TRUE(absl::StrContains(exchange.head, "Authorization: Bearer secret"))
          << exchange.head;
      ++asked;
      if (!lives) exchange.Hang();
      exchange.Answer(401, "any answer is one");
    }
  });
  config_.token = {"secret", "", "token"};
  ApiClient::Options options;
  // Its time goes 30 times as fast.
  options.liveness = std::make_shared<Liveness>(
      1, [start = steady_clock::now()] { return start + 30 * (steady_clock::now() - start); });
  options.ask_time = std::chrono::milliseconds(500);
  client_ = std::make_unique<ApiClient>(config_, options, RealSurroundings(), stop_fd_.get());
  Recorder recorder;
  recorder.max_waits = 3;
  absl::Status status = Get(&recorder);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;  // the reader's
  EXPECT_GE(asked, 1);

  lives = false;
  Recorder second;
  const auto before = steady_clock::now();
  status = Get(&second);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(status.message(),
            "nothing is heard, and another connection finds: no answer from there");
  EXPECT_EQ(second.body, "a");
  EXPECT_LT(steady_clock::now() - before, std::chrono::seconds(8));
}

// Where a server leaves a client waiting.
struct StopCase {
  const char* name;
  bool handshake;
  FakeApiserver::Handler handler;
};
void PrintTo(const StopCase& test, std::ostream* out) {
  *out << test.name;
}

class Waits : public ApiClientTest, public testing::WithParamInterface<StopCase> {
 protected:
  void ServeSilence() {
    FakeApiserver::Options options;
    options.tls = Authority().Issue("server", "IP:127.0.0.1");
    options.never_handshake = !GetParam().handshake;
    Serve(GetParam().handler, std::move(options));
    config_.ca = {Authority().pem(), "", "ca"};
  }
};

TEST_P(Waits, EndAtOnceWhenStopped) {
  ServeSilence();
  Recorder recorder;
  steady_clock::time_point stopped;
  std::thread stopper([&] {
    // A handshake has a deadline and no reader; else the reader hears of each wait.
    EXPECT_TRUE(
        Await([&] { return GetParam().handshake ? recorder.waits > 0 : server_->accepted() > 0; }));
    stopped = steady_clock::now();
    StopClient();
  });
  const absl::Status status = Get(&recorder);
  stopper.join();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_LT(steady_clock::now() - stopped, std::chrono::seconds(10));
}

class WaitsOfReaders : public Waits {};

TEST_P(WaitsOfReaders, EndWhenTheReaderSaysSo) {
  ServeSilence();
  Recorder recorder;
  recorder.max_waits = 1;
  const absl::Status status = Get(&recorder);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
}

const StopCase kHandshake{"Handshake", false, [](Exchange&) {}};
const StopCase kHead{"Head", true, [](Exchange& e) { e.Hang(); }};
const StopCase kBody{"Body", true, [](Exchange& e) {
                       e.Head(200);
                       e.Chunk("a");
                       e.Hang();
                     }};
const StopCase kWithinAChunk{"WithinAChunk", true, [](Exchange& e) {
                               e.Head(200);
                               e.Send("64\r\nhalf");
                               e.Hang();
                             }};
std::string PlaceOf(const testing::TestParamInfo<StopCase>& test) {
  return test.param.name;
}
INSTANTIATE_TEST_SUITE_P(Places, Waits, testing::Values(kHandshake, kHead, kBody, kWithinAChunk),
                         PlaceOf);
INSTANTIATE_TEST_SUITE_P(Places, WaitsOfReaders, testing::Values(kHead, kBody, kWithinAChunk),
                         PlaceOf);

// The network is taken away under an open connection: nothing says so but silence.
TEST_F(ApiClientTest, AHalfOpenConnectionIsNoticedWithin30s) {
  std::string skip;
  absl::Status status;
  steady_clock::duration took{};
  Recorder recorder;
  // A network namespace belongs to a thread, and to those that it makes.
  std::thread([&] {
    if (unshare(CLONE_NEWNET) != 0) {
      skip = "needs root for a network namespace of its own";
      return;
    }
    ASSERT_EQ(std::system("ip link set lo up"), 0);
    ServeTls([&](Exchange& exchange) {
      exchange.Head(200);
      exchange.Chunk("a");
      exchange.Hang();
    });
    std::thread saboteur([&] {
      EXPECT_TRUE(Await([&] { return recorder.received.load(); }));
      EXPECT_EQ(std::system("ip link set lo down"), 0);
    });
    const auto before = steady_clock::now();
    status = Get(&recorder);
    took = steady_clock::now() - before;
    saboteur.join();
  }).join();
  if (!skip.empty()) GTEST_SKIP() << skip;
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_LT(took, std::chrono::seconds(30));
  EXPECT_EQ(recorder.body, "a");
}

}  // namespace
}  // namespace waggle::k8s
