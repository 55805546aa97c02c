// Who answers at kube-proxy's port.
#include "userspace/kube_proxy/running.h"

#include <gtest/gtest.h>

namespace waggle::kube_proxy {
namespace {

constexpr char kHead[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";

TEST(IsProxyMode, OnlyAModeAndNothingElse) {
  for (const char* mode : {"iptables", "ipvs", "nftables", "userspace", "nftables\n"})
    EXPECT_TRUE(IsProxyMode(std::string(kHead) + mode)) << mode;
  EXPECT_TRUE(IsProxyMode("HTTP/1.0 200 OK\r\n\r\niptables"));
  for (const char* body : {"", "ok", "ebpf", "iptables or so", "<html>iptables</html>"})
    EXPECT_FALSE(IsProxyMode(std::string(kHead) + body)) << body;
  for (const char* answer : {"", "iptables", "HTTP/1.1 404 Not Found\r\n\r\niptables",
                             "HTTP/1.1 200 OK\r\niptables", "SSH-2.0-x\r\n\r\niptables"}) {
    EXPECT_FALSE(IsProxyMode(answer)) << answer;
  }
}

TEST(IsWaggles, ByItsMetrics) {
  const std::string theirs = std::string(kHead) + "kubeproxy_sync_proxy_rules_total 1\n";
  EXPECT_FALSE(IsWaggles(""));
  EXPECT_FALSE(IsWaggles(theirs));
  EXPECT_FALSE(IsWaggles(theirs + "# HELP x not waggle_ at the start\n"));
  EXPECT_TRUE(IsWaggles(theirs + "waggle_services 3\n"));
}

}  // namespace
}  // namespace waggle::kube_proxy
