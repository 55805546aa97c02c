#include "k8s-watch/quote.h"

#include "absl/strings/ascii.h"

#include <cstdio>

namespace waggle::k8s {
namespace {

// Escapes at most `limit` bytes.
std::string Escape(std::string_view text, size_t limit) {
  std::string out;
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte > 0x7e) {
      char code[5];
      std::snprintf(code, sizeof(code), "\\x%02x", byte);
      out += code;
    } else {
      out += c;
    }
  }
  return out;
}

std::string CutRemark(std::string_view text, size_t limit) {
  if (text.size() <= limit) return "";
  return "... (" + std::to_string(text.size()) + " bytes)";
}

}  // namespace

std::string Printable(std::string_view text, size_t limit) {
  return Escape(text, limit) + CutRemark(text, limit);
}

std::string Quote(std::string_view text, size_t limit) {
  return "\"" + Escape(text, limit) + "\"" + CutRemark(text, limit);
}

std::string UrlEncode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || c == '-' || c == '.' || c == '_' || c == '~') {
      encoded += c;
    } else {
      encoded += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return encoded;
}

}  // namespace waggle::k8s
