// What the verifier has to do for the programs that ship, with and without what old
// kernels lack. Prints the table of docs/verifier-cost.md; WAGGLE_UPDATE_GOLDEN=1 writes it
// there.
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/datapath/kernel_maps.h"
#include "waggle_bpf.skel.h"

namespace waggle {
namespace {

// The kernel's limit is 1,000,000; 5.10 prunes worse than today's kernels, so most of
// that is kept in reserve.
constexpr int kMaxInstructions = 100'000;
// Of 512 bytes. The compiler chooses, the kernel only counts: the same everywhere.
constexpr int kMaxStack = 480;

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

// The numbers of "stack depth 80+72+0": one for each function, in the order of the code.
std::vector<int> StackDepths(const std::string& text) {
  constexpr std::string_view kWords = "stack depth ";
  std::vector<int> depths;
  size_t at = text.find(kWords);
  if (at == std::string::npos) return depths;
  at += kWords.size();
  while (true) {
    depths.push_back(std::atoi(text.c_str() + at));
    at = text.find_first_not_of("0123456789", at);
    if (at == std::string::npos || text[at] != '+') return depths;
    ++at;
  }
}

// The deepest chain of calls, as the kernel counts it: each function rounded up to 32 bytes
// where there are several. -1: the depths are not those of this program.
int DeepestStack(const bpf_program* program, const std::vector<int>& depths) {
  const bpf_insn* code = bpf_program__insns(program);
  const auto size = static_cast<int>(bpf_program__insn_cnt(program));
  // (caller, callee) by their first instructions.
  std::vector<std::pair<int, int>> calls;
  std::set<int> starts = {0};
  for (int i = 0; i < size; ++i) {
    if (code[i].code != (BPF_JMP | BPF_CALL) || code[i].src_reg != BPF_PSEUDO_CALL) continue;
    calls.emplace_back(i, i + 1 + code[i].imm);
    starts.insert(calls.back().second);
  }
  if (starts.size() != depths.size()) return -1;
  if (depths.size() == 1) return depths[0];
  std::map<int, int> own;
  for (const int start : starts) {
    const int depth = depths[own.size()];
    own[start] = (std::max(depth, 1) + 31) / 32 * 32;
  }
  // Functions call only later or earlier ones, never in a circle: the verifier sees to that.
  const std::function<int(int)> deepest = [&](int start) {
    const auto next = starts.upper_bound(start);
    const int end = next == starts.end() ? size : *next;
    int below = 0;
    for (const auto& [from, to] : calls) {
      if (from >= start && from < end) below = std::max(below, deepest(to));
    }
    return own[start] + below;
  };
  return deepest(0);
}

// `new_kernel`: with all that newer kernels offer.
std::map<std::string, Cost> CostsWith(bool new_kernel) {
  constexpr uint32_t kStatistics = 4;  // BPF_LOG_STATS of the kernel
  std::map<std::string, std::vector<char>> logs;
  Skeleton skeleton(waggle_bpf__open());
  if (!skeleton) return {};
  maps::SetSizes(
      skeleton->obj,
      {.frontends = 8, .services = 8, .backends = 8, .udp_flows = 8, .flows = 8, .half_open = 8});
  waggle_config& config = const_cast<waggle_config&>(skeleton->rodata_config->waggle_config);
  config.have_set_retval = new_kernel;
  config.have_mptcp_sock = new_kernel;
  config.have_skip_neigh = new_kernel;
  config.have_coarse_clock = new_kernel;
  // The longer way.
  config.host_only = 1;
  config.packet_path = 1;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, skeleton->obj) {
    std::vector<char>& log = logs[bpf_program__name(program)];
    log.resize(1 << 16);
    bpf_program__set_log_level(program, kStatistics);
    bpf_program__set_log_buf(program, log.data(), log.size());
  }
  const int error = waggle_bpf__load(skeleton.get());
  std::map<std::string, Cost> costs;
  bpf_object__for_each_program(program, skeleton->obj) {
    const std::string name = bpf_program__name(program);
    const std::string text(logs[name].data());
    EXPECT_EQ(error, 0) << name << ": " << text;
    costs[name] = {NumberAfter(text, "processed "), DeepestStack(program, StackDepths(text))};
  }
  return costs;
}

constexpr char kDocument[] = WAGGLE_SOURCE_DIR "/docs/verifier-cost.md";

std::string Document() {
  std::ifstream file(kDocument);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::set<std::string> ProgramsInDocument() {
  std::stringstream text(Document());
  std::set<std::string> names;
  std::string line;
  while (std::getline(text, line)) {
    if (line.starts_with("| `")) names.insert(line.substr(3, line.find('`', 3) - 3));
  }
  return names;
}

std::string Table(const std::map<std::string, Cost>& with,
                  const std::map<std::string, Cost>& without) {
  std::ostringstream text;
  text << "| program | instructions visited | stack, bytes | visited on an old kernel | stack, "
          "bytes |\n|---|---|---|---|---|\n";
  for (const auto& [name, cost] : with) {
    const Cost& old = without.at(name);
    text << "| `" << name << "` | " << cost.instructions << " | " << cost.stack << " | "
         << old.instructions << " | " << old.stack << " |\n";
  }
  return text.str();
}

// Puts `table` where the document has one.
void UpdateDocument(const std::string& table) {
  std::string text = Document();
  const size_t begin = text.find("| program |");
  ASSERT_NE(begin, std::string::npos);
  const size_t end = text.find("\n\n", begin);
  ASSERT_NE(end, std::string::npos);
  text.replace(begin, end + 1 - begin, table);
  std::ofstream(kDocument) << text;
}

TEST(VerifierCost, StaysFarBelowTheLimits) {
  const auto with = CostsWith(true);
  const auto without = CostsWith(false);
  ASSERT_EQ(with.size(), 12u);
  ASSERT_EQ(without.size(), with.size());
  for (const auto& [name, cost] : with) {
    for (const Cost& one : {cost, without.at(name)}) {
      EXPECT_GT(one.instructions, 0) << name << ": the kernel printed no statistics";
      EXPECT_LT(one.instructions, kMaxInstructions) << name;
      EXPECT_GE(one.stack, 0) << name;
      EXPECT_LE(one.stack, kMaxStack) << name;
    }
  }
  std::cout << Table(with, without);
  if (getenv("WAGGLE_UPDATE_GOLDEN") != nullptr) UpdateDocument(Table(with, without));
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
