#include "userspace/agent/http_sites.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "userspace/metrics/exposition.h"
#include "userspace/metrics/process.h"
#include "userspace/metrics/render.h"

namespace waggle::agent {
namespace {

// A walk over a full map of flows costs a tenth of a second of a CPU.
constexpr std::chrono::seconds kWalkEvery{60};

http::Response NotFound() {
  return {404,
          "text/plain; charset=utf-8",
          {{"X-Content-Type-Options", "nosniff"}},
          "404 page not found\n"};
}

http::Response Text(std::string body) {
  return {
      200, "text/plain; charset=utf-8", {{"X-Content-Type-Options", "nosniff"}}, std::move(body)};
}

http::Response Json(health::Answer answer) {
  return {answer.status,
          "application/json",
          {{"X-Content-Type-Options", "nosniff"}},
          std::move(answer.body)};
}

}  // namespace

HttpSites::HttpSites(const config::AgentConfig& config, health::Board* board,
                     const EventQueue* queue, metrics::AgentMetrics* metrics,
                     const k8s::Source* source)
    : config_(config), board_(board), queue_(queue), metrics_(metrics), source_(source) {}

absl::Status HttpSites::Start() {
  if (absl::Status status = server_.Start(Sites()); !status.ok()) return status;
  news_ = server_.TakeNews();
  if (!config_.bind_address_hard_fail) return absl::OkStatus();
  for (const http::SiteNews& news : news_) {
    if (news.status.ok()) continue;
    return absl::Status(news.status.code(),
                        absl::StrCat("cannot serve ", news.name, " at ", news.at.ToString(), ": ",
                                     news.status.message(), " (bindAddressHardFail)"));
  }
  return absl::OkStatus();
}

void HttpSites::SetChecks(health::ServiceChecks checks, std::vector<net::Address> addresses) {
  std::map<uint16_t, std::string> names;
  for (const auto& [port, check] : checks)
    names[port] = "health checks of " + check.service.ToString();
  // Before the ports are open: who asks finds the answer.
  board_->checks().Set(std::make_shared<const health::ServiceChecks>(std::move(checks)));
  if (names == check_names_ && addresses == check_addresses_) return;
  check_names_ = std::move(names);
  check_addresses_ = std::move(addresses);
  server_.SetSites(Sites());
}

std::vector<http::SiteNews> HttpSites::TakeNews() {
  std::vector<http::SiteNews> news = std::exchange(news_, {});
  for (http::SiteNews& each : server_.TakeNews())
    news.push_back(std::move(each));
  return news;
}

std::vector<http::Site> HttpSites::Sites() {
  std::vector<http::Site> sites;
  const auto add = [&sites](const std::string& name, const net::Endpoint& at,
                            const http::Handler& handler) {
    for (const net::Endpoint& each : http::WithBothFamilies(at))
      sites.push_back({name, each, handler});
  };
  // The first of two sites at one place has it.
  if (config_.healthz_bind_address) {
    add("healthz", *config_.healthz_bind_address,
        [this](const http::Request& request) { return OnHealth(request); });
  }
  if (config_.metrics_bind_address) {
    add("metrics", *config_.metrics_bind_address,
        [this](const http::Request& request) { return OnMetrics(request); });
  }
  for (const auto& [port, name] : check_names_) {
    for (const net::Address& address : check_addresses_) {
      if (!http::CanListen(address.family())) continue;
      sites.push_back({name, {address, port}, [this](const http::Request& request) {
                         return OnCheck(request);
                       }});
    }
  }
  return sites;
}

health::State HttpSites::ReadState() const {
  const Moment now = Moment::Now();
  return board_->Read(queue_->waiting().oldest, config_.sync_period, now.steady, now.wall);
}

http::Response HttpSites::OnHealth(const http::Request& request) {
  const bool healthz = request.path == "/healthz";
  if (!healthz && request.path != "/livez") return NotFound();
  const health::State state = ReadState();
  health::Answer answer = healthz ? health::Healthz(state) : health::Livez(state);
  (healthz ? metrics_->healthz : metrics_->livez)[answer.status == 200 ? 0 : 1].Add();
  return Json(std::move(answer));
}

http::Response HttpSites::OnMetrics(const http::Request& request) {
  if (request.path == "/metrics") return Metrics();
  if (request.path == "/proxyMode") return Text(std::string(ProxyModeName(config_.proxy_mode)));
  if (request.path == "/healthz" || request.path == "/healthz/ping") return Text("ok");
  if (request.path == "/configz") return Json({200, config_.configz_json});
  return NotFound();
}

http::Response HttpSites::OnCheck(const http::Request& request) const {
  const auto checks = board_->checks().Get();
  const auto check = checks->find(request.at.port);
  // The Service has gone, and its port is about to be closed.
  if (check == checks->end()) return NotFound();
  const uint32_t local = check->second.CountFor(request.at.address.family());
  const bool healthy = check->second.in_force && health::ProxyHealthy(ReadState());
  http::Response response = Json(health::ServiceHealth(check->second.service, local, healthy));
  response.headers.emplace_back("X-Load-Balancing-Endpoint-Weight", absl::StrCat(local));
  return response;
}

http::Response HttpSites::Metrics() {
  const health::Time now = std::chrono::steady_clock::now();
  const bool walk = walked_at_ == health::Time() || now - walked_at_ >= kWalkEvery;
  absl::StatusOr<maps::KernelCounters> kernel = maps::ReadCounters(config_.datapath.pin_path, walk);
  if (walk) walked_at_ = now;
  // A map that changes faster than it can be walked takes nothing else along.
  const bool walked = walk && kernel.ok();
  if (walk && !walked) kernel = maps::ReadCounters(config_.datapath.pin_path, false);
  if (kernel.ok()) {
    if (walked) {
      walked_.clear();
      for (const maps::MapUsage& map : kernel->maps)
        walked_[map.name] = map.used;
    }
    for (maps::MapUsage& map : kernel->maps) {
      if (map.name != "devices") map.used = walked_[map.name];
    }
  }
  metrics::Facts facts;
  facts.agent = metrics_;
  facts.kernel = kernel.ok() ? &*kernel : nullptr;
  facts.api = source_->counts();
  facts.events = source_->event_counts();
  facts.process = metrics::ReadProcess();
  const EventQueue::Waiting waiting = queue_->waiting();
  facts.queued_services = waiting.services;
  facts.queued_slices = waiting.slices;
  facts.queued_others = waiting.others;
  facts.version = WAGGLE_VERSION;
  return {200, metrics::kContentType, {}, metrics::Render(facts)};
}

}  // namespace waggle::agent
