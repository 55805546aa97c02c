// The reader of an apiserver's JSON has two ways. Whatever it is given, its result is that of the
// one that nlohmann's parser takes. What is decoded from a result is others' business
// (decode_test).
#include "k8s-watch/json_reader.h"

#include <gtest/gtest.h>

#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "k8s-watch/decode.h"
#include "k8s-watch/json_splitter.h"
#include "k8s-watch/pruned_json.h"
#include "k8s-watch/text_scan.h"
#include "tests/unit/k8s-watch/apiserver_json.h"
#include "tests/unit/k8s-watch/decode_fixture.h"

namespace waggle::k8s {

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Decode);  // only the texts of its fixture are of use

namespace {

using nlohmann::json;

bool Same(const Value& value, const json& expected) {
  switch (value.type()) {
    case Value::Type::kNull:
      return expected.is_null();
    case Value::Type::kBool:
      return expected.is_boolean() && value.boolean() == expected.get<bool>();
    case Value::Type::kInteger:
      return expected.type() == json::value_t::number_integer &&
             value.integer() == expected.get<int64_t>();
    case Value::Type::kUnsigned:
      return expected.is_number_unsigned() && value.unsigned_integer() == expected.get<uint64_t>();
    case Value::Type::kFloat:
      return expected.is_number_float() && value.real() == expected.get<double>();
    case Value::Type::kString:
      return expected.is_string() && value.text() == expected.get_ref<const std::string&>();
    case Value::Type::kList: {
      if (!expected.is_array() || value.size() != expected.size()) return false;
      size_t i = 0;
      for (const Value& item : value) {
        if (!Same(item, expected[i++])) return false;
      }
      return i == expected.size();
    }
    case Value::Type::kMapping: {
      if (!expected.is_object() || value.size() != expected.size()) return false;
      size_t steps = 0;
      for ([[maybe_unused]] const Value& member : value)
        ++steps;
      if (steps != 2 * expected.size()) return false;
      for (const auto& [key, member] : expected.items()) {
        const Value* const found = value.Find(key);
        if (found == nullptr || !Same(*found, member)) return false;
      }
      return true;
    }
  }
  return false;
}

// It was not nlohmann's parser that read `text`: the first key is a piece of it.
bool WasFast(const Value& root, const std::string& text) {
  if (!root.is_mapping() || root.empty()) return false;
  const char* const key = root.front().text().data();
  return key >= text.data() && key < text.data() + text.size();
}

std::vector<std::string> DecodedLines(const Value& object, ObjectKind kind) {
  DecodeResult decoded;
  DecodeObject(object, kind, "apiserver", &decoded);
  ManifestContent content;
  content.objects = std::move(decoded.objects);
  content.problems = std::move(decoded.problems);
  std::vector<std::string> lines = ShowAll(content);
  for (std::string& line : ShowProblems(content))
    lines.push_back(std::move(line));
  lines.push_back(absl::StrCat(decoded.unidentified, " ", decoded.ignored));
  return lines;
}

struct Outcome {
  bool fast = false;      // it was the fast reader
  bool problems = false;  // the object was decoded, and something is wrong with it
};

// Reads `text` both ways, and decodes what comes of each.
Outcome ReadBoth(JsonReader* reader, const std::string& text, ObjectKind kind) {
  Outcome outcome;
  const absl::StatusOr<json> expected = ReadPrunedJson(text);
  const absl::Status status = reader->Read(text);
  EXPECT_EQ(status, expected.status()) << text;
  if (!status.ok() || !expected.ok()) return outcome;
  EXPECT_TRUE(Same(reader->root(), *expected)) << text;
  const Value* const object = reader->root().is_mapping() ? reader->root().Find("object") : nullptr;
  if (object != nullptr && object->is_mapping()) {
    const std::vector<Value> values = ToValues((*expected)["object"]);
    EXPECT_EQ(DecodedLines(*object, kind), DecodedLines(values.front(), kind)) << text;
    DecodeResult decoded;
    DecodeObject(*object, kind, "apiserver", &decoded);
    outcome.problems = !decoded.problems.empty();
  }
  outcome.fast = WasFast(reader->root(), text);
  reader->Forget();
  return outcome;
}

// With memory that is just as large as it must be, so that a sanitizer sees what is written behind
// it.
Outcome ReadBothAnew(const std::string& text, ObjectKind kind) {
  JsonReader reader;
  return ReadBoth(&reader, text, kind);
}

// ---- Single texts.

struct TextCase {
  const char* name;
  std::string text;
  bool fast;
};
void PrintTo(const TextCase& test, std::ostream* out) {
  *out << test.name;
}

class Texts : public testing::TestWithParam<TextCase> {};

TEST_P(Texts, AreReadAsByTheOtherReader) {
  const std::string& text = GetParam().text;
  EXPECT_EQ(ReadBothAnew(text, ObjectKind::kService).fast, GetParam().fast);
  // And so is all that they begin with; copied, so that a sanitizer sees what is read behind it.
  const size_t longest = std::min<size_t>(text.size(), 300);
  for (size_t size = 0; size < longest; ++size) {
    const std::string cut(text.data(), size);
    ReadBothAnew(cut, ObjectKind::kService);
  }
}

std::string Nested(size_t levels, const std::string& inside) {
  std::string text = R"({"a":)";
  for (size_t i = 1; i < levels; ++i)
    text += '[';
  text += inside;
  for (size_t i = 1; i < levels; ++i)
    text += ']';
  return text + "}";
}

std::string Repeated(const std::string& text, size_t count, const std::string& between = ",") {
  std::string all = text;
  for (size_t i = 1; i < count; ++i)
    absl::StrAppend(&all, between, text);
  return all;
}

std::string Keys(size_t count, const std::string& last) {
  std::string text = "{";
  for (size_t i = 1; i < count; ++i)
    absl::StrAppend(&text, R"("k)", i, R"(":1,)");
  return absl::StrCat(text, "\"", last, "\":2}");
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Texts,
    testing::Values(
        TextCase{"Event", EventJson(ObjectKind::kService, "ADDED", 1, 1), true},
        TextCase{"Empty", R"({"a":{},"b":[],"c":""})", true},
        TextCase{"Spaces", " { \"a\" :\t[ 1 , 2\r\n] , \"b\" : { } } \n", true},
        TextCase{"Words", R"({"a":[true,false,null]})", true},
        TextCase{"Numbers", R"({"a":[0,-0,1,-1,123456789012345678,-123456789012345678]})", true},
        TextCase{"LongNumber", R"({"a":1234567890123456789})", false},
        TextCase{"TooLongNumber", R"({"a":[18446744073709551615,18446744073709551616]})", false},
        TextCase{"TooLongNegative", R"({"a":[-9223372036854775808,-9223372036854775809]})", false},
        TextCase{"Fraction", R"({"a":1.5,"b":[80.0,1e3,1E-2]})", false},
        TextCase{"TooLarge", R"({"a":1e999})", false},
        TextCase{"LeadingZero", R"({"a":01})", false}, TextCase{"Plus", R"({"a":+1})", false},
        TextCase{"OnlyMinus", R"({"a":-})", false},
        TextCase{"Escapes", R"({"a":"\"\\\/\b\f\n\r\t","b\n":"x\u0041\u00e9\u20AC\uD83D\uDE00y"})",
                 true},
        TextCase{"EscapedNul", R"({"a":"\u0000b"})", true},
        TextCase{"LowAlone", R"({"a":"\ude00"})", false},
        TextCase{"HighAlone", R"({"a":"\ud83d"})", false},
        TextCase{"HighTwice", R"({"a":"\ud83d\ud83d"})", false},
        TextCase{"BadEscape", R"({"a":"\x"})", false},
        TextCase{"BadDigit", R"({"a":"\u00g0"})", false},
        TextCase{"Utf8", "{\"\xc3\xa9\":\"\xe2\x82\xac \xf0\x9f\x98\x80 \\n\xc3\xa9\"}", true},
        TextCase{"Overlong", "{\"a\":\"\xc0\x80\"}", false},
        TextCase{"Surrogate", "{\"a\":\"\xed\xa0\x80\"}", false},
        TextCase{"TooHigh", "{\"a\":\"\xf4\x90\x80\x80\"}", false},
        TextCase{"CutUtf8", "{\"a\":\"\xe2\x82\"}", false},
        TextCase{"Latin1", "{\"a\":\"caf\xe9\"}", false},
        TextCase{"Control", "{\"a\":\"\x01\"}", false},
        TextCase{"Delete", "{\"a\":\"\x7f\"}", true},
        TextCase{"NulInside", std::string("{\"a\":\"\0\"}", 9), false},
        TextCase{"NulBehind", std::string("{\"a\":1}\0", 8), false},
        TextCase{"More", R"({"a":1}{})", false}, TextCase{"Comma", R"({"a":1,})", false},
        TextCase{"ListComma", R"({"a":[1,]})", false}, TextCase{"NoColon", R"({"a" 1})", false},
        TextCase{"NoKey", R"({1:2})", false}, TextCase{"WrongEnd", R"({"a":[1}})", false},
        TextCase{"Comment", R"({"a":1/*x*/})", false},
        TextCase{"Twice", R"({"a":1,"b":2,"a":3})", false},
        TextCase{"TwiceByEscape", R"({"a":1,"\u0061":3})", false},
        TextCase{"TwiceFarBelow", R"({"a":{"b":[{"c":1,"c":2}]}})", false},
        TextCase{"SameEnds", R"({"abc":1,"adc":2,"aec":3,"":4})", true},
        TextCase{"EmptyTwice", R"({"":1,"":2})", false},
        TextCase{"TwiceThenBroken", R"({"a":1,"a":2,)", false},
        TextCase{"ManyKeys", Keys(128, "last"), true},
        TextCase{"TooManyKeys", Keys(129, "last"), false},
        TextCase{"ManyKeysOneTwice", Keys(128, "k1"), false},
        TextCase{"Pruned", R"({"a":1,"managedFields":[{"x":[1,{}]}],"b":2})", true},
        TextCase{"PrunedAlone", R"({"b":{"managedFields":7}})", true},
        TextCase{"PrunedTwice", R"({"a":1,"managedFields":1,"managedFields":2})", true},
        TextCase{"PrunedByEscape", R"({"a":1,"managed\u0046ields":[1]})", true},
        TextCase{"PrunedWithKeysTwice",
                 R"({"b":1,"managedFields":{"a":1,"a":2,"c":{"d":1,"d":2}}})", true},
        TextCase{"PrunedManyKeys", R"({"b":1,"managedFields":)" + Keys(200, "k1") + "}", true},
        TextCase{"PrunedWithin", R"({"b":1,"managedFields":{"managedFields":{"a":1},"a":2},"a":3})",
                 true},
        TextCase{"PrunedBroken", R"({"b":1,"managedFields":{"a":tru}})", false},
        TextCase{"PrunedAsText", R"({"a":"managedFields","b":["managedFields",{"c":1}]})", true},
        TextCase{"PrunedAnnotation", R"({"a":{"annotations":{"x":"{\"managedFields\":[1]}"}}})",
                 true},
        TextCase{"Deep", Nested(100, "1"), true}, TextCase{"TooDeep", Nested(101, "1"), false},
        TextCase{"DeepObjects", Nested(99, R"({"a":1})"), true},
        // The most values out of so many bytes.
        TextCase{"DenseNumbers", Nested(100, Repeated("1", 200)), true},
        TextCase{"DenseLists", Nested(99, Repeated("[]", 100)), true},
        TextCase{"DenseMappings", Repeated(R"({"":)", 100, "") + "1" + std::string(100, '}'), true},
        TextCase{"DenseEscapes", R"({"":")" + Repeated(R"(\n)", 100, "") + R"("})", true},
        TextCase{"PrunedTooDeep", R"({"b":1,"managedFields":)" + Nested(150, "1") + "}", false},
        TextCase{"List", R"([1,2])", false}, TextCase{"Text", R"("x")", false},
        TextCase{"Nothing", "", false}),
    [](const testing::TestParamInfo<TextCase>& test) { return test.param.name; });

