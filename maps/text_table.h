// Text for terminals: columns as kubectl prints them, and names made harmless. Pure.
#ifndef WAGGLE_MAPS_TEXT_TABLE_H_
#define WAGGLE_MAPS_TEXT_TABLE_H_

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace waggle::maps {

// What a terminal would obey or cannot show is spelled out as \xNN: names in pins can
// be written by anybody with the rights. Spaces stay unless `spaces` is false (a cell
// with a space would look like two).
inline std::string Printable(std::string_view text, bool spaces = true) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte > 0x20 && byte < 0x7f) || (c == ' ' && spaces)) {
      out += c;
    } else {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

using TableRow = std::vector<std::string>;

// Columns as wide as their longest cell, three spaces apart; the last one is not padded.
inline std::string Columns(const std::vector<TableRow>& rows) {
  std::vector<size_t> widths;
  for (const TableRow& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const TableRow& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text.append(widths[i] - row[i].size() + 3, ' ');
    }
    text += "\n";
  }
  return text;
}

}  // namespace waggle::maps

#endif
