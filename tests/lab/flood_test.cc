// Floods: a million clients that never were, or one that asks for everything. Others'
// connections live on, and memory stays what the flags say.
#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "tests/lab/cluster.h"

namespace waggle::lab {
namespace {

using net::Family;
using testing::HasSubstr;

constexpr uint64_t kMillion = 1'000'000;
constexpr uint32_t kMaxFlows = 1024;
constexpr uint32_t kMaxHalfOpen = 4096;
// A machine that is busy with a flood is slow; lost is what never comes.
constexpr char kTimeoutMs[] = "8000";

// "Name:  123 kB" of /proc/<pid>/status, or "name: 123" of /proc/self/fdinfo/<fd>.
uint64_t NumberIn(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::stoull(line.substr(name.size() + 1));
  }
  Fail(absl::StrCat("no ", name, " in ", path));
}

// A client's open connection that says nothing, and still has to be there afterwards.
class Sleeper {
 public:
  Sleeper(const Place& place, const std::string& kind, const std::string& to) : client_(place) {
    client_.Must({absl::StrCat("timeout ", kTimeoutMs), "socket " + kind, "connect " + to, "ask a",
                  "ask b"});
  }
  void ExpectAlive() {
    const StepResult answer = client_.Do("ask c");
    EXPECT_TRUE(answer.ok()) << answer;
  }

 private:
  Client client_;
};

class FloodFixture : public testing::Test {
 protected:
  FloodFixture()
      : attacker_(cluster_.node1.AddPod("attacker")),
        target_(cluster_.node1.AddPod("target")),
        victim_(Cluster::Make("victim", 20, {cluster_.on1(target_)})) {
    cluster_.lab.Settle();
    // All sources of the flood are the attacker's, as those of a virtual machine would be:
    // they are answered, and may take the short way.
    cluster_.node1.Ip(absl::StrCat("route add 172.16.0.0/12 dev ", attacker_.host_device(),
                                   "\nroute add fd00:172::/64 dev ", attacker_.host_device(),
                                   "\n"));
    target_server_.emplace(ServeAll(target_));
    cluster_.Apply(cluster_.web);
    cluster_.Apply(victim_);
  }

  // `more`: flags.
  void Start(const std::string& forwarding, const Argv& more = {}) {
    Argv flags = {"--socket-lb",     "off",
                  "--forwarding",    forwarding,
                  "--max-flows",     std::to_string(kMaxFlows),
                  "--max-half-open", std::to_string(kMaxHalfOpen)};
    flags.insert(flags.end(), more.begin(), more.end());
    cluster_.StartAgent({.flags = flags});
  }

  // Connections of every kind from two pods to `web`, in use and idle.
  void OpenConnections() {
    const std::string v4 = Cluster::Frontend(cluster_.web, Family::kIpv4);
    const std::string v6 = Cluster::Frontend(cluster_.web, Family::kIpv6);
    for (const Pod* pod : {&cluster_.client, &cluster_.b1}) {
      loads_.emplace_back(
          *pod, Argv{"hold", "--tcp", v4, "--tcp", v6, "--udp", v4, "--udp", v6, "--connections",
                     "10", "--interval-ms", "20", "--timeout-ms", kTimeoutMs});
      for (int i = 0; i < 3; ++i) {
        for (Family family : kBothFamilies) {
          sleepers_.emplace_back(*pod, SocketKindOf("tcp", family),
                                 Cluster::Frontend(cluster_.web, family));
        }
      }
    }
    ExpectAllInUse();
  }

  // Everybody has asked again, and all went well.
  void ExpectAllInUse() {
    for (Load& load : loads_) {
      uint64_t asked = 0;
      EXPECT_TRUE(WaitFor([&] {
        const Tally tally = load.Mark();
        EXPECT_EQ(tally.ok, tally.attempts) << tally;
        return (asked += tally.attempts) >= 100;
      }));
    }
  }
  void ExpectAllAlive() {
    ExpectAllInUse();
    for (Sleeper& sleeper : sleepers_)
      sleeper.ExpectAlive();
  }

  void ExpectServed(const Place& from, const Service& service, int count = 20) {
    for (const Traffic& traffic : AllTraffic()) {
      const std::string to = Cluster::Frontend(service, traffic.family);
      const Tally tally = AskMany(from, traffic.mode, to, count);
      EXPECT_TRUE(tally.AllOk()) << from.name() << " " << service.name << " " << traffic.Name()
                                 << " " << tally;
    }
  }

  void Flood(const Place& from, const std::string& to, const std::string& source, uint64_t count,
             const Argv& more = {}) {
    Argv argv = {WAGGLE_LAB_PEER, "flood", "--to",    to,
                 "--from",        source,  "--count", std::to_string(count)};
    argv.insert(argv.end(), more.begin(), more.end());
    const RunResult result = RunProgram(from.surroundings(), argv, std::chrono::seconds(55));
    ASSERT_TRUE(result.ok()) << result.ToString();
    ASSERT_EQ(nlohmann::json::parse(result.out).value("sent", uint64_t{0}), count);
  }

