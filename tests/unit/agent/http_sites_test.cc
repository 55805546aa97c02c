#include "userspace/agent/http_sites.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <string>
#include <vector>

#include "tests/await.h"
#include "userspace/os/unique_fd.h"

namespace waggle::agent {
namespace {

using testing::HasSubstr;
using testing::Not;

// A port of loopback that is taken until this goes away.
class TakenPort {
 public:
  TakenPort() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(fd_.get(), 1), 0);
    socklen_t size = sizeof(address);
    getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  uint16_t port() const { return port_; }

 private:
  os::UniqueFd fd_;
  uint16_t port_ = 0;
};

class NoSource final : public k8s::Source {
  absl::Status Start(k8s::EventSink*) override { return absl::OkStatus(); }
  void Stop() override {}
};

uint16_t FreePort() {
  return TakenPort().port();
}

class HttpSitesTest : public testing::Test {
 protected:
  HttpSitesTest() {
    config_.healthz_bind_address = {Loopback(), FreePort()};
    config_.metrics_bind_address = {Loopback(), FreePort()};
    config_.datapath.pin_path = "/nothing/is/pinned/here";
    config_.configz_json = "{\"kubeproxy.config.k8s.io\":{}}";
    board_.SetNodeEligible(true);
    const Moment now = Moment::Now();
    for (const net::Family family : health::kFamilies)
      board_.SetUpdated(family, now.wall);
  }
  static net::Address Loopback() { return *net::Address::Parse("127.0.0.1"); }

  void Start() {
    sites_ = std::make_unique<HttpSites>(config_, &board_, &queue_, &metrics_, &source_);
    const absl::Status status = sites_->Start();
    ASSERT_TRUE(status.ok()) << status;
  }
  // Status 0: refused.
  static httplib::Response Ask(uint16_t port, const std::string& path) {
    httplib::Client client("127.0.0.1", port);
    const httplib::Result result = client.Get(path.c_str());
    httplib::Response none;
    none.status = 0;
    return result ? *result : none;
  }
  int Healthz(const std::string& path = "/healthz") {
    return Ask(config_.healthz_bind_address->port, path).status;
  }
  httplib::Response Metrics(const std::string& path) {
    return Ask(config_.metrics_bind_address->port, path);
  }

