#include "k8s-watch/document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "k8s-watch/yaml_scalar.h"

namespace waggle::k8s {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

// One line a document: its number and JSON, or "error: …".
std::vector<std::string> Read(std::string_view text, TextFormat format = TextFormat::kAny) {
  std::vector<std::string> lines;
  const auto status = ForEachDocument(text, format, [&lines](const Document& document) {
    lines.push_back(std::to_string(document.number) + "/" + std::to_string(document.count) + " " +
                    (document.value.ok()
                         ? document.value->dump()
                         : "error: " + std::string(document.value.status().message())));
  });
  if (!status.ok()) lines.push_back("file: " + std::string(status.message()));
  return lines;
}

std::string Repeat(std::string_view text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i)
    out += text;
  return out;
}

struct ScalarCase {
  const char* yaml;
  const char* json;
};

class Scalar : public testing::TestWithParam<ScalarCase> {};

TEST_P(Scalar, IsTypedAsKubectlDoes) {
  EXPECT_THAT(Read(std::string("v: ") + GetParam().yaml),
              ElementsAre(std::string("1/1 {\"v\":") + GetParam().json + "}"));
}

INSTANTIATE_TEST_SUITE_P(
    Table, Scalar,
    testing::Values(
        ScalarCase{"", "null"}, ScalarCase{"~", "null"}, ScalarCase{"null", "null"},
        ScalarCase{"Null", "null"}, ScalarCase{"NULL", "null"}, ScalarCase{"nULL", "\"nULL\""},
        ScalarCase{"true", "true"}, ScalarCase{"True", "true"}, ScalarCase{"yes", "true"},
        ScalarCase{"YES", "true"}, ScalarCase{"on", "true"}, ScalarCase{"y", "true"},
        ScalarCase{"false", "false"}, ScalarCase{"no", "false"}, ScalarCase{"Off", "false"},
        ScalarCase{"N", "false"}, ScalarCase{"tRUE", "\"tRUE\""}, ScalarCase{"'yes'", "\"yes\""},
        ScalarCase{"\"80\"", "\"80\""}, ScalarCase{"80", "80"}, ScalarCase{"+80", "80"},
        ScalarCase{"-80", "-80"}, ScalarCase{"0x1F", "31"}, ScalarCase{"0o17", "15"},
        ScalarCase{"017", "15"}, ScalarCase{"0b101", "5"}, ScalarCase{"-0b101", "-5"},
        ScalarCase{"1_000", "1000"}, ScalarCase{"08", "8.0"}, ScalarCase{"0", "0"},
        ScalarCase{"18446744073709551615", "18446744073709551615"},
        ScalarCase{"-9223372036854775808", "-9.223372036854776e+18"}, ScalarCase{"80.5", "80.5"},
        ScalarCase{".5", "0.5"}, ScalarCase{"1e3", "1000.0"}, ScalarCase{"5.", "5.0"},
        ScalarCase{".", "\".\""}, ScalarCase{"1.2.3", "\"1.2.3\""},
        ScalarCase{"10.0.0.1", "\"10.0.0.1\""}, ScalarCase{"2026-01-31", "\"2026-01-31\""},
        ScalarCase{"0x", "\"0x\""}, ScalarCase{"+", "\"+\""}, ScalarCase{"1e", "\"1e\""},
        ScalarCase{".inf", "null"},  // no number in JSON; the decoder refuses it as a number
        ScalarCase{"!!str 80", "\"80\""}, ScalarCase{"!!int \"80\"", "80"},
        ScalarCase{"!!float 80", "80"}, ScalarCase{"!own 80", "\"80\""},
        ScalarCase{"fd00::1", "\"fd00::1\""}, ScalarCase{"|\n  a\n  b\n", "\"a\\nb\\n\""},
        ScalarCase{"{a: [1, two]}", "{\"a\":[1,\"two\"]}"}));

TEST(PlainScalar, DigitsBeyond64BitsAreNoSmallNumber) {
  EXPECT_GT(PlainScalar("99999999999999999999999").get<double>(), 1e18);
  EXPECT_LT(PlainScalar("-99999999999999999999999").get<double>(), -1e18);
  EXPECT_TRUE(PlainScalar(std::string(1000, '9')).is_string());
}

struct TextCase {
  const char* name;
  std::string text;
  std::vector<std::string> documents;
};
void PrintTo(const TextCase& test, std::ostream* out) {
  *out << test.name;
}

class Text : public testing::TestWithParam<TextCase> {};

