#include "k8s-watch/document.h"

#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <istream>
#include <optional>
#include <streambuf>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "k8s-watch/quote.h"
#include "k8s-watch/text_scan.h"
#include "k8s-watch/tree_builder.h"
#include "k8s-watch/yaml_scalar.h"

namespace waggle::k8s {
namespace {

using nlohmann::json;

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

struct Position {
  size_t line = 1;
  size_t column = 1;
};

Position PositionAt(std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const size_t last_break = before.rfind('\n');
  return {static_cast<size_t>(std::count(before.begin(), before.end(), '\n')) + 1,
          last_break == std::string_view::npos ? before.size() + 1 : before.size() - last_break};
}

absl::Status ErrorAt(Position position, std::string_view text) {
  return absl::InvalidArgumentError(
      absl::StrCat("line ", position.line, ", column ", position.column, ": ", std::string(text)));
}

absl::Status CheckText(std::string_view text) {
  if (text.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("longer than ", kMaxFileBytes >> 20, " MiB, the most that is read"));
  }
  for (size_t at = 0; at < text.size();) {
    const size_t length = Utf8Length(text.substr(at));
    if (length == 0) return ErrorAt(PositionAt(text, at), "not UTF-8 text");
    if (text[at] == '\0') {
      return ErrorAt(PositionAt(text, at), "a NUL byte; expected YAML or JSON text");
    }
    at += length;
  }
  return absl::OkStatus();
}

// Reads JSON into a TreeBuilder; stops at the first error.
class JsonReader : public nlohmann::json_sax<json> {
 public:
  // Of `text`, the file, what stands at `offset` is read.
  JsonReader(std::string_view text, size_t offset, size_t* alias_budget)
      : text_(text), offset_(offset), builder_(alias_budget) {}

  bool null() override { return Check(builder_.Scalar(nullptr, 0)); }
  bool boolean(bool value) override { return Check(builder_.Scalar(value, 0)); }
  bool number_integer(number_integer_t value) override { return Check(builder_.Scalar(value, 0)); }
  bool number_unsigned(number_unsigned_t value) override {
    return Check(builder_.Scalar(value, 0));
  }
  bool number_float(number_float_t value, const string_t&) override {
    return Check(builder_.Scalar(value, 0));
  }
  bool string(string_t& value) override { return Check(builder_.Scalar(std::move(value), 0)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return Check(builder_.StartMapping(0)); }
  bool key(string_t& value) override { return Check(builder_.Key(std::move(value), 0)); }
  bool end_object() override { return Check(builder_.End()); }
  bool start_array(size_t) override { return Check(builder_.StartList(0)); }
  bool end_array() override { return Check(builder_.End()); }

  bool parse_error(size_t offset, const std::string&,
                   const nlohmann::detail::exception& error) override {
    is_json_ = false;
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error …"
    std::string_view what = error.what();
    const size_t colon = what.find(": ");
    if (colon != std::string_view::npos) what.remove_prefix(colon + 2);
    status_ = ErrorAt(PositionAt(text_, offset_ + (offset == 0 ? 0 : offset - 1)),
                      absl::StrCat("not JSON: ", Printable(what, 200)));
    return false;
  }

  // False when the text is not JSON at all, in contrast to JSON beyond our limits.
  bool is_json() const { return is_json_; }
  absl::StatusOr<json> Take() {
    if (!status_.ok()) return status_;
    return builder_.Take();
  }

 private:
  bool Check(absl::Status status) {
    status_ = std::move(status);
    return status_.ok();
  }

  std::string_view text_;
  size_t offset_;
  TreeBuilder builder_;
  absl::Status status_;
  bool is_json_ = true;
};

// How yaml-cpp's parser is stopped from within an event; never leaves this file.
struct Stop {
  YAML::Mark mark;
  absl::Status status;
};

// Text that yaml-cpp may take in before its next event. Its scanner holds all tokens of a
// flow collection until the collection ends, at some 240 bytes for one of text.
constexpr size_t kMaxReadAhead = size_t{2} << 20;

// yaml-cpp takes a quoted string that the end of the text cuts for a whole one, but not
// one that a document marker cuts.
constexpr std::string_view kTail = "\n...\n";

// A stream over bytes that stay where they are, with a document's end behind them.
class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(std::string_view text)
      : tail_(kTail.substr(!text.empty() && text.back() == '\n' ? 1 : 0)) {
    Show(text);
  }
  // The parser has got something out of what it read.
  void Progress() { last_ = Position(); }

