// What the verifier has to do for the programs that ship, with and without what old
// kernels lack. Prints the rows of docs/verifier-cost.md.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/datapath/kernel_maps.h"
#include "waggle_bpf.skel.h"

namespace waggle {
namespace {

// The kernel's limit is 1,000,000; 5.10 prunes worse than today's kernels, so most of
// that is kept in reserve.
constexpr int kMaxInstructions = 100'000;
constexpr int kMaxStack = 448;  // of 512 bytes

struct Cost {
  int instructions = -1;
  int stack = -1;
};

struct Deleter {
  void operator()(waggle_bpf* skeleton) const { waggle_bpf__destroy(skeleton); }
};
using Skeleton = std::unique_ptr<waggle_bpf, Deleter>;

// The number after `words`; -1: they are not in the text.
int NumberAfter(const std::string& text, const std::string& words) {
  const size_t at = text.find(words);
  return at == std::string::npos ? -1 : std::atoi(text.c_str() + at + words.size());
}

std::map<std::string, Cost> CostsWith(bool set_retval) {
  constexpr uint32_t kStatistics = 4;  // BPF_LOG_STATS of the kernel
  std::map<std::string, std::vector<char>> logs;
  Skeleton skeleton(waggle_bpf__open());
  if (!skeleton) return {};
  maps::SetSizes(skeleton->obj, {.frontends = 8, .services = 8, .backends = 8, .udp_flows = 8});
  waggle_config& config = const_cast<waggle_config&>(skeleton->rodata_config->waggle_config);
  config.have_set_retval = set_retval;
  config.host_only = 1;  // the longer way
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, skeleton->obj) {
    std::vector<char>& log = logs[bpf_program__name(program)];
    log.resize(1 << 16);
    bpf_program__set_log_level(program, kStatistics);
    bpf_program__set_log_buf(program, log.data(), log.size());
  }
  const int error = waggle_bpf__load(skeleton.get());
  std::map<std::string, Cost> costs;
  for (const auto& [name, log] : logs) {
    const std::string text(log.data());
    EXPECT_EQ(error, 0) << name << ": " << text;
    costs[name] = {NumberAfter(text, "processed "), NumberAfter(text, "stack depth ")};
  }
  return costs;
}

std::set<std::string> ProgramsInDocument() {
  std::ifstream file(WAGGLE_SOURCE_DIR "/docs/verifier-cost.md");
  std::set<std::string> names;
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("| `")) names.insert(line.substr(3, line.find('`', 3) - 3));
  }
  return names;
}

TEST(VerifierCost, StaysFarBelowTheLimits) {
  const auto with = CostsWith(true);
  const auto without = CostsWith(false);
  ASSERT_EQ(with.size(), 8u);
  ASSERT_EQ(without.size(), with.size());
  std::cout << "| program | instructions visited | stack, bytes | visited without "
               "bpf_set_retval() | stack, bytes |\n|---|---|---|---|---|\n";
  for (const auto& [name, cost] : with) {
    const Cost& old = without.at(name);
    std::cout << "| `" << name << "` | " << cost.instructions << " | " << cost.stack << " | "
              << old.instructions << " | " << old.stack << " |\n";
    for (const Cost& one : {cost, old}) {
      EXPECT_GT(one.instructions, 0) << name << ": the kernel printed no statistics";
      EXPECT_LT(one.instructions, kMaxInstructions) << name;
      EXPECT_GE(one.stack, 0) << name;
      EXPECT_LE(one.stack, kMaxStack) << name;
    }
  }
}

TEST(VerifierCost, TheDocumentNamesEveryProgram) {
  Skeleton skeleton(waggle_bpf__open());
  ASSERT_TRUE(skeleton);
  std::set<std::string> names;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, skeleton->obj) names.insert(bpf_program__name(program));
  EXPECT_EQ(ProgramsInDocument(), names);
}

}  // namespace
}  // namespace waggle