TEST_P(Text, GivesTheseDocuments) {
  EXPECT_EQ(Read(GetParam().text), GetParam().documents);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Text,
    testing::Values(
        TextCase{"empty", "", {}}, TextCase{"comments", "# nothing\n\n", {}},
        TextCase{"only_markers", "---\n---\n...\n", {}},
        TextCase{"two", "a: 1\n---\nb: 2\n", {"1/2 {\"a\":1}", "2/2 {\"b\":2}"}},
        TextCase{"leading_marker", "---\na: 1\n---\nb: 2\n", {"1/2 {\"a\":1}", "2/2 {\"b\":2}"}},
        TextCase{
            "an_empty_one_counts", "a: 1\n---\n---\nb: 2\n", {"1/3 {\"a\":1}", "3/3 {\"b\":2}"}},
        TextCase{"crlf", "a: 1\r\n---\r\nb: 2\r\n", {"1/2 {\"a\":1}", "2/2 {\"b\":2}"}},
        TextCase{"content_on_the_marker", "--- {a: 1}\n--- b\n", {"1/2 {\"a\":1}", "2/2 \"b\""}},
        TextCase{"end_marker_and_directive",
                 "a: 1\n...\n%YAML 1.2\n---\nb: 2\n",
                 {"1/2 {\"a\":1}", "2/2 {\"b\":2}"}},
        TextCase{"byte_order_mark",
                 "\xef\xbb\xbf"
                 "a: 1\n",
                 {"1/1 {\"a\":1}"}},
        TextCase{"indented_dashes_are_text", "a: |\n  ---\n  x\n", {"1/1 {\"a\":\"---\\nx\\n\"}"}},
        TextCase{"longer_dashes_are_text", "----: x\n", {"1/1 {\"----\":\"x\"}"}},
        TextCase{"cut_quoted",
                 "a: 'x\n",
                 {"1/1 error: line 2, column 1: not YAML: a quoted string does not end before the "
                  "document does"}},
        TextCase{"cut_quoted_without_break",
                 "a: \"x",
                 {"1/1 error: line 2, column 1: not YAML: a quoted string does not end before the "
                  "document does"}},
        TextCase{"kept_breaks", "a: |+\n  x\n\n", {"1/1 {\"a\":\"x\\n\\n\"}"}},
        TextCase{"a_bad_one_leaves_the_others",
                 "a: 1\n---\nb: [1\n---\nc: \"x\n---\nd: 4\n",
                 {"1/4 {\"a\":1}",
                  "2/4 error: line 4, column 1: not YAML: end of sequence flow not found",
                  "3/4 error: line 6, column 1: not YAML: a quoted string does not end before the "
                  "document does",
                  "4/4 {\"d\":4}"}},
        TextCase{"bad_indentation",
                 "a:\n  b: 1\n c: 2\n",
                 {"1/1 error: line 3, column 2: not YAML: end of map not found"}},
        TextCase{
            "tab", "a:\n\tb: 1\n", {"1/1 error: line 2, column 3: not YAML: illegal map value"}},
        TextCase{"twice_a_key",
                 "a: 1\nb: 2\na: 3\n",
                 {"1/1 error: line 3, column 1: the key \"a\" stands twice in one mapping"}},
        TextCase{"twice_a_key_as_number",
                 "1: 1\n'1': 2\n",
                 {"1/1 error: line 2, column 1: the key \"1\" stands twice in one mapping"}},
        TextCase{"keys_are_strings",
                 "1: a\ntrue: b\nyes2: c\n",
                 {"1/1 {\"1\":\"a\",\"true\":\"b\",\"yes2\":\"c\"}"}},
        TextCase{"null_key",
                 "~: a\n",
                 {"1/1 error: line 1, column 1: null cannot be the key of a mapping"}},
        TextCase{"mapping_as_key",
                 "? {a: 1}\n: 2\n",
                 {"1/1 error: line 1, column 3: a mapping or list cannot be a key"}},
        TextCase{"wrong_tag",
                 "a: !!int x\n",
                 {"1/1 error: line 1, column 4: \"x\" is not what its tag !!int says"}},
        TextCase{"alias", "a: &x [1, 2]\nb: *x\n", {"1/1 {\"a\":[1,2],\"b\":[1,2]}"}},
        TextCase{"alias_as_key", "a: &x k\n*x : 1\n", {"1/1 {\"a\":\"k\",\"k\":1}"}},
        TextCase{"alias_of_nothing",
                 "a: *x\n",
                 {"1/1 error: line 1, column 4: not YAML: the referenced anchor is not defined"}},
        TextCase{"alias_of_another_document",
                 "a: &x 1\n---\nb: *x\n",
                 {"1/2 {\"a\":1}",
                  "2/2 error: line 3, column 4: not YAML: the referenced anchor is not defined"}},
        TextCase{
            "alias_of_itself",
            "a: &x [1, *x]\n",
            {"1/1 error: line 1, column 11: an alias refers to a value that contains the alias"}},
        TextCase{"merge",
                 "x: &x {a: 1, b: 2}\nv:\n  <<: *x\n  b: 3\n",
                 {"1/1 {\"v\":{\"a\":1,\"b\":3},\"x\":{\"a\":1,\"b\":2}}"}},
        TextCase{"merge_behind",
                 "x: &x {a: 1, b: 2}\nv:\n  b: 3\n  <<: *x\n",
                 {"1/1 {\"v\":{\"a\":1,\"b\":3},\"x\":{\"a\":1,\"b\":2}}"}},
        TextCase{"merge_of_several",
                 "v:\n  <<: [{a: 1}, {a: 2, b: 2}]\n",
                 {"1/1 {\"v\":{\"a\":1,\"b\":2}}"}},
        TextCase{"merge_of_a_scalar",
                 "v:\n  <<: 1\n",
                 {"1/1 error: line 2, column 7: \"<<\" needs a mapping or a list of mappings"}},
        TextCase{"quoted_merge_is_a_key", "'<<': 1\n", {"1/1 {\"<<\":1}"}},
        TextCase{
            "json", "{\"a\": [1, 2.5, null, \"\\u00e9\"]}", {"1/1 {\"a\":[1,2.5,null,\"é\"]}"}},
        TextCase{"json_twice_a_key",
                 "{\"a\": 1, \"a\": 2}",
                 {"1/1 error: the key \"a\" stands twice in one mapping"}},
        TextCase{"json_in_a_row",
                 "{\"a\": \"}{\\\"\"}\n{\"b\": [{}]}{\"c\": 3}\n",
                 {"1/3 {\"a\":\"}{\\\"\"}", "2/3 {\"b\":[{}]}", "3/3 {\"c\":3}"}},
        TextCase{"a_bad_one_in_a_row_leaves_the_others",
                 "{\"a\": 1}\n{\"b\": 2,}\n{\"c\": 3}\n{\"d\":",
                 {"1/4 {\"a\":1}",
                  "2/4 error: line 2, column 9: not JSON: syntax "
                  "error while parsing object key - unexpected '}'; expected string literal",
                  "3/4 {\"c\":3}",
                  "4/4 error: line 4, column 6: not JSON: syntax "
                  "error while parsing value - unexpected end of input; expected '[', '{', or a "
                  "literal"}},
        TextCase{"braces_in_quotes_of_yaml", "{a: '}{'}", {"1/1 {\"a\":\"}{\"}"}},
        TextCase{"flow_yaml_is_no_json", "{a: 1, b: yes}", {"1/1 {\"a\":1,\"b\":true}"}},
        TextCase{"nul",
                 std::string("a: 1\nb\0c", 8),
                 {"file: line 2, column 2: a NUL byte; expected YAML or JSON text"}},
        TextCase{"latin1", "a: 1\nb: \xe9t\xe9\n", {"file: line 2, column 4: not UTF-8 text"}},
        TextCase{"overlong", "a: \xc0\x80", {"file: line 1, column 4: not UTF-8 text"}},
        TextCase{"surrogate", "a: \xed\xa0\x80", {"file: line 1, column 4: not UTF-8 text"}},
        TextCase{"utf16",
                 std::string("\xff\xfe"
                             "a\0",
                             4),
                 {"file: line 1, column 1: not UTF-8 text"}},
        TextCase{"cut_utf8", "a: \xe2\x82", {"file: line 1, column 4: not UTF-8 text"}}),
    [](const auto& test) { return test.param.name; });

