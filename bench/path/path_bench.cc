// Measures the ways from a pod to a Service on one node against the direct way to the
// pod behind it, all in the lab's sandbox: nothing is left behind. Run as root;
// docs/performance.md says how, and holds a recorded run.
//
// Exit status: 0 only if every measurement gave operations and no error, and each way
// was the one that its name says.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bench/common.h"
#include "bench/path/peer.h"
#include "bench/path/program_time.h"
#include "bench/path/report.h"
#include "bench/path/world.h"

namespace waggle::bench {
namespace {

using net::Family;

constexpr int64_t kMillisecond = 1'000'000;

struct Options : CommonOptions {
  int rounds = 40;
  int slice_ms = 100;
  int warmup_ms = 10;
  std::vector<std::string> ops = {"tcp-connect", "tcp-open"};
  std::vector<std::string> families = {"v4"};
  std::vector<std::string> cpus = {"apart", "together"};
  std::vector<std::string> variants;
  int services = 1;
  bool legacy_iptables = false;
  bool short_form = false;
  bool profile = false;
  uint64_t seed = 1;
};

class Bench {
 public:
  Bench(const Options& options, std::ostream& raw) : options_(options), raw_(raw) {
    for (const Variant& variant : AllVariants()) {
      const bool named = std::find(options.variants.begin(), options.variants.end(),
                                   variant.name) != options.variants.end();
      if (options.variants.empty() ? !options.short_form || variant.short_form : named) {
        world_options_.variants.push_back(variant);
      }
    }
    cpus_ = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    world_options_.services = options.services;
    world_options_.endpoints = options.endpoints;
    world_options_.legacy_iptables = options.legacy_iptables;
    world_options_.agent_flags = options.agent_flags;
    for (const Op op : kAllOps) {
      for (const Family family : {Family::kIpv4, Family::kIpv6}) {
        for (const Cpus cpus : {Cpus::kApart, Cpus::kTogether}) {
          if (Asked(options.ops, NameOf(op)) && Asked(options.families, NameOf(family)) &&
              Asked(options.cpus, NameOf(cpus))) {
            kinds_.push_back({op, family, cpus});
          }
        }
      }
    }
  }

  int Run() {
    WriteHeader();
    Note("building %zu nodes with two pods each", world_options_.variants.size());
    World world(world_options_);
    Check(world);
    MeasureRounds(world);
    Print();
    if (options_.profile) Profile(world);
    for (const std::string& fault : faults_)
      std::fprintf(stderr, "path_bench: %s\n", fault.c_str());
    return faults_.empty() ? 0 : 1;
  }

 private:
  static bool Asked(const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end() ||
           std::find(names.begin(), names.end(), "all") != names.end();
  }

  template <typename... Arguments>
  void Note(const char* format, Arguments... arguments) const {
    if (options_.short_form || isatty(STDERR_FILENO) == 0) return;
    std::fprintf(stderr, "\r\033[K");
    std::fprintf(stderr, format, arguments...);
    std::fflush(stderr);
  }

  // Somebody counts the programs' time: each run of a program pays for it, and the other
  // ways do not.
  static bool RunTimesAreCounted() {
    std::ifstream in("/proc/sys/kernel/bpf_stats_enabled");
    int on = 0;
    return in >> on && on != 0;
  }

  void WriteRaw(const nlohmann::json& json) { raw_ << json.dump() << std::endl; }

  void WriteHeader() {
    std::vector<std::string> names;
    for (const Variant& variant : world_options_.variants)
      names.emplace_back(variant.name);
    nlohmann::json header = RunHeader();
    header.update({{"rounds", options_.rounds},
                   {"sliceMs", options_.slice_ms},
                   {"warmupMs", options_.warmup_ms},
                   {"services", options_.services},
                   {"endpoints", options_.endpoints},
                   {"iptables", options_.legacy_iptables ? "legacy" : "nft"},
                   {"bpfStatsEnabled", RunTimesAreCounted()},
                   {"seed", options_.seed},
                   {"variants", names}});
    WriteRaw(header);
  }

  void Expect(const Variant& variant, const Kind& kind, const Outcome& outcome) {
    if (outcome.errors == 0 && outcome.ops > 0) return;
    faults_.push_back(absl::StrCat(variant.name, ", ", NameOf(kind), ": ", outcome.ops,
                                   " operations, ", outcome.errors,
                                   " errors, the first: ", outcome.first_error));
  }

