#include "k8s-watch/json_reader.h"

#include <cstring>
#include <utility>

#include "k8s-watch/pruned_json.h"
#include "k8s-watch/text_scan.h"
#include "k8s-watch/tree_builder.h"

namespace waggle::k8s {
namespace {

// Of so many keys each new one is compared with the others, at worst.
constexpr size_t kMaxKeys = 128;
// More digits may be more than an integer holds.
constexpr size_t kMaxDigits = 18;

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

// How many values may come out of so many bytes: but for the brackets that are open, two of them
// have a byte between them at least.
size_t MostValues(size_t bytes) {
  return bytes / 2 + kMaxDepth + 2;
}

// The code unit that four digits say; false when they are none.
bool ReadUnit(std::string_view text, uint32_t* unit) {
  if (text.size() < 4) return false;
  *unit = 0;
  for (const char c : text.substr(0, 4)) {
    const char lower = static_cast<char>(c | 0x20);
    if (!IsDigit(c) && (lower < 'a' || lower > 'f')) return false;
    *unit = *unit << 4 | static_cast<uint32_t>(IsDigit(c) ? c - '0' : lower - 'a' + 10);
  }
  return true;
}

char* PutUtf8(uint32_t point, char* to) {
  if (point < 0x80) {
    *to++ = static_cast<char>(point);
    return to;
  }
  const int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  constexpr uint8_t kFirst[] = {0, 0xc0, 0xe0, 0xf0};
  *to++ = static_cast<char>(kFirst[more] | point >> (6 * more));
  for (int i = more - 1; i >= 0; --i)
    *to++ = static_cast<char>(0x80 | ((point >> (6 * i)) & 0x3f));
  return to;
}

}  // namespace

// From left to right. A function that returns false has met what is not for us, and nobody goes on.
class JsonReader::Parser {
 public:
  // `values` has room for MostValues().
  Parser(std::string_view text, Value* values, Room<char>* texts)
      : at_(text.data()), end_(at_ + text.size()), values_(values), texts_(texts) {}

  // The text is one value.
  bool Parse() { return ReadValue() && Peek() == '\0' && at_ == end_; }

 private:
  // The next byte that is no space; NUL, which JSON has nowhere, at the end.
  char Peek() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t'))
      ++at_;
    return at_ == end_ ? '\0' : *at_;
  }
  bool Skip(char c) {
    if (Peek() != c) return false;
    ++at_;
    return true;
  }
  std::string_view rest() const { return {at_, static_cast<size_t>(end_ - at_)}; }

  bool ReadValue() {
    switch (Peek()) {
      case '"':
        return ReadString();
      case '{':
        return ReadMapping();
      case '[':
        return ReadList();
      case 't':
        return ReadWord("true", Value::Bool(true));
      case 'f':
        return ReadWord("false", Value::Bool(false));
      case 'n':
        return ReadWord("null", Value::Null());
      default:
        return ReadNumber();
    }
  }

  bool ReadWord(std::string_view word, Value value) {
    if (!rest().starts_with(word)) return false;
    at_ += word.size();
    *values_++ = std::move(value);
    return true;
  }

  bool ReadNumber() {
    const bool negative = at_ != end_ && *at_ == '-';
    if (negative) ++at_;
    const char* const first = at_;
    uint64_t number = 0;
    for (; at_ != end_ && IsDigit(*at_); ++at_)
      number = number * 10 + static_cast<uint64_t>(*at_ - '0');
    const auto digits = static_cast<size_t>(at_ - first);
    if (digits == 0 || digits > kMaxDigits || (*first == '0' && digits > 1)) return false;
    if (at_ != end_ && (*at_ == '.' || *at_ == 'e' || *at_ == 'E')) return false;
    *values_++ = negative ? Value::Integer(-static_cast<int64_t>(number)) : Value::Unsigned(number);
    return true;
  }

  bool ReadString() {
    const char* const begin = ++at_;
    for (;;) {
      at_ = SkipPlain(at_, end_);
      if (at_ == end_) return false;
      if (*at_ == '"') break;
      if (*at_ == '\\') return ReadEscaped(begin);
      const size_t length = Utf8Length(rest());
      if (length < 2) return false;  // a control character, or no UTF-8
      at_ += length;
    }
    *values_++ = Value::String({begin, static_cast<size_t>(at_ - begin)});
    ++at_;
    return true;
  }