TEST(Json, ByNameIsToldInTermsOfJson) {
  EXPECT_THAT(Read("{\n  \"a\": 1,\n  \"b\" 2\n}", TextFormat::kJson),
              ElementsAre(StartsWith("1/1 error: line 3, column 7: not JSON: ")));
  EXPECT_THAT(Read("a: 1", TextFormat::kJson), ElementsAre(HasSubstr("not JSON")));
  EXPECT_TRUE(Read(" \n", TextFormat::kJson).empty());
  EXPECT_THAT(Read("{\"a\": 1}\n{\"b\": 2}", TextFormat::kJson),
              ElementsAre("1/2 {\"a\":1}", "2/2 {\"b\":2}"));
}

TEST(Limits, HundredLevelsAreReadAndOneMoreIsRefused) {
  for (const auto& [open, close] : {std::pair("[", "]"), std::pair("{\"a\":", "}")}) {
    const std::string leaf = *open == '{' ? "1" : "";
    const auto nested = [&](size_t levels) {
      return Repeat(open, levels) + leaf + Repeat(close, levels);
    };
    EXPECT_THAT(Read(nested(100)), ElementsAre(StartsWith("1/1 " + std::string(open))));
    EXPECT_THAT(Read(nested(101)), ElementsAre(HasSubstr("more than 100 levels")));
    EXPECT_THAT(Read("# YAML\n" + nested(100)),
                ElementsAre(StartsWith("1/1 " + std::string(open))));
    EXPECT_THAT(Read("# YAML\n" + nested(200)), ElementsAre(HasSubstr("more than 100 levels")));
  }
}