  // Each way once, unmeasured: does it work, and is it the way that it is said to be?
  void Check(World& world) {
    const World::Slice slice{20 * kMillisecond, 0};
    for (const Variant& variant : world_options_.variants) {
      for (const Kind& kind : kinds_) {
        const uint64_t before = world.Forwarded(variant, kind.family);
        const Outcome outcome = world.Measure(variant, kind, slice);
        const uint64_t forwarded = world.Forwarded(variant, kind.family) - before;
        WriteRaw({{"type", "check"},
                  {"variant", variant.name},
                  {"op", NameOf(kind.op)},
                  {"family", NameOf(kind.family)},
                  {"cpus", NameOf(kind.cpus)},
                  {"ops", outcome.ops},
                  {"forwarded", forwarded}});
        Expect(variant, kind, outcome);
        // The node's stack has a question and an answer of each operation, or nothing
        // but the first packets of a way that is not known yet.
        const bool around =
            variant.way == Way::kVeth ||
            (variant.way == Way::kWaggle && std::string(variant.forwarding) == "redirect");
        if (around ? forwarded > 20 + outcome.ops / 10 : forwarded < 2 * outcome.ops) {
          faults_.push_back(absl::StrCat(
              variant.name, ", ", NameOf(kind), ": the node's stack has forwarded ", forwarded,
              " packets of ", outcome.ops, " operations, which is not this way"));
        }
      }
    }
  }

  void MeasureRounds(World& world) {
    std::mt19937_64 random(options_.seed);
    const World::Slice slice{options_.slice_ms * kMillisecond, options_.warmup_ms * kMillisecond};
    std::vector<Kind> kinds = kinds_;
    std::vector<const Variant*> order;
    for (const Variant& variant : world_options_.variants)
      order.push_back(&variant);
    for (int round = 1; round <= options_.rounds; ++round) {
      Note("round %d of %d", round, options_.rounds);
      std::shuffle(kinds.begin(), kinds.end(), random);
      for (const Kind& kind : kinds) {
        std::shuffle(order.begin(), order.end(), random);
        for (size_t i = 0; i < order.size(); ++i) {
          samples_.push_back({round, static_cast<int>(i), order[i]->name, kind,
                              world.Measure(*order[i], kind, slice)});
          WriteRaw(samples_.back());
          Expect(*order[i], kind, samples_.back().outcome);
        }
      }
    }
    Note("%s", "");
  }

  // In the order of AllVariants(), which the rounds have shuffled.
  std::vector<Row> Rows() const {
    std::vector<Row> rows = Summarize(samples_, kReference);
    const auto rank = [](const std::string& name) {
      const auto& all = AllVariants();
      return std::find_if(all.begin(), all.end(),
                          [&name](const Variant& each) { return each.name == name; }) -
             all.begin();
    };
    std::stable_sort(rows.begin(), rows.end(), [&rank](const Row& a, const Row& b) {
      return rank(a.variant) < rank(b.variant);
    });
    return rows;
  }

  void Print() {
    std::cout << Tables(Rows()) << "\n";
    for (const Variant& variant : world_options_.variants) {
      std::printf("%-20s %s\n", variant.name, variant.what);
    }
    const bool many = options_.services > 1;
    std::printf(
        "\nRounds: %d, in each every way once for %d ms, in a new order each time. Medians;\n"
        "'of direct' compares with the same round, with quartiles. 'CPU' is what client\n"
        "and server took for one operation, softirqs in it. One connection at a time;\n"
        "%d Service%s with %d endpoints%s.\n"
        "Others had %.0f %% of the machine meanwhile.\n",
        options_.rounds, options_.slice_ms, options_.services, many ? "s" : "", options_.endpoints,
        many ? " each, the last one is asked" : "", 100 * OthersShare(samples_, cpus_));
    if (RunTimesAreCounted()) {
      std::printf("Unfair to Waggle: kernel.bpf_stats_enabled is 1, each run of a program pays.\n");
    }
    std::fflush(stdout);
  }

  void PrintProgram(const Variant& variant, const Kind& kind, const RunTime& program, uint64_t ops,
                    double clock_ns) {
    const double per_op = static_cast<double>(program.runs) / static_cast<double>(ops);
    const double ns = static_cast<double>(program.ns) / static_cast<double>(program.runs);
    std::printf("| %-19s | %-23s | %-16s | %7.2f | %6.1f | %12.1f |\n", variant.name,
                NameOf(kind).c_str(), program.name.c_str(), per_op, ns, ns - clock_ns);
    WriteRaw({{"type", "program"},
              {"variant", variant.name},
              {"op", NameOf(kind.op)},
              {"family", NameOf(kind.family)},
              {"cpus", NameOf(kind.cpus)},
              {"program", program.name},
              {"runs", program.runs},
              {"ns", program.ns},
              {"ops", ops}});
  }