  config::AgentConfig config_;
  health::Board board_{std::chrono::steady_clock::now()};
  EventQueue queue_;
  metrics::AgentMetrics metrics_;
  NoSource source_;
  std::unique_ptr<HttpSites> sites_;
};

TEST_F(HttpSitesTest, AnswersProbes) {
  Start();
  EXPECT_EQ(Healthz(), 200);
  EXPECT_EQ(Healthz("/livez"), 200);
  EXPECT_EQ(Healthz("/"), 404);
  EXPECT_EQ(Healthz("/metrics"), 404);
  board_.SetNodeEligible(false);
  EXPECT_EQ(Healthz(), 503);
  EXPECT_EQ(Healthz("/livez"), 200);
  EXPECT_EQ(metrics_.healthz[0].value(), 1u);
  EXPECT_EQ(metrics_.healthz[1].value(), 1u);
  EXPECT_EQ(metrics_.livez[0].value(), 2u);
}

// Nobody has to tell: a main thread that hangs cannot.
TEST_F(HttpSitesTest, NoticesAnOwnerThatHangs) {
  config_.sync_period = std::chrono::seconds(15);
  Start();
  EXPECT_EQ(Healthz("/livez"), 200);
  const auto now = std::chrono::steady_clock::now();
  // Nothing was taken from the queue for 30 s.
  k8s::ObjectChange change = {
      {k8s::ObjectKind::kService, {"ns", "web"}}, k8s::Deleted{}, now - std::chrono::seconds(30)};
  queue_.OnChange(change);
  EXPECT_EQ(Healthz("/livez"), 503);
  EXPECT_EQ(Healthz(), 503);
  queue_.Drain();
  EXPECT_EQ(Healthz("/livez"), 200);
  // No sign of life for as long.
  board_.Beat(now - std::chrono::seconds(30));
  EXPECT_EQ(Healthz("/livez"), 503);
  board_.Beat(std::chrono::steady_clock::now());
  EXPECT_EQ(Healthz("/livez"), 200);
}

TEST_F(HttpSitesTest, ServesTheRestOfKubeProxysPort) {
  config_.proxy_mode = config::ProxyMode::kNftables;
  Start();
  EXPECT_EQ(Metrics("/proxyMode").body, "nftables");
  EXPECT_EQ(Metrics("/configz").body, "{\"kubeproxy.config.k8s.io\":{}}");
  EXPECT_EQ(Metrics("/configz").get_header_value("Content-Type"), "application/json");
  EXPECT_EQ(Metrics("/healthz").body, "ok");
  EXPECT_EQ(Metrics("/livez").status, 404);
  const httplib::Response metrics = Metrics("/metrics");
  EXPECT_EQ(metrics.get_header_value("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  // Without pins the rest is told all the same.
  EXPECT_THAT(metrics.body, HasSubstr("\nwaggle_kernel_readable 0\n"));
  EXPECT_THAT(metrics.body, HasSubstr("\nwaggle_queue_length 0\n"));
}

TEST_F(HttpSitesTest, OpensAndClosesPortsOfHealthChecks) {
  Start();
  const uint16_t port = FreePort();
  const auto ask = [port] { return Ask(port, "/any"); };
  EXPECT_EQ(ask().status, 0);
  health::ServiceCheck check = {{"shop", "web"}, {true, true}, {2, 0}, true};
  sites_->SetChecks({{port, check}}, {Loopback()});
  ASSERT_TRUE(Await([&] { return ask().status == 200; }));
  EXPECT_EQ(ask().get_header_value("X-Load-Balancing-Endpoint-Weight"), "2");
  EXPECT_THAT(ask().body, HasSubstr("\"name\": \"web\""));
  // The node's part plays no role, that of the proxy does.
  board_.SetNodeEligible(false);
  EXPECT_EQ(ask().status, 200);
  board_.Beat(std::chrono::steady_clock::now() - std::chrono::minutes(5));
  EXPECT_EQ(ask().status, 503);
  EXPECT_THAT(ask().body, HasSubstr("\"serviceProxyHealthy\": false"));
  board_.Beat(std::chrono::steady_clock::now());
  // What is not in the kernel shall get no traffic.
  check.in_force = false;
  sites_->SetChecks({{port, check}}, {Loopback()});
  EXPECT_EQ(ask().status, 503);
  EXPECT_THAT(ask().body, HasSubstr("\"serviceProxyHealthy\": false"));
  EXPECT_EQ(ask().get_header_value("X-Load-Balancing-Endpoint-Weight"), "2");
  check.in_force = true;
  sites_->SetChecks({{port, check}}, {Loopback()});
  EXPECT_EQ(ask().status, 200);
  // Fewer endpoints: the same socket answers otherwise.
  check.local = {0, 0};
  sites_->SetChecks({{port, check}}, {Loopback()});
  EXPECT_EQ(ask().status, 503);
  EXPECT_EQ(ask().get_header_value("X-Load-Balancing-Endpoint-Weight"), "0");
  sites_->SetChecks({}, {Loopback()});
  EXPECT_TRUE(Await([&] { return ask().status == 0; }));
  EXPECT_EQ(Healthz("/livez"), 200);
}

TEST_F(HttpSitesTest, ABusyPortStopsNobodyUnlessItShall) {
  const TakenPort taken;
  config_.healthz_bind_address->port = taken.port();
  Start();
  EXPECT_EQ(Metrics("/proxyMode").status, 200);
  std::vector<std::string> news;
  for (const http::SiteNews& each : sites_->TakeNews())
    news.push_back(each.name + (each.status.ok() ? " ok" : " failed"));
  EXPECT_THAT(news, testing::UnorderedElementsAre("healthz failed", "metrics ok"));

  config_.bind_address_hard_fail = true;
  config_.metrics_bind_address.reset();
  HttpSites hard(config_, &board_, &queue_, &metrics_, &source_);
  const absl::Status status = hard.Start();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot serve healthz at 127.0.0.1:"));
}

TEST_F(HttpSitesTest, WhatIsSwitchedOffIsNotServed) {
  const uint16_t port = config_.healthz_bind_address->port;
  config_.healthz_bind_address.reset();
  Start();
  EXPECT_EQ(Ask(port, "/healthz").status, 0);
  EXPECT_EQ(Metrics("/proxyMode").status, 200);
}

}  // namespace
}  // namespace waggle::agent
