#include "k8s-watch/event_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/await.h"
#include "tests/unit/k8s-watch/fake_apiserver.h"

namespace waggle::k8s {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Exchange = FakeApiserver::Exchange;

Problem Of(const std::string& name, const std::string& text = "is wrong",
           ProblemReason reason = ProblemReason::kInvalid, const std::string& kind = "Service") {
  return {{kind, kind == "Node" ? "" : "shop", name}, "apiserver", "spec.ports", reason, text};
}

const std::string kEvents = "/apis/events.k8s.io/v1/namespaces/shop/events";

// An apiserver with one object of any name, and a recorder that tells it.
class EventRecorderTest : public testing::Test {
 protected:
  EventRecorderTest()
      : server_(FakeApiserver::Options{}, [this](Exchange& exchange) { Answer(exchange); }),
        stop_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    ClientConfig config;
    ApiEndpoint endpoint;
    endpoint.tls = false;
    endpoint.host = "127.0.0.1";
    endpoint.port = server_.port();
    config.endpoints = {endpoint};
    client_ = std::make_unique<ApiClient>(config, ApiClient::Options{}, RealSurroundings(),
                                          stop_fd_.get());
    EventRecorder::Options options;
    options.node_name = "n1";
    options.now = [this] { return EventRecorder::Time(seconds(1000 + now_s_)); };
    options.retry_after = milliseconds(1);
    options.on_trouble = [this](const std::vector<Problem>& problems) {
      const std::lock_guard lock(mutex_);
      troubles_.push_back(problems.empty() ? "over" : problems.at(0).ToString());
    };
    recorder_ = std::make_unique<EventRecorder>(options, client_.get(), &counts_, stop_fd_.get());
  }
  ~EventRecorderTest() override { StopRecorder(); }

  void Start() {
    thread_ = std::thread([this] { recorder_->Run(); });
  }
  void StopRecorder() {
    const uint64_t one = 1;
    EXPECT_EQ(write(stop_fd_.get(), &one, sizeof(one)), ssize_t{sizeof(one)});
    if (thread_.joinable()) thread_.join();
  }
  uint64_t Done() const {
    return counts_.created + counts_.repeated + counts_.known + counts_.rate_limited +
           counts_.forbidden + counts_.gone + counts_.failed;
  }
  // Returns when the recorder has dealt with all of them.
  void Tell(const std::vector<Problem>& problems) {
    const uint64_t before = Done();
    recorder_->Report(problems);
    Await([&] { return Done() >= before + problems.size(); });
    EXPECT_EQ(Done(), before + problems.size());
  }
  // "POST <target>", without the look for the object.
  std::vector<std::string> Writes() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> writes;
    for (const auto& [line, body] : requests_) {
      if (!line.starts_with("GET ")) writes.push_back(line);
    }
    return writes;
  }
  json Body(size_t write) {
    const std::lock_guard lock(mutex_);
    for (const auto& [line, body] : requests_) {
      if (!line.starts_with("GET ") && write-- == 0) return json::parse(body);
    }
    return {};
  }
  std::vector<std::string> Troubles() {
    const std::lock_guard lock(mutex_);
    return troubles_;
  }

  // What is said to writes, in turn; the last one for ever. 0: the connection is cut.
  std::vector<int> statuses_ = {201};
  std::string error_body_ = R"({"kind":"Status","message":"words of the server"})";
  std::string list_ = R"({"items":[{"metadata":{"name":"web","uid":"u-1"}}]})";
  int list_status_ = 200;
  std::atomic<int> now_s_ = 0;
  EventCounts counts_;
  std::mutex mutex_;
  std::vector<std::pair<std::string, std::string>> requests_;  // line and body

 private:
  void Answer(Exchange& exchange) {
    const std::string line =
        absl::StrCat(exchange.head.substr(0, exchange.head.find(' ')), " ", exchange.target);
    int status = 0;
    {
      const std::lock_guard lock(mutex_);
      requests_.emplace_back(line, exchange.content);
      if (!line.starts_with("GET ")) {
        status = statuses_.front();
        if (statuses_.size() > 1) statuses_.erase(statuses_.begin());
      }
    }
    if (line.starts_with("GET ")) {
      exchange.Answer(list_status_, list_);
    } else if (status == 0) {
      exchange.Cut();
    } else {
      exchange.Answer(status, status < 300 ? exchange.content : error_body_);
    }
  }

  std::vector<std::string> troubles_;
  FakeApiserver server_;
  os::UniqueFd stop_fd_;
  std::unique_ptr<ApiClient> client_;

 protected:
  std::unique_ptr<EventRecorder> recorder_;
  std::thread thread_;
};

