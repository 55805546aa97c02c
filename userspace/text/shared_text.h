// Texts that many objects have in common (names of nodes and zones), each kept once. A leaf.
#ifndef WAGGLE_USERSPACE_TEXT_SHARED_TEXT_H_
#define WAGGLE_USERSPACE_TEXT_SHARED_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace waggle::text {

// An immutable text in eight bytes. Equal texts are one copy in the process, freed with its last
// owner. One SharedText is used by one thread at a time; copies of it by any.
class SharedText {
 public:
  SharedText() = default;                                         // the empty text
  SharedText(std::string_view text) : entry_(Acquire(text)) {}    // NOLINT(*-explicit-*)
  SharedText(const std::string& text) : entry_(Acquire(text)) {}  // NOLINT(*-explicit-*)
  SharedText(const char* text) : entry_(Acquire(text)) {}         // NOLINT(*-explicit-*)
  SharedText(const SharedText& other) : entry_(Share(other.entry_)) {}
  SharedText(SharedText&& other) noexcept : entry_(std::exchange(other.entry_, nullptr)) {}
  SharedText& operator=(SharedText other) noexcept {
    std::swap(entry_, other.entry_);
    return *this;
  }
  ~SharedText() { Release(entry_); }

  // Valid as long as any owner of this text.
  const std::string& str() const;
  bool empty() const { return entry_ == nullptr; }

  friend bool operator==(const SharedText& a, const SharedText& b) { return a.entry_ == b.entry_; }

  // How many different texts there are now, the empty one aside.
  static size_t Count();

 private:
  struct Entry;
  struct Pool;

  static Entry* Acquire(std::string_view text);
  static Entry* Share(Entry* entry);
  static void Release(Entry* entry);

  Entry* entry_ = nullptr;  // null: the empty text
};

// A few names in order, as one shared text.
class SharedNames {
 public:
  SharedNames() = default;
  SharedNames(const std::vector<std::string>& names);  // NOLINT(*-explicit-*)

  bool empty() const { return joined_.empty(); }
  bool contains(std::string_view name) const;
  std::vector<std::string> names() const;

  friend bool operator==(const SharedNames&, const SharedNames&) = default;

 private:
  // Each name with a NUL behind it, which no name holds.
  SharedText joined_;
};

}  // namespace waggle::text

#endif
