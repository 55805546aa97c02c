#include "maps/hash_walk.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "maps/pins.h"
#include "userspace/os/errno_status.h"

namespace waggle::maps {
namespace {

// The kernel gives up a bucket's lock when somebody else holds it for long.
constexpr int kBusyTries = 100;

// Kernel's own error, which never has a name in user space: not for this type of map.
constexpr int kNotSupported = 524;

}  // namespace

HashWalk::HashWalk(int fd, size_t key_size, size_t value_size, std::string_view name, ReadBy by)
    : fd_(fd),
      key_size_(key_size),
      value_size_(value_size),
      name_(name),
      by_(by),
      // An opaque cursor of the size of a key, at least of a u32.
      in_(std::max(key_size, sizeof(uint32_t))),
      out_(in_.size()) {}

void HashWalk::Restart() {
  first_ = true;
  done_ = false;
  count_ = 0;
  steps_ = 0;
}

void HashWalk::Hold(uint32_t entries) {
  keys_.resize(std::max(keys_.size(), entries * key_size_));
  values_.resize(std::max(values_.size(), entries * value_size_));
}

absl::Status HashWalk::Refuse(int error) const {
  return os::ErrnoStatus(error, absl::StrCat("read map ", name_));
}

absl::Status HashWalk::Next(uint32_t want) {
  count_ = 0;
  if (done_) return absl::OkStatus();
  want = std::max(want, 1u);
  Hold(want);
  return by_ == ReadBy::kBatches ? NextByBatch(want) : NextByKeys(want);
}

absl::Status HashWalk::NextByBatch(uint32_t want) {
  int busy = 0;
  while (true) {
    uint32_t count = want;
    const int result = bpf_map_lookup_batch(fd_, first_ ? nullptr : in_.data(), out_.data(),
                                            keys_.data(), values_.data(), &count, nullptr);
    const int error = result == 0 ? 0 : errno;
    if (error == ENOSPC) {  // one bucket holds more than our buffer
      want *= 2;
      Hold(want);
      continue;
    }
    if (first_ && (error == EINVAL || error == kNotSupported)) {
      by_ = ReadBy::kKeys;
      return NextByKeys(want);
    }
    const bool locked = error == EBUSY || error == EDEADLK || error == ETIMEDOUT;
    if (error != 0 && error != ENOENT && !locked) return Refuse(error);
    // The cursor stands at the locked bucket.
    count_ = count;
    std::swap(in_, out_);
    first_ = false;
    done_ = error == ENOENT;
    if (!locked || count_ > 0) return absl::OkStatus();
    if (++busy == kBusyTries) return Refuse(error);
  }
}

// A key that was deleted gives the first one as the next.
absl::Status HashWalk::NextByKeys(uint32_t want) {
  if (max_steps_ == 0) {
    const absl::StatusOr<uint32_t> capacity = MapCapacity(fd_);
    if (!capacity.ok()) return capacity.status();
    max_steps_ = uint64_t{4} * *capacity + 16;
  }
  while (count_ < want) {
    if (bpf_map_get_next_key(fd_, first_ ? nullptr : in_.data(), out_.data()) != 0) {
      if (errno != ENOENT) return Refuse(errno);
      done_ = true;
      return absl::OkStatus();
    }
    std::swap(in_, out_);
    first_ = false;
    if (++steps_ > max_steps_) {
      return absl::UnavailableError(
          absl::StrCat("read map ", name_, ": it changes faster than it can be read"));
    }
    if (bpf_map_lookup_elem(fd_, in_.data(), values_.data() + count_ * value_size_) != 0) {
      if (errno != ENOENT) return Refuse(errno);
      continue;
    }
    std::memcpy(keys_.data() + count_ * key_size_, in_.data(), key_size_);
    ++count_;
  }
  return absl::OkStatus();
}

}  // namespace waggle::maps
