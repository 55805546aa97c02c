// Benchmarks of the control path from resolved Services to the kernel's maps, and of
// the lookup that every connection makes. The maps are the kernel's own, not pinned.
// Run as root; docs/performance.md says how, and holds a recorded run.
#include <arpa/inet.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iostream>
#include <map>
#include <random>

#include "tests/datapath/lookup.h"  // first: the skeleton speaks of its structures

#include "lookup.skel.h"
#include "maps/compile.h"
#include "maps/grace.h"
#include "maps/plan.h"
#include "maps/slots.h"
#include "maps/writer.h"
#include "tests/datapath/kernel_maps.h"

namespace waggle::maps {
namespace {

constexpr uint32_t kBackends = 5;

net::Address Mapped(uint32_t v4) {
  std::array<uint8_t, 16> bytes{};
  bytes[10] = bytes[11] = 0xff;
  const uint32_t v4_be = htonl(v4);
  std::memcpy(bytes.data() + 12, &v4_be, 4);
  return net::Address(bytes);
}

// Service `number` of a cluster; `generation` changes one of its backends. The frontend
// is what bench_find_service looks for.
ResolvedService MakeService(uint32_t number, uint32_t generation, uint32_t backends = kBackends) {
  BackendList list;
  list.fate = Fate::kForward;
  for (uint32_t i = 0; i < backends; ++i) {
    const uint32_t shift = i + 1 == backends ? generation % 1000 : 0;
    list.backends.push_back(
        {{Mapped(0x0af00000 + number * 16 + i), static_cast<uint16_t>(8080 + shift)},
         false,
         false});
  }
  list.frontends.push_back({{Mapped(number), 80}});
  ResolvedService service;
  service.name = {"benchmark", "service-" + std::to_string(number)};
  service.ports.push_back({"http", net::Protocol::kTcp, {std::move(list)}});
  return service;
}

struct Deleter {
  void operator()(lookup* skeleton) const { lookup__destroy(skeleton); }
};

// Maps of the default sizes with a planner's state beside them.
class Node {
 public:
  Node() : slots(Sizes{}) {
    skeleton.reset(lookup__open());
    if (!skeleton) Fail("open the BPF object");
    SetSizes(skeleton->obj, Sizes{});
    if (lookup__load(skeleton.get()) != 0) Fail("load the BPF object (needs root)");
    auto made = StoreOf(skeleton->obj);
    if (!made.ok()) Fail(made.status().ToString());
    store = *std::move(made);
  }

  void Fill(const std::vector<ResolvedService>& services) {
    Writer writer(store.get());
    WritePlan total;
    for (const ResolvedService& service : services) {
      auto planned = Plan(Compile(service), nullptr, store->arrays(), slots);
      if (!planned.ok()) Fail(planned.status().ToString());
      total.Append(std::move(planned->plan));
      states[service.name] = std::move(planned->after);
    }
    if (const absl::Status status = writer.Apply(total); !status.ok()) Fail(status.ToString());
  }

  [[noreturn]] static void Fail(const std::string& what) {
    std::cerr << "waggle_bench: " << what << "\n";
    std::exit(1);
  }

