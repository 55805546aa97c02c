// The DaemonSet of deploy/waggle.yaml on a node of the lab, run by the real containerd and runc as
// a kubelet has them run it: its command, arguments, rights, mounts, network, configuration and
// probes are what the apiserver says that they are.
#ifndef WAGGLE_TESTS_CLUSTER_DAEMON_SET_H_
#define WAGGLE_TESTS_CLUSTER_DAEMON_SET_H_

#include <optional>
#include <string>

#include "tests/cluster/objects.h"
#include "tests/lab/lab.h"

namespace waggle::cluster {

// Packs the image of tools/image; several may be packed at once.
lab::Process PackImage(const std::string& output);
// One that is packed once a process.
const std::string& PackedImage();

// A containerd of our own, with an image in it. What it runs ends with the sandbox. To be started
// when the lab is whole: it does not see network namespaces that come later.
class Containerd {
 public:
  explicit Containerd(const std::string& image);
  ~Containerd();

  lab::RunResult Ctr(const lab::Argv& arguments) const;

 private:
  std::string Socket() const { return folder_ + "/socket"; }

  std::string folder_;
  std::optional<lab::Process> process_;
};

class DaemonSetPod {
 public:
  // `daemon_set`: the object. `config`, `account`: folders with what a kubelet would put there, of
  // the ConfigMap and of the service account.
  DaemonSetPod(const Containerd& containerd, const lab::Node& node, const Json& daemon_set,
               std::string config, std::string account);
  ~DaemonSetPod();  // prints the log where the test has failed by then
  DaemonSetPod(const DaemonSetPod&) = delete;
  DaemonSetPod& operator=(const DaemonSetPod&) = delete;

  // Returns when the container runs. Else the test process ends.
  void Start();
  // Its last words, and all of the container's but its pins, go.
  void Stop(int signal);
  // Started without this capability, until it ends by itself.
  lab::RunResult RunWithout(const std::string& capability) const;
  // As `kubectl exec` has it: with the container's rights, in its namespaces.
  lab::RunResult Exec(const lab::Argv& argv);
  // What the kubelet does for startupProbe, livenessProbe or readinessProbe.
  lab::RunResult Probe(const std::string& name);
  // Probes until the answer is yes. Else the test process ends.
  void Await(const std::string& probe);

  std::string Log() const;

 private:
  lab::Argv RunArgv(const lab::Argv& how, const std::string& id, const std::string& without) const;

  const Containerd& containerd_;
  const lab::Node& node_;
  const Json pod_;
  const Json container_;
  const std::string config_;
  const std::string account_;
  const std::string log_;
  bool started_ = false;
  int execs_ = 0;
};

}  // namespace waggle::cluster

#endif
