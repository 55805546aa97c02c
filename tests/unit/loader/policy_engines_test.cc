// Which way is chosen by what was found, and whose a chain is.
#include <netinet/in.h>  // first: the kernel's headers then leave out what it defines

#include "loader/policy_engines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include <cstring>
#include <random>

namespace waggle::loader {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

using Found = absl::StatusOr<std::vector<PolicyEngine>>;

TEST(ChooseForwarding, RedirectsWhereNobodyElseMustSee) {
  const Found nothing = std::vector<PolicyEngine>();
  const Found calico = std::vector<PolicyEngine>{
      {"chain cali-FORWARD in table ip filter", "Calico's policy must see the packets"}};
  const Found both = std::vector<PolicyEngine>{{"table inet kube-network-policies", "its policy"},
                                               {"program x at tcx ingress of v1", "y"}};
  const Found failed = absl::PermissionDeniedError("read the chains of nftables: no rights");
  struct {
    const char* what;
    waggle_forwarding asked;
    const Found& found;
    waggle_forwarding chosen;
    const char* reason;
  } const rows[] = {
      {"auto, nothing", WAGGLE_FORWARDING_AUTO, nothing, WAGGLE_FORWARDING_REDIRECT,
       "no policy engine found"},
      {"auto, one", WAGGLE_FORWARDING_AUTO, calico, WAGGLE_FORWARDING_STACK,
       "chain cali-FORWARD in table ip filter: Calico's policy must see the packets"},
      {"auto, two", WAGGLE_FORWARDING_AUTO, both, WAGGLE_FORWARDING_STACK,
       "table inet kube-network-policies: its policy (and 1 more)"},
      {"auto, not known", WAGGLE_FORWARDING_AUTO, failed, WAGGLE_FORWARDING_STACK,
       "could not look for policy engines: read the chains of nftables: no rights"},
      {"stack, nothing", WAGGLE_FORWARDING_STACK, nothing, WAGGLE_FORWARDING_STACK, "as asked"},
      {"stack, one", WAGGLE_FORWARDING_STACK, calico, WAGGLE_FORWARDING_STACK, "as asked"},
      {"stack, not known", WAGGLE_FORWARDING_STACK, failed, WAGGLE_FORWARDING_STACK, "as asked"},
      {"redirect, nothing", WAGGLE_FORWARDING_REDIRECT, nothing, WAGGLE_FORWARDING_REDIRECT,
       "as asked"},
      {"redirect, one", WAGGLE_FORWARDING_REDIRECT, calico, WAGGLE_FORWARDING_REDIRECT,
       "as asked, although chain cali-FORWARD in table ip filter: Calico's policy must see the "
       "packets"},
      {"redirect, not known", WAGGLE_FORWARDING_REDIRECT, failed, WAGGLE_FORWARDING_REDIRECT,
       "as asked"},
  };
  for (const auto& row : rows) {
    const ForwardingChoice choice = ChooseForwarding(row.asked, row.found);
    EXPECT_EQ(choice.forwarding, row.chosen) << row.what;
    EXPECT_EQ(choice.reason, row.reason) << row.what;
  }
}

TEST(ChooseForwarding, TheReasonFitsAndIsPrintable) {
  constexpr size_t kBefore = sizeof("could not look for policy engines: ") - 1;
  constexpr size_t kMost = WAGGLE_REASON_LEN - 1 - kBefore;
  for (const size_t length : {size_t{1}, kMost - 1, kMost, kMost + 1, size_t{5000}}) {
    const Found found = absl::InternalError(std::string(length, 'x'));
    const ForwardingChoice choice = ChooseForwarding(WAGGLE_FORWARDING_AUTO, found);
    EXPECT_LT(choice.reason.size(), size_t{WAGGLE_REASON_LEN}) << length;
    EXPECT_THAT(choice.reason, StartsWith("could not look")) << length;
    EXPECT_THAT(choice.reason, EndsWith(length <= kMost ? "x" : "x...")) << length;
  }
  const Found odd = std::vector<PolicyEngine>{{"chain a\nb\x1b[31m\xff", "c"}};
  EXPECT_EQ(ChooseForwarding(WAGGLE_FORWARDING_AUTO, odd).reason, "chain a?b?[31m?: c");
}

TEST(EngineOf, KnowsEnginesAndLeavesOthersAlone) {
  struct {
    const char* chain;
    const char* engine;
  } const chains[] = {
      {"cali-FORWARD", "Calico"},
      {"KUBE-ROUTER-FORWARD", "kube-router"},
      {"CILIUM_FORWARD", "Cilium"},
      {"WEAVE-NPC", "Weave Net"},
      {"ANTREA-FORWARD", "Antrea"},
      {"AZURE-NPM", "Azure NPM"},
      {"ROMANA-FORWARD-IN", "Romana"},
      {"", ""},
      {"FORWARD", ""},
      {"KUBE-FORWARD", ""},
      {"KUBE-SERVICES", ""},
      {"KUBE-FIREWALL", ""},
      {"KUBE-SVC-NPX46M4PTMTKRN6Y", ""},
      {"KUBE-ROUTER-SERVICES", ""},  // kube-router as a service proxy
      {"OLD_CILIUM_FORWARD", ""},
      {"WEAVE", ""},
      {"WEAVE-CANARY", ""},
      {"DOCKER-USER", ""},
      {"DOCKER-FORWARD", ""},
      {"FLANNEL-FWD", ""},
      {"CNI-FORWARD", ""},
      {"CNI-HOSTPORT-DNAT", ""},
      {"IP-MASQ-AGENT", ""},
      {"ufw-before-forward", ""},
      {"FWD_public", ""},
      {"ts-forward", ""},
      {"LIBVIRT_FWO", ""},
      {"Xcali-FORWARD", ""},
  };
  for (const auto& row : chains)
    EXPECT_EQ(EngineOfChain(row.chain), row.engine) << row.chain;
  struct {
    const char* table;
    const char* engine;
  } const tables[] = {
      {"calico", "Calico"},
      {"kube-network-policies", "kube-network-policies"},
      {"kindnet-network-policies", "kube-network-policies"},
      {"ovn-kubernetes", "OVN-Kubernetes"},
      {"ovn-kubernetes-egressip", "OVN-Kubernetes"},
      {"", ""},
      {"filter", ""},
      {"kube-proxy", ""},
      {"firewalld", ""},
      {"docker-bridges", ""},
      {"cni_plugins_masquerade", ""},
      {"kindnet-ipmasq", ""},
      {"flannel-ipv4", ""},
  };
  for (const auto& row : tables)
    EXPECT_EQ(EngineOfTable(row.table), row.engine) << row.table;
}

// What the kernel gives for a table: each rule has its length and where its target is.
class Entries {
 public:
  explicit Entries(bool ipv6) : ipv6_(ipv6) {}

