// Flows in the kernel's maps: read, collected, copied, at sizes and under changes that only
// real maps have.
#include "maps/flow_table.h"

#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "maps/flow_collector.h"
#include "maps/hash_walk.h"
#include "maps/kernel_map_store.h"
#include "tests/unit/maps/flow_testing.h"
#include "userspace/os/unique_fd.h"

namespace waggle::maps {
namespace {

constexpr uint64_t kNow = 1'000'000 * kSecondNs;
constexpr uint32_t kBudget = 1000;

os::UniqueFd MakeFlows(uint32_t entries) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_NO_PREALLOC);
  return os::UniqueFd(bpf_map_create(BPF_MAP_TYPE_HASH, "flows", sizeof(waggle_flow_key),
                                     sizeof(waggle_flow), entries, &options));
}
os::UniqueFd MakeHalfOpen(uint32_t entries) {
  return os::UniqueFd(bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "half_open", sizeof(waggle_flow_key),
                                     sizeof(waggle_flow), entries, nullptr));
}

os::UniqueFd Copy(const os::UniqueFd& fd) {
  return os::UniqueFd(dup(fd.get()));
}

bool Put(int fd, const FlowEntry& entry) {
  return bpf_map_update_elem(fd, &entry.key, &entry.value, BPF_ANY) == 0;
}
bool Has(int fd, const FlowEntry& entry) {
  waggle_flow value;
  return bpf_map_lookup_elem(fd, &entry.key, &value) == 0;
}
uint64_t Count(int fd) {
  return CountEntries(fd).value();
}

// The i-th of many flows: of one client to one backend, told apart by its port.
FlowPair Nth(uint32_t i, FlowSpec spec) {
  FlowPair pair = PairOf(spec);
  const auto number = [i](FlowEntry& entry, __u8* client, __u8* as) {
    std::memcpy(client, &i, sizeof(i));
    std::memcpy(as, &i, sizeof(i));
    SetTag(entry);
  };
  number(pair.forward, pair.forward.key.src, pair.forward.value.new_src);
  number(pair.reply, pair.reply.value.new_dst, pair.reply.key.dst);
  return pair;
}

// Inserts both entries of `count` flows, quickly.
void PutMany(int fd, uint32_t count, const FlowSpec& spec, uint32_t first = 0) {
  std::vector<waggle_flow_key> keys;
  std::vector<waggle_flow> values;
  for (uint32_t i = first; i < first + count; ++i) {
    const FlowPair pair = Nth(i, spec);
    for (const FlowEntry& entry : {pair.forward, pair.reply}) {
      keys.push_back(entry.key);
      values.push_back(entry.value);
    }
  }
  auto size = static_cast<uint32_t>(keys.size());
  ASSERT_EQ(bpf_map_update_batch(fd, keys.data(), values.data(), &size, nullptr), 0);
}

class FlowMaps : public testing::Test {
 protected:
  void Make(uint32_t flows, uint32_t half_open) {
    flows_ = MakeFlows(flows);
    half_open_ = MakeHalfOpen(half_open);
    ASSERT_TRUE(flows_ && half_open_) << "these tests need root";
  }
  FlowFds fds() const { return {flows_.get(), half_open_.get()}; }
  FlowCollector Collector() const { return {Copy(flows_), Copy(half_open_)}; }

  os::UniqueFd flows_;
  os::UniqueFd half_open_;
};

FlowSpec Living(FlowSpec spec = {}) {
  spec.created_ns = kNow - 50 * kSecondNs;
  spec.forward_ns = kNow - kSecondNs;
  spec.reply_ns = kNow - kSecondNs;
  return spec;
}

// ---- HashWalk

class Walk : public FlowMaps, public testing::WithParamInterface<ReadBy> {};
INSTANTIATE_TEST_SUITE_P(Both, Walk, testing::Values(ReadBy::kBatches, ReadBy::kKeys),
                         [](const auto& by) {
                           return by.param == ReadBy::kBatches ? "Batches" : "Keys";
                         });

