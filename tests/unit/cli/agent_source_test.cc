#include "userspace/cli/agent_source.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace waggle::cli {
namespace {

struct ForwardCase {
  const char* name;
  std::string address;
  net::Protocol protocol;
  Fate fate;
  const char* url;
  bool forwarded;
};

ResolvedService Kubernetes(const ForwardCase& test) {
  BackendList list;
  list.fate = test.fate;
  Frontend frontend;
  frontend.endpoint = {*net::Address::Parse(test.address), 443};
  list.frontends = {frontend};
  return {{"default", "kubernetes"}, {{"https", test.protocol, {list}}}};
}

TEST(IsForwarded, KnowsWhatTheKernelServes) {
  constexpr net::Protocol kTcp = net::Protocol::kTcp;
  for (const ForwardCase& test : {
           ForwardCase{"it is", "10.96.0.1", kTcp, Fate::kForward, "https://10.96.0.1", true},
           {"v6", "fd00::1", kTcp, Fate::kForward, "https://[fd00::1]", true},
           {"other address", "10.96.0.2", kTcp, Fate::kForward, "https://10.96.0.1", false},
           {"other port", "10.96.0.1", kTcp, Fate::kForward, "https://10.96.0.1:6443", false},
           {"no endpoints", "10.96.0.1", kTcp, Fate::kRefuse, "https://10.96.0.1", false},
           {"UDP", "10.96.0.1", net::Protocol::kUdp, Fate::kForward, "https://10.96.0.1", false},
           {"a name", "10.96.0.1", kTcp, Fate::kForward, "https://kubernetes", false},
       }) {
    EXPECT_EQ(IsForwarded({Kubernetes(test)}, *k8s::ParseEndpoint(test.url)), test.forwarded)
        << test.name;
  }
  EXPECT_FALSE(IsForwarded({}, *k8s::ParseEndpoint("https://10.96.0.1")));
}

TEST(MakeSource, NamesWhatIsMissing) {
  config::AgentConfig config;
  config.node_name = "n1";
  config.client.kubeconfig = "/nowhere/at/all";
  config.datapath.pin_path = "/nowhere";
  const auto source = MakeSource(config, true);
  ASSERT_FALSE(source.ok());
  EXPECT_NE(std::string(source.status().message()).find("/nowhere/at/all"), std::string::npos);
}

}  // namespace
}  // namespace waggle::cli