  void Rule(const std::string& target, const std::string& data = std::string(8, '\0')) {
    const size_t fixed = ipv6_ ? sizeof(ip6t_entry) : sizeof(ipt_entry);
    const size_t size = (sizeof(xt_entry_target) + data.size() + 7) / 8 * 8;
    const size_t at = bytes_.size();
    last_ = at;
    bytes_.resize(at + fixed + size);
    SetTarget(fixed);
    SetNext(fixed + size);
    target.copy(Name(), XT_EXTENSION_MAXNAMELEN - 1);
    data.copy(reinterpret_cast<char*>(&bytes_[at + fixed + sizeof(xt_entry_target)]), data.size());
  }
  void Chain(const std::string& name) {
    Rule(XT_ERROR_TARGET, name + std::string(XT_FUNCTION_MAXNAMELEN - name.size(), '\0'));
  }
  void SetTarget(size_t value) {
    Set(ipv6_ ? offsetof(ip6t_entry, target_offset) : offsetof(ipt_entry, target_offset), value);
  }
  void SetNext(size_t value) {
    Set(ipv6_ ? offsetof(ip6t_entry, next_offset) : offsetof(ipt_entry, next_offset), value);
  }
  std::vector<uint8_t>& bytes() { return bytes_; }
  absl::StatusOr<std::vector<std::string>> Read() const { return LegacyChains(bytes_, ipv6_); }