TEST_P(Walk, ReadsEachEntryOnceInPiecesOfAnySize) {
  Make(4096, 16);
  PutMany(flows_.get(), 1000, Living());
  for (const uint32_t want : {0u, 1u, 7u, 4096u}) {
    HashWalk walk(flows_.get(), sizeof(waggle_flow_key), sizeof(waggle_flow), "flows", GetParam());
    for (int round = 0; round < 2; ++round) {
      std::set<std::string> keys;
      while (!walk.done()) {
        ASSERT_TRUE(walk.Next(want).ok());
        // A bucket is not split; ours are short.
        EXPECT_LE(walk.count(), std::max(want, 1u) + 8);
        for (uint32_t i = 0; i < walk.count(); ++i) {
          EXPECT_TRUE(keys.emplace(walk.key(i), sizeof(waggle_flow_key)).second);
          FlowEntry entry;
          std::memcpy(&entry.key, walk.key(i), sizeof(entry.key));
          std::memcpy(&entry.value, walk.value(i), sizeof(entry.value));
          EXPECT_TRUE(IsFlowEntry(entry)) << "key and value belong together";
        }
      }
      EXPECT_EQ(keys.size(), 2000u);
      ASSERT_TRUE(walk.Next(want).ok());
      EXPECT_EQ(walk.count(), 0u) << "at its end";
      walk.Restart();
    }
  }
}

TEST_P(Walk, OfAnEmptyMapEndsAtOnce) {
  Make(64, 64);
  for (const int fd : {flows_.get(), half_open_.get()}) {
    HashWalk walk(fd, sizeof(waggle_flow_key), sizeof(waggle_flow), "flows", GetParam());
    ASSERT_TRUE(walk.Next(10).ok());
    EXPECT_EQ(walk.count(), 0u);
    EXPECT_TRUE(walk.done());
  }
}

TEST_P(Walk, MissesNothingThatStaysWhileOthersComeAndGo) {
  Make(20000, 16);
  constexpr uint32_t kStay = 2000;
  PutMany(flows_.get(), kStay, Living());
  std::atomic<bool> stop = false;
  std::thread others([&] {
    for (uint32_t i = 0; !stop; ++i) {
      const FlowPair come = Nth(kStay + i, Living());
      const FlowPair go = Nth(kStay + i - 200, Living());
      ASSERT_TRUE(Put(flows_.get(), come.forward));
      if (i >= 200) bpf_map_delete_elem(flows_.get(), &go.forward.key);
    }
  });
  for (int round = 0; round < 20; ++round) {
    HashWalk walk(flows_.get(), sizeof(waggle_flow_key), sizeof(waggle_flow), "flows", GetParam());
    std::set<uint32_t> seen;
    absl::Status status;
    while (status.ok() && !walk.done()) {
      status = walk.Next(64);
      for (uint32_t i = 0; i < walk.count(); ++i) {
        FlowEntry entry;
        std::memcpy(&entry.key, walk.key(i), sizeof(entry.key));
        std::memcpy(&entry.value, walk.value(i), sizeof(entry.value));
        uint32_t number = 0;
        if (entry.value.kind != WAGGLE_FLOW_FORWARD) continue;
        std::memcpy(&number, entry.key.src, sizeof(number));
        seen.insert(number);
      }
    }
    // By keys a walk may give up, in words; it never ends early.
    if (GetParam() == ReadBy::kKeys && absl::IsUnavailable(status)) continue;
    EXPECT_TRUE(status.ok()) << status;
    for (uint32_t i = 0; i < kStay; ++i)
      EXPECT_EQ(seen.count(i), 1u) << i;
  }
  stop = true;
  others.join();
}

TEST_F(FlowMaps, ErrorsNameTheMap) {
  HashWalk walk(-1, sizeof(waggle_flow_key), sizeof(waggle_flow), "flows");
  const absl::Status status = walk.Next(1);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("read map flows"));
}

// ---- ReadFlows

