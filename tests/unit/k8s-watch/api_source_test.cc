#include "k8s-watch/api_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/unit/k8s-watch/fake_apiserver.h"

namespace waggle::k8s {
namespace {

using Exchange = FakeApiserver::Exchange;

// What the source has told, as one text an object.
class State final : public EventSink {
 public:
  void OnChange(ObjectChange change) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(std::exchange(inside_, true)) << "two calls at once";
    const std::string key =
        absl::StrCat(std::string(ObjectKindName(change.key.kind)), " ", change.key.name.name);
    ++changes_;
    if (std::holds_alternative<Deleted>(change.state)) {
      objects_.erase(key);
    } else if (const auto* object = std::get_if<Object>(&change.state)) {
      kept_[key] = *object;
      std::string text = "there";
      if (const auto* service = std::get_if<std::shared_ptr<const Service>>(object)) {
        text = std::to_string((*service)->ports.at(0).port);
      }
      objects_[key] = text;
    }
    inside_ = false;
    ++resting_;
    changed_.notify_all();
  }
  void OnPause() override {
    const std::lock_guard lock(mutex_);
    resting_ = 0;
    changed_.notify_all();
  }
  void OnSynced(bool complete) override {
    const std::lock_guard lock(mutex_);
    synced_.push_back(complete);
    changed_.notify_all();
  }
  void OnProblems(std::vector<Problem> problems) override {
    const std::lock_guard lock(mutex_);
    problems_.clear();
    for (const Problem& problem : problems)
      problems_.push_back(problem.ToString());
    changed_.notify_all();
  }

  using Objects = std::map<std::string, std::string>;
  // True as soon as these are all objects there are, and none is kept back.
  bool Reaches(const Objects& objects) {
    return WaitFor([&] { return objects_ == objects && resting_ == 0; });
  }
  bool IsSynced() {
    return WaitFor([&] { return !synced_.empty(); });
  }
  bool Tells(const std::string& part) {
    return WaitFor([&] {
      return std::any_of(problems_.begin(), problems_.end(),
                         [&](const std::string& each) { return absl::StrContains(each, part); });
    });
  }
  bool TellsNothing() {
    return WaitFor([&] { return problems_.empty(); });
  }
  std::vector<bool> synced() {
    const std::lock_guard lock(mutex_);
    return synced_;
  }
  std::string Show() {
    const std::lock_guard lock(mutex_);
    return absl::StrCat(testing::PrintToString(objects_), testing::PrintToString(problems_));
  }
  size_t size() {
    const std::lock_guard lock(mutex_);
    return objects_.size();
  }

 private:
  bool WaitFor(const std::function<bool()>& condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), condition);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool inside_ = false;
  size_t changes_ = 0;
  Objects objects_;
  std::map<std::string, Object> kept_;
  std::vector<bool> synced_;
  size_t resting_ = 0;  // changes since the last pause
  std::vector<std::string> problems_;
};

std::string Svc(const std::string& name, int port, const std::string& version = "5") {
  return absl::StrCat(R"({"metadata":{"name":")", name, R"(","namespace":"ns","resourceVersion":")",
                      version, R"("},"spec":{"clusterIP":"10.96.0.9","ports":[{"port":)", port,
                      "}]}}");
}
std::string List(const std::string& kind, const std::vector<std::string>& items) {
  return absl::StrCat(R"({"kind":")", kind,
                      R"(List","metadata":{"resourceVersion":"10"},"items":[)",
                      absl::StrJoin(items, ","), "]}");
}
std::string Event(const std::string& type, const std::string& object) {
  return absl::StrCat(R"({"type":")", type, R"(","object":)", object, "}\n");
}
const char* const kNode = R"({"metadata":{"name":"n1"}})";

