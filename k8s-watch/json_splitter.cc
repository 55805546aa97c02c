#include "k8s-watch/json_splitter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "k8s-watch/quote.h"
#include "k8s-watch/text_scan.h"

namespace waggle::k8s {
namespace {

// Longer strings are no key that matters.
constexpr size_t kMaxWord = 16;

bool IsSpace(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

absl::Status Unexpected(char c, std::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("not what was asked for: ", Quote(std::string_view(&c, 1)), " where ",
                   std::string(expected), " was expected"));
}

}  // namespace

absl::Status JsonSplitter::Feed(std::string_view bytes) {
  while (!bytes.empty()) {
    size_t size = 1;
    absl::Status status;
    if (in_part_) {
      size = SkipPart(bytes);
      status = OnPart(bytes.substr(0, size));
    } else if (in_string_) {
      size = SkipString(bytes);
      // What is kept of a string has its closing quote.
      if (depth_ == 1 && word_.size() < kMaxWord) {
        word_.append(bytes.substr(0, std::min(in_string_ ? size : size - 1, kMaxWord)));
      }
      status = Keep(bytes.substr(0, size));
    } else {
      status = Structural(bytes[0]);
      if (in_part_) size = 0;  // the byte is its first
    }
    if (!status.ok()) return status;
    bytes.remove_prefix(size);
  }
  return absl::OkStatus();
}

// How much of `bytes` belongs to the string, its closing quote included.
size_t JsonSplitter::SkipString(std::string_view bytes) {
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  for (; at != end; ++at) {
    if (std::exchange(escaped_, false)) continue;
    at = SkipPlain(at, end);
    if (at == end) break;
    if (*at == '"') {
      in_string_ = false;
      return static_cast<size_t>(at + 1 - bytes.data());
    }
    escaped_ = *at == '\\';
  }
  return bytes.size();
}

// How much of `bytes` belongs to the part. All that matters is where it ends.
size_t JsonSplitter::SkipPart(std::string_view bytes) {
  const size_t outside = shape_ == Shape::kList ? 2 : 0;
  for (size_t at = 0; at < bytes.size();) {
    if (in_string_) {
      at += SkipString(bytes.substr(at));
      continue;
    }
    const char c = bytes[at++];
    if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if ((c == '}' || c == ']') && --depth_ == outside) {
      in_part_ = false;
      return at;
    }
  }
  return bytes.size();
}

// More of a part, or the end of it. One that comes in one piece is not copied.
absl::Status JsonSplitter::OnPart(std::string_view piece) {
  if (part_.size() + piece.size() > kMaxPart) {
    return absl::InvalidArgumentError(
        absl::StrCat("an object of more than ", kMaxPart >> 20, " MiB"));
  }
  if (!in_part_ && part_.empty()) return visit_(piece);
  part_.append(piece);
  if (in_part_) return absl::OkStatus();
  auto status = visit_(part_);
  // One large object must not hold its memory for good.
  if (part_.capacity() > (size_t{256} << 10)) part_ = std::string();
  part_.clear();
  return status;
}

// One byte outside of strings and parts.
absl::Status JsonSplitter::Structural(char c) {
  const bool between_values = depth_ == 0;
  if (between_values || in_items_) {
    if (IsSpace(c)) return absl::OkStatus();
    if (between_values && done_) return Unexpected(c, "the end");
  }
  if (in_items_) {
    if (c == ',' && comma_needed_) {
      comma_needed_ = false;
      comma_seen_ = true;
      return absl::OkStatus();
    }
    if (c == ']' && !comma_seen_) {
      in_items_ = false;
      --depth_;
      return Keep("]");
    }
    if (c != '{' || comma_needed_) return Unexpected(c, "an object of the list");
    in_part_ = comma_needed_ = true;
    comma_seen_ = false;
    return absl::OkStatus();
  }
  if (between_values) {
    if (c != '{') return Unexpected(c, "an object");
    if (shape_ == Shape::kValues) {
      in_part_ = true;
      return absl::OkStatus();
    }
  }
  switch (c) {
    case '"':
      in_string_ = true;
      if (depth_ == 1) word_.clear();
      break;
    case '{':
    case '[':
      ++depth_;
      if (depth_ == 2 && c == '[' && word_ == "items") {
        if (items_seen_) return Unexpected(c, "only one list of items");
        items_seen_ = in_items_ = true;
        comma_needed_ = comma_seen_ = false;
      }
      break;
    case '}':
    case ']':
      --depth_;
      break;
    default:
      break;
  }
  if (depth_ == 0) done_ = true;
  return Keep(std::string_view(&c, 1));
}

absl::Status JsonSplitter::Keep(std::string_view bytes) {
  if (envelope_.size() + bytes.size() > kMaxEnvelope) {
    return absl::InvalidArgumentError(
        absl::StrCat("a list that says more than ", kMaxEnvelope >> 20, " MiB beside its items"));
  }
  envelope_.append(bytes);
  return absl::OkStatus();
}

absl::Status JsonSplitter::Finish() const {
  if (inside()) return absl::DataLossError("ended in the middle of an object");
  if (shape_ == Shape::kList && !done_) return absl::DataLossError("ended before it began");
  return absl::OkStatus();
}

}  // namespace waggle::k8s