  std::unique_ptr<lookup, Deleter> skeleton;
  std::unique_ptr<KernelMapStore> store;
  Slots slots;
  absl::flat_hash_map<ServiceName, ServiceState> states;
};

std::vector<ResolvedService> MakeServices(uint32_t count, uint32_t backends = kBackends) {
  std::vector<ResolvedService> services;
  for (uint32_t i = 0; i < count; ++i)
    services.push_back(MakeService(i, 0, backends));
  return services;
}

// One backend of one Service changes: from the resolved Service to the kernel's switch.
void ChangeOneEndpoint(benchmark::State& state) {
  Node node;
  const auto count = static_cast<uint32_t>(state.range(0));
  node.Fill(MakeServices(count));
  Writer writer(node.store.get());
  GracePeriod grace;
  std::mt19937 random(1);
  uint32_t generation = 0;
  uint64_t newest = 0;
  for (auto _ : state) {
    state.PauseTiming();
    const ResolvedService service =
        MakeService(static_cast<uint32_t>(random() % count), ++generation);
    ServiceState& in_force = node.states.at(service.name);
    // What a grace period ago was in use; not part of the change.
    writer.ClearLists(node.slots.Reclaim(grace.completed()));
    if (node.slots.backends().used() > node.slots.backends().capacity() - 1000) {
      grace.Wait(newest);
      writer.ClearLists(node.slots.Reclaim(newest));
    }
    state.ResumeTiming();
    auto planned = Plan(Compile(service), &in_force, node.store->arrays(), node.slots);
    if (!planned.ok() || !writer.Apply(planned->plan).ok()) Node::Fail("change");
    in_force = std::move(planned->after);
    newest = grace.Request();
    node.slots.Retire(planned->plan.retired, newest);
  }
}
BENCHMARK(ChangeOneEndpoint)->Arg(100)->Arg(1000)->Arg(10000)->Unit(benchmark::kMicrosecond);

// Resolved Services into empty maps.
void ColdFill(benchmark::State& state) {
  const auto services = MakeServices(static_cast<uint32_t>(state.range(0)));
  for (auto _ : state) {
    auto node = std::make_unique<Node>();
    const auto begin = std::chrono::steady_clock::now();
    node->Fill(services);
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
}
BENCHMARK(ColdFill)->Arg(10000)->UseManualTime()->Unit(benchmark::kMillisecond);

// A new agent finds full maps: reads, checks, plans every Service, writes nothing.
void Restart(benchmark::State& state) {
  Node node;
  const auto services = MakeServices(static_cast<uint32_t>(state.range(0)));
  node.Fill(services);
  for (auto _ : state) {
    const auto raw = node.store->Read();
    if (!raw.ok()) Node::Fail("read");
    const CheckedTables checked = CheckTables(*raw, node.store->arrays());
    Slots slots{Sizes{}};
    slots.Adopt(checked.tables);
    WritePlan total;
    for (const ResolvedService& service : services) {
      auto planned = Plan(Compile(service), &checked.tables.services.at(service.name),
                          node.store->arrays(), slots);
      if (!planned.ok()) Node::Fail("plan");
      total.Append(std::move(planned->plan));
    }
    if (!checked.problems.empty() || !total.empty()) Node::Fail("a restart must write nothing");
  }
}
BENCHMARK(Restart)->Arg(10000)->Unit(benchmark::kMillisecond);

constexpr uint64_t kLookups = 100'000;

void RunProgram(benchmark::State& state, Node& node, bpf_program* program, uint32_t frontends) {
  lookup_io& io = node.skeleton->bss->io;
  io.service = {};
  io.service.count = frontends;
  io.draws = kLookups;
  io.outside = 0;
  std::array<char, 64> packet{};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(), .data_size_in = packet.size(),
              .repeat = 1);
  for (auto _ : state) {
    if (bpf_prog_test_run_opts(bpf_program__fd(program), &options) != 0) Node::Fail("run");
  }
  if (io.outside != 0) Node::Fail("a lookup missed");
  state.counters["each"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * kLookups,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

// find_service() of random frontends, `each` in seconds; a call of bpf_loop(), a random
// number and the building of the key are in it, and alone in LookupBaseline.
void LookupFrontend(benchmark::State& state) {
  Node node;
  const auto count = static_cast<uint32_t>(state.range(0));
  node.Fill(MakeServices(count, /*backends=*/1));
  RunProgram(state, node, node.skeleton->progs.bench_find_service, count);
}
BENCHMARK(LookupFrontend)->Arg(1)->Arg(10000)->Arg(60000)->Unit(benchmark::kMillisecond);

void LookupBaseline(benchmark::State& state) {
  Node node;
  RunProgram(state, node, node.skeleton->progs.bench_baseline, 10000);
}
BENCHMARK(LookupBaseline)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace waggle::maps

BENCHMARK_MAIN();