TEST_F(FlowMaps, FlowsAreReadFromBothMapsInWholeAndInHalf) {
  Make(64, 64);
  const auto named = [](std::string_view client) { return Living({.client = client}); };
  const FlowPair whole = PairOf(named("10.244.1.1:1"));
  const FlowPair young = PairOf(named("10.244.1.2:2"));
  const FlowPair moving = PairOf(named("10.244.1.3:3"));  // one entry is in `flows` already
  const FlowPair no_reply = PairOf(named("10.244.1.4:4"));
  const FlowPair no_forward = PairOf(named("10.244.1.5:5"));
  FlowSpec old = named("10.244.1.6:6");
  old.forward_ns = old.reply_ns = kNow - 200 * kSecondNs;
  const FlowPair over = PairOf(old);
  FlowEntry damaged = PairOf(named("10.244.1.7:7")).forward;
  damaged.value.service_id = 77;
  FlowSpec v6 = Living({.client = "[fd00:1::8]:8",
                        .frontend = "[fd00:96::a]:53",
                        .backend = "[fd00:2::7]:53",
                        .protocol = net::Protocol::kUdp});
  const FlowPair other_family = PairOf(v6);
  for (const FlowEntry& entry : {whole.forward, whole.reply, moving.forward, no_reply.forward,
                                 over.forward, over.reply, damaged}) {
    ASSERT_TRUE(Put(flows_.get(), entry));
  }
  for (const FlowEntry& entry : {young.forward, young.reply, moving.reply, no_forward.reply,
                                 other_family.forward, other_family.reply}) {
    ASSERT_TRUE(Put(half_open_.get(), entry));
  }
  std::map<std::string, std::string> seen;
  const auto counts = ReadFlows(fds(), kNow, [&](const Flow& flow) {
    std::string how = flow.established ? "established" : "half-open";
    if (flow.half) how += ", half";
    EXPECT_TRUE(seen.emplace(flow.client.ToString(), how).second) << "given twice";
  });
  ASSERT_TRUE(counts.ok()) << counts.status();
  const std::map<std::string, std::string> expected = {
      {"10.244.1.1:1", "established"},     {"10.244.1.2:2", "half-open"},
      {"10.244.1.3:3", "established"},     {"10.244.1.4:4", "established, half"},
      {"10.244.1.5:5", "half-open, half"}, {"[fd00:1::8]:8", "half-open"}};
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(counts->flows, 6u);
  EXPECT_EQ(counts->over, 1u);
  EXPECT_EQ(counts->damaged, 1u);
}

// ---- FlowCollector

// Ticks each second until all of `flows` was looked at once more.
void Round(FlowCollector& collector, uint64_t& now_ns, uint32_t budget = kBudget) {
  const uint64_t rounds = collector.counts().rounds;
  for (int i = 0; i < 1000 && collector.counts().rounds == rounds; ++i) {
    ASSERT_TRUE(collector.Tick(now_ns, budget).ok());
    now_ns += kSecondNs;
  }
  ASSERT_EQ(collector.counts().rounds, rounds + 1);
}

struct AgeCase {
  const char* what;
  net::Protocol protocol;
  uint8_t forward_state;
  uint8_t reply_state;
  uint64_t forward_ago_s;
  uint64_t reply_ago_s;
  bool stays;
};
constexpr AgeCase kAges[] = {
    {"fresh", net::Protocol::kTcp, 0, 0, 1, 1, true},
    {"SYN at its end", net::Protocol::kTcp, 0, 0, 119, 119, true},
    {"SYN within the margin", net::Protocol::kTcp, 0, 0, 121, 121, true},
    {"SYN too old", net::Protocol::kTcp, 0, 0, 123, 123, false},
    {"answered, too old", net::Protocol::kTcp, 0, WAGGLE_STATE_REPLIED, 63, 63, false},
    {"idle for a day", net::Protocol::kTcp, WAGGLE_STATE_ASSURED, WAGGLE_STATE_REPLIED, 86400,
     86400, true},
    {"idle for six days", net::Protocol::kTcp, WAGGLE_STATE_ASSURED, WAGGLE_STATE_REPLIED, 518400,
     518400, false},
    {"only the backend speaks", net::Protocol::kTcp, WAGGLE_STATE_ASSURED, WAGGLE_STATE_REPLIED,
     518400, 5, true},
    {"only the client speaks", net::Protocol::kTcp, WAGGLE_STATE_ASSURED, WAGGLE_STATE_REPLIED, 5,
     518400, true},
    {"closed by the backend", net::Protocol::kTcp, WAGGLE_STATE_ASSURED,
     WAGGLE_STATE_REPLIED | WAGGLE_STATE_SERVER_FIN, 130, 130, false},
    {"refused by the backend", net::Protocol::kTcp, 0, WAGGLE_STATE_RESET, 13, 13, false},
    {"refused just now", net::Protocol::kTcp, 0, WAGGLE_STATE_RESET, 11, 11, true},
    {"reset, by whomever", net::Protocol::kTcp, WAGGLE_STATE_ASSURED,
     WAGGLE_STATE_REPLIED | WAGGLE_STATE_RESET, 86400, 86400, true},
    {"stream", net::Protocol::kUdp, WAGGLE_STATE_ASSURED, WAGGLE_STATE_REPLIED, 119, 120, true},
    {"stream, over", net::Protocol::kUdp, WAGGLE_STATE_ASSURED, WAGGLE_STATE_REPLIED, 123, 124,
     false},
    {"datagram, over", net::Protocol::kUdp, 0, 0, 33, 33, false},
    {"datagram that was answered late", net::Protocol::kUdp, 0, WAGGLE_STATE_REPLIED, 200, 1, true},
};

