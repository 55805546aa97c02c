#include "k8s-watch/reflector.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace waggle::k8s {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// What one request is answered with: pieces of the body, each so long after the last.
struct Answer {
  int status = 200;
  std::string retry_after;
  struct Piece {
    seconds after{0};
    std::string bytes;
  };
  std::vector<Piece> pieces;
  absl::Status end;  // of the transport, if the reader has not said no
  seconds end_after{0};
  bool no_head = false;
};

Answer Body(std::string text) {
  return {200, "", {{seconds(0), std::move(text)}}, absl::OkStatus(), seconds(0), false};
}
Answer Http(int status, std::string body, std::string retry_after = "") {
  return {status, std::move(retry_after), {{seconds(0), std::move(body)}}, {}, seconds(0), false};
}
Answer Unreachable(std::string why = "connect: Connection refused") {
  return {0, "", {}, absl::UnavailableError(why), seconds(0), true};
}
// A watch that works for a minute and ends as `end` says.
Answer Stream(std::string text, absl::Status end = absl::OkStatus()) {
  return {200, "", {{seconds(0), std::move(text)}}, std::move(end), seconds(60), false};
}

// One that brings enough bytes to live, for so long.
Answer Trickle(std::string text, seconds time) {
  Answer answer = Body(std::move(text));
  for (seconds at{0}; at < time; at += seconds(20))
    answer.pieces.push_back({seconds(20), std::string(size_t{32} << 10, ' ')});
  return answer;
}

class FakeTransport final : public Transport {
 public:
  absl::Status Get(const std::string& target, ResponseReader* reader) override {
    // What selects never changes: the tables leave it out.
    requests.push_back(absl::StrReplaceAll(
        target, {{Resource::Services().path + "?" + Resource::Services().query, ""}}));
    if (answers.empty()) {
      ADD_FAILURE() << "one request more: " << target;
      return absl::CancelledError("");
    }
    const Answer answer = answers.front();
    answers.erase(answers.begin());
    if (!answer.no_head) {
      if (auto s = reader->OnHead({answer.status, answer.retry_after}); !s.ok()) return s;
      for (const Answer::Piece& piece : answer.pieces) {
        if (auto s = Pass(piece.after, reader); !s.ok()) return s;
        if (auto s = reader->OnData(piece.bytes); !s.ok()) return s;
      }
    }
    if (auto s = Pass(answer.end_after, reader); !s.ok()) return s;
    return answer.end;
  }
  void FailOver() override { ++current; }
  size_t endpoints() const override { return count; }
  std::string endpoint() const override { return absl::StrCat("https://m", current % count); }

  absl::Status Pass(seconds time, ResponseReader* reader) {
    reader->OnPause();
    at_pause();
    for (; time.count() > 0; time -= seconds(1)) {
      now += seconds(1);
      if (auto s = reader->OnWait(); !s.ok()) return s;
    }
    return absl::OkStatus();
  }

  std::vector<Answer> answers;
  std::vector<std::string> requests;
  size_t count = 1;
  size_t current = 0;
  Reflector::Time now{seconds(1000)};
  std::function<void()> at_pause = [] {};
};

class Log final : public EventSink {
 public:
  void OnChange(ObjectChange change) override {
    std::string state = "deleted";
    if (std::holds_alternative<Unreadable>(change.state)) state = "unreadable";
    if (const auto* object = std::get_if<Object>(&change.state)) {
      const auto& service = std::get<std::shared_ptr<const Service>>(*object);
      state = std::to_string(service->ports.empty() ? 0 : service->ports[0].port);
    }
    lines.push_back(change.key.name.name + " " + state);
    ++resting;
    read_at.push_back(change.read_at);
  }
  void OnPause() override { resting = 0; }
  void OnSynced(bool complete) override { lines.push_back(complete ? "synced" : "synced in part"); }
  void OnProblems(std::vector<Problem> all) override {
    problems.clear();
    for (const Problem& problem : all)
      problems.push_back(problem.ToString());
    lines.push_back(all.empty() ? "no problems" : "problems");
  }
  std::vector<std::string> Take() { return std::exchange(lines, {}); }

