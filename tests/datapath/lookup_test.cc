// The functions that all hooks share, run in the kernel one by one.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <set>

#include "tests/datapath/lookup.h"  // first: the skeleton speaks of its structures

#include "lookup.skel.h"
#include "tests/datapath/kernel_maps.h"

namespace waggle::maps {
namespace {

constexpr Sizes kSizes{.frontends = 16, .services = 16, .backends = 70000, .udp_flows = 64};

struct Deleter {
  void operator()(lookup* skeleton) const { lookup__destroy(skeleton); }
};

class Lookup : public ::testing::Test {
 protected:
  void SetUp() override {
    skeleton_.reset(lookup__open());
    ASSERT_TRUE(skeleton_);
    SetSizes(skeleton_->obj, kSizes);
    ASSERT_EQ(lookup__load(skeleton_.get()), 0) << "these tests need root";
    auto store = StoreOf(skeleton_->obj);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    const ArrayView arrays = store_->arrays();
    ASSERT_TRUE(store_->Cover(arrays.lists_size, arrays.backends_size).ok());
  }

  lookup_io& io() { return skeleton_->bss->io; }

  void Run(bpf_program* program) {
    std::array<char, 64> packet{};
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(), .data_size_in = packet.size(),
                .repeat = 1);
    ASSERT_EQ(bpf_prog_test_run_opts(bpf_program__fd(program), &options), 0) << errno;
  }

  uint64_t Stat(uint32_t reason) { return StatOf(skeleton_->obj, reason); }

  std::unique_ptr<lookup, Deleter> skeleton_;
  std::unique_ptr<KernelMapStore> store_;
};

waggle_frontend_key Key(uint8_t last, uint8_t protocol = IPPROTO_TCP,
                        uint8_t scope = WAGGLE_SCOPE_INTERNAL) {
  waggle_frontend_key key{};
  key.addr[10] = key.addr[11] = 0xff;
  key.addr[12] = 10;
  key.addr[15] = last;
  key.port_be = htons(80);
  key.protocol = protocol;
  key.scope = scope;
  return key;
}

waggle_frontend Row(const waggle_frontend_key& key, uint32_t slot, uint32_t id = 7) {
  waggle_frontend row{};
  row.slot = slot;
  row.service_id = id;
  row.tag = waggle_frontend_tag(&key, slot, id, row.kind);
  return row;
}

TEST_F(Lookup, FindServiceGivesTheFateOfTheSlot) {
  struct {
    const char* name;
    uint8_t fate;
    uint16_t count;
    uint8_t expected;
    uint64_t dangling;
  } const cases[] = {
      {"forward", WAGGLE_FATE_FORWARD, 3, WAGGLE_FATE_FORWARD, 0},
      {"longest list", WAGGLE_FATE_FORWARD, 65535, WAGGLE_FATE_FORWARD, 0},
      {"forward to nobody", WAGGLE_FATE_FORWARD, 0, WAGGLE_FATE_REFUSE, 0},
      {"refuse", WAGGLE_FATE_REFUSE, 0, WAGGLE_FATE_REFUSE, 0},
      {"drop", WAGGLE_FATE_DROP, 0, WAGGLE_FATE_DROP, 0},
      {"slot not in force", WAGGLE_FATE_NONE, 0, WAGGLE_FATE_NONE, 1},
  };
  const waggle_frontend_key key = Key(1);
  const WritePlan::FrontendInsert insert{key, Row(key, 5)};
  ASSERT_TRUE(store_->InsertFrontends({&insert, 1}).ok());
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    waggle_list list{};
    list.base = 1234;
    list.count = c.count;
    list.fate = c.fate;
    list.policy = WAGGLE_POLICY_LOCAL;
    store_->StoreList(5, list);
    const uint64_t before = Stat(WAGGLE_REASON_DANGLING_SLOT);
    io().key = key;
    Run(skeleton_->progs.run_find_service);
    EXPECT_EQ(io().service.fate, c.expected);
    EXPECT_EQ(io().service.count, c.count);
    EXPECT_EQ(io().service.base, 1234u);
    EXPECT_EQ(io().service.policy, WAGGLE_POLICY_LOCAL);
    EXPECT_EQ(io().service.service_id, 7u);
    EXPECT_EQ(Stat(WAGGLE_REASON_DANGLING_SLOT) - before, c.dangling);
  }
  EXPECT_EQ(Stat(WAGGLE_REASON_STALE_ROW), 0u);
}