TEST_F(FlowMaps, CollectorRemovesWhatIsOverAndNothingElse) {
  Make(256, 256);
  std::vector<FlowPair> pairs;
  for (uint32_t i = 0; i < std::size(kAges); ++i) {
    const AgeCase& row = kAges[i];
    pairs.push_back(Nth(i, {.protocol = row.protocol,
                            .forward_state = row.forward_state,
                            .reply_state = row.reply_state,
                            .created_ns = 1,
                            .forward_ns = kNow - row.forward_ago_s * kSecondNs,
                            .reply_ns = kNow - row.reply_ago_s * kSecondNs}));
    ASSERT_TRUE(Put(flows_.get(), pairs.back().forward));
    ASSERT_TRUE(Put(flows_.get(), pairs.back().reply));
  }
  // The same flows stand in `half_open`: evicted there, not collected.
  for (const FlowPair& pair : pairs)
    ASSERT_TRUE(Put(half_open_.get(), pair.forward) && Put(half_open_.get(), pair.reply));
  FlowCollector collector = Collector();
  uint64_t now = kNow;
  ASSERT_NO_FATAL_FAILURE(Round(collector, now));
  uint64_t gone = 0;
  for (uint32_t i = 0; i < std::size(kAges); ++i) {
    SCOPED_TRACE(kAges[i].what);
    EXPECT_EQ(Has(flows_.get(), pairs[i].forward), kAges[i].stays);
    EXPECT_EQ(Has(flows_.get(), pairs[i].reply), kAges[i].stays);
    gone += kAges[i].stays ? 0 : 1;
  }
  EXPECT_EQ(collector.counts().expired, gone);
  EXPECT_EQ(collector.counts().orphans, 0u);
  EXPECT_EQ(Count(half_open_.get()), 2 * std::size(kAges));
}

TEST_F(FlowMaps, CollectorRemovesOrphansAndDamageAfterAMinute) {
  Make(64, 64);
  FlowSpec idle = {.forward_state = WAGGLE_STATE_ASSURED,
                   .reply_state = WAGGLE_STATE_REPLIED,
                   .forward_ns = kNow - 61 * kSecondNs,
                   .reply_ns = kNow - 61 * kSecondNs};
  FlowSpec recent = idle;
  recent.forward_ns = recent.reply_ns = kNow - 59 * kSecondNs;
  const FlowPair forward_alone = Nth(1, idle), reply_alone = Nth(2, idle);
  const FlowPair young_forward = Nth(3, recent), young_reply = Nth(4, recent);
  const FlowPair reply_elsewhere = Nth(5, idle), forward_elsewhere = Nth(6, idle);
  FlowEntry damaged = Nth(7, idle).forward, young_damaged = Nth(8, recent).reply;
  damaged.value.tag ^= 1;
  young_damaged.value.tag ^= 1;
  // Nobody's partner: another flow's reply has the place.
  const FlowPair robbed = Nth(9, idle);
  FlowSpec thief_spec = recent;
  thief_spec.frontend = "10.96.0.99:80";
  const FlowPair thief = Nth(9, thief_spec);
  for (const FlowEntry& entry :
       {forward_alone.forward, reply_alone.reply, young_forward.forward, young_reply.reply,
        reply_elsewhere.forward, forward_elsewhere.reply, damaged, young_damaged, robbed.forward,
        thief.forward, thief.reply}) {
    ASSERT_TRUE(Put(flows_.get(), entry));
  }
  ASSERT_TRUE(Put(half_open_.get(), reply_elsewhere.reply));
  ASSERT_TRUE(Put(half_open_.get(), forward_elsewhere.forward));
  FlowCollector collector = Collector();
  uint64_t now = kNow;
  ASSERT_NO_FATAL_FAILURE(Round(collector, now));
  EXPECT_EQ(collector.counts().orphans, 4u);
  EXPECT_EQ(collector.counts().expired, 0u);
  EXPECT_FALSE(Has(flows_.get(), forward_alone.forward));
  EXPECT_FALSE(Has(flows_.get(), reply_alone.reply));
  EXPECT_FALSE(Has(flows_.get(), damaged));
  EXPECT_FALSE(Has(flows_.get(), robbed.forward));
  for (const FlowEntry& entry :
       {young_forward.forward, young_reply.reply, reply_elsewhere.forward, forward_elsewhere.reply,
        young_damaged, thief.forward, thief.reply}) {
    EXPECT_TRUE(Has(flows_.get(), entry));
  }
}