TEST(JsonReader, ReadsOneTextAfterTheOther) {
  JsonReader reader;
  std::string large = R"({"type":"ADDED","object":{"a":[)";
  for (int i = 0; i < 200'000; ++i)
    large += R"("\n",)";
  large += "1]}}";
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(ReadBoth(&reader, R"({"a":"\n"})", ObjectKind::kService).fast);
    EXPECT_FALSE(ReadBoth(&reader, R"({"a":1.5})", ObjectKind::kService).fast);
    EXPECT_TRUE(ReadBoth(&reader, large, ObjectKind::kService).fast);
    EXPECT_FALSE(ReadBoth(&reader, "{", ObjectKind::kService).fast);
  }
}

// ---- Damage.

const char* const kWords[] = {"null",
                              "[]",
                              "{}",
                              "-1",
                              "0",
                              "65536",
                              "1.5",
                              "1e3",
                              "\"",
                              "\\",
                              "\\\"",
                              "\\u00e9",
                              "\\ud83d",
                              "true",
                              "{",
                              "}",
                              "[",
                              "]",
                              ",",
                              ":",
                              " ",
                              "\n",
                              "\xff",
                              "\xc3\xa9",
                              "\"managedFields\":",
                              "\"managedFields\":[{\"a\":1,\"a\":2}],",
                              "\"name\":\"x\",",
                              "\"spec\":5,",
                              "\"ready\":\"x\",",
                              "\"port\":70000,",
                              "\"10.0.0.999\"",
                              "9999999999999999999999"};

