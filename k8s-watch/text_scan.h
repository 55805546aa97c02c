// Finding what ends or interrupts a string of JSON, eight bytes at a time; and what UTF-8 is.
#ifndef WAGGLE_K8S_WATCH_TEXT_SCAN_H_
#define WAGGLE_K8S_WATCH_TEXT_SCAN_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace waggle::k8s {

// The first byte in [at, end) that is no plain character of a string: a quote, a backslash, a
// control character or one that is not ASCII. `end` when there is none.
inline const char* SkipPlain(const char* at, const char* end) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  constexpr uint64_t kHigh = 0x8080808080808080;
  if constexpr (std::endian::native == std::endian::little) {
    for (; end - at >= 8; at += 8) {
      uint64_t word;
      std::memcpy(&word, at, sizeof(word));
      // The high bit of a byte that is what is looked for; of bytes behind one perhaps as well.
      const uint64_t found = (word | (word - 0x20 * kOnes) | ((word ^ ('"' * kOnes)) - kOnes) |
                              ((word ^ ('\\' * kOnes)) - kOnes)) &
                             kHigh;
      if (found != 0) return at + std::countr_zero(found) / 8;
    }
  }
  for (; at != end; ++at) {
    const auto byte = static_cast<unsigned char>(*at);
    if (byte < 0x20 || byte >= 0x80 || byte == '"' || byte == '\\') break;
  }
  return at;
}

// Length of the UTF-8 sequence at the start of `text`, 0 when it is not one (overlong,
// surrogate, beyond U+10FFFF or cut).
size_t Utf8Length(std::string_view text);

}  // namespace waggle::k8s

#endif