TEST_F(Lookup, FindServiceTellsKeysApart) {
  const waggle_frontend_key key = Key(1);
  const WritePlan::FrontendInsert insert{key, Row(key, 0)};
  ASSERT_TRUE(store_->InsertFrontends({&insert, 1}).ok());
  waggle_list list{};
  list.fate = WAGGLE_FATE_DROP;
  store_->StoreList(0, list);
  waggle_frontend_key other_port = key;
  other_port.port_be = htons(81);
  waggle_frontend_key other_family = key;
  other_family.addr[10] = 0;
  for (const waggle_frontend_key& other :
       {Key(2), Key(1, IPPROTO_UDP), Key(1, IPPROTO_TCP, WAGGLE_SCOPE_EXTERNAL), other_port,
        other_family}) {
    io().key = other;
    io().service.fate = 99;
    Run(skeleton_->progs.run_find_service);
    EXPECT_EQ(io().service.fate, WAGGLE_FATE_NONE);
  }
  EXPECT_EQ(Stat(WAGGLE_REASON_DANGLING_SLOT) + Stat(WAGGLE_REASON_STALE_ROW), 0u);
}

// What a reader finds who holds an element that was deleted and became another row.
TEST_F(Lookup, FindServiceDoesNotBelieveARowWhoseTagDoesNotFit) {
  waggle_list list{};
  list.fate = WAGGLE_FATE_DROP;
  store_->StoreList(0, list);
  store_->StoreList(1, list);
  const waggle_frontend_key key = Key(1);
  const auto changed = [&](const auto& change) {
    waggle_frontend row = Row(key, 0);
    change(row);
    return row;
  };
  const waggle_frontend rows[] = {
      changed([](auto& row) { row.tag ^= 1; }),
      changed([](auto& row) { row.slot = 1; }),
      changed([](auto& row) { row.service_id = 8; }),
      changed([](auto& row) { row.kind = WAGGLE_KIND_EXTERNAL_IP; }),
      Row(Key(2), 0),
  };
  uint64_t stale = 0;
  for (const waggle_frontend& row : rows) {
    const WritePlan::FrontendInsert insert{key, row};
    ASSERT_TRUE(store_->InsertFrontends({&insert, 1}).ok());
    io().key = key;
    Run(skeleton_->progs.run_find_service);
    EXPECT_EQ(io().service.fate, WAGGLE_FATE_NONE);
    EXPECT_EQ(Stat(WAGGLE_REASON_STALE_ROW), ++stale);
    ASSERT_TRUE(store_->DeleteFrontend(key).ok());
  }
}

TEST_F(Lookup, FindServiceCountsASlotOutsideOfTheMap) {
  const waggle_frontend_key key = Key(1);
  for (const uint32_t slot : {kSizes.lists(), ~0u}) {
    const WritePlan::FrontendInsert insert{key, Row(key, slot)};
    ASSERT_TRUE(store_->InsertFrontends({&insert, 1}).ok());
    io().key = key;
    Run(skeleton_->progs.run_find_service);
    EXPECT_EQ(io().service.fate, WAGGLE_FATE_NONE);
    ASSERT_TRUE(store_->DeleteFrontend(key).ok());
  }
  EXPECT_EQ(Stat(WAGGLE_REASON_DANGLING_SLOT), 2u);
}