TEST_F(EventRecorderTest, MakesAnEventOfTheObject) {
  Start();
  Tell({Of("web")});
  EXPECT_THAT(Writes(), ElementsAre("POST " + kEvents));
  const json body = Body(0);
  EXPECT_EQ(body["apiVersion"], "events.k8s.io/v1");
  EXPECT_EQ(body["kind"], "Event");
  EXPECT_EQ(body["metadata"]["namespace"], "shop");
  EXPECT_EQ(body["metadata"]["name"], EventName(Of("web"), "u-1", "n1"));
  EXPECT_EQ(body["regarding"], json::parse(R"({"kind":"Service","namespace":"shop","name":"web",
                                               "apiVersion":"v1","uid":"u-1"})"));
  EXPECT_EQ(body["reason"], "InvalidField");
  EXPECT_EQ(body["note"], "spec.ports: is wrong");
  EXPECT_EQ(body["type"], "Warning");
  EXPECT_EQ(body["reportingController"], "waggle");
  EXPECT_EQ(body["reportingInstance"], "n1");
  EXPECT_EQ(body["action"], "ProgramService");
  const std::string time = body["eventTime"];
  EXPECT_THAT(time, testing::MatchesRegex("20..-..-..T..:..:..\\.......Z"));
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(requests_[0].first,
            "GET /api/v1/namespaces/shop/services?fieldSelector=metadata.name%3Dweb&limit=1");
}

TEST_F(EventRecorderTest, OfASliceAndOfTheNode) {
  Start();
  Tell({Of("web-1", "x", ProblemReason::kUnreadable, "EndpointSlice"),
        Of("n1", "y", ProblemReason::kInvalid, "Node")});
  EXPECT_THAT(Writes(), ElementsAre("POST " + kEvents,
                                    "POST /apis/events.k8s.io/v1/namespaces/default/events"));
  EXPECT_EQ(Body(0)["regarding"]["apiVersion"], "discovery.k8s.io/v1");
  EXPECT_FALSE(Body(1)["regarding"].contains("namespace"));
  const std::lock_guard lock(mutex_);
  EXPECT_THAT(requests_[0].first,
              HasSubstr("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?"));
  EXPECT_THAT(requests_[2].first, HasSubstr("/api/v1/nodes?fieldSelector=metadata.name%3Dn1&"));
}

TEST_F(EventRecorderTest, WhatComesAgainIsCounted) {
  Start();
  Tell({Of("web")});
  const std::string name = Body(0)["metadata"]["name"];
  now_s_ += 300;
  Tell({Of("web")});
  now_s_ += 500;
  Tell({Of("web"), Of("web", "another")});
  EXPECT_THAT(Writes(), ElementsAre("POST " + kEvents, "PATCH " + kEvents + "/" + name,
                                    "PATCH " + kEvents + "/" + name, "POST " + kEvents));
  EXPECT_EQ(Body(1)["series"]["count"], 2);
  EXPECT_EQ(Body(2)["series"]["count"], 3);
  EXPECT_TRUE(Body(2)["series"]["lastObservedTime"].is_string());
  EXPECT_EQ(counts_.repeated, 2u);
  // After ten minutes of silence it is told anew.
  now_s_ += 601;
  Tell({Of("web")});
  EXPECT_THAT(Writes(), SizeIs(5));
  EXPECT_EQ(Writes().back(), "POST " + kEvents);
}

TEST_F(EventRecorderTest, AnotherObjectOfTheNameIsAnother) {
  Start();
  Tell({Of("web")});
  list_ = R"({"items":[{"metadata":{"name":"web","uid":"u-2"}}]})";
  Tell({Of("web")});
  EXPECT_EQ(counts_.created, 2u);
  EXPECT_EQ(Body(1)["regarding"]["uid"], "u-2");
}

TEST_F(EventRecorderTest, AnEventThatIsGoneIsMadeAgain) {
  statuses_ = {201, 404, 201};
  Start();
  Tell({Of("web")});
  Tell({Of("web")});
  EXPECT_EQ(counts_.created, 2u);
  EXPECT_EQ(counts_.repeated, 0u);
  EXPECT_THAT(Writes(), SizeIs(3));
}

TEST_F(EventRecorderTest, WhatAnotherNodeHasToldIsNotToldAgain) {
  statuses_ = {409};
  Start();
  Tell({Of("web")});
  Tell({Of("web")});
  EXPECT_THAT(Writes(), SizeIs(1));
  EXPECT_EQ(counts_.known, 2u);
}

