// /proc/net/ip_vs as kernels write it, and chains as nft does.
#include <gtest/gtest.h>

#include "userspace/kube_proxy/remains.h"

namespace waggle::kube_proxy {
namespace {

constexpr char kHead[] =
    "IP Virtual Server version 1.2.1 (size=4096)\n"
    "Prot LocalAddress:Port Scheduler Flags\n"
    "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";

TEST(CountVirtualServers, CountsServersAndNotTheirBackends) {
  EXPECT_EQ(CountVirtualServers(""), 0u);
  EXPECT_EQ(CountVirtualServers(kHead), 0u);
  EXPECT_EQ(CountVirtualServers(std::string(kHead) +
                                "TCP  0A600001:01BB rr\n"
                                "  -> 0A000005:192B      Masq    1      1          0\n"
                                "UDP  [fd00:0096:0000:0000:0000:0000:0000:000a]:0035 rr\n"
                                "SCTP 0A60000B:0050 rr persistent 10800\n"
                                "FWM  00000001 wlc\n"),
            4u);
}

TEST(ServedFromOutside, TakesChainsOfKubeProxysTableOnly) {
  EXPECT_TRUE(ServedFromOutside("").empty());
  EXPECT_EQ(ServedFromOutside("table ip other {\n\tchain external-42NFTM6N-no/no/tcp/no {\n\t}\n}\n"
                              "table ip kube-proxy {\n"
                              "\tchain nodeport-ips {\n\t}\n"
                              "\tchain service-ULMVA6XW-ns1/svc1/tcp/p80 {\n\t}\n"
                              "\tchain external-42NFTM6N-ns2/svc2/tcp/p80 {\n\t}\n"
                              "\tchain \"external-PAZCYRAI-ns3/svc3/udp/\" {\n\t}\n}\n"),
            (std::vector<std::string>{"ns2/svc2/tcp/p80", "ns3/svc3/udp/"}));
}

}  // namespace
}  // namespace waggle::kube_proxy
