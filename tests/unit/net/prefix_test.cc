// Prefixes: what is one, what it is called, what is in it.
#include "userspace/net/prefix.h"

#include <gtest/gtest.h>

#include <string>

namespace waggle::net {
namespace {

TEST(PrefixTest, ParsesAndClearsWhatIsBehind) {
  const struct {
    const char* text;
    const char* canonical;  // empty: not a prefix
  } kCases[] = {
      {"10.0.0.0/8", "10.0.0.0/8"},
      {"10.1.2.3/8", "10.0.0.0/8"},
      {"10.255.2.3/9", "10.128.0.0/9"},
      {"192.0.2.1/32", "192.0.2.1/32"},
      {"192.0.2.1/0", "0.0.0.0/0"},
      {"010.0.0.1/31", "10.0.0.0/31"},
      {"fd00:10::1/64", "fd00:10::/64"},
      {"fd00:1234::/20", "fd00:1000::/20"},
      {"::/0", "::/0"},
      {"::1/128", "::1/128"},
      {"::ffff:10.1.2.3/104", "10.0.0.0/8"},
      {"::ffff:10.1.2.3/95", ""},
      {"", ""},
      {"10.0.0.0", ""},
      {"10.0.0.0/", ""},
      {"10.0.0.0/33", ""},
      {"fd00::/129", ""},
      {"10.0.0.0/-1", ""},
      {"10.0.0.0/+8", ""},
      {"10.0.0.0/8 ", ""},
      {" 10.0.0.0/8", ""},
      {"10.0.0.0/8/8", ""},
      {"10.0.0/8", ""},
      {"10.0.0.0/99999999999", ""},
      {"primary", ""},
  };
  for (const auto& test : kCases) {
    const auto prefix = Prefix::Parse(test.text);
    EXPECT_EQ(prefix ? prefix->ToString() : "", test.canonical) << test.text;
  }
}

TEST(PrefixTest, Contains) {
  const struct {
    const char* prefix;
    const char* address;
    bool inside;
  } kCases[] = {
      {"10.0.0.0/9", "10.127.255.255", true},
      {"10.0.0.0/9", "10.128.0.0", false},
      {"0.0.0.0/0", "255.1.2.3", true},
      {"0.0.0.0/0", "::1", false},
      {"::/0", "10.0.0.1", false},
      {"::/0", "fd00::1", true},
      {"192.0.2.1/32", "192.0.2.1", true},
      {"192.0.2.1/32", "192.0.2.0", false},
      {"fd00:0:0:8::/61", "fd00:0:0:f::1", true},
      {"fd00:0:0:8::/61", "fd00:0:0:10::1", false},
  };
  for (const auto& test : kCases) {
    EXPECT_EQ(Prefix::Parse(test.prefix)->Contains(*Address::Parse(test.address)), test.inside)
        << test.address << " in " << test.prefix;
  }
}

}  // namespace
}  // namespace waggle::net
