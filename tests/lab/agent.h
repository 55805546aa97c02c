// The product in the lab: an agent for a node, and the other commands.
#ifndef WAGGLE_TESTS_LAB_AGENT_H_
#define WAGGLE_TESTS_LAB_AGENT_H_

#include <chrono>
#include <memory>
#include <string>

#include "bpf/abi.h"
#include "tests/lab/lab.h"
#include "tests/lab/process.h"

namespace waggle::lab {

struct AgentOptions {
  Argv flags = {};  // beside those of AgentArgv(); --kubeconfig, --config: no --manifests
  std::string manifests = {};  // the lab's, unless named
  std::string pin_path = {};   // the node's, unless named
  bool no_bpf_rights = false;
  bool private_cgroup_namespace = false;  // and no --cgroup-path
};

// The agent's whole command line.
Argv AgentArgv(const Lab& lab, const Node& node, const AgentOptions& options = {});
Surroundings AgentSurroundings(const Node& node, const AgentOptions& options = {});

// An agent that runs until it goes out of scope. Its log is printed where the test
// has failed by then.
class Agent {
 public:
  Agent(const Lab& lab, const Node& node, AgentOptions options = {});
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Ends the test process when `waggle status --wait` says no.
  void AwaitReady(std::chrono::seconds patience = std::chrono::seconds(15));
  // The kernel holds what `waggle plan` says that the manifests mean.
  void AwaitProgrammed();
  // Waits until it ends by itself, which must be soon and with a nonzero status.
  // Everything that it said is in err.
  RunResult AwaitRefusal();
  // Once more, with the same options, after Kill() or Stop().
  void Start();
  void Kill();  // -9
  int Stop();   // SIGTERM; the exit status

  bool running() { return process_->running(); }
  pid_t pid() const { return process_->pid(); }
  std::string Log() const { return process_->Out() + process_->Err(); }

 private:
  const Lab& lab_;
  const Node& node_;
  AgentOptions options_;
  uint64_t started_ns_ = 0;  // CLOCK_BOOTTIME
  std::unique_ptr<Process> process_;
};

// Runs `waggle <arguments>` in the node.
RunResult Waggle(const Node& node, const Argv& arguments,
                 std::chrono::milliseconds patience = kPatience);
// `waggle service list -o json` from the node's pins; what a failure says is in err.
RunResult ServiceList(const Node& node);
// `waggle plan -o json` of the lab's manifests.
RunResult Plan(const Lab& lab, const Node& node);

// What the agent says of itself in the pinned map `agent`.
waggle_agent ReadAgent(const std::string& pin_path);
// Elements put into, removed from or stored in any map since the agent started.
uint64_t MapWrites(const waggle_agent& agent);
// The count of a reason (bpf/reasons.def), over all CPUs.
uint64_t ReadReason(const std::string& pin_path, waggle_reason reason);

}  // namespace waggle::lab

#endif
