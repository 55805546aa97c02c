#include "k8s-watch/stream_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "k8s-watch/json_splitter.h"

namespace waggle::k8s {
namespace {

std::string Svc(const std::string& name, int port, const std::string& more = "") {
  return absl::StrCat(R"({"metadata":{"name":")", name,
                      R"(","namespace":"ns","resourceVersion":"7",)",
                      R"("managedFields":[{"f":{"x":[1,"}"]}}]},"spec":{"clusterIP":"10.96.0.9",)",
                      R"("ports":[{"port":)", port, "}]", more, "}}");
}

std::string List(const std::string& items,
                 const std::string& metadata = R"({"resourceVersion":"9"})") {
  return absl::StrCat(R"({"kind":"ServiceList","apiVersion":"v1","metadata":)", metadata,
                      R"(,"items":)", items, "}");
}

std::string Show(const StreamObject& object) {
  std::string text = object.name ? object.name->name : "?";
  if (object.object && object.object->object) {
    const auto& service = std::get<std::shared_ptr<const Service>>(*object.object->object);
    absl::StrAppend(&text, "=", service->ports.empty() ? 0 : service->ports[0].port);
  }
  if (object.unidentified) text += " unidentified";
  for (const Problem& problem : object.problems)
    absl::StrAppend(&text, " [", problem.ToString(), "]");
  return text;
}

// Feeds `text` in two pieces, each of which is gone when its turn is over.
template <typename Decoder>
absl::Status FeedCut(Decoder* decoder, const std::string& text, size_t cut) {
  for (const std::string_view piece :
       {std::string_view(text).substr(0, cut), std::string_view(text).substr(cut)}) {
    std::string copy(piece);
    const absl::Status status = decoder->Feed(copy);
    copy.assign(copy.size(), '#');
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// What a list says; the end or the error is the last line.
std::vector<std::string> ReadList(const std::string& text, size_t cut) {
  std::vector<StreamObject> objects;
  ListDecoder decoder(ObjectKind::kService,
                      [&](StreamObject object) { objects.push_back(std::move(object)); });
  const absl::Status status = FeedCut(&decoder, text, cut);
  std::vector<std::string> lines;
  for (const StreamObject& object : objects)
    lines.push_back(Show(object));
  if (!status.ok()) {
    lines.push_back(std::string(status.message()));
    return lines;
  }
  const auto end = decoder.Finish();
  lines.push_back(
      end.ok() ? absl::StrCat("end ", end->resource_version,
                              end->continue_token.empty() ? "" : " more " + end->continue_token)
               : std::string(end.status().message()));
  return lines;
}

struct ListCase {
  const char* name;
  std::string text;
  std::vector<std::string> expected;
};
void PrintTo(const ListCase& test, std::ostream* out) {
  *out << test.name;
}

class Lists : public testing::TestWithParam<ListCase> {};

TEST_P(Lists, AreReadTheSameWhereverTheyAreCut) {
  const std::string& text = GetParam().text;
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    ASSERT_EQ(ReadList(text, cut), GetParam().expected) << "cut at " << cut << ": " << text;
  }
}

const char* const kEmptyError = "the list has no metadata.resourceVersion";

INSTANTIATE_TEST_SUITE_P(
    Cases, Lists,
    testing::Values(
        ListCase{"Two", List("[" + Svc("a", 1) + "," + Svc("b", 2) + "]"), {"a=1", "b=2", "end 9"}},
        ListCase{"None", List("[]"), {"end 9"}}, ListCase{"Null", List("null"), {"end 9"}},
        ListCase{"Spaced",
                 " \n" + List(" [ " + Svc("a", 1) + " , \n" + Svc("b", 2) + " ] ") + "\n ",
                 {"a=1", "b=2", "end 9"}},
        ListCase{"ItemsFirst",
                 R"({"items":[)" + Svc("a", 1) +
                     R"(],"metadata":{"continue":"c","resourceVersion":"9"},"kind":"ServiceList"})",
                 {"a=1", "end 9 more c"}},
        ListCase{"ItemsElsewhereAreNone",
                 R"({"kind":"ServiceList","metadata":{"items":[{}],"resourceVersion":"9"},)"
                 R"("x":{"items":[1]},"y":"items","z":[2],"items":[]})",
                 {"end 9"}},
        ListCase{"BracketsInStrings",
                 List("[" + Svc("a", 1, R"(,"x":"]}\",\\")") + "]"),
                 {"a=1", "end 9"}},
        ListCase{"NewerSchema",
                 List("[" + Svc("a", 1, R"(,"later":{"new":[null,1.5e3,true]})") + "]"),
                 {"a=1", "end 9"}},
        ListCase{"OneBadAmongOthers",
                 List("[" + Svc("a", 1) + "," + Svc("b", 0) + "," + Svc("c", 3) + "]"),
                 {"a=1",
                  "b=0 [Service ns/b (apiserver): spec.ports[0].port: invalid: is 0, "
                  "expected a port number, a whole number from 1 to 65535; this port is left out]",
                  "c=3", "end 9"}},
        ListCase{"NamelessOne",
                 List(R"([{"metadata":{}},)" + Svc("a", 1) + "]"),
                 {"? unidentified [Service (apiserver, items[0]): metadata.name: invalid: is "
                  "missing; this object is left out]",
                  "a=1", "end 9"}},
        ListCase{
            "BrokenOne",
            List(R"([{"metadata":nul},)" + Svc("a", 1) + "]"),
            {"? unidentified [Service (apiserver, items[0]): unreadable: not JSON: syntax error "
             "while parsing value - invalid literal; last read: '\\\"metadata\\\":nul}'; this "
             "object is left out]",
             "a=1", "end 9"}},
        ListCase{"NoVersion", List("[]", "{}"), {kEmptyError}},
        ListCase{"AnotherKind",
                 R"({"kind":"Status","metadata":{},"status":"Failure"})",
                 {"kind is \"Status\", expected \"ServiceList\""}},
        ListCase{"Cut",
                 R"({"kind":"ServiceList","items":[)" + Svc("a", 1) + ",",
                 {"a=1", "ended in the middle of an object"}},
        ListCase{"Nothing", "", {"ended before it began"}},
        ListCase{"Html", "<html>", {"not what was asked for: \"<\" where an object was expected"}},
        ListCase{"Array", "[]", {"not what was asked for: \"[\" where an object was expected"}},
        ListCase{"MoreBehind",
                 List("[]") + "{}",
                 {"not what was asked for: \"{\" where the end was expected"}},
        ListCase{"NoComma",
                 List("[" + Svc("a", 1) + Svc("b", 1) + "]"),
                 {"a=1", "not what was asked for: \"{\" where an object of the list was expected"}},
        ListCase{"TwoCommas",
                 List("[" + Svc("a", 1) + ",,"),
                 {"a=1", "not what was asked for: \",\" where an object of the list was expected"}},
        ListCase{"LastComma",
                 List("[" + Svc("a", 1) + ",]"),
                 {"a=1", "not what was asked for: \"]\" where an object of the list was expected"}},
        ListCase{"Numbers",
                 List("[5]"),
                 {"not what was asked for: \"5\" where an object of the list was expected"}}),
    [](const testing::TestParamInfo<ListCase>& test) { return test.param.name; });