  std::vector<std::string> lines;
  std::vector<std::string> problems;
  std::vector<Reflector::Time> read_at;  // of changes
  size_t resting = 0;                    // changes since the last pause
};

std::string Svc(const std::string& name, int port, const std::string& version = "5") {
  return absl::StrCat(R"({"metadata":{"name":")", name, R"(","namespace":"ns","resourceVersion":")",
                      version, R"("},"spec":{"clusterIP":"10.96.0.9","ports":[{"port":)", port,
                      "}]}}");
}
std::string List(const std::vector<std::string>& items, const std::string& version,
                 const std::string& more = "") {
  return absl::StrCat(R"({"kind":"ServiceList","metadata":{"resourceVersion":")", version,
                      R"(","continue":")", more, R"("},"items":[)", absl::StrJoin(items, ","),
                      "]}");
}
std::string Event(const std::string& type, const std::string& object) {
  return absl::StrCat(R"({"type":")", type, R"(","object":)", object, "}\n");
}
std::string Bookmark(const std::string& version, bool end = false) {
  return Event(
      "BOOKMARK",
      absl::StrCat(R"({"metadata":{"resourceVersion":")", version, "\"",
                   end ? R"(,"annotations":{"k8s.io/initial-events-end":"true"})" : "", "}}"));
}
std::string Status(int code, const std::string& reason, const std::string& more = "") {
  return absl::StrCat(R"({"kind":"Status","code":)", code, R"(,"reason":")", reason,
                      R"(","message":"words of the server")", more, "}");
}

// Stands between two events of a list, and is none.
const Answer kBroken = Stream(Event("ADDED", Svc("a", 1, "3")) + "{\"type\":\"ADDED\"}\n" +
                              Event("ADDED", Svc("b", 2, "4")) + Bookmark("10", true));

const std::string kFirst = "&limit=500&resourceVersion=0";
const std::string kWatch = "&watch=true&allowWatchBookmarks=true&timeoutSeconds=450";
const std::string kInitial = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
const std::string kTail = "; what is known stays in force, and it is tried again";

std::string From(const std::string& version) {
  return kWatch + "&resourceVersion=" + version;
}

struct Case {
  const char* name;
  std::vector<Answer> answers;
  std::vector<std::string> requests;  // without the selectors
  std::vector<std::string> told;
  std::vector<int> waits_ms;
  std::vector<std::string> problems;  // at the end
  bool streaming = false;
  size_t endpoints = 1;
};
void PrintTo(const Case& test, std::ostream* out) {
  *out << test.name;
}

class ReflectorTable : public testing::TestWithParam<Case> {};

TEST_P(ReflectorTable, AsksAndTells) {
  const Case& test = GetParam();
  FakeTransport transport;
  transport.answers = test.answers;
  transport.count = test.endpoints;
  Log log;
  Reflector::Options options;
  options.streaming_list = test.streaming;
  options.now = [&] { return transport.now; };
  Reflector reflector(Resource::Services(), options, &transport, &log);
  transport.at_pause = [&] { EXPECT_EQ(log.resting, 0u); };
  std::vector<int> waits;
  while (!transport.answers.empty()) {
    const auto wait = reflector.Step();
    EXPECT_EQ(log.resting, 0u);
    waits.push_back(static_cast<int>(wait.count()));
    transport.now += wait;
  }
  EXPECT_EQ(transport.requests, test.requests);
  EXPECT_EQ(log.lines, test.told);
  EXPECT_EQ(waits, test.waits_ms);
  EXPECT_EQ(log.problems, test.problems);
}

const Answer kList = Body(List({Svc("a", 1), Svc("b", 2)}, "10"));
const std::string kOutage = "apiserver https://m0: unreadable: connect: Connection refused" + kTail;