  // The rest of a string that began at `begin`: here comes its first escape.
  bool ReadEscaped(const char* begin) {
    if (text_ == nullptr) text_ = texts_->OfAtLeast(static_cast<size_t>(end_ - begin));
    const char* const text = text_;
    const char* plain = begin;
    for (;;) {
      at_ = SkipPlain(at_, end_);
      if (at_ == end_) return false;
      if (*at_ != '"' && *at_ != '\\') {
        const size_t length = Utf8Length(rest());
        if (length < 2) return false;
        at_ += length;
        continue;
      }
      std::memcpy(text_, plain, static_cast<size_t>(at_ - plain));
      text_ += at_ - plain;
      if (*at_++ == '"') break;
      if (!ReadEscape()) return false;
      plain = at_;
    }
    *values_++ = Value::String({text, static_cast<size_t>(text_ - text)});
    return true;
  }

  // What follows a backslash. It is never longer than what stands for it.
  bool ReadEscape() {
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
    if (at_ == end_) return false;
    const char name = *at_++;
    if (const size_t found = kNames.find(name); found != std::string_view::npos) {
      *text_++ = kMeant[found];
      return true;
    }
    uint32_t point = 0;
    if (name != 'u' || !ReadUnit(rest(), &point)) return false;
    at_ += 4;
    if (point >= 0xd800 && point < 0xe000) {
      uint32_t low = 0;
      if (point >= 0xdc00 || !rest().starts_with("\\u") || !ReadUnit(rest().substr(2), &low) ||
          low < 0xdc00 || low >= 0xe000) {
        return false;
      }
      at_ += 6;
      point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    }
    text_ = PutUtf8(point, text_);
    return true;
  }

  bool ReadList() {
    if (++depth_ > kMaxDepth) return false;
    ++at_;
    Value* const list = values_++;
    size_t size = 0;
    if (!Skip(']')) {
      do {
        ++size;
        if (!ReadValue()) return false;
      } while (Skip(','));
      if (!Skip(']')) return false;
    }
    *list = Value::List(size, static_cast<size_t>(values_ - list));
    --depth_;
    return true;
  }

  bool ReadMapping() {
    if (++depth_ > kMaxDepth) return false;
    ++at_;
    Value* const mapping = values_++;
    size_t size = 0;
    uint64_t seen = 0;
    if (!Skip('}')) {
      do {
        Value* const key = values_;
        if (Peek() != '"' || !ReadString() || !Skip(':')) return false;
        if (key->text() == kPrunedKey) {
          ++pruning_;
          if (!ReadValue()) return false;
          --pruning_;
          values_ = key;
          continue;
        }
        if (pruning_ == 0 && (++size > kMaxKeys || IsThere(mapping, key, &seen))) return false;
        if (!ReadValue()) return false;
      } while (Skip(','));
      if (!Skip('}')) return false;
    }
    *mapping = Value::Mapping(size, static_cast<size_t>(values_ - mapping));
    --depth_;
    return true;
  }

  // `*seen` has a bit for each key so far; most differ from each other in that.
  static bool IsThere(const Value* mapping, const Value* key, uint64_t* seen) {
    const std::string_view text = key->text();
    uint64_t bit = 1;
    if (!text.empty()) {
      bit <<= (text.size() + 7 * static_cast<unsigned char>(text.front()) +
               31 * static_cast<unsigned char>(text.back())) %
              64;
    }
    if ((*seen & bit) != 0) {
      for (const Value* at = mapping + 1; at != key; at = at[1].next()) {
        if (at->text() == text) return true;
      }
    }
    *seen |= bit;
    return false;
  }

  const char* at_;
  const char* const end_;
  Value* values_;
  Room<char>* const texts_;
  char* text_ = nullptr;  // where the next string with escapes goes; null before the first
  size_t depth_ = 0;
  size_t pruning_ = 0;  // values above here that are not kept
};

absl::Status JsonReader::Read(std::string_view text) {
  Value* const values = values_.OfAtLeast(MostValues(text.size()));
  if (Parser(text, values, &texts_).Parse()) {
    root_ = values;
    return absl::OkStatus();
  }
  LetLargeGo();
  auto tree = ReadPrunedJson(text);
  if (!tree.ok()) return tree.status();
  tree_ = *std::move(tree);
  tree_values_ = ToValues(tree_);
  root_ = tree_values_.data();
  return absl::OkStatus();
}

void JsonReader::LetLargeGo() {
  if (values_.size > MostValues(kMaxKept)) values_ = {};
  if (texts_.size > kMaxKept) texts_ = {};
}

void JsonReader::Forget() {
  LetLargeGo();
  if (tree_values_.empty()) return;
  tree_ = nullptr;
  tree_values_ = std::vector<Value>();
}

}  // namespace waggle::k8s