// Every member is found, and nothing between, before or behind members.
TEST_F(Lookup, ListHoldsFindsMembersOnly) {
  constexpr uint32_t kBase = 100;
  const auto endpoint = [](uint32_t number) {
    waggle_backend row{};
    // Address and port both carry the order; odd numbers are members.
    const uint32_t high_be = htonl(number >> 8);
    std::memcpy(row.addr + 12, &high_be, 4);
    row.addr[0] = 0xfd;
    row.port_be = htons(static_cast<uint16_t>(number & 0xff));
    return row;
  };
  std::vector<waggle_backend> rows;
  for (uint32_t i = 0; i < 65535; ++i)
    rows.push_back(endpoint(2 * i + 1));
  store_->StoreBackends(kBase, rows);
  // A neighbour's range must not be looked into.
  for (const uint32_t count : {0u, 1u, 2u, 3u, 4u, 1000u, 65535u}) {
    std::set<uint32_t> tried{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    for (uint32_t near = 0; near < 5; ++near) {
      if (2 * count >= near) tried.insert(2 * count - near);
      tried.insert(2 * count + near);
    }
    std::mt19937 random(count);
    for (int i = 0; i < 1000; ++i)
      tried.insert(static_cast<uint32_t>(random() % (2 * count + 4)));
    for (const uint32_t number : tried) {
      const waggle_backend row = endpoint(number);
      io().service = {};
      io().service.base = kBase;
      io().service.count = count;
      std::memcpy(io().endpoint.addr, row.addr, 16);
      io().endpoint.port_be = row.port_be;
      io().result = -1;
      Run(skeleton_->progs.run_list_holds);
      ASSERT_EQ(io().result, number % 2 == 1 && number < 2 * count)
          << "number " << number << " in a list of " << count;
    }
  }
}

// Pearson's statistic against a bound that a uniform source exceeds with a probability
// below 10^-9 (Wilson and Hilferty, six standard deviations).
double ChiSquare(const std::vector<uint64_t>& histogram) {
  double draws = 0;
  for (const uint64_t n : histogram)
    draws += static_cast<double>(n);
  const double expected = draws / static_cast<double>(histogram.size());
  double sum = 0;
  for (const uint64_t n : histogram) {
    const double difference = static_cast<double>(n) - expected;
    sum += difference * difference / expected;
  }
  return sum;
}
double Bound(size_t cells) {
  const auto df = static_cast<double>(cells - 1);
  return df * std::pow(1 - 2 / (9 * df) + 6 * std::sqrt(2 / (9 * df)), 3);
}

TEST_F(Lookup, RandomIndexIsUniform) {
  for (const uint32_t count : {1u, 2u, 3u, 7u, 100u}) {
    SCOPED_TRACE(count);
    io() = {};
    io().service.count = count;
    io().draws = 1'000'000;
    Run(skeleton_->progs.run_random_index);
    EXPECT_EQ(io().outside, 0u);
    const std::vector<uint64_t> histogram(io().histogram, io().histogram + count);
    uint64_t draws = 0;
    for (const uint64_t n : histogram)
      draws += n;
    EXPECT_EQ(draws, 1'000'000u);
    if (count > 1) {
      EXPECT_LT(ChiSquare(histogram), Bound(count));
    }
  }
  // The bound is not so wide that a bias of one in a hundred would pass.
  EXPECT_GT(ChiSquare({505000, 495000}), Bound(2));
  std::vector<uint64_t> skewed(100, 10000);
  skewed[99] = 11500;
  EXPECT_GT(ChiSquare(skewed), Bound(100));
}

TEST_F(Lookup, CompareEndpointOrdersAsMemcmpDoes) {
  std::mt19937 random(1);
  const auto bytes = [](const lookup_endpoint& endpoint) {
    std::array<uint8_t, 18> all{};
    std::memcpy(all.data(), endpoint.addr, 16);
    std::memcpy(all.data() + 16, &endpoint.port_be, 2);
    return all;
  };
  for (int round = 0; round < 20; ++round) {
    io() = {};
    for (lookup_pair& pair : io().pairs) {
      for (__u8& byte : pair.left.addr)
        byte = static_cast<__u8>(random());
      pair.left.port_be = static_cast<__be16>(random());
      pair.right = pair.left;
      // Mostly equal but for one byte, the hardest case; one in eight wholly equal.
      const auto at = random() % 20;
      const auto value = static_cast<__u8>(random());
      if (at < 16) pair.right.addr[at] = value;
      if (at == 16) pair.right.port_be = static_cast<__be16>(random());
      if (at == 17) pair.right.port_be = htons(static_cast<uint16_t>(ntohs(pair.left.port_be) + 1));
    }
    Run(skeleton_->progs.run_compare);
    for (const lookup_pair& pair : io().pairs) {
      const auto left = bytes(pair.left);
      const auto right = bytes(pair.right);
      const int order = std::memcmp(left.data(), right.data(), left.size());
      ASSERT_EQ(pair.order < 0, order < 0);
      ASSERT_EQ(pair.order > 0, order > 0);
      ASSERT_EQ(pair.same != 0, order == 0);
    }
  }
}

class UdpFlow : public Lookup {
 protected:
  void Name(lookup_endpoint& endpoint, uint8_t last, uint16_t port) {
    endpoint = {};
    endpoint.addr[10] = endpoint.addr[11] = 0xff;
    endpoint.addr[15] = last;
    endpoint.port_be = htons(port);
  }
  void MakeKey(uint64_t cookie, uint8_t direction, uint8_t last, uint16_t port) {
    io().cookie = cookie;
    io().flow_key.direction = direction;
    Name(io().endpoint, last, port);
    Run(skeleton_->progs.run_udp_flow_key);
  }
  void Put(uint8_t last, uint16_t port, uint64_t now_ns) {
    Name(io().endpoint, last, port);
    io().now_ns = now_ns;
    Run(skeleton_->progs.run_udp_flow_put);
  }
  // The last byte of the address; -1: not found.
  int Find() {
    io().result = 99;
    Run(skeleton_->progs.run_udp_flow_find);
    return io().result == 0 ? io().endpoint.addr[15] : io().result;
  }
  int flows() { return FdOf(skeleton_->obj, "udp_flows"); }
};

TEST_F(UdpFlow, PutThenFindThenRefreshThenReplace) {
  MakeKey(1, WAGGLE_UDP_FORWARD, 1, 53);
  EXPECT_EQ(Find(), -1);
  Put(9, 5353, 1000);
  EXPECT_EQ(Find(), 9);
  EXPECT_EQ(io().endpoint.port_be, htons(5353));
  EXPECT_EQ(io().last_ns, 1000u);
  Put(9, 5353, 2000);
  EXPECT_EQ(Find(), 9);
  EXPECT_EQ(io().last_ns, 2000u);
  Put(8, 5353, 3000);
  EXPECT_EQ(Find(), 8);
  EXPECT_EQ(Stat(WAGGLE_REASON_UDP_FLOWS_FULL), 0u);
}

TEST_F(UdpFlow, KeysAreTheSocketTheDirectionAndTheWholeEndpoint) {
  MakeKey(1, WAGGLE_UDP_FORWARD, 1, 53);
  Put(9, 5353, 1000);
  MakeKey(2, WAGGLE_UDP_FORWARD, 1, 53);
  EXPECT_EQ(Find(), -1);
  MakeKey(1, WAGGLE_UDP_REVERSE, 1, 53);
  EXPECT_EQ(Find(), -1);
  MakeKey(1, WAGGLE_UDP_FORWARD, 2, 53);
  EXPECT_EQ(Find(), -1);
  MakeKey(1, WAGGLE_UDP_FORWARD, 1, 54);
  EXPECT_EQ(Find(), -1);
  MakeKey(1, WAGGLE_UDP_FORWARD, 1, 53);
  EXPECT_EQ(Find(), 9);
}

// An LRU element is reused at once: a reader that holds it sees another flow's value.
TEST_F(UdpFlow, FindDoesNotBelieveAnotherFlowsValue) {
  MakeKey(1, WAGGLE_UDP_FORWARD, 1, 53);
  Put(9, 5353, 1000);
  const waggle_udp_flow_key key = io().flow_key;
  waggle_udp_flow flow{};
  ASSERT_EQ(bpf_map_lookup_elem(flows(), &key, &flow), 0);
  EXPECT_EQ(flow.tag, waggle_udp_flow_tag(&key, flow.addr, flow.port_be)) << "as C++ has it";
  flow.addr[15] = 8;
  ASSERT_EQ(bpf_map_update_elem(flows(), &key, &flow, BPF_ANY), 0);
  EXPECT_EQ(Find(), -1);
  Put(7, 5353, 2000);
  EXPECT_EQ(Find(), 7) << "and put() mends it";
}

TEST_F(UdpFlow, ABackendIsTakenWhileAnotherFrontendUsesIt) {
  constexpr uint64_t kNow = 10 * WAGGLE_UDP_IDLE_NS;
  struct {
    const char* name;
    uint8_t frontend;
    uint64_t now_ns;
    int taken;
  } const cases[] = {
      {"by the same frontend", 1, kNow, 0},
      {"by another", 2, kNow, 1},
      {"by another, at the last moment", 2, kNow + WAGGLE_UDP_IDLE_NS, 1},
      {"by another, long ago", 2, kNow + WAGGLE_UDP_IDLE_NS + 1, 0},
  };
  MakeKey(1, WAGGLE_UDP_REVERSE, 9, 5353);
  Put(1, 53, kNow);
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    io().cookie = 1;
    Name(io().endpoint, 9, 5353);
    Name(io().other, c.frontend, 53);
    io().now_ns = c.now_ns;
    io().result = -1;
    Run(skeleton_->progs.run_udp_backend_taken);
    EXPECT_EQ(io().result, c.taken);
  }
  io().cookie = 2;
  Run(skeleton_->progs.run_udp_backend_taken);
  EXPECT_EQ(io().result, 0) << "another socket";
}

}  // namespace
}  // namespace waggle::maps