// Serves slices and the Node, which never change; Services are the test's business.
FakeApiserver::Handler With(FakeApiserver::Handler services) {
  return [services = std::move(services)](Exchange& exchange) {
    const bool watch = absl::StrContains(exchange.target, "watch=true");
    if (absl::StartsWith(exchange.target, "/api/v1/services?")) return services(exchange);
    if (watch) {
      exchange.Head(200);
      return exchange.Hang();
    }
    const bool node = absl::StartsWith(exchange.target, "/api/v1/nodes?");
    exchange.Answer(200, node ? List("Node", {kNode}) : List("EndpointSlice", {}));
  };
}

bool IsWatch(const Exchange& exchange) {
  return absl::StrContains(exchange.target, "watch=true");
}

class ApiSourceTest : public testing::Test {
 protected:
  void Start(std::vector<std::string> urls, bool streaming = false) {
    ClientConfig config;
    for (const std::string& url : urls)
      config.endpoints.push_back(*ParseEndpoint(url));
    config.service_address = true;
    ApiSourceOptions options;
    options.node_name = "n1";
    options.streaming_list = streaming;
    options.service_address_advice = "say where it is";
    source_ = std::make_unique<ApiSource>(std::move(config), std::move(options));
    ASSERT_TRUE(source_->Start(&state_).ok());
  }
  void TearDown() override {
    if (source_ != nullptr) source_->Stop();
  }

  State state_;
  std::unique_ptr<ApiSource> source_;
};

const State::Objects kTwo = {{"Node n1", "there"}, {"Service a", "1"}, {"Service b", "2"}};

TEST_F(ApiSourceTest, ListsAndFollows) {
  FakeApiserver server(
      {}, With([](Exchange& exchange) {
        if (!IsWatch(exchange)) {
          exchange.Answer(200, List("Service", {Svc("a", 1), Svc("c", 3)}));
          return;
        }
        exchange.Head(200);
        exchange.Chunk(Event("ADDED", Svc("b", 2, "11")) + Event("DELETED", Svc("c", 3, "12")));
        exchange.Hang();
      }));
  Start({server.url()});
  EXPECT_TRUE(state_.Reaches(kTwo)) << state_.Show();
  // The other lists may come later.
  EXPECT_TRUE(state_.IsSynced());
  EXPECT_EQ(state_.synced(), (std::vector<bool>{true}));
}

TEST_F(ApiSourceTest, TakesAStreamingListWhereItIsOffered) {
  FakeApiserver server(
      {}, With([](Exchange& exchange) {
        if (!absl::StrContains(exchange.target, "sendInitialEvents=true")) {
          exchange.Answer(500, "not this way");
          return;
        }
        exchange.Head(200);
        exchange.Chunk(Event("ADDED", Svc("a", 1)) + Event("ADDED", Svc("b", 2)));
        exchange.Chunk(Event("BOOKMARK", R"({"metadata":{"resourceVersion":"10","annotations":)"
                                         R"({"k8s.io/initial-events-end":"true"}}})"));
        exchange.Hang();
      }));
  // The other two wait for theirs: with nothing but a head they are not offered any.
  Start({server.url()}, true);
  EXPECT_TRUE(state_.Reaches({{"Service a", "1"}, {"Service b", "2"}})) << state_.Show();
}

// It is only for zones and hints: nothing waits for a Node that cannot be had.
TEST_F(ApiSourceTest, IsSyncedWithoutTheNodeWhereThatIsForbidden) {
  std::atomic<bool> open = false;
  const auto others = With([](Exchange& exchange) {
    if (!IsWatch(exchange)) {
      exchange.Answer(200, List("Service", {Svc("a", 1), Svc("b", 2)}));
      return;
    }
    exchange.Head(200);
    exchange.Hang();
  });
  FakeApiserver server({}, [&](Exchange& exchange) {
    if (!open && absl::StartsWith(exchange.target, "/api/v1/nodes?")) {
      exchange.Answer(403, "");
    } else {
      others(exchange);
    }
  });
  Start({server.url()});
  EXPECT_TRUE(state_.IsSynced());
  EXPECT_EQ(state_.synced(), (std::vector<bool>{true}));
  EXPECT_TRUE(state_.Reaches({{"Service a", "1"}, {"Service b", "2"}})) << state_.Show();
  EXPECT_TRUE(state_.Tells("the verb \"list\" on the resource \"nodes\"")) << state_.Show();
  open = true;
  EXPECT_TRUE(state_.Reaches(kTwo)) << state_.Show();
  EXPECT_TRUE(state_.TellsNothing());
  EXPECT_EQ(state_.synced(), (std::vector<bool>{true})) << "once is enough";
}