// The FORWARD entry went to half_open and was evicted there; or is there, and over.
TEST_F(FlowMaps, CollectorJudgesAReplyWhoseForwardIsElsewhere) {
  Make(64, 64);
  const FlowPair pair = PairOf({.reply_state = WAGGLE_STATE_RESET,
                                .forward_ns = kNow - 70 * kSecondNs,
                                .reply_ns = kNow - 70 * kSecondNs});
  ASSERT_TRUE(Put(flows_.get(), pair.reply));
  ASSERT_TRUE(Put(half_open_.get(), pair.forward));
  FlowCollector collector = Collector();
  uint64_t now = kNow;
  ASSERT_NO_FATAL_FAILURE(Round(collector, now));
  EXPECT_FALSE(Has(flows_.get(), pair.reply));
  EXPECT_TRUE(Has(half_open_.get(), pair.forward)) << "evicted there, not collected";
  EXPECT_EQ(collector.counts().expired, 1u);
}

TEST_F(FlowMaps, TwoHundredThousandEntriesAreReadAndCollectedInTime) {
  constexpr uint32_t kFlows = 100'000;
  Make(2 * kFlows, 1024);
  FlowSpec living = Living({.forward_state = WAGGLE_STATE_ASSURED});
  FlowSpec over = living;
  over.forward_ns = over.reply_ns = kNow - 2 * WAGGLE_TCP_ESTABLISHED_S * kSecondNs;
  PutMany(flows_.get(), kFlows / 2, living);
  PutMany(flows_.get(), kFlows / 2, over, kFlows / 2);
  ASSERT_EQ(Count(flows_.get()), 2u * kFlows) << "full";

  uint64_t given = 0;
  const auto counts = ReadFlows(fds(), kNow, [&](const Flow& flow) {
    ++given;
    EXPECT_FALSE(flow.half);
  });
  ASSERT_TRUE(counts.ok());
  EXPECT_EQ(given, kFlows / 2);
  EXPECT_EQ(counts->over, kFlows / 2);

  // A small budget does not make the round longer than a minute.
  FlowCollector collector = Collector();
  uint64_t now = kNow;
  ASSERT_NO_FATAL_FAILURE(Round(collector, now, /*budget=*/1));
  EXPECT_LE(now - kNow, FlowCollector::kRoundNs + kSecondNs);
  EXPECT_GE(now - kNow, FlowCollector::kRoundNs / 2) << "and not all is done at once";
  EXPECT_EQ(collector.counts().expired, kFlows / 2);
  EXPECT_EQ(Count(flows_.get()), kFlows);
}

// Rounds are not begun more often than they are of use.
TEST_F(FlowMaps, CollectorRestsBetweenRounds) {
  Make(64, 64);
  FlowCollector collector = Collector();
  uint64_t now = kNow;
  for (uint64_t second = 0; second < 100; ++second, now += kSecondNs)
    ASSERT_TRUE(collector.Tick(now, kBudget).ok());
  EXPECT_EQ(collector.counts().rounds, 100 * kSecondNs / FlowCollector::kMinRoundNs);
}