TEST_F(EventRecorderTest, NothingIsToldOfWhatIsGone) {
  list_ = R"({"items":[]})";
  Start();
  Tell({Of("web")});
  EXPECT_THAT(Writes(), IsEmpty());
  EXPECT_EQ(counts_.gone, 1u);
}

// Who may not list, or gets nonsense, tells without the uid.
TEST_F(EventRecorderTest, TheUidIsNotNeeded) {
  Start();
  const std::pair<int, std::string> answers[] = {{403, "{}"},
                                                 {200, "nonsense"},
                                                 {200, R"({"items":[7]})"},
                                                 {200, R"({"items":[{}]})"},
                                                 {200, R"({"items":[{"metadata":{"uid":5}}]})"}};
  size_t n = 0;
  for (const auto& [status, body] : answers) {
    list_status_ = status;
    list_ = body;
    Tell({Of(absl::StrCat("web", n))});
    EXPECT_FALSE(Body(n)["regarding"].contains("uid")) << body;
    ++n;
  }
  EXPECT_EQ(counts_.created, n);
}

TEST_F(EventRecorderTest, OthersThanObjectsAreNotTold) {
  Start();
  recorder_->Report({{{"apiserver", "", "https://m"}, "", "", ProblemReason::kUnreadable, "away"},
                     {{"file", "", "a.yaml"}, "", "", ProblemReason::kInvalid, "bad"},
                     {{"Service", "", ""}, "", "", ProblemReason::kUnreadable, "who?"}});
  Tell({Of("web")});
  EXPECT_THAT(Writes(), SizeIs(1));
}

TEST_F(EventRecorderTest, OneObjectCannotFloodAndAllTogetherNeither) {
  Start();
  std::vector<Problem> many;
  for (int i = 0; i < 40; ++i)
    many.push_back(Of("noisy", absl::StrCat("fault ", i)));
  Tell(many);
  EXPECT_EQ(counts_.created, 25u);
  EXPECT_EQ(counts_.rate_limited, 15u);
  many.clear();
  for (int i = 0; i < 40; ++i)
    many.push_back(Of(absl::StrCat("web", i)));
  Tell(many);
  EXPECT_EQ(counts_.created, 50u);
  // One for all in six seconds, one for the object in five minutes.
  now_s_ += 6;
  Tell({Of("late", "a"), Of("late", "b"), Of("noisy", "c")});
  EXPECT_EQ(counts_.created, 51u);
  now_s_ += 300;
  Tell({Of("noisy", "d"), Of("noisy", "e")});
  EXPECT_EQ(counts_.created, 52u);
}

TEST_F(EventRecorderTest, WhoMayNotIsSilent) {
  statuses_ = {403, 201};
  Start();
  Tell({Of("a"), Of("b"), Of("c")});
  EXPECT_THAT(Writes(), SizeIs(1));
  EXPECT_EQ(counts_.forbidden, 3u);
  ASSERT_THAT(Troubles(), SizeIs(1));
  EXPECT_THAT(Troubles()[0], HasSubstr("the ClusterRole needs the verb \"create\" on the resource "
                                       "\"events\" of the API group \"events.k8s.io\""));
  EXPECT_THAT(Troubles()[0], HasSubstr("words of the server"));
  now_s_ += 599;
  Tell({Of("d")});
  EXPECT_THAT(Writes(), SizeIs(1));
  now_s_ += 2;
  Tell({Of("e")});
  EXPECT_EQ(counts_.created, 1u);
  EXPECT_THAT(Troubles(), ElementsAre(testing::_, "over"));
}

TEST_F(EventRecorderTest, StillForbiddenIsNotSaidTwice) {
  statuses_ = {403};
  Start();
  Tell({Of("a")});
  now_s_ += 601;
  Tell({Of("b")});
  EXPECT_THAT(Writes(), SizeIs(2));
  EXPECT_THAT(Troubles(), SizeIs(1));
}

TEST_F(EventRecorderTest, ANamespaceThatEndsIsNoTrouble) {
  statuses_ = {403, 201};
  error_body_ = R"({"kind":"Status","reason":"Forbidden","message":"unable to create new content in
    namespace shop because it is being terminated","details":{"causes":[{"reason":
    "NamespaceTerminating"}]}})";
  Start();
  Tell({Of("a"), Of("b")});
  EXPECT_EQ(counts_.failed, 1u);
  EXPECT_EQ(counts_.created, 1u);
  EXPECT_THAT(Troubles(), IsEmpty());
}

