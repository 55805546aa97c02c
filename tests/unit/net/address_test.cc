#include "userspace/net/address.h"

#include <gtest/gtest.h>

namespace waggle::net {
namespace {

struct ParseCase {
  const char* text;
  const char* canonical;  // nullptr: refused
};

class AddressParse : public testing::TestWithParam<ParseCase> {};

TEST_P(AddressParse, GivesCanonicalTextOrRefuses) {
  const auto parsed = Address::Parse(GetParam().text);
  ASSERT_EQ(parsed.has_value(), GetParam().canonical != nullptr) << GetParam().text;
  if (parsed) {
    EXPECT_EQ(parsed->ToString(), GetParam().canonical);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, AddressParse,
    testing::Values(ParseCase{"10.96.0.10", "10.96.0.10"},
                    ParseCase{"010.0.0.1", "10.0.0.1"},  // old API objects: decimal, not octal
                    ParseCase{"::ffff:1.2.3.4", "1.2.3.4"}, ParseCase{"FD00:0:0:0::1", "fd00::1"},
                    ParseCase{"1:0:0:2:0:0:0:3", "1:0:0:2::3"}, ParseCase{"::", "::"},
                    ParseCase{"0.0.0.0", "0.0.0.0"},
                    ParseCase{"255.255.255.255", "255.255.255.255"},
                    ParseCase{"256.0.0.1", nullptr}, ParseCase{"1.2.3", nullptr},
                    ParseCase{"1.2.3.4.5", nullptr}, ParseCase{"1.2.3.4 ", nullptr},
                    ParseCase{" 1.2.3.4", nullptr}, ParseCase{"0001.2.3.4", nullptr},
                    ParseCase{"1..2.3", nullptr}, ParseCase{"", nullptr},
                    ParseCase{"fe80::1%eth0", nullptr}, ParseCase{"[::1]", nullptr},
                    ParseCase{":::", nullptr}, ParseCase{"None", nullptr},
                    ParseCase{"1.2.3.4/32", nullptr}));

TEST(Address, EmbeddedNulIsRefused) {
  EXPECT_FALSE(Address::Parse(std::string_view("::1\0x", 5)).has_value());
}

TEST(Address, IsOrderedAsBytesWithIpv4AsMapped) {
  EXPECT_LT(*Address::Parse("9.0.0.1"), *Address::Parse("10.0.0.1"));
  EXPECT_LT(*Address::Parse("10.0.0.1"), *Address::Parse("fd00::1"));
  EXPECT_EQ(Address::Parse("10.0.0.1")->family(), Family::kIpv4);
  EXPECT_EQ(Address::Parse("::1")->family(), Family::kIpv6);
}

TEST(Endpoint, TextHasBracketsForIpv6) {
  EXPECT_EQ((Endpoint{*Address::Parse("10.0.0.1"), 80}.ToString()), "10.0.0.1:80");
  EXPECT_EQ((Endpoint{*Address::Parse("fd00::1"), 65535}.ToString()), "[fd00::1]:65535");
}

TEST(Protocol, NamesRoundTripAndOthersAreRefused) {
  for (Protocol protocol : {Protocol::kTcp, Protocol::kUdp, Protocol::kSctp}) {
    EXPECT_EQ(ParseProtocol(ProtocolName(protocol)), protocol);
  }
  EXPECT_FALSE(ParseProtocol("tcp").has_value());
  EXPECT_FALSE(ParseProtocol("").has_value());
}

}  // namespace
}  // namespace waggle::net