 protected:
  // yaml-cpp reads by this alone, past the stream that would swallow the exception.
  std::streamsize xsgetn(char* to, std::streamsize size) override {
    if (Position() - last_ > kMaxReadAhead) {
      throw Stop{YAML::Mark::null_mark(),
                 absl::InvalidArgumentError(absl::StrCat("a value in [] or {}, or a scalar, goes "
                                                         "on for more than ",
                                                         kMaxReadAhead >> 20, " MiB"))};
    }
    return std::streambuf::xsgetn(to, size);
  }
  int_type underflow() override {
    if (tail_.empty()) return traits_type::eof();
    before_ = Position();
    Show(std::exchange(tail_, {}));
    return traits_type::to_int_type(*gptr());
  }

 private:
  void Show(std::string_view text) {
    char* begin = const_cast<char*>(text.data());  // the get area is only read
    setg(begin, begin, begin + text.size());
  }
  size_t Position() const { return before_ + static_cast<size_t>(gptr() - eback()); }

  std::string_view tail_;
  size_t before_ = 0;
  size_t last_ = 0;
};

class YamlReader : public YAML::EventHandler {
 public:
  YamlReader(size_t* alias_budget, ViewBuffer* buffer) : builder_(alias_budget), buffer_(buffer) {
    buffer_->Progress();
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (std::exchange(seen_, true)) {
      throw Stop{mark, absl::InvalidArgumentError("text after the end of the document")};
    }
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Put(mark, nullptr, anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Check(mark, builder_.Alias(anchor));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (builder_.AtKey() && value == "<<" && (tag == "?" || tag == "tag:yaml.org,2002:merge")) {
      return Check(mark, builder_.MergeKey());
    }
    auto scalar = TaggedScalar(tag, value);
    Check(mark, scalar.status());
    Put(mark, *std::move(scalar), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    RefuseAsKey(mark);
    Check(mark, builder_.StartList(anchor));
  }
  void OnSequenceEnd() override { Check(YAML::Mark::null_mark(), builder_.End()); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    RefuseAsKey(mark);
    Check(mark, builder_.StartMapping(anchor));
  }
  void OnMapEnd() override { Check(YAML::Mark::null_mark(), builder_.End()); }

  json Take() { return builder_.Take(); }

 private:
  // Ends of collections come without a mark: the last one known has to do.
  void Check(const YAML::Mark& mark, const absl::Status& status) {
    if (!mark.is_null()) last_mark_ = mark;
    if (!status.ok()) throw Stop{last_mark_, status};
    buffer_->Progress();
  }
  void RefuseAsKey(const YAML::Mark& mark) {
    if (builder_.AtKey()) {
      throw Stop{mark, absl::InvalidArgumentError("a mapping or list cannot be a key")};
    }
  }
  void Put(const YAML::Mark& mark, json value, YAML::anchor_t anchor) {
    if (!builder_.AtKey()) return Check(mark, builder_.Scalar(std::move(value), anchor));
    auto key = KeyText(value);
    Check(mark, key.status());
    Check(mark, builder_.Key(*std::move(key), anchor));
  }

  TreeBuilder builder_;
  ViewBuffer* buffer_;
  YAML::Mark last_mark_ = YAML::Mark::null_mark();
  bool seen_ = false;
};

absl::StatusOr<json> ReadYaml(std::string_view text, size_t first_line, size_t* alias_budget) {
  const auto at = [first_line](const YAML::Mark& mark, std::string_view message) {
    if (mark.is_null()) return absl::InvalidArgumentError(std::string(message));
    return ErrorAt(
        {first_line + static_cast<size_t>(mark.line), static_cast<size_t>(mark.column) + 1},
        message);
  };
  try {
    ViewBuffer buffer(text);
    std::istream stream(&buffer);
    YAML::Parser parser(stream);
    YamlReader reader(alias_budget, &buffer);
    while (parser.HandleNextDocument(reader)) {
    }
    return reader.Take();
  } catch (const Stop& stop) {
    return at(stop.mark, std::string(stop.status.message()));
  } catch (const YAML::DeepRecursion& error) {
    return at(error.mark, absl::StrCat("more than ", kMaxDepth, " levels of mappings and lists"));
  } catch (const YAML::Exception& error) {
    if (error.msg == YAML::ErrorMsg::DOC_IN_SCALAR) {
      return at(error.mark, "not YAML: a quoted string does not end before the document does");
    }
    return at(error.mark, absl::StrCat("not YAML: ", Printable(error.msg, 200)));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("not YAML: ", Printable(error.what(), 200)));
  }
}

// The objects of a text that is nothing but objects with space in between, each as far as
// its braces tell; empty when it is not. kubectl takes such a text for several documents.
std::vector<std::string_view> SplitJson(std::string_view text) {
  std::vector<std::string_view> values;
  size_t depth = 0;
  size_t start = 0;
  bool quoted = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') {
        ++at;
      } else if (c == '"') {
        quoted = false;
      }
    } else if (depth == 0 && c != '{') {
      if (c != ' ' && c != '\t' && c != '\r' && c != '\n') return {};
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (depth++ == 0) start = at;
    } else if (c == '}' || c == ']') {
      if (--depth == 0) values.push_back(text.substr(start, at + 1 - start));
    }
  }
  if (depth > 0) values.push_back(text.substr(start));
  return values;
}