 private:
  char* Name() {
    const size_t fixed = ipv6_ ? sizeof(ip6t_entry) : sizeof(ipt_entry);
    return reinterpret_cast<char*>(&bytes_[last_ + fixed + offsetof(xt_entry_target, u.user.name)]);
  }
  void Set(size_t at, size_t value) {
    const auto small = static_cast<uint16_t>(value);
    std::memcpy(&bytes_[last_ + at], &small, sizeof(small));
  }
  bool ipv6_;
  size_t last_ = 0;
  std::vector<uint8_t> bytes_;
};

class LegacyChainsTest : public testing::TestWithParam<bool> {
 protected:
  Entries Table() const {
    Entries table(GetParam());
    table.Rule("");
    table.Rule("ACCEPT");
    table.Chain("cali-FORWARD");
    table.Rule("MARK", std::string(16, 'x'));
    table.Chain("a-chain-of-29-bytes-as-it-may");
    table.Chain("ERROR");
    return table;
  }
};

INSTANTIATE_TEST_SUITE_P(, LegacyChainsTest, testing::Bool(),
                         [](const auto& param) { return param.param ? "Ipv6" : "Ipv4"; });

TEST_P(LegacyChainsTest, NamesTheChainsOfATable) {
  const auto chains = Table().Read();
  ASSERT_TRUE(chains.ok()) << chains.status();
  EXPECT_THAT(*chains, ElementsAre("cali-FORWARD", "a-chain-of-29-bytes-as-it-may"));
  const auto none = Entries(GetParam()).Read();
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_THAT(*none, IsEmpty());
}

TEST_P(LegacyChainsTest, DamageIsFoundAndNamed) {
  const size_t fixed = GetParam() ? sizeof(ip6t_entry) : sizeof(ipt_entry);
  struct {
    const char* what;
    std::function<void(Entries&)> damage;
    const char* says;
  } const rows[] = {
      {"no length", [](Entries& table) { table.SetNext(0); }, "length"},
      {"shorter than itself", [&](Entries& table) { table.SetNext(fixed - 1); }, "length"},
      {"longer than the rest", [](Entries& table) { table.SetNext(0xffff); }, "length"},
      {"target in the head", [](Entries& table) { table.SetTarget(0); }, "target"},
      {"target behind the end", [](Entries& table) { table.SetTarget(0xffff); }, "target"},
      {"cut in the head", [](Entries& table) { table.bytes().resize(table.bytes().size() + 1); },
       "cut short"},
  };
  for (const auto& row : rows) {
    Entries table = Table();
    row.damage(table);
    const auto chains = table.Read();
    EXPECT_EQ(chains.status().code(), absl::StatusCode::kInvalidArgument) << row.what;
    EXPECT_THAT(std::string(chains.status().message()),
                AllOf(HasSubstr("offset"), HasSubstr(row.says)))
        << row.what;
  }
}

// Under the address sanitizer: nothing is read outside, whatever the bytes are.
TEST_P(LegacyChainsTest, AnyBytesAreSurvived) {
  std::mt19937 random(7);
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint8_t> bytes = Table().bytes();
    bytes.resize(random() % (bytes.size() + 1));
    bytes.shrink_to_fit();
    for (size_t changes = random() % 4; changes > 0 && !bytes.empty(); --changes) {
      bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
    }
    const auto chains = LegacyChains(bytes, GetParam());
    if (!chains.ok()) continue;
    for (const std::string& chain : *chains)
      EXPECT_LE(chain.size(), XT_FUNCTION_MAXNAMELEN);
  }
}

}  // namespace
}  // namespace waggle::loader
