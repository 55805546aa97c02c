// Text from an input, made fit for a message: it may be a megabyte long and hold
// terminal escapes. Or for a URL.
#ifndef WAGGLE_K8S_WATCH_QUOTE_H_
#define WAGGLE_K8S_WATCH_QUOTE_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace waggle::k8s {

// `text` with everything outside printable ASCII, quotes and backslashes escaped, cut
// after `limit` bytes of input with "..." and the full length behind it. No quotes
// around it.
std::string Printable(std::string_view text, size_t limit = 64);
// The same between double quotes; the remark on a cut stands after the closing quote.
std::string Quote(std::string_view text, size_t limit = 64);

// For a piece of a URL: all but letters, digits and "-._~" as %XX.
std::string UrlEncode(std::string_view text);

}  // namespace waggle::k8s

#endif