struct Chunk {
  size_t number = 1;
  size_t first_line = 1;
  std::string_view text;
};

bool IsMarker(std::string_view line, std::string_view marker) {
  return line.substr(0, 3) == marker &&
         (line.size() == 3 || line[3] == ' ' || line[3] == '\t' || line[3] == '\r');
}

bool IsBlank(std::string_view line) {
  const size_t first = line.find_first_not_of(" \t\r");
  return first == std::string_view::npos || line[first] == '#';
}

// Cuts at the markers `---` and `...` at the start of a line: they end a document even
// within a block scalar or a quoted string, so a broken document cannot swallow the next.
std::vector<Chunk> Split(std::string_view text) {
  std::vector<Chunk> chunks;
  Chunk chunk;
  size_t start = 0;
  bool opened = false;   // the chunk has its `---`
  bool content = false;  // it holds more than comments, directives and its marker
  bool ended = false;    // by `...`: directives of the next document may follow
  const auto close = [&](size_t end, size_t next_line) {
    chunk.text = text.substr(start, end - start);
    if (content) chunks.push_back(chunk);
    chunk.number += opened || content ? 1 : 0;
    chunk.first_line = next_line;
    start = end;
    opened = content = ended = false;
  };
  size_t line_number = 1;
  for (size_t at = 0; at < text.size(); ++line_number) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    if (IsMarker(line, "---")) {
      if (opened || content) close(at, line_number);
      opened = true;
      ended = false;
      content = !IsBlank(line.substr(3));
    } else if (IsMarker(line, "...")) {
      ended = true;
    } else if (!IsBlank(line)) {
      if (ended && (opened || content)) close(at, line_number);
      // A directive belongs to the marker that follows it.
      if (opened || line[0] != '%') content = true;
    }
    at = end + 1;
  }
  close(text.size(), line_number);
  return chunks;
}

}  // namespace

absl::Status ForEachDocument(std::string_view text, TextFormat format,
                             const std::function<void(Document)>& visit) {
  if (auto status = CheckText(text); !status.ok()) return status;
  if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark) {
    text.remove_prefix(kByteOrderMark.size());
  }
  size_t alias_budget = kMaxAliasNodes;
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool maybe_json =
      first != std::string_view::npos && (text[first] == '{' || text[first] == '[');
  if (maybe_json || (format == TextFormat::kJson && first != std::string_view::npos)) {
    const auto values = SplitJson(text);
    for (size_t i = 0; values.size() > 1 && i < values.size(); ++i) {
      JsonReader reader(text, static_cast<size_t>(values[i].data() - text.data()), &alias_budget);
      json::sax_parse(values[i], &reader);
      // YAML in braces, where quotes are others.
      if (i == 0 && !reader.is_json()) break;
      visit({i + 1, values.size(), reader.Take()});
      if (i + 1 == values.size()) return absl::OkStatus();
    }
    JsonReader reader(text, 0, &alias_budget);
    json::sax_parse(text, &reader);
    if (reader.is_json() || format == TextFormat::kJson) {
      visit({1, 1, reader.Take()});
      return absl::OkStatus();
    }
  }
  const std::vector<Chunk> chunks = Split(text);
  const size_t count = chunks.empty() ? 0 : chunks.back().number;
  for (const Chunk& chunk : chunks) {
    visit({chunk.number, count, ReadYaml(chunk.text, chunk.first_line, &alias_budget)});
  }
  return absl::OkStatus();
}

}  // namespace waggle::k8s