TEST_F(EventRecorderTest, TriesAgainWhatMayWorkLater) {
  statuses_ = {503, 0, 201};
  Start();
  Tell({Of("web")});
  EXPECT_EQ(counts_.created, 1u);
  EXPECT_THAT(Writes(), SizeIs(3));
}

TEST_F(EventRecorderTest, GivesUpInTheEnd) {
  statuses_ = {500};
  Start();
  Tell({Of("web")});
  EXPECT_EQ(counts_.failed, 1u);
  EXPECT_THAT(Writes(), SizeIs(EventRecorder::kTries));
  statuses_ = {422};
  Tell({Of("other")});
  EXPECT_EQ(counts_.failed, 2u);
  EXPECT_THAT(Writes(), SizeIs(EventRecorder::kTries + 1));
}

// Nobody sends yet, as if the apiserver hung.
TEST_F(EventRecorderTest, TheQueueIsBounded) {
  std::vector<Problem> many;
  for (size_t i = 0; i < EventRecorder::kMaxQueue + 7; ++i)
    many.push_back(Of(absl::StrCat("web", i)));
  recorder_->Report(many);
  recorder_->Report({Of("late")});
  EXPECT_EQ(counts_.queue_full, 8u);
}

TEST(EventName, FollowsFromWhatIsSaid) {
  const Problem problem = Of("web");
  const std::string name = EventName(problem, "u", "n1");
  EXPECT_THAT(name, testing::MatchesRegex("web\\.[0-9a-f]{16}"));
  EXPECT_EQ(EventName(problem, "u", "n2"), name);
  Problem origin = problem;
  origin.origin = "elsewhere";
  EXPECT_EQ(EventName(origin, "u", "n1"), name);
  std::set<std::string> names = {
      name, EventName(problem, "v", "n1"), EventName(Of("web", "other"), "u", "n1"),
      EventName(Of("web", "is wrong", ProblemReason::kConflict), "u", "n1")};
  Problem field = problem;
  field.field = "spec";
  names.insert(EventName(field, "u", "n1"));
  EXPECT_THAT(names, SizeIs(5));
  // What only this node has.
  for (const ProblemReason reason : {ProblemReason::kFull, ProblemReason::kRefused}) {
    EXPECT_NE(EventName(Of("web", "x", reason), "u", "n1"),
              EventName(Of("web", "x", reason), "u", "n2"));
  }
  // A name of the API has at most 253 characters, and no label ends in a hyphen.
  const std::string longest =
      EventName(Of(std::string(199, 'a') + "-" + std::string(53, 'b')), "u", "n1");
  EXPECT_EQ(longest.size(), 199u + 17u);
}

TEST(EventBody, KeepsToTheLimitsOfTheApi) {
  const auto now = std::chrono::system_clock::time_point(seconds(1769860800) + milliseconds(5));
  Problem problem = Of("web", std::string(2000, 'x'));
  problem.field = "";
  json body = json::parse(EventBody(problem, "", std::string(200, 'n'), now));
  EXPECT_EQ(body["note"].get<std::string>().size(), 1024u);
  EXPECT_EQ(body["reportingInstance"].get<std::string>().size(), 128u);
  EXPECT_EQ(body["eventTime"], "2026-01-31T12:00:00.005000Z");
  EXPECT_FALSE(body["regarding"].contains("uid"));
  // Cut between characters, and whole where one is not.
  std::string accents;
  for (int i = 0; i < 700; ++i)
    accents += "\xc3\xa9";
  problem.text = accents;
  body = json::parse(EventBody(problem, "", "n1", now));
  EXPECT_EQ(body["note"].get<std::string>(), accents.substr(0, 1020) + "...");
  problem.text = "\xff";
  EXPECT_EQ(json::parse(EventBody(problem, "", "n1", now))["note"], "\xef\xbf\xbd");
}

TEST(TokenBucket, FillsUpToItsBurst) {
  using Time = TokenBucket::Time;
  TokenBucket bucket(2, 0.5, Time(seconds(10)));
  EXPECT_TRUE(bucket.Take(Time(seconds(10))));
  EXPECT_TRUE(bucket.Take(Time(seconds(10))));
  EXPECT_FALSE(bucket.Take(Time(seconds(11))));
  EXPECT_TRUE(bucket.Take(Time(seconds(12))));
  EXPECT_FALSE(bucket.Take(Time(seconds(11))));
  EXPECT_TRUE(bucket.Take(Time(seconds(100))));
  EXPECT_TRUE(bucket.Take(Time(seconds(100))));
  EXPECT_FALSE(bucket.Take(Time(seconds(100))));
}

}  // namespace
}  // namespace waggle::k8s
