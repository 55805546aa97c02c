// Benchmarks of decoding: from the bytes that an apiserver sends to the change that the index of
// objects gives out. A change comes when apiserver and etcd have just had the caches, so that
// 'cold' is what counts. docs/performance.md holds a recorded run.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "k8s-watch/object_index.h"
#include "k8s-watch/stream_decoder.h"
#include "tests/unit/k8s-watch/apiserver_json.h"

namespace waggle::k8s {
namespace {

constexpr int kObjects = 10'000;
constexpr size_t kPiece = 4096;  // what the HTTP library reads at once

[[noreturn]] void Fail(const std::string& what) {
  std::cerr << "decode_bench: " << what << "\n";
  std::exit(1);
}

// A watch whose index knows kObjects objects.
class Watch {
 public:
  explicit Watch(ObjectKind kind)
      : index_(kind,
               [this](ObjectChange change) {
                 last_ = std::move(change);
                 ++changes_;
               }),
        decoder_(kind, /*skip_bad=*/false, [this](WatchEvent event) {
          index_.Put(std::move(event.object));
          return absl::OkStatus();
        }) {
    for (int i = 0; i < kObjects; ++i)
      Feed(EventJson(kind, "ADDED", i, 0));
    if (changes_ != kObjects) Fail("not every object was decoded");
  }

  void Feed(std::string_view bytes) {
    if (const absl::Status status = decoder_.Feed(bytes); !status.ok()) Fail(status.ToString());
  }
  size_t changes() const { return changes_; }

 private:
  size_t changes_ = 0;
  ObjectChange last_;  // keeps an object as the agent does
  ObjectIndex index_;
  WatchDecoder decoder_;
};

// Takes the caches away from what was in them: walks over memory, and runs through code, which
// instructions that only return are.
class CacheEater {
 public:
  CacheEater() : memory_(size_t{32} << 20, 1) {
#ifdef __x86_64__
    void* code = std::aligned_alloc(size_t{1} << 16, kCode);
    if (code == nullptr) Fail("no memory");
    std::memset(code, 0xc3, kCode);
    if (mprotect(code, kCode, PROT_READ | PROT_EXEC) != 0) Fail("mprotect");
    code_ = static_cast<char*>(code);
#endif
  }

  void Eat() {
    for (size_t at = 0; at < memory_.size(); at += 64)
      ++memory_[at];
    benchmark::ClobberMemory();
    for (size_t at = 0; code_ != nullptr && at < kCode; at += 64)
      reinterpret_cast<void (*)()>(code_ + at)();
  }

 private:
  static constexpr size_t kCode = size_t{4} << 20;

  std::vector<char> memory_;
  char* code_ = nullptr;  // lives as long as the process
};

// One event, from its bytes to the change. `p50` and `p99` in seconds.
void DecodeEvent(benchmark::State& state, ObjectKind kind, bool cold) {
  Watch watch(kind);
  CacheEater eater;
  std::vector<double> times;
  uint32_t random = 1;
  size_t bytes = 0;
  std::vector<int> versions(kObjects);
  const size_t before = watch.changes();
  for (auto _ : state) {
    random = random * 1664525 + 1013904223;
    const auto number = static_cast<int>((random >> 8) % kObjects);
    const std::string text = EventJson(kind, "MODIFIED", number, ++versions[number]);
    std::string piece;
    if (cold) eater.Eat();
    piece = text;  // has just been read
    const auto begin = std::chrono::steady_clock::now();
    watch.Feed(piece);
    times.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    state.SetIterationTime(times.back());
    bytes += piece.size();
  }
  if (watch.changes() - before != static_cast<size_t>(state.iterations())) Fail("no change");
  std::sort(times.begin(), times.end());
  state.counters["p50"] = times[times.size() / 2];
  state.counters["p99"] = times[times.size() * 99 / 100];
  state.counters["size"] = static_cast<double>(bytes) / static_cast<double>(times.size());
}
BENCHMARK_CAPTURE(DecodeEvent, service_hot, ObjectKind::kService, false)->UseManualTime();
BENCHMARK_CAPTURE(DecodeEvent, service_cold, ObjectKind::kService, true)
    ->UseManualTime()
    ->Iterations(400);
BENCHMARK_CAPTURE(DecodeEvent, slice_hot, ObjectKind::kEndpointSlice, false)->UseManualTime();
BENCHMARK_CAPTURE(DecodeEvent, slice_cold, ObjectKind::kEndpointSlice, true)
    ->UseManualTime()
    ->Iterations(400);

// A list of kObjects objects into an empty index, in the pieces that come.
void DecodeList(benchmark::State& state, ObjectKind kind) {
  const std::string name(ObjectKindName(kind));
  std::string text =
      absl::StrCat(R"({"kind":")", name, R"(List","metadata":{"resourceVersion":"9"},"items":[)");
  for (int i = 0; i < kObjects; ++i)
    absl::StrAppend(&text, i == 0 ? "" : ",", ObjectJson(kind, i, 0));
  text += "]}\n";
  for (auto _ : state) {
    size_t changes = 0;
    ObjectIndex index(kind, [&changes](const ObjectChange&) { ++changes; });
    index.BeginList();
    ListDecoder decoder(kind, [&index](StreamObject object) { index.Put(std::move(object)); });
    for (size_t at = 0; at < text.size(); at += kPiece) {
      if (!decoder.Feed(std::string_view(text).substr(at, kPiece)).ok()) Fail("list");
    }
    if (!decoder.Finish().ok() || !index.EndList() || changes != kObjects) Fail("list");
  }
  state.SetBytesProcessed(static_cast<int64_t>(text.size()) * state.iterations());
}
BENCHMARK_CAPTURE(DecodeList, services, ObjectKind::kService)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(DecodeList, slices, ObjectKind::kEndpointSlice)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace waggle::k8s

BENCHMARK_MAIN();
