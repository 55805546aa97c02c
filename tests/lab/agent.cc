#include "tests/lab/agent.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"

namespace waggle::lab {
namespace {

Argv Command(const Argv& arguments) {
  Argv argv = {WAGGLE_BINARY};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

Fd OpenPin(const std::string& path) {
  Fd fd(bpf_obj_get(path.c_str()));
  if (!fd.valid()) Fail("no map at " + path);
  return fd;
}

uint64_t BoottimeNs() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

Argv AgentArgv(const Lab& lab, const Node& node, const AgentOptions& options) {
  Argv argv = Command({"agent", "--node", node.name(), "--pin-path",
                       options.pin_path.empty() ? node.pin_path() : options.pin_path});
  const auto given = [&options](const char* flag) {
    return std::find(options.flags.begin(), options.flags.end(), flag) != options.flags.end();
  };
  if (!given("--kubeconfig") && !given("--config")) {
    argv.insert(argv.end(),
                {"--manifests", options.manifests.empty() ? lab.manifests() : options.manifests});
  }
  if (!options.private_cgroup_namespace) {
    argv.insert(argv.end(), {"--cgroup-path", node.cgroup()});
  }
  argv.insert(argv.end(), options.flags.begin(), options.flags.end());
  return argv;
}

Surroundings AgentSurroundings(const Node& node, const AgentOptions& options) {
  Surroundings where = node.surroundings();
  where.no_bpf_rights = options.no_bpf_rights;
  where.private_cgroup_namespace = options.private_cgroup_namespace;
  return where;
}

Agent::Agent(const Lab& lab, const Node& node, AgentOptions options)
    : lab_(lab), node_(node), options_(std::move(options)) {
  Start();
}

Agent::~Agent() {
  process_->Kill();
  if (testing::Test::HasFailure()) {
    std::fprintf(stderr, "---- log of the agent on %s ----\n%s----\n", node_.name().c_str(),
                 Log().c_str());
  }
}

void Agent::Start() {
  started_ns_ = BoottimeNs();
  process_ =
      std::make_unique<Process>(AgentSurroundings(node_, options_),
                                AgentArgv(lab_, node_, options_), Process::Output::kToMemory);
  process_->CloseInput();
}

void Agent::AwaitReady(std::chrono::seconds patience) {
  RunResult result =
      Waggle(node_,
             {"status", "--wait", "--timeout", std::to_string(patience.count()) + "s", "--pin-path",
              options_.pin_path.empty() ? node_.pin_path() : options_.pin_path},
             patience + kPatience);
  if (!result.ok()) {
    Fail(absl::StrCat("agent on ", node_.name(), " is not ready: ", result.ToString(),
                      "\nlog: ", Log()));
  }
}

void Agent::AwaitProgrammed() {
  // The maps are there before the programs are.
  AwaitReady();
  RunResult want, have;
  bool done = WaitFor([&] {
    want = Plan(lab_, node_);
    have = ServiceList(node_);
    return want.ok() && have.ok() && want.out == have.out;
  });
  if (!done) {
    Fail(absl::StrCat("agent on ", node_.name(), " did not program the manifests\nplan: ",
                      want.ToString(), "\nkernel: ", have.ToString(), "\nlog: ", Log()));
  }
}

RunResult Agent::AwaitRefusal() {
  std::optional<int> status = process_->Wait();
  if (!status) {
    ADD_FAILURE() << "the agent goes on where it should refuse\n" << Log();
    process_->Kill();
    return {};
  }
  EXPECT_NE(*status, 0) << Log();
  EXPECT_LT(*status, 126) << "killed by a signal\n" << Log();
  return {*status, "", Log()};
}

void Agent::Kill() {
  process_->Kill();
}

int Agent::Stop() {
  process_->Signal(SIGTERM);
  std::optional<int> status = process_->Wait();
  if (!status) Fail("agent does not stop at SIGTERM\n" + Log());
  return *status;
}

RunResult Waggle(const Node& node, const Argv& arguments, std::chrono::milliseconds patience) {
  return RunProgram(node.surroundings(), Command(arguments), patience);
}

RunResult ServiceList(const Node& node) {
  return Waggle(node, {"service", "list", "-o", "json", "--pin-path", node.pin_path()});
}

RunResult Plan(const Lab& lab, const Node& node) {
  return Waggle(node,
                {"plan", "--manifests", lab.manifests(), "--node", node.name(), "-o", "json"});
}

waggle_agent ReadAgent(const std::string& pin_path) {
  Fd map = OpenPin(pin_path + "/agent");
  waggle_agent agent{};
  uint32_t key = 0;
  if (bpf_map_lookup_elem(map.get(), &key, &agent) != 0) Fail("cannot read the map agent");
  return agent;
}

uint64_t MapWrites(const waggle_agent& agent) {
  return agent.hash_inserts + agent.hash_deletes + agent.list_stores + agent.backend_stores;
}

uint64_t ReadReason(const std::string& pin_path, waggle_reason reason) {
  Fd map = OpenPin(pin_path + "/stats");
  std::vector<uint64_t> per_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
  uint32_t key = reason;
  if (bpf_map_lookup_elem(map.get(), &key, per_cpu.data()) != 0) Fail("cannot read the map stats");
  uint64_t sum = 0;
  for (uint64_t count : per_cpu)
    sum += count;
  return sum;
}

}  // namespace waggle::lab