std::vector<std::string> ReadWatch(const std::string& text, size_t cut) {
  std::vector<WatchEvent> events;
  WatchDecoder decoder(ObjectKind::kService, /*skip_bad=*/false, [&](WatchEvent event) {
    events.push_back(std::move(event));
    return absl::OkStatus();
  });
  absl::Status status = FeedCut(&decoder, text, cut);
  if (status.ok()) status = decoder.Finish();
  std::vector<std::string> lines;
  for (const WatchEvent& event : events) {
    constexpr const char* kTypes[] = {"put ", "deleted ", "bookmark", "error "};
    std::string line = kTypes[static_cast<size_t>(event.type)];
    if (event.type == WatchEvent::Type::kError) {
      absl::StrAppend(&line, event.error.code, " ", event.error.reason, " ", event.error.message);
    } else {
      if (event.type != WatchEvent::Type::kBookmark) line += Show(event.object);
      absl::StrAppend(&line, " @", event.resource_version);
      if (event.initial_events_end) line += " end";
    }
    lines.push_back(line);
  }
  if (!status.ok()) lines.push_back(std::string(status.message()));
  return lines;
}

class Watches : public testing::TestWithParam<ListCase> {};

TEST_P(Watches, AreReadTheSameWhereverTheyAreCut) {
  const std::string& text = GetParam().text;
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    ASSERT_EQ(ReadWatch(text, cut), GetParam().expected) << "cut at " << cut << ": " << text;
  }
}

std::string Event(const std::string& type, const std::string& object) {
  return absl::StrCat(R"({"type":")", type, R"(","object":)", object, "}\n");
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Watches,
    testing::Values(
        ListCase{"Events",
                 Event("ADDED", Svc("a", 1)) + Event("MODIFIED", Svc("a", 2)) +
                     Event("DELETED", Svc("a", 2)),
                 {"put a=1 @7", "put a=2 @7", "deleted a=2 @7"}},
        ListCase{"WithoutSpace",
                 R"({"type":"ADDED","object":)" + Svc("a", 1) + "}" + R"({"object":)" +
                     Svc("b", 2) + R"(,"type":"ADDED"})",
                 {"put a=1 @7", "put b=2 @7"}},
        ListCase{"Bookmarks",
                 Event("BOOKMARK", R"({"kind":"Service","metadata":{"resourceVersion":"12"}})") +
                     Event("BOOKMARK", R"({"metadata":{"resourceVersion":"13","annotations":)"
                                       R"({"k8s.io/initial-events-end":"true"}}})"),
                 {"bookmark @12", "bookmark @13 end"}},
        ListCase{"Gone",
                 Event("ERROR", R"({"kind":"Status","status":"Failure","message":"too old",)"
                                R"("reason":"Expired","code":410})"),
                 {"error 410 Expired too old"}},
        ListCase{
            "UnknownType", Event("RENAMED", "{}"), {"an event of the unknown type \"RENAMED\""}},
        ListCase{"NoObject", R"({"type":"ADDED"})", {"an event without object"}},
        ListCase{"Garbage", "%&", {"not what was asked for: \"%\" where an object was expected"}},
        ListCase{"NoJson",
                 "{nonsense}",
                 {"not JSON: syntax error while parsing object key - invalid literal; last read: "
                  "'{no'; expected string literal"}},
        ListCase{"Nothing", "", {}},
        ListCase{"CutWithin",
                 Event("ADDED", Svc("a", 1)) + R"({"type":"ADD)",
                 {"put a=1 @7", "ended in the middle of an object"}}),
    [](const testing::TestParamInfo<ListCase>& test) { return test.param.name; });

