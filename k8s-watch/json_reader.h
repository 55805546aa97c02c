// Reads the JSON that an apiserver sends, one object after the other, into the same memory. A
// change waits for it with cold caches: it is one pass and little code, takes what is common, and
// leaves the rest (numbers with a fraction, whatever is wrong) to pruned_json.h, whose results it
// has otherwise: nothing of managedFields, no key twice, the same limits.
#ifndef WAGGLE_K8S_WATCH_JSON_READER_H_
#define WAGGLE_K8S_WATCH_JSON_READER_H_

#include <cstddef>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "k8s-watch/value.h"

namespace waggle::k8s {

class JsonReader {
 public:
  // `text` is one value, else InvalidArgument.
  absl::Status Read(std::string_view text);
  // The value. Its texts are those of the text that was read, which must still be there.
  const Value& root() const { return *root_; }
  // The value is not needed any more: a large one must not hold its memory for good.
  void Forget();

 private:
  class Parser;

  void LetLargeGo();

  // Of longer texts no memory is kept.
  static constexpr size_t kMaxKept = size_t{64} << 10;

  // A buffer that is as large as it once had to be.
  template <typename T>
  struct Room {
    T* OfAtLeast(size_t wanted) {
      if (size < wanted) {
        items = std::make_unique_for_overwrite<T[]>(wanted);
        size = wanted;
      }
      return items.get();
    }
    std::unique_ptr<T[]> items;
    size_t size = 0;
  };

  const Value* root_ = nullptr;
  Room<Value> values_;
  Room<char> texts_;  // strings that have escapes, without them
  // Of what the fast way did not take.
  nlohmann::json tree_;
  std::vector<Value> tree_values_;
};

}  // namespace waggle::k8s

#endif