  Fd Open(const std::string& map) const {
    Fd fd(bpf_obj_get(absl::StrCat(cluster_.node1.pin_path(), "/", map).c_str()));
    if (!fd.valid()) Fail("no map " + map);
    return fd;
  }
  uint64_t Memory(const std::string& map) const {
    const Fd fd = Open(map);
    return NumberIn(absl::StrCat("/proc/self/fdinfo/", fd.get()), "memlock");
  }
  // Entries that stand in flows or half_open.
  uint32_t Entries(const std::string& map) const {
    const Fd fd = Open(map);
    waggle_flow_key key{}, next{};
    uint32_t count = 0;
    bool first = true;
    // Under a flood a walk may begin anew when its key is evicted: bounded.
    while (count < 4 * (kMaxFlows + kMaxHalfOpen) &&
           bpf_map_get_next_key(fd.get(), first ? nullptr : &key, &next) == 0) {
      key = next;
      first = false;
      ++count;
    }
    return count;
  }
  uint64_t AgentMemoryKb() const {
    return NumberIn(absl::StrCat("/proc/", ReadAgent(cluster_.node1.pin_path()).pid, "/status"),
                    "VmRSS");
  }
  uint64_t Reason(waggle_reason reason) const {
    return ReadReason(cluster_.node1.pin_path(), reason);
  }
  std::string Victim(Family family) const { return Cluster::Frontend(victim_, family); }
  // The first of the addresses that nobody has.
  static std::string Nobody(Family family) {
    return family == Family::kIpv4 ? "172.16.0.1" : "fd00:172::1";
  }

  Cluster cluster_;
  Pod& attacker_;
  Pod& target_;
  Service victim_;
  std::optional<Server> target_server_;
  std::vector<Load> loads_;
  std::vector<Sleeper> sleepers_;
};

struct FloodCase {
  bool udp;
  Family family;
  const char* forwarding;