TEST_F(ApiSourceTest, IsNotSyncedBeforeAllListsHaveCome) {
  std::atomic<bool> open = false;
  FakeApiserver server(
      {}, With([&](Exchange& exchange) {
        if (IsWatch(exchange)) {
          exchange.Head(200);
          return exchange.Hang();
        }
        exchange.Answer(open ? 200 : 403, open ? List("Service", {Svc("a", 1), Svc("b", 2)}) : "");
      }));
  Start({server.url()});
  EXPECT_TRUE(state_.Tells("the verb \"list\" on the resource \"services\"")) << state_.Show();
  EXPECT_TRUE(state_.Reaches({{"Node n1", "there"}}));
  EXPECT_TRUE(state_.synced().empty());
  open = true;
  EXPECT_TRUE(state_.IsSynced());
  EXPECT_TRUE(state_.Reaches(kTwo)) << state_.Show();
  EXPECT_TRUE(state_.TellsNothing());
}

// Each way to spoil an answer, for the list and for the watch, and then the truth.
TEST_F(ApiSourceTest, EndsWithTheTruthWhateverHappensBefore) {
  const std::string half = List("Service", {Svc("a", 1)}).substr(0, 120);
  const std::vector<std::function<void(Exchange&)>> faults = {
      [](Exchange& e) { e.Cut(); },
      [&](Exchange& e) {
        e.Head(200);
        e.Chunk(half);
        e.Cut();
      },
      [&](Exchange& e) {
        e.Head(200);
        e.Send("fff\r\n" + half);
        e.Cut();
      },
      [](Exchange& e) { e.Answer(200, "{garbage"); },
      [](Exchange& e) { e.Answer(500, "oops"); },
      [](Exchange& e) { e.Answer(429, "", "Retry-After: 1\r\n"); },
      [](Exchange& e) { e.Answer(401, ""); },
      [](Exchange& e) { e.Answer(410, ""); },
  };
  for (size_t i = 0; i < faults.size(); ++i) {
    std::atomic<int> lists = 0;
    std::atomic<int> watches = 0;
    FakeApiserver server({}, With([&](Exchange& exchange) {
                           if (!IsWatch(exchange)) {
                             if (lists++ == 0) return faults[i](exchange);
                             exchange.Answer(200, List("Service", {Svc("a", 7), Svc("gone", 1)}));
                             return;
                           }
                           if (watches++ == 0) return faults[i](exchange);
                           exchange.Head(200);
                           exchange.Chunk(Event("MODIFIED", Svc("a", 1, "11")) +
                                          Event("ADDED", Svc("b", 2, "12")) +
                                          Event("DELETED", Svc("gone", 1, "13")));
                           exchange.Hang();
                         }));
    State state;
    ClientConfig config;
    config.endpoints = {*ParseEndpoint(server.url())};
    ApiSourceOptions options;
    options.node_name = "n1";
    options.streaming_list = false;
    ApiSource source(std::move(config), std::move(options));
    ASSERT_TRUE(source.Start(&state).ok());
    EXPECT_TRUE(state.Reaches(kTwo)) << "fault " << i << state.Show();
    EXPECT_TRUE(state.TellsNothing()) << "fault " << i << state.Show();
    source.Stop();
  }
}

