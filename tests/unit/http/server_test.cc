#include "userspace/http/server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/await.h"
#include "userspace/http/exchange.h"
#include "userspace/os/unique_fd.h"

namespace waggle::http {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr seconds kPatience{20};

net::Address Ip(const char* text) {
  return *net::Address::Parse(text);
}

struct Where {
  sockaddr_storage storage{};
  socklen_t size = 0;

  explicit Where(const net::Endpoint& at) {
    const auto& bytes = at.address.bytes();
    if (at.address.family() == net::Family::kIpv4) {
      auto* in = reinterpret_cast<sockaddr_in*>(&storage);
      in->sin_family = AF_INET;
      in->sin_port = htons(at.port);
      std::memcpy(&in->sin_addr, bytes.data() + 12, 4);
      size = sizeof(*in);
    } else {
      auto* in = reinterpret_cast<sockaddr_in6*>(&storage);
      in->sin6_family = AF_INET6;
      in->sin6_port = htons(at.port);
      std::memcpy(&in->sin6_addr, bytes.data(), 16);
      size = sizeof(*in);
    }
  }
  const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int domain() const { return storage.ss_family; }
};

// Holds a port, so that nobody else gets it.
class HeldPort {
 public:
  explicit HeldPort(const char* address) : at_{Ip(address), 0} {
    const Where where(at_);
    fd_.Reset(socket(where.domain(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(bind(fd_.get(), where.address(), where.size), 0);
    EXPECT_EQ(listen(fd_.get(), 1), 0);
    sockaddr_storage got{};
    socklen_t size = sizeof(got);
    getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&got), &size);
    // At the same place in both.
    at_.port = ntohs(reinterpret_cast<sockaddr_in*>(&got)->sin_port);
  }
  const net::Endpoint& at() const { return at_; }
  void Release() { fd_.Reset(); }

 private:
  net::Endpoint at_;
  os::UniqueFd fd_;
};

// An endpoint that was free a moment ago.
net::Endpoint FreePort(const char* address = "127.0.0.1") {
  HeldPort held(address);
  return held.at();
}

os::UniqueFd Connect(const net::Endpoint& to) {
  const Where where(to);
  os::UniqueFd fd(socket(where.domain(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(fd.get(), where.address(), where.size) != 0) fd.Reset();
  return fd;
}

void Send(const os::UniqueFd& fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    text.remove_prefix(static_cast<size_t>(sent));
  }
}

// Until the other side has closed.
std::string ReadAll(const os::UniqueFd& fd) {
  std::string text;
  while (true) {
    pollfd entry{fd.get(), POLLIN, 0};
    if (poll(&entry, 1, static_cast<int>(milliseconds(kPatience).count())) != 1) {
      ADD_FAILURE() << "no end after: " << text;
      return text;
    }
    char chunk[65536];
    const ssize_t got = recv(fd.get(), chunk, sizeof(chunk), 0);
    if (got <= 0) return text;
    text.append(chunk, static_cast<size_t>(got));
  }
}

std::string Ask(const net::Endpoint& at, const std::string& request) {
  const os::UniqueFd fd = Connect(at);
  if (!fd) return "refused";
  Send(fd, request);
  return ReadAll(fd);
}
std::string Get(const net::Endpoint& at, const std::string& path = "/") {
  return Ask(at, "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
}

// Says where and what was asked.
Response Echo(const Request& request) {
  return {200, "text/x", {{"X-At", request.at.ToString()}}, request.path};
}

Site EchoAt(const net::Endpoint& at, const std::string& name = "echo") {
  return {name, at, Echo};
}

TEST(Server, AnswersAtEachOfItsSites) {
  const net::Endpoint v4 = FreePort();
  const net::Endpoint v6 = FreePort("::1");
  Server server;
  ASSERT_TRUE(server
                  .Start({EchoAt(v4),
                          {"teapot", v6,
                           [](const Request&) {
                             return Response{418, "text/y", {}, "short"};
                           }}})
                  .ok());
  std::vector<std::string> news;
  for (const SiteNews& each : server.TakeNews()) {
    EXPECT_TRUE(each.status.ok()) << each.status;
    news.push_back(each.name);
  }
  EXPECT_THAT(news, testing::UnorderedElementsAre("echo", "teapot"));
  EXPECT_TRUE(server.TakeNews().empty());

  const std::string answer = Get(v4, "/a/b%20c?d=e");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/x\r\n"));
  EXPECT_THAT(answer, HasSubstr("Connection: close\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Length: 6\r\n"));
  EXPECT_THAT(answer, HasSubstr("X-At: " + v4.ToString() + "\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n/a/b c"));
  EXPECT_THAT(Get(v6), StartsWith("HTTP/1.1 418 "));
  EXPECT_THAT(Get(v6), EndsWith("\r\n\r\nshort"));
}

struct Case {
  const char* name;
  std::string request;
  std::string status;
  std::string end;
};
void PrintTo(const Case& test, std::ostream* out) {
  *out << test.name;
}

class Requests : public testing::TestWithParam<Case> {};

TEST_P(Requests, AreAnswered) {
  const net::Endpoint at = FreePort();
  Server server;
  ASSERT_TRUE(server.Start({EchoAt(at)}).ok());
  const std::string answer = Ask(at, GetParam().request);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 " + GetParam().status)) << answer;
  EXPECT_THAT(answer, EndsWith(GetParam().end)) << answer;
  EXPECT_THAT(Get(at, "/after"), EndsWith("/after"));
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, Requests,
    testing::Values(
        Case{"Head", "HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n", "200", "\r\n\r\n"},
        Case{"OldVersion", "GET /x HTTP/1.0\r\n\r\n", "200", "\r\n\r\n/x"},
        Case{"Range", "GET /xyz HTTP/1.1\r\nRange: bytes=0-0,1-1,2-2\r\n\r\n", "200", "/xyz"},
        Case{"Post", "POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405", "\r\n\r\n"},
        Case{"PostThatExpects",
             "POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", "100",
             "\r\n\r\n"},
        Case{"Delete", "DELETE /x HTTP/1.1\r\n\r\n", "405", "\r\n\r\n"},
        Case{"BodyOfAGet", "GET /x HTTP/1.1\r\nContent-Length: 21\r\n\r\nGET /y HTTP/1.1\r\n\r\n.",
             "200", "\r\n\r\n/x"},
        Case{"SecondRequest", "GET /x HTTP/1.1\r\n\r\nGET /y HTTP/1.1\r\n\r\n", "200",
             "\r\n\r\n/x"},
        Case{"NoMethod", "NOISE /x HTTP/1.1\r\n\r\n", "400", "\r\n\r\n"},
        Case{"NoHttp", "\x16\x03\x01\r\n\r\n", "400", "\r\n\r\n"},
        Case{"Empty", "\r\n\r\n", "400", "\r\n\r\n"},
        Case{"LongHeader", "GET /x HTTP/1.1\r\nX: " + std::string(20000, 'x'), "431", "\r\n\r\n"},
        Case{"LongPath", "GET /" + std::string(10000, 'x') + " HTTP/1.1\r\n\r\n", "414",
             "\r\n\r\n"}),
    [](const testing::TestParamInfo<Case>& test) { return test.param.name; });

TEST(Server, SurvivesAHandlerThatThrows) {
  const net::Endpoint at = FreePort();
  Server server;
  ASSERT_TRUE(server
                  .Start({{"bad", at,
                           [](const Request&) -> Response { throw std::runtime_error("oops"); }}})
                  .ok());
  EXPECT_THAT(Get(at), StartsWith("HTTP/1.1 500 "));
  EXPECT_THAT(Get(at), StartsWith("HTTP/1.1 500 "));
}

// Who says nothing, says it slowly, or does not listen, keeps nobody waiting.
TEST(Server, SlowClientsAreNoHindrance) {
  const net::Endpoint at = FreePort();
  const net::Endpoint big_at = FreePort();
  const std::string big(size_t{8} << 20, 'x');
  Server server;
  ASSERT_TRUE(server
                  .Start({EchoAt(at),
                          {"big", big_at,
                           [&big](const Request&) {
                             return Response{200, "text/x", {}, big};
                           }}})
                  .ok());
  std::vector<os::UniqueFd> silent;
  for (int i = 0; i < 50; ++i) {
    silent.push_back(Connect(at));
    silent.push_back(Connect(at));
    Send(silent.back(), "GET / HTTP/1.1\r\nX-Slow");
  }
  for (int i = 0; i < 5; ++i) {
    silent.push_back(Connect(big_at));
    Send(silent.back(), "GET / HTTP/1.1\r\n\r\n");
  }
  std::atomic<bool> stop = false;
  std::thread slow([&] {
    const os::UniqueFd fd = Connect(at);
    while (!stop) {
      Send(fd, "x");
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  const auto start = steady_clock::now();
  for (int i = 0; i < 100; ++i)
    EXPECT_THAT(Get(at, "/ok"), EndsWith("/ok"));
  // A hundred answers take some ten milliseconds; none waited for another client's time.
  EXPECT_LT(steady_clock::now() - start, Times().request / 2);
  stop = true;
  slow.join();
}

TEST(Server, SlowRequestsEnd) {
  const net::Endpoint at = FreePort();
  Times times;
  times.request = milliseconds(300);
  Server server(times);
  ASSERT_TRUE(server.Start({EchoAt(at)}).ok());
  const os::UniqueFd fd = Connect(at);
  const auto start = steady_clock::now();
  bool closed = false;
  // A byte now and then does not buy more time.
  while (!closed && steady_clock::now() - start < kPatience) {
    Send(fd, "x");
    pollfd entry{fd.get(), POLLIN, 0};
    closed = poll(&entry, 1, 20) == 1;
  }
  EXPECT_TRUE(closed);
  EXPECT_GE(steady_clock::now() - start, times.request - milliseconds(100));
  EXPECT_LT(steady_clock::now() - start, Times().request);
}

TEST(Server, TheOldestMakeRoom) {
  const net::Endpoint at = FreePort();
  Server server;
  ASSERT_TRUE(server.Start({EchoAt(at)}).ok());
  std::vector<os::UniqueFd> silent;
  for (size_t i = 0; i < Server::kMaxConnections + 20; ++i)
    silent.push_back(Connect(at));
  EXPECT_THAT(Get(at, "/ok"), EndsWith("/ok"));
  // The first was closed, the last was not.
  EXPECT_EQ(ReadAll(silent.front()), "");
  Send(silent.back(), "GET /last HTTP/1.1\r\n\r\n");
  EXPECT_THAT(ReadAll(silent.back()), EndsWith("/last"));
}

TEST(Server, WhoDoesNotTakeItsAnswerIsLeft) {
  const net::Endpoint at = FreePort();
  Times times;
  times.answer = milliseconds(300);
  Server server(times);
  const std::string big(size_t{16} << 20, 'x');
  ASSERT_TRUE(server
                  .Start({{"big", at,
                           [&big](const Request&) {
                             return Response{200, "text/x", {}, big};
                           }}})
                  .ok());
  const os::UniqueFd fd = Connect(at);
  Send(fd, "GET / HTTP/1.1\r\n\r\n");
  // A reset is seen without reading.
  EXPECT_TRUE(Await([&] {
    pollfd entry{fd.get(), 0, 0};
    return poll(&entry, 1, 0) == 1;
  }));
  EXPECT_LT(ReadAll(fd).size(), big.size());
}

TEST(Server, SitesComeAndGo) {
  const net::Endpoint stays = FreePort();
  const net::Endpoint comes = FreePort();
  Server server;
  ASSERT_TRUE(server.Start({EchoAt(stays)}).ok());
  const os::UniqueFd open = Connect(stays);
  Send(open, "GET /kept HTTP");
  server.SetSites({EchoAt(stays), EchoAt(comes)});
  EXPECT_TRUE(Await([&] { return Get(comes, "/here") != "refused"; }));
  EXPECT_THAT(Get(comes, "/here"), EndsWith("/here"));
  // What stays is not touched, not even a request that is under way; its handler may be new.
  server.SetSites({{"echo", stays, [](const Request&) {
                      return Response{200, "text/x", {}, "new"};
                    }}});
  EXPECT_TRUE(Await([&] { return Get(comes, "/here") == "refused"; }));
  Send(open, "/1.1\r\n\r\n");
  EXPECT_THAT(ReadAll(open), EndsWith("new"));
  server.SetSites({});
  EXPECT_TRUE(Await([&] { return Get(stays) == "refused"; }));
}

TEST(Server, ABusyPortIsToldAndTakenWhenItIsFree) {
  HeldPort held("127.0.0.1");
  const net::Endpoint free = FreePort();
  Server server;
  ASSERT_TRUE(server.Start({EchoAt(held.at(), "busy"), EchoAt(free, "free")}).ok());
  std::vector<SiteNews> news = server.TakeNews();
  ASSERT_EQ(news.size(), 2u);
  for (const SiteNews& each : news) {
    EXPECT_EQ(each.status.ok(), each.name == "free") << each.status;
    if (each.name == "busy") {
      EXPECT_EQ(each.at, held.at());
      EXPECT_THAT(std::string(each.status.message()), HasSubstr("Address already in use"));
    }
  }
  EXPECT_THAT(Get(free, "/ok"), EndsWith("/ok"));
  // Asked for again: still busy, and no news.
  server.SetSites({EchoAt(held.at(), "busy"), EchoAt(free, "free")});
  EXPECT_THAT(Get(free, "/ok"), EndsWith("/ok"));
  EXPECT_TRUE(server.TakeNews().empty());
  held.Release();
  server.SetSites({EchoAt(held.at(), "busy"), EchoAt(free, "free")});
  EXPECT_TRUE(Await([&] { return Get(held.at(), "/mine") != "refused"; }));
  EXPECT_THAT(Get(held.at(), "/mine"), EndsWith("/mine"));
  news = server.TakeNews();
  ASSERT_EQ(news.size(), 1u);
  EXPECT_EQ(news[0].name, "busy");
  EXPECT_TRUE(news[0].status.ok());
}

TEST(Server, TriesABusyPortAgainByItself) {
  HeldPort held("::1");
  Times times;
  times.bind_again = milliseconds(50);
  Server server(times);
  ASSERT_TRUE(server.Start({EchoAt(held.at())}).ok());
  EXPECT_FALSE(server.TakeNews().at(0).status.ok());
  held.Release();
  EXPECT_TRUE(Await([&] { return Get(held.at(), "/mine") != "refused"; }));
  EXPECT_TRUE(server.TakeNews().at(0).status.ok());
}

TEST(Server, OfTwoSitesAtOnePlaceTheFirstHasIt) {
  const net::Endpoint at = FreePort();
  Server server;
  ASSERT_TRUE(server
                  .Start({EchoAt(at),
                          {"second", at,
                           [](const Request&) {
                             return Response{500, "", {}, ""};
                           }}})
                  .ok());
  EXPECT_THAT(Get(at, "/first"), EndsWith("/first"));
}

TEST(WithBothFamilies, OfTheUnspecifiedAddressOnly) {
  const auto text = [](const net::Endpoint& at) {
    std::vector<std::string> all;
    for (const net::Endpoint& each : WithBothFamilies(at))
      all.push_back(each.ToString());
    return all;
  };
  EXPECT_THAT(text({Ip("0.0.0.0"), 10256}), ElementsAre("0.0.0.0:10256", "[::]:10256"));
  EXPECT_THAT(text({Ip("::"), 1}), ElementsAre("0.0.0.0:1", "[::]:1"));
  EXPECT_THAT(text({Ip("::1"), 1}), ElementsAre("[::1]:1"));
  EXPECT_THAT(text({Ip("127.0.0.1"), 1}), ElementsAre("127.0.0.1:1"));
}

TEST(Server, ListensAtAllAddressesOfBothFamilies) {
  const uint16_t port = FreePort("::").port;
  Server server;
  std::vector<Site> sites;
  for (const net::Endpoint& at : WithBothFamilies({Ip("0.0.0.0"), port}))
    sites.push_back(EchoAt(at));
  ASSERT_TRUE(server.Start(std::move(sites)).ok());
  EXPECT_THAT(Get({Ip("127.0.0.1"), port}), HasSubstr(absl::StrCat("X-At: 0.0.0.0:", port)));
  EXPECT_THAT(Get({Ip("::1"), port}), HasSubstr(absl::StrCat("X-At: [::]:", port)));
}

TEST(HeadSize, IsThatOfLineAndHeaders) {
  EXPECT_EQ(HeadSize(""), 0u);
  EXPECT_EQ(HeadSize("GET / HTTP/1.1\r\nA: b\r\n"), 0u);
  EXPECT_EQ(HeadSize("GET / HTTP/1.1\r\n\r\nrest"), 18u);
}

}  // namespace
}  // namespace waggle::http
