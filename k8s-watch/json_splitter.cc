#include "k8s-watch/json_splitter.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "k8s-watch/quote.h"

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
  size_t at = 0;
  while (at < bytes.size()) {
    // Within a part or a string all that matters is where it ends.
    const size_t start = at;
    if (in_string_) {
      for (; at < bytes.size(); ++at) {
        const char c = bytes[at];
        if (escaped_) {
          escaped_ = false;
        } else if (c == '\\') {
          escaped_ = true;
        } else if (c == '"') {
          in_string_ = false;
          break;
        }
      }
      if (!in_part_ && depth_ == 1 && word_.size() < kMaxWord) {
        word_.append(bytes.substr(start, std::min(at - start, kMaxWord)));
      }
      // What is kept of a string has its closing quote.
      const size_t end = in_string_ ? at : ++at;
      if (auto status = Keep(bytes.substr(start, end - start)); !status.ok()) return status;
      continue;
    }
    if (in_part_) {
      for (; at < bytes.size(); ++at) {
        const char c = bytes[at];
        if (c == '"' || c == '{' || c == '[' || c == '}' || c == ']') break;
      }
      if (at > start) {
        if (auto status = Keep(bytes.substr(start, at - start)); !status.ok()) return status;
      }
      if (at == bytes.size()) break;
    }
    if (auto status = Structural(bytes[at++]); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// One byte outside of strings.
absl::Status JsonSplitter::Structural(char c) {
  const bool between_values = depth_ == 0;
  const bool between_items = in_items_ && !in_part_;
  if (between_values || between_items) {
    if (IsSpace(c)) return absl::OkStatus();
    if (between_values && done_) return Unexpected(c, "the end");
  }
  if (between_items) {
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
    return OpenPart();
  }
  if (between_values) {
    if (c != '{') return Unexpected(c, "an object");
    if (shape_ == Shape::kValues) return OpenPart();
  }
  switch (c) {
    case '"':
      in_string_ = true;
      if (!in_part_ && depth_ == 1) word_.clear();
      break;
    case '{':
    case '[':
      ++depth_;
      if (!in_part_ && depth_ == 2 && c == '[' && word_ == "items") {
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
  if (auto status = Keep(std::string_view(&c, 1)); !status.ok()) return status;
  const size_t outside = shape_ == Shape::kList ? 2 : 0;
  if (in_part_ && depth_ == outside) {
    in_part_ = false;
    comma_needed_ = true;
    auto status = visit_(part_);
    // One large object must not hold its memory for good.
    if (part_.capacity() > (size_t{256} << 10)) part_ = std::string();
    part_.clear();
    return status;
  }
  if (depth_ == 0) done_ = true;
  return absl::OkStatus();
}

absl::Status JsonSplitter::OpenPart() {
  in_part_ = true;
  comma_seen_ = false;
  ++depth_;
  return Keep("{");
}

absl::Status JsonSplitter::Keep(std::string_view bytes) {
  std::string& target = in_part_ ? part_ : envelope_;
  const size_t limit = in_part_ ? kMaxPart : kMaxEnvelope;
  if (target.size() + bytes.size() > limit) {
    return absl::InvalidArgumentError(
        absl::StrCat(in_part_ ? "an object of more than " : "a list that says more than ",
                     limit >> 20, " MiB", in_part_ ? "" : " beside its items"));
  }
  target.append(bytes);
  return absl::OkStatus();
}

absl::Status JsonSplitter::Finish() const {
  if (inside()) return absl::DataLossError("ended in the middle of an object");
  if (shape_ == Shape::kList && !done_) return absl::DataLossError("ended before it began");
  return absl::OkStatus();
}

}  // namespace waggle::k8s