std::string Mutate(std::string text, std::mt19937* random) {
  const auto below = [random](size_t limit) { return (*random)() % limit; };
  for (size_t edits = 1 + below(3); edits > 0; --edits) {
    const size_t at = below(text.size() + 1);
    switch (below(8)) {
      case 0:
      case 1:
        text.insert(at, kWords[below(std::size(kWords))]);
        break;
      case 2:
        text.erase(at, 1 + below(20));
        break;
      case 3:
        if (at < text.size()) text[at] = static_cast<char>(below(256));
        break;
      case 4: {  // a member before another
        const size_t key = text.find(",\"", at);
        if (key != std::string::npos) text.insert(key + 1, kWords[24 + below(6)]);
        break;
      }
      default: {  // another value
        const size_t colon = text.find(':', at);
        if (colon == std::string::npos) break;
        const size_t end = std::min(text.find_first_of(",}]", colon), text.size());
        text.replace(colon + 1, end - colon - 1, kWords[below(std::size(kWords))]);
      }
    }
  }
  return text;
}

TEST(JsonReader, ReadsDamagedObjectsAsTheOtherReaderDoes) {
  std::mt19937 random(20261121);
  int fast = 0;
  int broken = 0;
  int with_problems = 0;
  constexpr int kRounds = 20'000;
  for (int i = 0; i < kRounds && !testing::Test::HasFailure(); ++i) {
    const ObjectKind kind = i % 2 == 0 ? ObjectKind::kService : ObjectKind::kEndpointSlice;
    const std::string text = Mutate(EventJson(kind, "MODIFIED", i % 100, i), &random);
    const Outcome outcome = ReadBothAnew(text, kind);
    fast += outcome.fast;
    with_problems += outcome.problems;
    broken += !ReadPrunedJson(text).ok();
  }
  // The damage is neither too wild nor too tame.
  EXPECT_GT(fast, kRounds / 10);
  EXPECT_GT(with_problems, kRounds / 50);
  EXPECT_GT(broken, kRounds / 10);
}

