// Lookups in the kernel at full speed while the real planner, writer and pools change
// what is looked up: old or new, never a mix, never a miss, never another's backends.
// The maps are so small that slots and ranges are used again as soon as they may be.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <random>
#include <thread>

#include "tests/datapath/hammer.h"  // first: the skeleton speaks of its structures

#include "bpf/abi.h"
#include "hammer.skel.h"
#include "maps/compile.h"
#include "maps/grace.h"
#include "maps/plan.h"
#include "maps/slots.h"
#include "maps/writer.h"
#include "tests/datapath/kernel_maps.h"

namespace waggle::maps {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Sizes kSizes{.frontends = HAMMER_SERVICES,
                       .services = HAMMER_SERVICES,
                       .backends = 4 * HAMMER_SERVICES,
                       .udp_flows = 16};

struct Deleter {
  void operator()(hammer* skeleton) const { hammer__destroy(skeleton); }
};

net::Address FrontendAddress(uint32_t service) {
  std::array<uint8_t, 16> bytes{};
  bytes[0] = 0xfd;
  const uint32_t service_be = htonl(service);
  std::memcpy(bytes.data() + 12, &service_be, 4);
  return net::Address(bytes);
}

// A list of `count` backends; none: refused.
ResolvedService ServiceWith(uint32_t service, uint32_t generation, uint32_t count) {
  BackendList list;
  list.fate = count > 0 ? Fate::kForward : Fate::kRefuse;
  for (uint32_t ordinal = 0; ordinal < count; ++ordinal) {
    const hammer_address address{0xfd, generation, service, ordinal};
    std::array<uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), &address, sizeof(address));
    list.backends.push_back({{net::Address(bytes), ntohs(static_cast<uint16_t>(count))}});
  }
  list.frontends.push_back({{FrontendAddress(service), 80}});
  ResolvedService resolved;
  resolved.name = {"hammer", "s" + std::to_string(service)};
  resolved.ports.push_back({"p", net::Protocol::kTcp, {std::move(list)}});
  return resolved;
}

// Stores the switch as two words of four bytes, with a moment between them.
class TornStore final : public MapStore {
 public:
  explicit TornStore(KernelMapStore* real) : real_(real) {}
  absl::Status InsertFrontends(absl::Span<const WritePlan::FrontendInsert> rows) override {
    return real_->InsertFrontends(rows);
  }
  absl::Status DeleteFrontend(const waggle_frontend_key& key) override {
    return real_->DeleteFrontend(key);
  }
  absl::Status PutService(uint32_t id, const waggle_service& value) override {
    return real_->PutService(id, value);
  }
  absl::Status DeleteService(uint32_t id) override { return real_->DeleteService(id); }
  absl::Status Cover(uint32_t lists, uint32_t backends) override {
    return real_->Cover(lists, backends);
  }
  void StoreList(uint32_t slot, const waggle_list& value) override {
    waggle_list half = real_->arrays().lists[slot];
    half.base = value.base;
    real_->StoreList(slot, half);
    std::this_thread::yield();
    real_->StoreList(slot, value);
  }
  void StoreBackends(uint32_t base, absl::Span<const waggle_backend> rows) override {
    real_->StoreBackends(base, rows);
  }
  absl::StatusOr<RawTables> Read() override { return real_->Read(); }
  ArrayView arrays() const override { return real_->arrays(); }
  waggle_agent* agent() override { return real_->agent(); }

 private:
  KernelMapStore* real_;
};