TEST_F(FlowMaps, CollectorWorksWhileFlowsComeAndGo) {
  constexpr uint32_t kLiving = 2000;
  constexpr uint32_t kOver = 20'000;
  Make(200'000, 1024);
  const FlowSpec living = Living({.forward_state = WAGGLE_STATE_ASSURED});
  FlowSpec over = living;
  over.forward_ns = over.reply_ns = 1;
  over.forward_state |= WAGGLE_STATE_RESET;
  PutMany(flows_.get(), kLiving, living);
  PutMany(flows_.get(), kOver, over, 1'000'000);
  std::atomic<bool> stop = false;
  // As a program does: new flows come, closed ones leave, all entries are stamped.
  std::thread traffic([&] {
    for (uint32_t i = 0; !stop; ++i) {
      const FlowPair come = Nth(10'000'000 + i, living);
      ASSERT_TRUE(Put(flows_.get(), come.forward) && Put(flows_.get(), come.reply));
      if (i >= 1000) {
        const FlowPair go = Nth(10'000'000 + i - 1000, living);
        for (const FlowEntry& entry : {go.forward, go.reply})
          ASSERT_EQ(bpf_map_delete_elem(flows_.get(), &entry.key), 0) << "somebody removed it";
      }
      FlowPair stamped = Nth(i % kLiving, living);
      stamped.forward.value.last_ns = kNow + i;
      ASSERT_EQ(bpf_map_update_elem(flows_.get(), &stamped.forward.key, &stamped.forward.value,
                                    BPF_EXIST),
                0)
          << "a living flow was removed";
    }
  });
  FlowCollector collector = Collector();
  uint64_t now = kNow;
  for (int round = 0; round < 5; ++round)
    Round(collector, now);
  stop = true;
  traffic.join();
  EXPECT_EQ(collector.counts().expired, kOver);
  EXPECT_EQ(collector.counts().orphans, 0u);
  for (uint32_t i = 0; i < kLiving; ++i) {
    const FlowPair pair = Nth(i, living);
    EXPECT_TRUE(Has(flows_.get(), pair.forward) && Has(flows_.get(), pair.reply));
  }
  for (uint32_t i = 0; i < kOver; ++i) {
    const FlowPair pair = Nth(1'000'000 + i, over);
    EXPECT_FALSE(Has(flows_.get(), pair.forward) || Has(flows_.get(), pair.reply));
  }
}

// New flows take the places of old ones while those are removed: none of the new is lost.
TEST_F(FlowMaps, CollectorLeavesAPlaceThatWasTakenAnew) {
  constexpr uint32_t kFlows = 20'000;
  Make(100'000, 1024);
  FlowSpec over = {.forward_state = WAGGLE_STATE_RESET, .forward_ns = 1, .reply_ns = 1};
  PutMany(flows_.get(), kFlows, over);
  std::atomic<bool> stop = false;
  std::atomic<uint32_t> taken = 0;
  std::vector<bool> revived(kFlows);
  std::thread programs([&] {
    Random random(1);
    while (!stop) {
      const uint32_t i = random.Below(kFlows / 2) * 2;
      const FlowPair fresh = Nth(i, Living());
      ASSERT_TRUE(Put(flows_.get(), fresh.forward) && Put(flows_.get(), fresh.reply));
      revived[i] = true;
      ++taken;
    }
  });
  FlowCollector collector = Collector();
  uint64_t now = kNow;
  while (!HasFailure() && (collector.counts().expired < kFlows / 2 || taken < 1000))
    Round(collector, now, kFlows * 2);
  stop = true;
  programs.join();
  for (uint32_t i = 0; i < kFlows; ++i) {
    const FlowPair pair = Nth(i, over);
    EXPECT_EQ(Has(flows_.get(), pair.forward), revived[i]) << i;
    EXPECT_EQ(Has(flows_.get(), pair.reply), revived[i]) << i;
  }
}

TEST_F(FlowMaps, DevicesThatAreGoneAreForgottenInBothMaps) {
  Make(200'000, 4096);
  constexpr uint32_t kMany = 70'000;  // more entries than one Tick looks at
  PutMany(flows_.get(), kMany, Living({.ifindex = 8}));
  PutMany(flows_.get(), 100, Living({.ifindex = 9}), kMany);
  PutMany(half_open_.get(), 100, Living({.ifindex = 9}), kMany + 1000);
  PutMany(half_open_.get(), 100, Living({.ifindex = 10}), kMany + 2000);
  FlowCollector collector = Collector();
  EXPECT_FALSE(collector.urgent());
  ASSERT_TRUE(collector.Tick(kNow, kBudget).ok());
  EXPECT_EQ(collector.counts().forgotten, 0u);

  collector.ForgetDevice(9, kNow);
  // Its successor has the same ifindex.
  FlowSpec later = Living({.ifindex = 9});
  later.created_ns = kNow;
  PutMany(flows_.get(), 10, later, kMany + 3000);
  PutMany(half_open_.get(), 10, later, kMany + 4000);
  EXPECT_TRUE(collector.urgent());
  int ticks = 0;
  for (; collector.urgent() && ticks < 100; ++ticks)
    ASSERT_TRUE(collector.Tick(kNow, 0).ok());
  EXPECT_GT(ticks, 1) << "in slices";
  EXPECT_LE(ticks, 4);
  EXPECT_EQ(collector.counts().forgotten, 400u);
  EXPECT_EQ(Count(flows_.get()), 2u * (kMany + 10));
  EXPECT_EQ(Count(half_open_.get()), 2u * (100 + 10));

  // One that leaves while the walk is under way has a walk of its own.
  collector.ForgetDevice(10, kNow);
  ASSERT_TRUE(collector.Tick(kNow, kBudget).ok());
  collector.ForgetDevice(8, kNow);
  for (ticks = 0; collector.urgent() && ticks < 100; ++ticks)
    ASSERT_TRUE(collector.Tick(kNow, kBudget).ok());
  EXPECT_EQ(collector.counts().forgotten, 400u + 200 + 2 * kMany);
  EXPECT_EQ(Count(flows_.get()), 20u);
  EXPECT_EQ(Count(half_open_.get()), 20u);
}

TEST_F(FlowMaps, WhatHasChangedIsNotDeleted) {
  Make(64, 64);
  const FlowPair pair = PairOf(Living());
  FlowEntry stamped = pair.forward;
  stamped.value.last_ns = kNow;
  for (const int fd : {flows_.get(), half_open_.get()}) {
    const auto remove = [&](const FlowEntry& entry) {
      return DeleteIfEqual(fd, &entry.key, &entry.value, sizeof(entry.value), "flows").value();
    };
    EXPECT_FALSE(remove(pair.forward)) << "not there";
    ASSERT_TRUE(Put(fd, stamped));
    EXPECT_FALSE(remove(pair.forward));
    waggle_flow value{};
    ASSERT_EQ(bpf_map_lookup_elem(fd, &stamped.key, &value), 0);
    EXPECT_EQ(value.last_ns, kNow);
    EXPECT_TRUE(remove(stamped));
    EXPECT_FALSE(Has(fd, stamped));
  }
  EXPECT_FALSE(DeleteIfEqual(-1, &stamped.key, &stamped.value, 8, "flows").ok());
}

TEST_F(FlowMaps, CollectorReportsWhatTheKernelRefuses) {
  Make(64, 64);
  FlowCollector collector{os::UniqueFd(), os::UniqueFd()};
  EXPECT_FALSE(collector.Tick(kNow, kBudget).ok());
  collector.ForgetDevice(1, kNow);
  EXPECT_FALSE(collector.Tick(kNow, kBudget).ok());
  EXPECT_TRUE(collector.urgent()) << "and tries again";
}

// ---- Changes of size

TEST_F(FlowMaps, CopiesBothEntriesOrNone) {
  constexpr uint32_t kFlows = 3000;  // more than one batch of entries
  Make(2 * kFlows + 1, 64);
  PutMany(flows_.get(), kFlows, Living());
  FlowEntry damaged = Nth(kFlows, Living()).forward;
  damaged.value.tag ^= 1;
  ASSERT_TRUE(Put(flows_.get(), damaged));
  const os::UniqueFd larger = MakeFlows(3 * kFlows);
  const os::UniqueFd smaller = MakeFlows(1001);
  const os::UniqueFd lru = MakeHalfOpen(4 * kFlows);
  EXPECT_TRUE(FlowTableCopy(flows_.get(), larger.get()).Pass().ok());
  EXPECT_EQ(Count(larger.get()), 2 * kFlows);
  EXPECT_TRUE(FlowTableCopy(flows_.get(), lru.get()).Pass().ok());
  EXPECT_EQ(Count(lru.get()), 2 * kFlows);

  const absl::Status full = FlowTableCopy(flows_.get(), smaller.get()).Pass();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_THAT(std::string(full.message()), testing::HasSubstr("2500 flows were left out"));
  EXPECT_EQ(Count(smaller.get()), 1000u);
  uint32_t whole = 0;
  for (uint32_t i = 0; i < kFlows; ++i) {
    const FlowPair pair = Nth(i, Living());
    EXPECT_TRUE(Has(larger.get(), pair.forward) && Has(larger.get(), pair.reply));
    const bool forward = Has(smaller.get(), pair.forward);
    EXPECT_EQ(forward, Has(smaller.get(), pair.reply)) << "half a flow";
    whole += forward ? 1 : 0;
  }
  EXPECT_EQ(whole, 500u);
}

TEST_F(FlowMaps, LaterPassesTakeOnlyWhatIsNew) {
  Make(64, 64);
  const FlowPair kept = Nth(1, Living()), deleted = Nth(2, Living()), late = Nth(3, Living()),
                 again = Nth(4, Living()), split = Nth(5, Living()), lost = Nth(6, Living());
  const os::UniqueFd to = MakeFlows(64);
  // Of one that is being promoted, one entry is there before the other.
  for (const FlowEntry& entry :
       {kept.forward, kept.reply, deleted.forward, deleted.reply, split.forward, lost.reply}) {
    ASSERT_TRUE(Put(flows_.get(), entry));
  }
  FlowTableCopy copy(flows_.get(), to.get());
  ASSERT_TRUE(copy.Pass().ok());
  EXPECT_EQ(Count(to.get()), 6u);

  // Under the new programs: one has had a packet, another has been closed and has left, a third
  // began in both tables. Under the old ones: two came, and one moved whole.
  FlowPair newer = kept, newest = again;
  for (FlowPair* pair : {&newer, &newest}) {
    pair->forward.value.last_ns = pair->reply.value.last_ns = kNow;
    ASSERT_TRUE(Put(to.get(), pair->forward) && Put(to.get(), pair->reply));
  }
  for (const FlowEntry& entry : {deleted.forward, deleted.reply, lost.reply})
    ASSERT_EQ(bpf_map_delete_elem(to.get(), &entry.key), 0);
  for (const FlowEntry& entry :
       {late.forward, late.reply, again.forward, again.reply, split.reply}) {
    ASSERT_TRUE(Put(flows_.get(), entry));
  }
  for (int pass = 0; pass < 2; ++pass) {
    ASSERT_TRUE(copy.Pass().ok());
    EXPECT_EQ(Count(to.get()), 8u);
    for (const FlowPair& pair : {kept, again, late, split}) {
      EXPECT_TRUE(Has(to.get(), pair.forward) && Has(to.get(), pair.reply));
    }
    for (const FlowPair& pair : {newer, newest}) {
      waggle_flow value{};
      ASSERT_EQ(bpf_map_lookup_elem(to.get(), &pair.forward.key, &value), 0);
      EXPECT_EQ(value.last_ns, kNow);
    }
    EXPECT_FALSE(Has(to.get(), deleted.forward) || Has(to.get(), deleted.reply)) << "revived";
    EXPECT_FALSE(Has(to.get(), lost.reply)) << "revived";
  }
  EXPECT_FALSE(FlowTableCopy(-1, to.get()).Pass().ok());
}

// A later pass over a large table is short: what was seen costs no system call.
TEST_F(FlowMaps, CopiesWhileFlowsComeAndGo) {
  constexpr uint32_t kStay = 100'000;
  Make(300'000, 16);
  PutMany(flows_.get(), kStay, Living());
  const os::UniqueFd to = MakeFlows(300'000);
  FlowTableCopy copy(flows_.get(), to.get());
  std::atomic<bool> stop = false;
  std::thread programs([&] {
    for (uint32_t i = kStay; !stop && i < kStay + 40'000; ++i) {
      const FlowPair come = Nth(i, Living());
      ASSERT_TRUE(Put(flows_.get(), come.reply) && Put(flows_.get(), come.forward));
    }
  });
  const uint64_t begin_ns = MonotonicNs();
  ASSERT_TRUE(copy.Pass().ok());
  const uint64_t first_ns = MonotonicNs() - begin_ns;
  stop = true;
  programs.join();
  ASSERT_TRUE(copy.Pass().ok());
  const uint64_t later_ns = MonotonicNs();
  ASSERT_TRUE(copy.Pass().ok());
  RecordProperty("first_ms", static_cast<int>(first_ns / 1'000'000));
  RecordProperty("third_ms", static_cast<int>((MonotonicNs() - later_ns) / 1'000'000));
  EXPECT_EQ(Count(to.get()), Count(flows_.get()));
}

}  // namespace
}  // namespace waggle::maps