TEST_F(ApiSourceTest, GoesOnWithAnotherServer) {
  const auto handler = With([](Exchange& exchange) {
    if (!IsWatch(exchange)) {
      exchange.Answer(200, List("Service", {Svc("a", 1), Svc("b", 2)}));
      return;
    }
    exchange.Head(200);
    exchange.Hang();
  });
  auto first = std::make_unique<FakeApiserver>(FakeApiserver::Options{}, handler);
  FakeApiserver second({}, With([](Exchange& exchange) {
                         if (!IsWatch(exchange)) {
                           exchange.Answer(200, List("Service", {Svc("a", 1), Svc("b", 2)}));
                           return;
                         }
                         exchange.Head(200);
                         exchange.Chunk(Event("MODIFIED", Svc("b", 22, "99")));
                         exchange.Hang();
                       }));
  Start({first->url(), second.url()});
  ASSERT_TRUE(state_.IsSynced());
  first.reset();
  EXPECT_TRUE(state_.Reaches({{"Node n1", "there"}, {"Service a", "1"}, {"Service b", "22"}}))
      << state_.Show();
}

TEST_F(ApiSourceTest, SaysWhatToDoAboutAClusterAddress) {
  uint16_t port = 0;
  {
    const FakeApiserver nobody({}, [](Exchange&) {});
    port = nobody.port();
  }
  Start({absl::StrCat("http://127.0.0.1:", port)});
  EXPECT_TRUE(state_.Tells("connect: Connection refused; say where it is;")) << state_.Show();
}

size_t StatusKb(const std::string& field) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word == field + ":") {
      size_t kb = 0;
      status >> kb;
      return kb;
    }
  }
  return 0;
}

// As the apiserver sends it: near half is managedFields.
std::string LargeSvc(int i) {
  const std::string fields(700, 'f');
  return absl::StrCat(
      R"({"metadata":{"name":"svc-)", i, R"(","namespace":"namespace-)", i % 100,
      R"(","uid":"8b1f0f3e-7f0a-4c39-8d2e-3a8e4f5c)", i, R"(","resourceVersion":")", i,
      R"(","creationTimestamp":"2026-01-01T00:00:00Z","labels":)", R"({"app":"app-)", i,
      R"("},"managedFields":[{"manager":"kubectl","operation":"Update",)",
      R"("fieldsV1":{"f:spec":{"f:x":")", fields, R"("}}}]},"spec":{"ports":[{"name":"http",)",
      R"("protocol":"TCP","port":80,"targetPort":8080}],"clusterIP":"10.)", 96 + i / 65536, ".",
      i / 256 % 256, ".", i % 256, R"(","clusterIPs":["10.)", 96 + i / 65536, ".", i / 256 % 256,
      ".", i % 256, R"("],"type":"ClusterIP","sessionAffinity":"None","ipFamilies":["IPv4"],)",
      R"("ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"},)",
      R"("status":{"loadBalancer":{}}})");
}

TEST_F(ApiSourceTest, AListOf10000TakesLittleMemory) {
  constexpr int kServices = 10'000;
  std::atomic<size_t> bytes = 0;
  FakeApiserver server(
      {}, With([&](Exchange& exchange) {
        exchange.Head(200);
        if (IsWatch(exchange)) return exchange.Hang();
        exchange.Chunk(R"({"kind":"ServiceList","metadata":{"resourceVersion":"10"},"items":[)");
        for (int i = 0; i < kServices; ++i) {
          const std::string item = absl::StrCat(i == 0 ? "" : ",", LargeSvc(i));
          bytes += item.size();
          if (!exchange.Chunk(item)) return;
        }
        exchange.Chunk("]}");
        exchange.EndChunks();
      }));
  const size_t before = StatusKb("VmRSS");
  const auto begin = std::chrono::steady_clock::now();
  Start({server.url()});
  ASSERT_TRUE(state_.IsSynced());
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(state_.size(), kServices + 1);
  const size_t grown = StatusKb("VmHWM") - before;
  std::printf(
      "%zu KB in %lld ms; peak grew by %zu KB\n", bytes / 1024,
      static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()),
      grown);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(grown, 24 * 1024);
#endif
}

}  // namespace
}  // namespace waggle::k8s