class Hammer : public ::testing::Test {
 protected:
  void SetUp() override {
    skeleton_.reset(hammer__open());
    ASSERT_TRUE(skeleton_);
    SetSizes(skeleton_->obj, kSizes);
    ASSERT_EQ(hammer__load(skeleton_.get()), 0) << "these tests need root";
    skeleton_->data->lookups_a_run = 0;
    auto store = StoreOf(skeleton_->obj);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // Calls of at most a fraction of a millisecond, so that grace periods are short.
  void Read() {
    std::array<char, 64> packet{};
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(), .data_size_in = packet.size(),
                .repeat = 1);
    while (!stop_) {
      if (bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.hammer), &options) != 0) {
        failed_to_run_ = errno;
        return;
      }
    }
  }

  struct Done {
    uint64_t switches = 0;
    uint64_t added = 0;
    uint64_t removed = 0;
    uint64_t moved = 0;
    uint64_t waits = 0;
  };

  using Enough = std::function<bool(const Done&)>;

  // Changes Services until `enough` says so. `grace` off: what is retired is used again
  // at once.
  Done Write(MapStore* store, bool grace, const Enough& enough) {
    Done done;
    Writer writer(store);
    Slots slots(kSizes);
    GracePeriod periods;
    std::array<ServiceState, HAMMER_SERVICES> states;
    std::array<bool, HAMMER_SERVICES> present{};
    std::mt19937 random(1);
    uint32_t generation = 0;
    uint64_t newest = 0;
    const auto retire = [&](const Retired& retired) {
      newest = periods.Request();
      slots.Retire(retired, newest);
      writer.ClearLists(slots.Reclaim(grace ? periods.completed() : newest));
    };
    const auto set = [&](uint32_t service) {
      // Refused now and then; seldom enough to leave lookups something to check.
      const uint32_t count = random() % 32 == 0 ? 0 : 1 + static_cast<uint32_t>(random() % 6);
      ResolvedService wanted = ServiceWith(service, ++generation, count);
      // Another kind is another row: deleted and inserted, in the element of any Service.
      if (service >= HAMMER_PERMANENT && random() % 4 == 0) {
        wanted.ports[0].lists[0].frontends[0].kind = FrontendKind::kExternalIp;
      }
      const ServiceRows rows = Compile(wanted);
      const ServiceState* state = present[service] ? &states[service] : nullptr;
      auto planned = Plan(rows, state, store->arrays(), slots);
      while (absl::IsResourceExhausted(planned.status())) {
        ++done.waits;
        if (!slots.in_quarantine()) {
          // What is in force fills the map: some other Service has to get shorter.
          return;
        }
        periods.Wait(periods.completed() + 1 > newest ? newest : periods.completed() + 1);
        writer.ClearLists(slots.Reclaim(periods.completed()));
        planned = Plan(rows, state, store->arrays(), slots);
      }
      ASSERT_TRUE(planned.ok()) << planned.status();
      ASSERT_TRUE(writer.Apply(planned->plan).ok());
      states[service] = std::move(planned->after);
      present[service] ? ++done.switches : ++done.added;
      done.moved += planned->plan.frontend_moves.size();
      present[service] = true;
      retire(planned->plan.retired);
    };
    const auto remove = [&](uint32_t service) {
      const WritePlan plan = PlanRemoval(states[service]);
      ASSERT_TRUE(writer.Apply(plan).ok());
      present[service] = false;
      ++done.removed;
      retire(plan.retired);
    };

    for (uint32_t service = 0; service < HAMMER_PERMANENT; ++service) {
      set(service);
      EXPECT_TRUE(present[service]);
    }
    skeleton_->data->lookups_a_run = 1024;
    while (!enough(done) && !HasFailure() && failed_to_run_ == 0) {
      const auto service = static_cast<uint32_t>(random() % HAMMER_SERVICES);
      if (service >= HAMMER_PERMANENT && present[service] && random() % 2 == 0) {
        remove(service);
      } else {
        set(service);
      }
    }
    return done;
  }

  // Binds the calling thread to the n-th CPU of the set.
  static void StayOn(const cpu_set_t& all, int n) {
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &all) && n-- == 0) CPU_SET(cpu, &one);
    }
    EXPECT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  }

  Done Run(MapStore* store, bool grace, const Enough& enough) {
    const auto begin = Clock::now();
    // On a busy machine the scheduler may put both on one CPU for seconds, where nothing
    // can go wrong.
    cpu_set_t all;
    CPU_ZERO(&all);
    EXPECT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
    EXPECT_GE(CPU_COUNT(&all), 2) << "this test needs two CPUs";
    std::thread reader([this, &all] {
      StayOn(all, 0);
      Read();
    });
    StayOn(all, 1);
    const Done done = Write(store, grace, enough);
    stop_ = true;
    reader.join();
    EXPECT_EQ(sched_setaffinity(0, sizeof(all), &all), 0);
    EXPECT_EQ(failed_to_run_, 0) << std::strerror(failed_to_run_);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    const hammer_counts& counts = Counts();
    std::cout << "lookups " << counts.lookups << " ("
              << static_cast<uint64_t>(static_cast<double>(counts.lookups) / seconds)
              << "/s; forwarded " << counts.forwarded << ", refused " << counts.refused
              << ", absent " << counts.absent << "), switches " << done.switches << ", added "
              << done.added << ", removed " << done.removed << ", moved " << done.moved
              << ", waits for room " << done.waits << "\nmissed " << counts.missed << ", foreign "
              << counts.foreign << ", mixed " << counts.mixed << ", outside " << counts.outside
              << ", dangling " << StatOf(skeleton_->obj, WAGGLE_REASON_DANGLING_SLOT)
              << ", stale rows " << StatOf(skeleton_->obj, WAGGLE_REASON_STALE_ROW)
              << " (of Services that went)\n";
    return done;
  }

  const hammer_counts& Counts() const { return skeleton_->bss->counts; }
  uint64_t Lookups() const {
    return __atomic_load_n(&skeleton_->bss->counts.lookups, __ATOMIC_RELAXED);
  }
  uint64_t Errors() const {
    const auto& counts = skeleton_->bss->counts;
    return __atomic_load_n(&counts.missed, __ATOMIC_RELAXED) +
           __atomic_load_n(&counts.foreign, __ATOMIC_RELAXED) +
           __atomic_load_n(&counts.mixed, __ATOMIC_RELAXED) +
           __atomic_load_n(&counts.outside, __ATOMIC_RELAXED) +
           StatOf(skeleton_->obj, WAGGLE_REASON_DANGLING_SLOT);
  }

  std::unique_ptr<hammer, Deleter> skeleton_;
  std::unique_ptr<KernelMapStore> store_;
  std::atomic<bool> stop_ = false;
  std::atomic<int> failed_to_run_ = 0;
};

