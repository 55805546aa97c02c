#include "userspace/health/health.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace waggle::health {
namespace {

constexpr int kOk = 200;
constexpr int kUnavailable = 503;

// As Go writes times: fractions without zeros at the end; the zero time is year 1.
std::string Json(const std::optional<WallTime>& time) {
  if (!time) return "\"0001-01-01T00:00:00Z\"";
  const absl::Time text = absl::FromUnixNanos(time->time_since_epoch().count());
  return absl::StrCat("\"", absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", text, absl::UTCTimeZone()),
                      "\"");
}

const char* Json(bool value) {
  return value ? "true" : "false";
}

// The main thread shows itself each second, and a busy one somewhat later: a short syncPeriod is no
// reason to call it stuck.
constexpr Duration kSilence = std::chrono::seconds(30);

bool Late(const State& state, const State::Family& family) {
  const Duration patience =
      state.sync_period > Duration::max() / 2 ? Duration::max() : 2 * state.sync_period;
  if (state.silent >= std::max(patience, kSilence)) return true;
  return family.pending && *family.pending >= patience;
}

std::string Body(const State& state, bool ok, bool with_node) {
  std::optional<WallTime> updated;
  std::string families;
  for (const net::Family each : kFamilies) {
    const State::Family& family = state.families[Index(each)];
    if (!family.updated) continue;
    updated = std::max(updated.value_or(WallTime::min()), *family.updated);
    absl::StrAppend(&families, families.empty() ? "" : ",", "\"",
                    std::string(net::FamilyName(each)),
                    "\":{\"lastUpdated\":", Json(family.updated),
                    ",\"healthy\":", Json(!Late(state, family)), "}");
  }
  // Who is well is so now, whenever there was something to do last.
  if (ok) updated = state.now;
  std::string body =
      absl::StrCat("{\"lastUpdated\":", Json(updated), ",\"currentTime\":", Json(state.now));
  if (with_node) absl::StrAppend(&body, ",\"nodeEligible\":", Json(state.node_eligible));
  absl::StrAppend(&body, ",\"healthy\":", Json(ProxyHealthy(state)));
  if (!families.empty()) absl::StrAppend(&body, ",\"status\":{", families, "}");
  return body + "}";
}

}  // namespace

bool ProxyHealthy(const State& state) {
  return std::none_of(state.families.begin(), state.families.end(),
                      [&state](const State::Family& family) { return Late(state, family); });
}

Answer Healthz(const State& state) {
  const bool ok = ProxyHealthy(state) && state.node_eligible;
  return {ok ? kOk : kUnavailable, Body(state, ok, true)};
}

Answer Livez(const State& state) {
  const bool ok = ProxyHealthy(state);
  return {ok ? kOk : kUnavailable, Body(state, ok, false)};
}

Answer ServiceHealth(const ServiceName& service, uint32_t local_endpoints, bool proxy_healthy) {
  return {local_endpoints > 0 && proxy_healthy ? kOk : kUnavailable,
          absl::StrFormat("{\n"
                          "\t\"service\": {\n"
                          "\t\t\"namespace\": \"%s\",\n"
                          "\t\t\"name\": \"%s\"\n"
                          "\t},\n"
                          "\t\"localEndpoints\": %d,\n"
                          "\t\"serviceProxyHealthy\": %s\n"
                          "}",
                          service.ns, service.name, local_endpoints, Json(proxy_healthy))};
}

}  // namespace waggle::health
