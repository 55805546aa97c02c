// What a change at the apiserver costs an agent, and how soon traffic follows it; beside it the
// real kube-proxy. docs/performance.md says how to read it.
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "bench/common.h"
#include "bench/control_plane/download.h"
#include "bench/control_plane/figures.h"
#include "bench/control_plane/fleet.h"
#include "bench/control_plane/probe.h"
#include "bench/control_plane/usage.h"
#include "tests/cluster/control_plane.h"
#include "tests/cluster/objects.h"
#include "tests/cluster/real_kube_proxy.h"
#include "tests/lab/agent.h"
#include "tests/lab/cluster.h"

namespace waggle::bench {
namespace {

using nlohmann::json;

constexpr uint16_t kBackendPort = 8080;
constexpr std::chrono::minutes kPatience{10};
constexpr std::chrono::seconds kStartPatience{90};
constexpr double kGzipFrom = 128 * 1024;  // bytes of a list; the apiserver compresses greater ones
constexpr int kLinkRepeats = 3;           // at the most, of each kind

struct Options : CommonOptions {
  std::vector<int> services = {10'000};
  int repeats = 5;
  int single_changes = 1000;  // one after the other, each timed
  int many_changes = 10'000;
  int switches = 50;   // of the probe
  int kube_proxy = 0;  // repeats of its start
  int kube_proxy_switches = 5;
  int kube_proxy_most = 10'000;  // Services
  bool prefer = false;
};

double Seconds(int64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

class Bench {
 public:
  Bench(const Options& options, std::ostream& raw)
      : options_(options),
        raw_(raw),
        figures_(raw),
        nodes_(lab::Cni::kRouted),
        client_(nodes_.node1.AddPod("client")),
        a_(nodes_.node1.AddPod("a")),
        b_(nodes_.node1.AddPod("b")),
        other_client_(nodes_.node2.AddPod("client2")),
        control_(cluster::ControlPlane::Shared()),
        fleet_(control_, options.endpoints) {}
  ~Bench() {
    agent_.reset();
    control_.Leave();
  }

  int Run() {
    WriteHeader();
    control_.Join(nodes_.lab);
    nodes_.lab.Settle();
    for (const lab::Node* node : {&nodes_.node1, &nodes_.node2})
      cluster::AddNode(control_.api(), *node);
    // Nothing here is the controllers' to do.
    control_.controller_manager().Stop();
    server_a_.emplace(a_, 'a', kBackendPort);
    server_b_.emplace(b_, 'b', kBackendPort);
    target_ = lab::At(fleet_.CreateProbe(a_.addresses().v4), 80);
    kubeconfig_ = control_.WriteKubeconfig(cluster::kKubeProxy);
    std::vector<int> sizes = options_.services;
    std::sort(sizes.begin(), sizes.end());
    sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
    for (const int size : sizes) {
      Say(absl::StrCat("creating Services up to ", size));
      CleanUp();
      fleet_.GrowTo(size);
      Links();
      Starts();
      Changes();
      if (options_.kube_proxy > 0 && size <= options_.kube_proxy_most) KubeProxy();
      std::printf("%s\n", figures_.Table().c_str());
      std::fflush(stdout);
    }
    return 0;
  }

 private:
  void WriteHeader() {
    json header = RunHeader();
    header.update(json{{"endpoints", options_.endpoints},
                       {"prefer", options_.prefer},
                       {"agentFlags", options_.agent_flags}});
    raw_ << header.dump() << std::endl;
  }
  static void Say(const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); }
  void Add(const std::string& who, const std::string& what, const std::string& unit, double value) {
    figures_.Add(fleet_.size(), who, what, unit, value);
  }

  // ---- The start, beside curl.

  void Starts() {
    Say("starts");
    const auto preference = Prefer();
    for (int i = 0; i < options_.repeats; ++i) {
      fleet_.AwaitQuiet();
      Curl();
      CleanUp();
      fleet_.AwaitQuiet();
      const waggle_agent cold = StartAgent("start", {});
      if (lab::MapWrites(cold) == 0) lab::Fail("a start into empty maps wrote nothing");
      const Memory memory = MemoryOf(agent_->pid());
      Add("waggle", "peak memory (VmHWM)", "MB", static_cast<double>(memory.peak_bytes) / 1e6);
      Add("waggle", "anonymous memory, after the start", "MB",
          static_cast<double>(memory.anonymous_bytes) / 1e6);
      agent_->Kill();
      fleet_.AwaitQuiet();
      const waggle_agent again = StartAgent("start, nothing changed", {});
      Add("waggle", "map writes of a start with nothing changed", "",
          static_cast<double>(lab::MapWrites(again)));
    }
    // Looking at it so often costs time, so that this one is not timed.
    CleanUp();
    {
      AnonymousPeak peak([this] { return agent_ ? agent_->pid() : 0; });
      MakeAgent({});
      agent_->AwaitReady(kStartPatience);
      Add("waggle", "peak of anonymous memory", "MB", static_cast<double>(peak.bytes()) / 1e6);
    }
  }

  void Curl() {
    const Download got = DownloadLists(nodes_.node1, control_.access(cluster::kKubeProxy), false);
    Add("curl", "both lists", "s", got.seconds);
    Add("curl", "size of both lists", "MB", got.bytes / 1e6);
  }

  // What gzip would save the agent, which asks without, by the speed of the link between.
  void Links() {
    Say("links");
    const auto preference = Prefer();
    for (const std::string rate : {"", "1gbit", "100mbit"}) {
      std::optional<SlowLink> link;
      if (!rate.empty()) link.emplace("control", rate);
      const std::string at = rate.empty() ? "" : ", " + rate;
      for (int i = 0; i < std::min(options_.repeats, kLinkRepeats); ++i) {
        fleet_.AwaitQuiet();
        const Download plain = CurlAs("plain" + at, false);
        fleet_.AwaitQuiet();
        const Download packed = CurlAs("gzip" + at, true);
        if (plain.bytes > 2 * kGzipFrom && packed.bytes >= plain.bytes) {
          lab::Fail("the apiserver does not compress");
        }
        if (rate.empty()) continue;
        CleanUp();
        fleet_.AwaitQuiet();
        StartAgent("start" + at, {});
      }
    }
    CleanUp();
  }

  Download CurlAs(const std::string& what, bool compressed) {
    const int64_t before = CpuNs(control_.apiserver().pid());
    const Download got =
        DownloadLists(nodes_.node1, control_.access(cluster::kKubeProxy), compressed);
    Add("curl", "both lists, " + what, "s", got.seconds);
    Add("curl", "both lists, " + what + ", size", "MB", got.bytes / 1e6);
    Add("curl", "both lists, " + what + ", CPU time", "s", got.cpu_seconds);
    Add("curl", "both lists, " + what + ", CPU time of the apiserver", "s",
        Seconds(CpuNs(control_.apiserver().pid()) - before));
    return got;
  }

  void CleanUp() {
    agent_.reset();
    lab::Waggle(nodes_.node1, {"cleanup", "--pin-path", nodes_.node1.pin_path()});
  }

  void MakeAgent(const lab::Argv& flags) {
    lab::AgentOptions options;
    options.flags = {"--kubeconfig", kubeconfig_};
    for (const lab::Argv& more : {options_.agent_flags, flags})
      options.flags.insert(options.flags.end(), more.begin(), more.end());
    agent_ = std::make_unique<lab::Agent>(nodes_.lab, nodes_.node1, options);
  }

  // With --prefer: until its end nobody else's work delays what is measured.
  std::unique_ptr<Preference> Prefer(const std::vector<pid_t>& first = {}) {
    if (!options_.prefer) return nullptr;
    return std::make_unique<Preference>(
        std::vector<pid_t>{getpid(), control_.etcd().pid(), control_.apiserver().pid()}, first);
  }

  // Starts the agent and adds how long it took until everything was programmed.
  waggle_agent StartAgent(const std::string& what, const lab::Argv& flags) {
    const int64_t from = BoottimeNs();
    const int64_t apiserver = CpuNs(control_.apiserver().pid());
    MakeAgent(flags);
    agent_->AwaitReady(kStartPatience);
    const waggle_agent agent = lab::ReadAgent(nodes_.node1.pin_path());
    Add("waggle", what, "s", Seconds(static_cast<int64_t>(agent.ready_ns) - from));
    Add("waggle", what + ", CPU time", "s", Seconds(CpuNs(agent_->pid())));
    Add("waggle", what + ", CPU time of the apiserver", "s",
        Seconds(CpuNs(control_.apiserver().pid()) - apiserver));
    // The apiserver's own Service, the probe, and all others.
    const std::string said = absl::StrCat("ready: ", fleet_.size() + 2, " Services in force");
    if (!absl::StrContains(agent_->Log(), said)) {
      lab::Fail(absl::StrCat("the agent did not say '", said, "':\n", agent_->Log()));
    }
    return agent;
  }

  // ---- Changes while it runs.

  void Changes() {
    Say("changes");
    fleet_.AwaitQuiet();
    // Its log tells how long each change took.
    StartAgent("start, nothing changed, -v 4", {"-v", "4"});
    Probe probe(client_, target_);
    probe.AwaitAnswerOf('a', kPatience);
    {
      const auto preference = Prefer({agent_->pid()});
      Switches("waggle", probe, options_.switches);
      SingleChanges(probe);
    }
    ManyChanges("waggle", agent_->pid(), probe);
  }

  // The probe's Service gets another endpoint, by turns.
  void Switches(const std::string& who, Probe& probe, int count) {
    cluster::Api api = control_.NewApi();  // one that lay idle may have been closed
    for (int i = 0; i < count; ++i) {
      const bool to_b = i % 2 == 0;
      const int64_t sent = BoottimeNs();
      Fleet::PointProbe(api, (to_b ? b_ : a_).addresses().v4);
      const int64_t written = BoottimeNs();
      const int64_t seen = probe.AwaitAnswerOf(to_b ? 'b' : 'a', kPatience);
      Add(who, "apiserver's answer to a write -> first connection to the new backend", "ms",
          Seconds(seen - written) * 1e3);
      Add(who, "the write sent -> first connection to the new backend", "ms",
          Seconds(seen - sent) * 1e3);
    }
    if (count % 2 == 1) {
      Fleet::PointProbe(api, a_.addresses().v4);
      probe.AwaitAnswerOf('a', kPatience);
    }
  }

  // Everything that was written before has arrived: the watch keeps the order.
  void AwaitAll(Probe& probe) {
    cluster::Api api = control_.NewApi();
    for (const auto& [letter, pod] : {std::pair{'b', &b_}, std::pair{'a', &a_}}) {
      Fleet::PointProbe(api, pod->addresses().v4);
      probe.AwaitAnswerOf(letter, kPatience);
    }
  }

  void SingleChanges(Probe& probe) {
    const size_t before = agent_->Log().size();
    cluster::Api api = control_.NewApi();
    for (int i = 0; i < options_.single_changes; ++i)
      fleet_.ChangeOne(api, i * 7919 % fleet_.size());
    AwaitAll(probe);
    int found = 0;
    for (const absl::string_view line :
         absl::StrSplit(agent_->Log().substr(before), '\n', absl::SkipEmpty())) {
      // "… in force 37.2 us after it was read: default/svc-1"
      const std::pair<absl::string_view, absl::string_view> parts =
          absl::StrSplit(line, absl::MaxSplits(" in force ", 1));
      double micros = 0;
      const auto number = parts.second.substr(0, parts.second.find(' '));
      if (!absl::StrContains(line, "default/svc-") || !absl::SimpleAtod(number, &micros)) continue;
      Add("waggle", "one endpoint change: last byte read -> kernel switched", "us", micros);
      ++found;
    }
    if (found == 0) lab::Fail("the agent's log tells of no change:\n" + agent_->Log());
  }

  void ManyChanges(const std::string& who, pid_t pid, Probe& probe) {
    if (options_.many_changes == 0) return;
    const std::string what = absl::StrCat(options_.many_changes, " changes");
    const int64_t before = CpuNs(pid);
    const int64_t from = BoottimeNs();
    fleet_.ChangeMany(options_.many_changes);
    const int64_t written = BoottimeNs();
    AwaitAll(probe);
    Add(who, what + ": writing them", "s", Seconds(written - from));
    Add(who, what + ": CPU time until they are in force", "s", Seconds(CpuNs(pid) - before));
  }

  // ---- The real kube-proxy, on the other node.

  void KubeProxy() {
    Say("kube-proxy");
    CleanUp();
    for (int i = 0; i < options_.kube_proxy; ++i) {
      Probe probe(other_client_, target_);
      const int64_t from = BoottimeNs();
      cluster::RealKubeProxy proxy(control_, nodes_.node2, {.mode = "nftables"});
      const int64_t served = probe.AwaitAnswerOf('a', kPatience);
      Add("kube-proxy", "start", "s", Seconds(served - from));
      if (i + 1 == options_.kube_proxy) {
        Switches("kube-proxy", probe, options_.kube_proxy_switches);
        ManyChanges("kube-proxy", proxy.pid(), probe);
      }
      const Memory memory = MemoryOf(proxy.pid());
      Add("kube-proxy", "peak memory (VmHWM)", "MB", static_cast<double>(memory.peak_bytes) / 1e6);
      proxy.CleanUp();
    }
  }

  const Options& options_;
  std::ostream& raw_;
  Figures figures_;
  lab::Nodes nodes_;
  lab::Pod& client_;
  lab::Pod& a_;
  lab::Pod& b_;
  lab::Pod& other_client_;
  cluster::ControlPlane& control_;
  Fleet fleet_;
  std::optional<ProbeServer> server_a_;
  std::optional<ProbeServer> server_b_;
  std::string target_;
  std::string kubeconfig_;
  std::unique_ptr<lab::Agent> agent_;
};

int Main(int argc, char** argv) {
  Options options;
  std::string letter;
  uint16_t port = 0;
  std::string target;
  CLI::App app("Measures agents that follow a real apiserver. Needs root.");
  app.add_option("--services", options.services, "how many; several sizes are measured in turn")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::Range(1, 60000));
  AddNumber(app, "--repeats", options.repeats, "of each start", 1, 1000);
  AddNumber(app, "--single-changes", options.single_changes, "one after the other, each timed", 1,
            1'000'000);
  AddNumber(app, "--many-changes", options.many_changes, "as fast as they can be written", 0,
            1'000'000);
  AddNumber(app, "--switches", options.switches, "of one Service between two backends", 1, 10'000);
  AddNumber(app, "--kube-proxy", options.kube_proxy,
            "starts of the real kube-proxy (nftables); at 10,000 Services one takes a minute", 0,
            100);
  AddNumber(app, "--kube-proxy-switches", options.kube_proxy_switches, "the same for it", 1,
            10'000);
  AddNumber(app, "--kube-proxy-most", options.kube_proxy_most,
            "Services that it is measured with; more are Waggle's alone", 1, 60'000);
  app.add_flag("--prefer", options.prefer,
               "agent, curl and apiserver have real-time priority while they are measured (not "
               "kube-proxy, which takes minutes)");
  AddCommonOptions(app, options);
  CLI::App* serve = app.add_subcommand("serve")->group("");
  serve->add_option("letter", letter)->required();
  serve->add_option("port", port)->required();
  CLI::App* probe = app.add_subcommand("probe")->group("");
  probe->add_option("target", target)->required();
  CLI11_PARSE(app, argc, argv);
  if (serve->parsed()) return RunProbeServer(letter.at(0), port);
  if (probe->parsed()) return RunProbe(target);
  return RunInLab(options, [&](std::ostream& raw) { return Bench(options, raw).Run(); });
}

}  // namespace
}  // namespace waggle::bench

int main(int argc, char** argv) {
  return waggle::bench::Main(argc, argv);
}
