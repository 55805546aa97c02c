#include "bench/path/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "bench/path/proxy_rules.h"

namespace waggle::bench {
namespace {

using testing::HasSubstr;

TEST(Quantile, LiesBetweenTheTwoNearest) {
  struct Case {
    std::vector<double> values;
    double q, expected;
  };
  for (const Case& c : {Case{{7}, 0.25, 7}, Case{{3, 1}, 0.5, 2}, Case{{5, 1, 3}, 0.5, 3},
                        Case{{4, 1, 3, 2}, 0.25, 1.75}, Case{{4, 1, 3, 2}, 1, 4}}) {
    EXPECT_DOUBLE_EQ(Quantile(c.values, c.q), c.expected);
  }
}

Sample Make(int round, const std::string& variant, uint64_t ops, uint64_t errors = 0) {
  Sample sample;
  sample.round = round;
  sample.variant = variant;
  sample.outcome.ops = ops;
  sample.outcome.errors = errors;
  sample.outcome.elapsed_ns = 1'000'000'000;
  sample.outcome.client_cpu_ns = 300'000'000;
  sample.outcome.server_cpu_ns = 200'000'000;
  sample.outcome.machine_busy_ns = 900'000'000;
  return sample;
}

TEST(Summarize, ComparesWithTheSameRoundOnly) {
  // The machine is ten times slower in round 2, for both: the ratio stays.
  const std::vector<Row> rows = Summarize(
      {Make(1, "x", 900), Make(1, "direct", 1000), Make(2, "direct", 100), Make(2, "x", 90)},
      "direct");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].variant, "x");
  EXPECT_DOUBLE_EQ(rows[0].ratio.lower, 0.9);
  EXPECT_DOUBLE_EQ(rows[0].ratio.upper, 0.9);
  EXPECT_DOUBLE_EQ(rows[0].per_second, 495);
  EXPECT_DOUBLE_EQ(rows[0].cpu_ratio.median, 1 / 0.9);
  EXPECT_DOUBLE_EQ(rows[1].ratio.median, 1);
}

TEST(Summarize, KeepsKindsApart) {
  Sample together = Make(1, "direct", 10);
  together.kind.cpus = Cpus::kTogether;
  const std::vector<Row> rows = Summarize({Make(1, "direct", 1000), together}, "direct");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1].kind.cpus, Cpus::kTogether);
  EXPECT_DOUBLE_EQ(rows[1].ratio.median, 1);
}

TEST(Summarize, RoundsWithoutOperationsGiveNoRatioAndCountErrors) {
  const std::vector<Row> rows =
      Summarize({Make(1, "direct", 0, 1), Make(1, "x", 5), Make(2, "direct", 10),
                 Make(2, "x", 5, 2), Make(3, "direct", 10), Make(3, "x", 0)},
                "direct");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].errors, 1u);
  EXPECT_EQ(rows[1].errors, 2u);
  EXPECT_EQ(rows[1].rounds, 3u);
  EXPECT_DOUBLE_EQ(rows[1].ratio.median, 0.5);
  EXPECT_DOUBLE_EQ(rows[1].ratio.lower, 0.5);
}

TEST(OthersShare, IsWhatIsBusyAndNotOurs) {
  EXPECT_DOUBLE_EQ(OthersShare({Make(1, "x", 1), Make(1, "y", 1)}, 2), 0.2);
  EXPECT_DOUBLE_EQ(OthersShare({}, 2), 0);
}

TEST(Tables, HaveOneForEachKindAndNameErrors) {
  Sample other = Make(1, "direct", 20'000);
  other.kind = {Op::kUdpOpen, net::Family::kIpv6, Cpus::kTogether};
  const std::string text =
      Tables(Summarize({Make(1, "direct", 12'344), Make(1, "x", 500, 3), other}, "direct"));
  EXPECT_THAT(text, HasSubstr("TCP: connect, 1 byte each way, close; IPv4, client and server on "
                              "two CPUs\n"));
  EXPECT_THAT(text, HasSubstr("UDP: 1 datagram each way on an open socket; IPv6, client and server "
                              "on one CPU\n"));
  EXPECT_THAT(text, HasSubstr("|  12,340 |     1.000 | 1.000-1.000 |  40.51 |"));
  EXPECT_THAT(text, HasSubstr(" 3 errors\n"));
}

// What the kernel makes of the rules is seen by path_bench, which counts no error.
TEST(ProxyRules, HaveEachServiceAndEndpointOnce) {
  const std::vector<RuledPort> v4 = {
      {"default/a:tcp", "10.96.0.1", "tcp", 80, {"10.244.1.2:8080", "10.244.1.3:8080"}},
      {"default/b:udp", "10.96.0.2", "udp", 53, {"10.244.1.4:5353"}}};
  const std::string iptables = IptablesRules(net::Family::kIpv4, v4, "10.244.1.0/24");
  const std::string nft = NftablesRules(net::Family::kIpv4, v4, "10.244.1.0/24");
  EXPECT_THAT(iptables, HasSubstr("--probability 0.50000000000 -j KUBE-SEP-"));
  EXPECT_THAT(iptables, HasSubstr("-j DNAT --to-destination 10.244.1.4:5353\n"));
  EXPECT_THAT(nft, HasSubstr("10.96.0.2 . udp . 53 : goto service-1-udp"));
  EXPECT_THAT(nft, HasSubstr("numgen random mod 2 vmap { 0 : goto endpoint-0-0-tcp, 1 : goto "
                             "endpoint-0-1-tcp }"));
  const std::vector<RuledPort> v6 = {{"default/a:tcp", "fd96::1", "tcp", 80, {"[fd00::2]:8080"}}};
  EXPECT_THAT(
      IptablesRules(net::Family::kIpv6, v6, "fd00::/64"),
      HasSubstr(" -s fd00::2/128 -m comment --comment \"default/a:tcp\" -j KUBE-MARK-MASQ"));
  EXPECT_THAT(NftablesRules(net::Family::kIpv6, v6, "fd00::/64"),
              HasSubstr("meta l4proto tcp dnat to [fd00::2]:8080\n"));
}

}  // namespace
}  // namespace waggle::bench