INSTANTIATE_TEST_SUITE_P(
    ListAndWatch, ReflectorTable,
    testing::Values(
        Case{"FirstListThenWatch",
             {kList,
              Stream(Event("MODIFIED", Svc("a", 3, "11")) + Event("ADDED", Svc("c", 4, "12")) +
                     Event("DELETED", Svc("b", 2, "13"))),
              Stream("")},
             {kFirst, From("10"), From("13")},
             {"a 1", "b 2", "synced", "a 3", "c 4", "b deleted"},
             {0, 0, 0},
             {}},
        Case{"Pages",
             {Body(List({Svc("a", 1)}, "10", "x/1")), Body(List({Svc("b", 2)}, "10", "y")),
              Body(List({}, "10")), Stream("")},
             {kFirst, "&limit=500&continue=x%2F1", "&limit=500&continue=y", From("10")},
             {"a 1", "b 2", "synced"},
             {0, 0, 0, 0},
             {}},
        Case{"APageThatFailsComesAgain",
             {Body(List({Svc("a", 1)}, "10", "x")), Unreachable(), Body(List({Svc("b", 2)}, "10")),
              Stream("")},
             {kFirst, "&limit=500&continue=x", "&limit=500&continue=x", From("10")},
             {"a 1", "problems", "b 2", "no problems", "synced"},
             {0, 1200, 0, 0},
             {}},
        Case{"PagesExpire",
             {Body(List({Svc("a", 1)}, "10", "x")), Http(410, Status(410, "Expired")),
              Body(List({Svc("b", 2)}, "20")), Stream("")},
             {kFirst, "&limit=500&continue=x", "&limit=500", From("20")},
             {"a 1", "b 2", "a deleted", "synced"},
             {0, 0, 0, 0},
             {}},
        Case{"BookmarksMoveOn",
             {kList, Stream(Bookmark("40")), Stream("")},
             {kFirst, From("10"), From("40")},
             {"a 1", "b 2", "synced"},
             {0, 0, 0},
             {}},
        Case{"WhatIsEqualIsNoChange",
             {kList, Stream(Event("MODIFIED", Svc("a", 1, "11")))},
             {kFirst, From("10")},
             {"a 1", "b 2", "synced"},
             {0, 0},
             {}},
        Case{"GoneByStatus",
             {kList, Http(410, Status(410, "Gone")), Body(List({Svc("b", 2), Svc("c", 3)}, "90")),
              Stream("")},
             {kFirst, From("10"), "&resourceVersion=10", From("90")},
             {"a 1", "b 2", "synced", "c 3", "a deleted", "synced"},
             {0, 0, 0, 0},
             {}},
        Case{"GoneInTheStream",
             {kList, Stream(Event("ERROR", Status(410, "Expired"))),
              Body(List({Svc("b", 2)}, "90")), Stream("")},
             {kFirst, From("10"), "&resourceVersion=10", From("90")},
             {"a 1", "b 2", "synced", "a deleted", "synced"},
             {0, 0, 0, 0},
             {}},
        Case{"GoneForTheListToo",
             {kList, Http(410, Status(410, "Gone")), Http(410, Status(410, "Expired")),
              Body(List({Svc("a", 1), Svc("b", 2)}, "90")), Stream("")},
             {kFirst, From("10"), "&resourceVersion=10", "&limit=500", From("90")},
             {"a 1", "b 2", "synced", "problems", "no problems", "synced"},
             {0, 0, 1200, 0, 0},
             {}},
        Case{"AServerThatLagsBehind",
             {kList, Http(410, Status(410, "Gone")),
              Http(504, Status(504, "Timeout",
                               R"(,"details":{"causes":[{"reason":"ResourceVersionTooLarge"}]})")),
              Body(List({Svc("a", 1)}, "8"))},
             {kFirst, From("10"), "&resourceVersion=10", "&limit=500"},
             {"a 1", "b 2", "synced", "problems", "b deleted", "no problems", "synced"},
             {0, 0, 1200, 0},
             {}}),
    [](const testing::TestParamInfo<Case>& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    StreamingList, ReflectorTable,
    testing::Values(
        Case{"Offered",
             {Stream(Event("ADDED", Svc("a", 1, "3")) + Event("ADDED", Svc("b", 2, "4")) +
                     Bookmark("10", true) + Event("MODIFIED", Svc("a", 5, "11"))),
              Stream("")},
             {kWatch + kInitial, From("11")},
             {"a 1", "b 2", "synced", "a 5"},
             {0, 0},
             {},
             true},
        Case{"RefusedByStatus",
             {Http(422, Status(422, "Invalid")), kList, Stream("")},
             {kWatch + kInitial, kFirst, From("10")},
             {"a 1", "b 2", "synced"},
             {0, 0, 0},
             {},
             true},
        // An apiserver whose etcd cannot report progress; the next list tries again.
        Case{"FailsByStatus",
             {Http(500, Status(500, "InternalError")), kList, Http(410, Status(410, "Expired")),
              Stream(Event("ERROR", Status(500, "InternalError"))), kList},
             {kWatch + kInitial, kFirst, From("10"), kWatch + kInitial + "&resourceVersion=10",
              "&resourceVersion=10"},
             {"a 1", "b 2", "synced", "synced"},
             {0, 0, 0, 0, 0},
             {},
             true},
        Case{"NeverEnds",
             {Stream(Event("ADDED", Svc("a", 1, "3"))), kList},
             {kWatch + kInitial, kFirst},
             {"a 1", "problems", "b 2", "no problems", "synced"},
             {1200, 0},
             {},
             true},
        // A server of before 1.27 on a busy cluster.
        Case{"KnowsNothingOfInitialEvents",
             {Trickle(Event("ADDED", Svc("a", 1, "3")), seconds(440)), kList},
             {kWatch + kInitial, kFirst},
             {"a 1", "problems", "b 2", "no problems", "synced"},
             {1200, 0},
             {},
             true},
        Case{"SomethingThatIsNoEvent",
             {kBroken, kBroken, kBroken},
             {kWatch + kInitial, kWatch + kInitial, kWatch + kInitial},
             {"a 1", "problems", "b 2", "problems", "synced in part"},
             {1200, 2400, 0},
             {"Service (apiserver, an event): unreadable: an event without object; this object is "
              "left out"},
             true},
        // What came before the cut counts for nothing but itself.
        Case{"CutBeforeItsEnd",
             {Body(Event("ADDED", Svc("a", 1, "3"))),
              Stream(Event("ADDED", Svc("b", 2, "4")) + Bookmark("10", true))},
             {kWatch + kInitial, kWatch + kInitial},
             {"a 1", "problems", "b 2", "a deleted", "no problems", "synced"},
             {1200, 0},
             {},
             true},
        Case{"AgainAfterGone",
             {Stream(Event("ADDED", Svc("a", 1, "3")) + Bookmark("10", true)),
              Stream(Event("ERROR", Status(410, "Expired"))),
              Stream(Event("ADDED", Svc("b", 2, "4")) + Bookmark("90", true)), Stream("")},
             {kWatch + kInitial, From("10"), kWatch + kInitial + "&resourceVersion=10", From("90")},
             {"a 1", "synced", "b 2", "a deleted", "synced"},
             {0, 0, 0, 0},
             {},
             true}),
    [](const testing::TestParamInfo<Case>& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Faults, ReflectorTable,
    testing::Values(
        Case{"NotThere",
             {Unreachable(), Unreachable(), Unreachable(), kList},
             {kFirst, kFirst, kFirst, kFirst},
             {"problems", "a 1", "b 2", "no problems", "synced"},
             {1200, 2400, 4800, 0},
             {}},
        Case{"FailsOver",
             {Unreachable(), kList, Stream("", absl::UnavailableError("cut")), Unreachable(),
              Unreachable(), Stream("")},
             {kFirst, kFirst, From("10"), From("10"), From("10"), From("10")},
             {"problems", "a 1", "b 2", "no problems", "synced", "problems", "problems",
              "no problems"},
             {0, 0, 0, 0, 1200, 0},
             {},
             false,
             2},
        // What one endpoint says need not hold for the other.
        Case{"AnotherEndpointMayLetUsIn",
             {Http(403, Status(403, "Forbidden")), kList, Stream("")},
             {kFirst, kFirst, From("10")},
             {"problems", "a 1", "b 2", "no problems", "synced"},
             {0, 0, 0},
             {},
             false,
             2},
        Case{"AnotherEndpointMayBeAnApiserver",
             {Body("<html>"), kList, Stream("")},
             {kFirst, kFirst, From("10")},
             {"problems", "a 1", "b 2", "no problems", "synced"},
             {0, 0, 0},
             {},
             false,
             2},
        Case{"AnotherEndpointMayBeLessBusy",
             {Http(429, Status(429, "TooManyRequests"), "120"), kList, Stream("")},
             {kFirst, kFirst, From("10")},
             {"problems", "a 1", "b 2", "no problems", "synced"},
             {0, 0, 0},
             {},
             false,
             2},
        Case{"TheFirstThatMayBeAskedAgainDecides",
             {Http(503, Status(503, "Busy"), "120"), Http(429, Status(429, "Busy"), "8"), kList,
              Stream("")},
             {kFirst, kFirst, kFirst, From("10")},
             {"problems", "problems", "a 1", "b 2", "no problems", "synced"},
             {0, 8400, 0, 0},
             {},
             false,
             2},
        Case{"AnErrorWithoutEnd",
             {Http(500, std::string(size_t{1} << 20, 'x')), kList, Stream("")},
             {kFirst, kFirst, From("10")},
             {"problems", "a 1", "b 2", "no problems", "synced"},
             {1200, 0, 0},
             {}},
        // Something on the way answers for the server.
        Case{"AWatchThatFallsSilent",
             {kList,
              {200,
               "",
               {{seconds(60), Bookmark("11")}, {seconds(70), Bookmark("12")}},
               absl::OkStatus(),
               seconds(400),
               false},
              Stream("")},
             {kFirst, From("10"), From("12")},
             {"a 1", "b 2", "synced"},
             {0, 0, 0},
             {}},
        // It brought something, and goes on from there, but not at any rate.
        Case{"AWatchThatEndsAfterEachEvent",
             {kList, Body(Event("MODIFIED", Svc("a", 3, "11"))),
              Body(Event("MODIFIED", Svc("a", 4, "12"))), Stream("")},
             {kFirst, From("10"), From("11"), From("12")},
             {"a 1", "b 2", "synced", "a 3", "a 4"},
             {0, 1000, 1000, 0},
             {}},
        Case{"ACutWatchIsResumedAtOnce",
             {kList,
              Stream(Event("MODIFIED", Svc("a", 3, "11")) + R"({"type":)",
                     absl::UnavailableError("the connection was cut")),
              Stream("")},
             {kFirst, From("10"), From("11")},
             {"a 1", "b 2", "synced", "a 3"},
             {0, 0, 0},
             {}},
        Case{"AWatchThatEndsAtOnceIsNot",
             {kList, Body(""), Body(""), Stream("")},
             {kFirst, From("10"), From("10"), From("10")},
             {"a 1", "b 2", "synced", "problems", "no problems"},
             {0, 1200, 2400, 0},
             {}},
        Case{"CutInAList",
             {Body(R"({"kind":"ServiceList","items":[)" + Svc("a", 1)), kList},
             {kFirst, kFirst},
             {"a 1", "problems", "b 2", "no problems", "synced"},
             {1200, 0},
             {}},
        Case{"GarbageInAList",
             {Body("<html>")},
             {kFirst},
             {"problems"},
             {1200},
             {"apiserver https://m0: unreadable: not what was asked for: \"<\" where an object was "
              "expected" +
              kTail}},
        // The same bad event again and again: only a list gets past it.
        Case{"GarbageInAWatch",
             {kList, Body("{?}"), Body("{?}"), Body("{?}"), kList, Stream("")},
             {kFirst, From("10"), From("10"), From("10"), "&resourceVersion=10", From("10")},
             {"a 1", "b 2", "synced", "problems", "no problems", "synced"},
             {0, 1200, 2400, 4800, 0, 0},
             {}},
        Case{"TooManyRequests",
             {Http(429, Status(429, "TooManyRequests"), "7"), kList},
             {kFirst, kFirst},
             {"problems", "a 1", "b 2", "no problems", "synced"},
             {7350, 0},
             {}},
        Case{"RetryAfterInTheBody",
             {Http(503, Status(503, "x", R"(,"details":{"retryAfterSeconds":2})"))},
             {kFirst},
             {"problems"},
             {2100},
             {"apiserver https://m0: unreadable: cannot list services: HTTP 503: words of the "
              "server" +
              kTail}},
        Case{"RetryAfterThatIsTooLong",
             {Http(503, "", "999999")},
             {kFirst},
             {"problems"},
             {315'000},
             {"apiserver https://m0: unreadable: cannot list services: HTTP 503" + kTail}},
        Case{"AnErrorInTheStream",
             {kList, Stream(Event("ERROR", Status(500, "InternalError")))},
             {kFirst, From("10")},
             {"a 1", "b 2", "synced", "problems"},
             {0, 1200},
             {"apiserver https://m0: unreadable: cannot watch services: HTTP 500: words of the "
              "server" +
              kTail}},
        Case{"TheTokenMayHaveBeenRenewed",
             {Http(401, ""), kList},
             {kFirst, kFirst},
             {"a 1", "b 2", "synced"},
             {0, 0},
             {}},
        Case{"NotAccepted",
             {Http(401, Status(401, "Unauthorized")), Http(401, Status(401, "Unauthorized"))},
             {kFirst, kFirst},
             {"problems"},
             {0, 1200},
             {"apiserver https://m0: unreadable: cannot list services: HTTP 401: the credentials "
              "are not accepted; they are read again for each request: words of the server" +
              kTail}},
        Case{
            "MayNotList",
            {Http(403, Status(403, "Forbidden"))},
            {kFirst},
            {"problems"},
            {1200},
            {"apiserver https://m0: unreadable: cannot list services: HTTP 403: the ClusterRole "
             "needs the verb \"list\" on the resource \"services\" of the API group \"\": words of "
             "the server" +
             kTail}},
        Case{"MayNotWatch",
             {kList, Http(403, Status(403, "Forbidden"))},
             {kFirst, From("10")},
             {"a 1", "b 2", "synced", "problems"},
             {0, 1200},
             {"apiserver https://m0: unreadable: cannot watch services: HTTP 403: the ClusterRole "
              "needs the verb \"watch\" on the resource \"services\" of the API group \"\": words "
              "of the server" +
              kTail}},
        Case{"NoToken",
             {{0, "", {}, absl::FailedPreconditionError("token: gone"), seconds(0), true}},
             {kFirst},
             {"problems"},
             {1200},
             {"apiserver https://m0: unreadable: token: gone" + kTail}},
        Case{"NoAnswer",
             {{0, "", {}, absl::OkStatus(), seconds(100), true}},
             {kFirst},
             {"problems"},
             {1200},
             {"apiserver https://m0: unreadable: no answer within 30 s" + kTail}},
        Case{"OneByteASecond",
             {{200, "", std::vector<Answer::Piece>(100, {seconds(1), " "}), {}, seconds(0), false}},
             {kFirst},
             {"problems"},
             {1200},
             {"apiserver https://m0: unreadable: less than 16 KiB in 30 s" + kTail}},
        Case{"AnEventThatDoesNotEnd",
             {kList,
              {200, "", std::vector<Answer::Piece>(100, {seconds(1), "{"}), {}, seconds(0), false},
              Stream("")},
             {kFirst, From("10"), From("10")},
             {"a 1", "b 2", "synced"},
             {0, 0, 0},
             {}},
        Case{"AWatchThatIsNeverEnded",
             {kList, {200, "", {}, {}, seconds(2000), false}, Stream("")},
             {kFirst, From("10"), From("10")},
             {"a 1", "b 2", "synced"},
             {0, 0, 0},
             {}}),
    [](const testing::TestParamInfo<Case>& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Objects, ReflectorTable,
    testing::Values(
        Case{"OneBadIsNamed",
             {Body(List({Svc("a", 1), R"({"metadata":{"name":"b","namespace":"ns"},"spec":5})"},
                        "10"))},
             {kFirst},
             {"a 1", "b unreadable", "problems", "synced"},
             {0},
             {"Service ns/b (apiserver): spec: invalid: is 5, expected a mapping; this object is "
              "left out",
              "Service ns/b (apiserver): unreadable: no earlier version of it is known; what the "
              "node has for it stays in force"}},
        Case{"TheLastGoodVersionStays",
             {kList,
              Stream(Event("MODIFIED", R"({"metadata":{"name":"b","namespace":"ns"},"spec":5})") +
                     Event("MODIFIED", Svc("a", 9, "12")) + Event("MODIFIED", Svc("b", 3, "13")))},
             {kFirst, From("10")},
             {"a 1", "b 2", "synced", "a 9", "b 3"},
             {0, 0},
             {}},
        // Nothing may be taken for deleted while something cannot be identified.
        Case{"NobodyKnowsWhichItIs",
             {kList, Http(410, ""), Body(List({Svc("a", 1), R"({"metadata":{}})"}, "20")),
              Stream(""), Body(List({Svc("a", 1)}, "30"))},
             {kFirst, From("10"), "&resourceVersion=10", From("20"), "&resourceVersion=20"},
             {"a 1", "b 2", "synced", "problems", "synced in part", "b deleted", "no problems",
              "synced"},
             {0, 0, 0, 0, 0},
             {}}),
    [](const testing::TestParamInfo<Case>& test) { return test.param.name; });

TEST(Backoff, GrowsToItsCapAndForgets) {
  Backoff backoff;
  std::chrono::steady_clock::time_point now{seconds(1)};
  std::vector<int> waits;
  for (int i = 0; i < 8; ++i)
    waits.push_back(static_cast<int>(backoff.Next(now, 0).count()));
  EXPECT_EQ(waits, (std::vector<int>{800, 1600, 3200, 6400, 12800, 25600, 30000, 30000}));
  EXPECT_EQ(backoff.Next(now, 0.999).count(), 30000);
  EXPECT_EQ(backoff.Next(now + seconds(121), 0.5).count(), 1200);
}

TEST(Resource, SelectsAsKubeProxyDoes) {
  EXPECT_EQ(Resource::Services().query,
            "labelSelector=%21service.kubernetes.io%2Fheadless%2C%21service.kubernetes.io%2F"
            "service-proxy-name&fieldSelector=spec.clusterIP%21%3DNone");
  EXPECT_EQ(Resource::EndpointSlices().query,
            "labelSelector=%21service.kubernetes.io%2Fheadless%2C%21service.kubernetes.io%2F"
            "service-proxy-name");
  EXPECT_EQ(Resource::OneNode("n1.example").query, "fieldSelector=metadata.name%3Dn1.example");
}

TEST(Reflector, CountsAndStampsWhatCame) {
  FakeTransport transport;
  const std::string late = Event("MODIFIED", Svc("a", 3, "11"));
  Answer watch = Body("");
  // The event's last byte comes 7 seconds after its first.
  watch.pieces = {{seconds(1), late.substr(0, 20)}, {seconds(7), late.substr(20)}};
  watch.end_after = seconds(60);
  transport.answers = {Unreachable(), Http(503, "busy"), Http(401, ""), kList,
                       watch,         Http(403, "")};
  Log log;
  RequestCounts counts;
  Reflector::Options options;
  options.streaming_list = false;
  options.now = [&] { return transport.now; };
  options.counts = &counts;
  Reflector reflector(Resource::Services(), options, &transport, &log);
  const Reflector::Time start = transport.now;
  for (int i = 0; i < 3; ++i) {
    reflector.Step();
    EXPECT_FALSE(counts.connected) << i;
  }
  reflector.Step();
  EXPECT_TRUE(counts.connected);
  reflector.Step();
  EXPECT_TRUE(counts.connected);
  reflector.Step();
  EXPECT_FALSE(counts.connected);
  EXPECT_EQ(counts.unanswered, 1u);
  EXPECT_EQ(counts.answers[503], 1u);
  EXPECT_EQ(counts.answers[401], 1u);
  EXPECT_EQ(counts.answers[403], 1u);
  EXPECT_EQ(counts.answers[200], 2u);
  EXPECT_EQ(counts.head_times[0], 5u);
  EXPECT_EQ(counts.lists, 1u);
  EXPECT_EQ(counts.watches, 1u);
  EXPECT_EQ(counts.events, 1u);
  EXPECT_EQ(counts.failures, 4u);
  EXPECT_GT(counts.bytes, late.size());
  ASSERT_EQ(log.read_at.size(), 3u);
  EXPECT_EQ(log.read_at[0], start);
  EXPECT_EQ(log.read_at[2], start + seconds(8));
}

}  // namespace
}  // namespace waggle::k8s
