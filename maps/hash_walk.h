// Reading a hash map (LRU or not) of any size piece by piece, while others write it.
#ifndef WAGGLE_MAPS_HASH_WALK_H_
#define WAGGLE_MAPS_HASH_WALK_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace waggle::maps {

// What the kernel is asked to read by. kKeys is for kernels that refuse batches; a map that
// changes under it is read once more from its start, in part.
enum class ReadBy { kBatches, kKeys };

// One walk over one map. What is there from its begin to its end is read at least once;
// what comes or goes meanwhile is read or not. The walk ends however the map changes.
class HashWalk {
 public:
  // `fd` is not owned and stays open while the walk lives. `name` is for errors.
  HashWalk(int fd, size_t key_size, size_t value_size, std::string_view name,
           ReadBy by = ReadBy::kBatches);

  // Reads about `want` more entries (a bucket is never split), which key() and value() give
  // until the next call. Memory is bound by `want`.
  absl::Status Next(uint32_t want);
  // True when the last entry was read.
  bool done() const { return done_; }
  // Begins anew.
  void Restart();

  uint32_t count() const { return count_; }
  const char* key(uint32_t i) const { return keys_.data() + i * key_size_; }
  const char* value(uint32_t i) const { return values_.data() + i * value_size_; }

 private:
  absl::Status NextByBatch(uint32_t want);
  absl::Status NextByKeys(uint32_t want);
  absl::Status Refuse(int error) const;
  void Hold(uint32_t entries);

  int fd_;
  size_t key_size_;
  size_t value_size_;
  std::string name_;
  ReadBy by_;
  bool first_ = true;
  bool done_ = false;
  uint32_t count_ = 0;
  uint64_t steps_ = 0;      // of kKeys
  uint64_t max_steps_ = 0;  // where kKeys gives up running after a map that changes
  std::vector<char> in_;    // where to go on: a bucket, or a key
  std::vector<char> out_;
  std::vector<char> keys_;
  std::vector<char> values_;
};

// All entries as values; `add` takes (const Key&, const Value&).
template <typename Key, typename Value, typename Add>
absl::Status ReadHash(int fd, std::string_view name, const Add& add, ReadBy by = ReadBy::kBatches) {
  constexpr uint32_t kBatch = 4096;
  HashWalk walk(fd, sizeof(Key), sizeof(Value), name, by);
  while (!walk.done()) {
    if (absl::Status status = walk.Next(kBatch); !status.ok()) return status;
    Key key;
    Value value;
    for (uint32_t i = 0; i < walk.count(); ++i) {
      std::memcpy(&key, walk.key(i), sizeof(Key));
      std::memcpy(&value, walk.value(i), sizeof(Value));
      add(key, value);
    }
  }
  return absl::OkStatus();
}

}  // namespace waggle::maps

#endif