TEST(Limits, TwoHundredLevelsOfIndentationAreRefusedByLine) {
  std::string text;
  for (size_t i = 0; i < 200; ++i)
    text += std::string(i, ' ') + "a:\n";
  EXPECT_THAT(Read(text), ElementsAre("1/1 error: line 101, column 101: more than 100 levels of "
                                      "mappings and lists"));
}

TEST(Limits, AliasesCannotGoBeyondTheLevels) {
  std::string text = "a: &a [[[[[[[[[[1]]]]]]]]]]\n";
  for (char c = 'b'; c < 'm'; ++c) {
    text +=
        std::string(1, c) + ": &" + c + " [[[[[[[[[[*" + static_cast<char>(c - 1) + "]]]]]]]]]]\n";
  }
  EXPECT_THAT(Read(text), ElementsAre(HasSubstr("with its aliases more than 100 levels")));
}

// Each doubles or more with each line; what counts is that the refusal comes at once.
TEST(Limits, AliasBombsAreRefused) {
  std::string lists = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  std::string merges = "a: &a {x: {y: [1,2,3]}}\n";
  for (char c = 'b'; c <= 'z'; ++c) {
    const std::string last = "*" + std::string(1, static_cast<char>(c - 1));
    lists += std::string(1, c) + ": &" + c + " [" + Repeat(last + ",", 8) + last + "]\n";
    merges +=
        std::string(1, c) + ": &" + c + " {p: " + last + ", q: " + last + ", <<: " + last + "}\n";
  }
  const std::string strings =
      "a: &a \"" + std::string(1 << 20, 'x') + "\"\nb: [" + Repeat("*a,", 100000) + "*a]\n";
  std::string anchors;  // a copy is kept for each anchor
  for (int i = 0; i < 90; ++i)
    anchors += "{a" + std::to_string(i) + ": &a" + std::to_string(i) + " ";
  anchors = "# YAML\nb: " + anchors + "[" + Repeat("1,", 100000) + "1]" + std::string(90, '}');
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& text : {lists, merges, strings, anchors}) {
    EXPECT_THAT(Read(text), ElementsAre(HasSubstr("aliases make this file larger by more than")));
  }
  // The budget is the file's: many small bombs are one.
  std::string many;
  for (int i = 0; i < 300; ++i)
    many += lists.substr(0, lists.find("e: &e")) + "---\n";
  EXPECT_THAT(Read(many), testing::Contains(HasSubstr("aliases make this file larger")));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST(Limits, ValuesInOneDocumentAreCounted) {
  EXPECT_THAT(Read("[" + Repeat("0,", 5'000'001) + "0]"),
              ElementsAre(HasSubstr("more than 5000000 values in one document")));
}

// yaml-cpp holds all tokens of a flow collection, at 240 bytes for one of text.
TEST(Limits, EndlessFlowCollectionIsRefused) {
  EXPECT_THAT(Read("a: b\n---\n" + Repeat("{,", 4 << 20)),
              ElementsAre("1/2 {\"a\":\"b\"}", HasSubstr("goes on for more than 2 MiB")));
}

TEST(Limits, MegabyteStringsAreRead) {
  const std::string big(1 << 20, 'x');
  for (const std::string& text : {"a: " + big, "a: '" + big + "'", "a: |\n  " + big + "\n"}) {
    const auto documents = Read(text);
    ASSERT_EQ(documents.size(), 1U);
    EXPECT_GT(documents[0].size(), big.size());
  }
}

TEST(Limits, LongTextIsRefused) {
  EXPECT_THAT(Read(std::string(kMaxFileBytes + 1, ' ')),
              ElementsAre(HasSubstr("longer than 64 MiB")));
}

}  // namespace
}  // namespace waggle::k8s