TEST_F(Hammer, OldOrNewNeverAMixNeverAMissNeverAnothers) {
  constexpr uint64_t kLookups = 100'000'000;
  constexpr auto kAtLeast = std::chrono::seconds(30);
  const auto begin = Clock::now();
  const auto deadline = begin + std::chrono::seconds(240);
  // How many changes a second is up to the machine: each wait for room is a grace period,
  // of 3 ms on one kernel and of 100 ms on another.
  const auto changed_enough = [](const Done& done) {
    return done.switches > 5000 && done.added > 2000 && done.removed > 2000 && done.moved > 1000;
  };
  const Done done = Run(store_.get(), /*grace=*/true, [&](const Done& so_far) {
    const auto now = Clock::now();
    return (Lookups() >= kLookups && changed_enough(so_far) && now > begin + kAtLeast) ||
           Errors() > 0 || now > deadline;
  });
  EXPECT_EQ(Errors(), 0u);
  EXPECT_GE(Counts().lookups, kLookups) << "too slow";
  EXPECT_TRUE(changed_enough(done)) << "too slow";
  EXPECT_GT(Counts().forwarded, kLookups / 10);
}

// The test of the test: each of these mistakes is found within a minute, and mostly
// within a fraction of a second.
TEST_F(Hammer, FindsReuseWithoutGrace) {
  const auto deadline = Clock::now() + std::chrono::seconds(60);
  Run(store_.get(), /*grace=*/false,
      [&](const Done&) { return Errors() > 0 || Clock::now() > deadline; });
  EXPECT_GT(Errors(), 0u);
}

TEST_F(Hammer, FindsASwitchInTwoStores) {
  TornStore torn(store_.get());
  const auto deadline = Clock::now() + std::chrono::seconds(60);
  Run(&torn, /*grace=*/true, [&](const Done&) { return Errors() > 0 || Clock::now() > deadline; });
  EXPECT_GT(Errors(), 0u);
}

}  // namespace
}  // namespace waggle::maps