  std::string Name() const {
    return absl::StrCat(udp ? "Udp" : "Syn", family == Family::kIpv4 ? "V4" : "V6",
                        forwarding[0] == 's' ? "Stack" : "Redirect");
  }
};

void PrintTo(const FloodCase& row, std::ostream* out) {
  *out << row.Name();
}

std::vector<FloodCase> AllFloods() {
  std::vector<FloodCase> rows;
  for (const char* forwarding : {"redirect", "stack"}) {
    for (Family family : kBothFamilies) {
      for (bool udp : {false, true})
        rows.push_back({udp, family, forwarding});
    }
  }
  return rows;
}

class FloodTest : public FloodFixture, public testing::WithParamInterface<FloodCase> {};

INSTANTIATE_TEST_SUITE_P(, FloodTest, testing::ValuesIn(AllFloods()),
                         [](const auto& param) { return param.param.Name(); });

TEST_P(FloodTest, AMillionClientsEvictNobodyElse) {
  const FloodCase& row = GetParam();
  Start(row.forwarding);
  OpenConnections();
  const uint64_t memory = Memory("half_open");
  const uint64_t agent = AgentMemoryKb();
  const uint64_t begun = Reason(WAGGLE_REASON_FLOW_TRANSLATED);
  const uint32_t established = Entries("flows");
  // Both directions of each: 2 pods, 40 connections in use and 6 idle ones.
  EXPECT_GE(established, 2u * 2 * 46);

  Flood(attacker_, Victim(row.family), Nobody(row.family), kMillion,
        row.udp ? Argv{"--udp"} : Argv{});

  ExpectAllAlive();
  // At once, for everybody.
  ExpectServed(cluster_.client, cluster_.web);
  ExpectServed(cluster_.client, victim_);
  ExpectServed(attacker_, cluster_.web);
  // The flood did come: nearly all of it began flows, and none was dropped for want of room.
  EXPECT_GE(Reason(WAGGLE_REASON_FLOW_TRANSLATED) - begun, kMillion * 99 / 100);
  EXPECT_EQ(Reason(WAGGLE_REASON_HALF_OPEN_FULL), 0u);
  EXPECT_EQ(Reason(WAGGLE_REASON_FLOWS_FULL), 0u);
  // Within what was asked for.
  EXPECT_LE(Entries("half_open"), kMaxHalfOpen);
  EXPECT_LE(Entries("flows"), kMaxFlows);
  EXPECT_GE(Entries("flows"), established);
  EXPECT_EQ(Memory("half_open"), memory);
  EXPECT_LE(AgentMemoryKb(), agent + 4096);
}

// What the flood needs no answer for, a pod can do with any source address: also with
// another pod's, and all its ports. That pod's connections are not the attacker's to end.
class StolenAddressTest : public FloodFixture, public testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(, StolenAddressTest, testing::Values("redirect", "stack"),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(StolenAddressTest, AnothersConnectionsStay) {
  Start(GetParam());
  OpenConnections();
  const uint32_t established = Entries("flows");
  for (const char* flags : {"syn", "ack", "rst"}) {
    for (Family family : kBothFamilies) {
      Flood(attacker_, Cluster::Frontend(cluster_.web, family),
            cluster_.client.addresses().Of(family), 65536 - 1024, {"--flags", flags});
      ExpectAllAlive();
      EXPECT_GE(Entries("flows"), established) << flags;
      ASSERT_FALSE(HasFailure()) << flags << " " << NameOf(family);
    }
  }
  // A datagram is a datagram: nobody can tell that the answer to it is not the client's,
  // and IPv6 has no rp_filter. But the client's own go on.
  loads_.clear();
  for (Family family : kBothFamilies) {
    Flood(attacker_, Cluster::Frontend(cluster_.web, family),
          cluster_.client.addresses().Of(family), 65536 - 1024, {"--udp"});
  }
  ExpectAllAlive();
  ExpectServed(cluster_.client, cluster_.web);
}

// Packets of no connection take no room.
class AckFloodTest : public FloodFixture, public testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(, AckFloodTest, testing::Values("redirect", "stack"),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(AckFloodTest, BeginsNothing) {
  Start(GetParam());
  OpenConnections();
  const uint32_t established = Entries("flows");
  const uint32_t half_open = Entries("half_open");
  const uint64_t begun = Reason(WAGGLE_REASON_FLOW_TRANSLATED);
  for (Family family : kBothFamilies) {
    for (const char* flags : {"ack", "rst"}) {
      Flood(attacker_, Victim(family), Nobody(family), 100'000, {"--flags", flags});
    }
  }
  ExpectAllAlive();
  EXPECT_EQ(Reason(WAGGLE_REASON_FLOW_TRANSLATED), begun);
  EXPECT_EQ(Entries("flows"), established);
  EXPECT_EQ(Entries("half_open"), half_open);
}

// The attacker's own address: its kernel resets what it did not ask for.
class OwnAddressTest : public FloodFixture, public testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(, OwnAddressTest, testing::Values("redirect", "stack"),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(OwnAddressTest, AllPortsAreOfUseAtOnce) {
  Start(GetParam());
  OpenConnections();
  for (Family family : kBothFamilies) {
    Flood(attacker_, Victim(family), attacker_.addresses().Of(family), 65536 - 1024);
  }
  ExpectServed(attacker_, victim_, 100);
  ExpectServed(attacker_, cluster_.web, 100);
  ExpectAllAlive();
  EXPECT_EQ(Reason(WAGGLE_REASON_FLOWS_FULL), 0u);
}

// More established connections than `flows` has room for: those too many live where a flood
// can evict them, and work all the same; the counter says so.
class FullTest : public FloodFixture, public testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(, FullTest, testing::Values("redirect", "stack"),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(FullTest, ConnectionsWithoutRoomInFlowsWork) {
  Start(GetParam());
  const std::string v4 = Cluster::Frontend(cluster_.web, Family::kIpv4);
  const std::string v6 = Cluster::Frontend(cluster_.web, Family::kIpv6);
  // 2 × 300 connections of two entries each, where there is room for 512.
  std::vector<Load> greedy;
  for (const std::string& to : {v4, v6}) {
    greedy.emplace_back(cluster_.client, Argv{"hold", "--tcp", to, "--connections", "300",
                                              "--interval-ms", "200", "--timeout-ms", kTimeoutMs});
  }
  ASSERT_TRUE(WaitFor([&] { return Reason(WAGGLE_REASON_FLOWS_FULL) > 0; }));
  EXPECT_LE(Entries("flows"), kMaxFlows);
  EXPECT_GT(Entries("half_open"), 0u);
  const auto expect_well = [&] {
    for (Load& load : greedy) {
      uint64_t asked = 0;
      EXPECT_TRUE(WaitFor([&] {
        const Tally tally = load.Mark();
        EXPECT_EQ(tally.ok, tally.attempts) << tally;
        return (asked += tally.attempts) >= 600;
      }));
    }
  };
  expect_well();
  // New ones come and go.
  ExpectServed(cluster_.b1, cluster_.web, 50);
  ExpectServed(cluster_.client, victim_, 50);
  expect_well();
  EXPECT_THAT(Waggle(cluster_.node1, {"status", "--pin-path", cluster_.node1.pin_path()}).out,
              HasSubstr("flows-full"));

  // There is room again: those that had none move in by themselves.
  const uint64_t full = Reason(WAGGLE_REASON_FLOWS_FULL);
  EXPECT_GT(full, 0u);
  greedy.pop_back();
  EXPECT_TRUE(WaitFor([&] {
    const uint64_t before = Reason(WAGGLE_REASON_FLOWS_FULL);
    expect_well();
    return Reason(WAGGLE_REASON_FLOWS_FULL) == before && Entries("flows") >= 2u * 300;
  }));
}

}  // namespace
}  // namespace waggle::lab