TEST(ListDecoder, ReadsByteByByte) {
  const std::string text = List("[" + Svc("a", 1) + "," + Svc("b", 2) + "]");
  std::vector<std::string> lines;
  ListDecoder decoder(ObjectKind::kService,
                      [&](StreamObject object) { lines.push_back(Show(object)); });
  for (const char c : text)
    ASSERT_TRUE(decoder.Feed({&c, 1}).ok());
  EXPECT_TRUE(decoder.Finish().ok());
  EXPECT_EQ(absl::StrJoin(lines, " "), "a=1 b=2");
}

// The apiserver takes any label. What no Service can be called is no Service's, and no reason to
// think that something may be missing.
TEST(ListDecoder, ASliceOfAnImpossibleOwnerIsNobodys) {
  std::vector<std::string> lines;
  ListDecoder decoder(ObjectKind::kEndpointSlice, [&](StreamObject object) {
    lines.push_back(absl::StrCat(object.name ? object.name->name : "?", object.object ? "" : " no",
                                 object.unidentified ? " unidentified" : "", " ",
                                 object.problems.size()));
  });
  const auto slice = [](const char* name, const char* labels) {
    return absl::StrCat(R"({"metadata":{"namespace":"ns","name":")", name, R"(","labels":)", labels,
                        R"(},"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}]})");
  };
  const std::string list =
      absl::StrCat(R"({"kind":"EndpointSliceList","metadata":{"resourceVersion":"1"},"items":[)",
                   slice("a", R"({"kubernetes.io/service-name":"web"})"), ",",
                   slice("b", R"({"kubernetes.io/service-name":"my.svc"})"), ",",
                   slice("c", R"({"kubernetes.io/service-name":"My_Svc"})"), ",",
                   slice("d", R"({"kubernetes.io/service-name":5})"), ",", slice("e", "{}"), "]}");
  ASSERT_TRUE(decoder.Feed(list).ok());
  ASSERT_TRUE(decoder.Finish().ok());
  EXPECT_THAT(lines, testing::ElementsAre("a 0", "b no 1", "c no 1", "d unidentified 1", "e no 0"));
}

TEST(JsonSplitter, RefusesAPartThatIsTooLarge) {
  JsonSplitter splitter(JsonSplitter::Shape::kValues,
                        [](std::string_view) { return absl::OkStatus(); });
  absl::Status status = splitter.Feed("{\"a\":\"");
  const std::string piece(size_t{1} << 20, 'x');
  size_t fed = 0;
  for (; status.ok() && fed < 32; ++fed)
    status = splitter.Feed(piece);
  EXPECT_EQ(status.message(), "an object of more than 4 MiB");
  EXPECT_EQ(fed, 4);
}

TEST(JsonSplitter, RefusesAListThatSaysTooMuch) {
  JsonSplitter splitter(JsonSplitter::Shape::kList,
                        [](std::string_view) { return absl::OkStatus(); });
  const std::string text = "{\"a\":\"" + std::string(size_t{2} << 20, 'x');
  EXPECT_EQ(splitter.Feed(text).message(), "a list that says more than 1 MiB beside its items");
}

TEST(ApiStatus, IsReadFromABody) {
  const ApiStatus status = ParseApiStatus(
      R"({"kind":"Status","code":504,"reason":"Timeout","message":"Too large resource version",)"
      R"("details":{"retryAfterSeconds":3,"causes":[{"reason":"ResourceVersionTooLarge"}]}})");
  EXPECT_EQ(status.code, 504);
  EXPECT_EQ(status.retry_after_s, 3);
  EXPECT_TRUE(status.too_large_version);
  EXPECT_EQ(ParseApiStatus("404 page not found\n").message, "404 page not found");
  EXPECT_EQ(ParseApiStatus(R"({"kind":"Status","code":"x","details":5})").code, 0);
  EXPECT_EQ(ParseApiStatus("").message, "");
}

}  // namespace
}  // namespace waggle::k8s