// The parts of a stream, and what ended it, fed in pieces of `size` bytes.
std::vector<std::string> Parts(JsonSplitter::Shape shape, const std::string& text, size_t size) {
  std::vector<std::string> parts;
  JsonSplitter splitter(shape, [&parts](std::string_view part) {
    parts.emplace_back(part);
    return absl::OkStatus();
  });
  absl::Status status;
  for (size_t at = 0; at < text.size() && status.ok(); at += size)
    status = splitter.Feed(std::string_view(text).substr(at, size));
  if (status.ok()) status = splitter.Finish();
  parts.push_back(status.ToString());
  parts.push_back(splitter.envelope());
  return parts;
}

TEST(JsonSplitter, CutsDamagedStreamsTheSameInPiecesOfAnySize) {
  std::mt19937 random(20261122);
  int whole = 0;
  constexpr int kRounds = 3'000;
  for (int i = 0; i < kRounds && !testing::Test::HasFailure(); ++i) {
    const bool list = i % 2 == 0;
    const auto shape = list ? JsonSplitter::Shape::kList : JsonSplitter::Shape::kValues;
    std::string text = list ? absl::StrCat(R"({"kind":"ServiceList","metadata":{},"items":[)",
                                           ServiceJson(i, 1), ",", ServiceJson(i + 1, 2), "]}\n")
                            : absl::StrCat(EventJson(ObjectKind::kService, "ADDED", i, 1),
                                           EventJson(ObjectKind::kService, "DELETED", i, 1));
    text = Mutate(std::move(text), &random);
    const std::vector<std::string> expected = Parts(shape, text, 1);
    whole += expected.size() == 4;
    for (const size_t size : {size_t{7}, size_t{64}, 1 + random() % 1000, text.size()})
      ASSERT_EQ(Parts(shape, text, size), expected) << size << ": " << text;
  }
  EXPECT_GT(whole, kRounds / 10);
}

TEST(TextScan, FindsEachByteThatIsNotPlainWhereverItStands) {
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const bool plain = byte >= 0x20 && byte < 0x80 && c != '"' && c != '\\';
    for (size_t at = 0; at < 20; ++at) {
      std::string text(20, 'x');
      text[at] = c;
      const char* const end = text.data() + text.size();
      ASSERT_EQ(SkipPlain(text.data(), end), plain ? end : text.data() + at) << byte << " " << at;
    }
  }
}

}  // namespace
}  // namespace waggle::k8s