  // Once more, with the kernel's clock on: how long each program takes.
  void Profile(World& world) {
    const RunTimeSwitch counting;
    // All that the programs do is counted, so all operations are, too.
    const World::Slice slice{options_.slice_ms * kMillisecond, 0};
    std::printf(
        "\n| way                 | operation               | program          | runs/op | ns/run | "
        "less 'empty' |\n"
        "|---------------------|-------------------------|------------------|--------:|-------:|"
        "-------------:|\n");
    for (const Kind& kind : kinds_) {
      double clock_ns = 0;
      for (const Variant& variant : world_options_.variants) {
        Outcome outcome;
        RunTimes programs;
        if (std::string(variant.name) == kReference) {
          programs[0] = MeasureEmpty(world.node(variant), world.client_device(variant),
                                     [&] { outcome = world.Measure(variant, kind, slice); });
          const RunTime& empty = programs[0];
          if (empty.runs > 0) {
            clock_ns = static_cast<double>(empty.ns) / static_cast<double>(empty.runs);
          }
        } else if (variant.way == Way::kWaggle) {
          const std::string& pins = world.node(variant).pin_path();
          const RunTimes before = ReadRunTimes(pins);
          outcome = world.Measure(variant, kind, slice);
          programs = Difference(before, ReadRunTimes(pins));
        } else {
          continue;
        }
        Expect(variant, kind, outcome);
        for (const auto& [id, program] : programs) {
          if (outcome.ops > 0 && program.runs > 0) {
            PrintProgram(variant, kind, program, outcome.ops, clock_ns);
          }
        }
      }
    }
    std::printf(
        "\n'ns/run' has two readings of the clock in it, as 'empty' shows, which does "
        "nothing.\n");
    std::fflush(stdout);
  }

  const Options& options_;
  std::ostream& raw_;
  int cpus_ = 1;
  WorldOptions world_options_;
  std::vector<Kind> kinds_;
  std::vector<Sample> samples_;
  std::vector<std::string> faults_;
};

std::string KnownVariants() {
  return absl::StrJoin(AllVariants(), ", ", [](std::string* out, const Variant& variant) {
    absl::StrAppend(out, variant.name);
  });
}

int Main(int argc, char** argv) {
  Options options;
  std::string server_kind;
  uint16_t port = 0;
  CLI::App app("Measures ways from a pod to a Service on one node. Needs root.");
  AddNumber(app, "--rounds", options.rounds, "rounds, each with every way once", 1, 100'000);
  AddNumber(app, "--slice-ms", options.slice_ms, "how long one measurement takes", 1, 60'000);
  AddNumber(app, "--warmup-ms", options.warmup_ms, "before it, uncounted", 0, 60'000);
  app.add_option("--ops", options.ops, "operations: tcp-connect, tcp-open, udp-new, udp-open, all")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::IsMember({"tcp-connect", "tcp-open", "udp-new", "udp-open", "all"}));
  app.add_option("--families", options.families, "v4, v6")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::IsMember({"v4", "v6"}));
  std::vector<std::string> names;
  for (const Variant& variant : AllVariants())
    names.emplace_back(variant.name);
  app.add_option("--variants", options.variants, "of " + KnownVariants() + "; all by default")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
  AddNumber(app, "--services", options.services, "Services in rules and maps; the last is asked", 1,
            60'000);
  app.add_option("--cpus", options.cpus, "client and server on two CPUs or one: apart, together")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::IsMember({"apart", "together"}));
  app.add_flag("--legacy-iptables", options.legacy_iptables,
               "iptables-legacy in place of iptables-nft");
  CLI::Option* short_form =
      app.add_flag("--short", options.short_form, "a few seconds, for a first look");
  app.add_flag("--profile", options.profile, "then show how long each BPF program takes");
  app.add_option("--seed", options.seed, "of the order")->capture_default_str();
  AddCommonOptions(app, options);
  CLI::App* client = app.add_subcommand("client")->group("");
  CLI::App* server = app.add_subcommand("server")->group("");
  server->add_option("kind", server_kind)->required();
  server->add_option("port", port)->required();
  CLI11_PARSE(app, argc, argv);
  if (client->parsed()) return RunClient();
  if (server->parsed()) {
    return RunServer(server_kind.starts_with("tcp"), server_kind.ends_with("6"), port);
  }
  if (*short_form) {
    if (app.count("--rounds") == 0) options.rounds = 12;
    if (app.count("--slice-ms") == 0) options.slice_ms = 20;
    if (app.count("--warmup-ms") == 0) options.warmup_ms = 4;
    if (app.count("--cpus") == 0) options.cpus = {"together"};
  }
  // The reference is always one of them.
  if (!options.variants.empty()) options.variants.emplace_back(kReference);
  return RunInLab(options, [&](std::ostream& raw) { return Bench(options, raw).Run(); });
}

}  // namespace
}  // namespace waggle::bench

int main(int argc, char** argv) {
  return waggle::bench::Main(argc, argv);
}
