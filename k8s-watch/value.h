// A JSON value to be read, whichever parser it comes from: a tree in one piece of memory, in the
// order of the text. Of a list or a mapping the members stand right behind it, of a mapping each
// key as a string in front of its value. Texts are views.
#ifndef WAGGLE_K8S_WATCH_VALUE_H_
#define WAGGLE_K8S_WATCH_VALUE_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

namespace waggle::k8s {

class Value {
 public:
  enum class Type : uint8_t {
    kNull,
    kBool,
    kInteger,   // below zero, or of a parser that does not tell
    kUnsigned,  // the other whole numbers
    kFloat,
    kString,
    kList,
    kMapping
  };
  // Steps over the items of a list, or the keys and values of a mapping by turns.
  class Iterator {
   public:
    explicit Iterator(const Value* at) : at_(at) {}
    const Value& operator*() const { return *at_; }
    Iterator& operator++() {
      at_ = at_->next();
      return *this;
    }
    friend bool operator==(const Iterator&, const Iterator&) = default;

   private:
    const Value* at_;
  };

  Value() = default;  // not initialised: many are made at once
  // A copy of a list or a mapping would look for its members where it is itself.
  Value(const Value&) = delete;
  Value& operator=(const Value&) = delete;
  Value(Value&&) = default;
  Value& operator=(Value&&) = default;
  static Value Null() { return Scalar(Type::kNull, 0); }
  static Value Bool(bool value) { return Scalar(Type::kBool, value ? 1 : 0); }
  static Value Integer(int64_t value) {
    return Scalar(Type::kInteger, static_cast<uint64_t>(value));
  }
  static Value Unsigned(uint64_t value) { return Scalar(Type::kUnsigned, value); }
  static Value Float(double value) { return Scalar(Type::kFloat, std::bit_cast<uint64_t>(value)); }
  // `text` has less than 4 GiB and outlives the value.
  static Value String(std::string_view text) {
    Value value(Type::kString, static_cast<uint32_t>(text.size()), 1);
    value.text_ = text.data();
    return value;
  }
  // Of `size` members; `span` values with it, those below it and the keys.
  static Value List(size_t size, size_t span) { return {Type::kList, size, span}; }
  static Value Mapping(size_t size, size_t span) { return {Type::kMapping, size, span}; }

  Type type() const { return static_cast<Type>(type_and_span_ & 15); }
  bool is_null() const { return type() == Type::kNull; }
  bool is_string() const { return type() == Type::kString; }
  bool is_list() const { return type() == Type::kList; }
  bool is_mapping() const { return type() == Type::kMapping; }
  // Each of its own type only.
  bool boolean() const { return bits_ != 0; }
  int64_t integer() const { return static_cast<int64_t>(bits_); }
  uint64_t unsigned_integer() const { return bits_; }
  double real() const { return std::bit_cast<double>(bits_); }
  std::string_view text() const { return {text_, size_}; }
  // A string that says this.
  bool Says(std::string_view words) const { return is_string() && text() == words; }

  // Of a list or a mapping: how many items or keys, and the way through them.
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  Iterator begin() const { return Iterator(this + 1); }
  Iterator end() const { return Iterator(next()); }
  const Value& front() const { return this[1]; }
  // What stands behind this value and all below it.
  const Value* next() const { return this + (type_and_span_ >> 4); }
  // Of a mapping: the value of `key`, or null; null for all else. Takes longer the more members
  // there are.
  const Value* Find(std::string_view key) const;
  bool Contains(std::string_view key) const { return Find(key) != nullptr; }

 private:
  Value(Type type, size_t size, size_t span)
      : bits_(0),
        size_(static_cast<uint32_t>(size)),
        type_and_span_(static_cast<uint32_t>(span << 4) | static_cast<uint32_t>(type)) {}
  static Value Scalar(Type type, uint64_t bits) {
    Value value(type, 0, 1);
    value.bits_ = bits;
    return value;
  }

  union {
    uint64_t bits_;
    const char* text_;
  };
  uint32_t size_;
  uint32_t type_and_span_;  // 28 bits of span: the values from here to the next beside it
};
static_assert(sizeof(Value) == 16);

// `json` as values, the root first. Its texts are those of `json`, which must stay.
std::vector<Value> ToValues(const nlohmann::json& json);

}  // namespace waggle::k8s

#endif
