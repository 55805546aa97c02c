// etcd, kube-apiserver and kube-controller-manager, the real ones, for tests.
//
// They live in the network namespace of the test itself (the sandbox has one of its own)
// and outlast each Lab, so that their start is paid once a process. Join() gives them an
// address on a lab's network.
//
// What does not start ends the test process with the program's log (lab::Fail); the
// sandbox ends every process and removes every file.
#ifndef WAGGLE_TESTS_CLUSTER_CONTROL_PLANE_H_
#define WAGGLE_TESTS_CLUSTER_CONTROL_PLANE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "tests/cluster/api.h"
#include "tests/cluster/certificates.h"
#include "tests/lab/lab.h"
#include "tests/lab/process.h"

namespace waggle::cluster {

// Tokens that the apiserver knows.
inline constexpr char kAdmin[] = "admin-token";      // may do everything
inline constexpr char kKubeProxy[] = "proxy-token";  // system:kube-proxy: what kube-proxy may
inline constexpr char kNobody[] = "nobody-token";    // known, and may do nothing

// The path of a program that tools/kubernetes built. Ends the test process when there is
// none, and says what to do.
std::string KubernetesProgram(const std::string& name);

// One program of the control plane: at most one process of it at a time.
class Component {
 public:
  // `ready` is asked until it says true.
  Component(std::string name, lab::Argv argv, std::function<bool()> ready);

  // Starts it and waits until it is ready.
  void Start();
  void Launch();      // the first half
  void AwaitReady();  // and the second
  void Kill();        // -9
  // SIGTERM, and waits for its end: a minute for an apiserver with watches.
  void Stop();
  // SIGSTOP and SIGCONT: it holds its connections and says nothing.
  void Freeze();
  void Thaw();

  int starts() const { return starts_; }
  bool running() const { return process_ && process_->running(); }
  // 0 where none was started.
  pid_t pid() const { return process_ ? process_->pid() : 0; }
  const std::string& name() const { return name_; }
  // What this process said so far.
  std::string Log() const { return process_ ? process_->Err() : ""; }

 private:
  std::string name_;
  lab::Argv argv_;
  std::function<bool()> ready_;
  std::unique_ptr<lab::Process> process_;
  int starts_ = 0;
};

class ControlPlane {
 public:
  // The one of this process, started with one apiserver at first use.
  static ControlPlane& Shared();
  // Nullptr where nobody has used it yet.
  static ControlPlane* IfStarted();

  ControlPlane(const ControlPlane&) = delete;
  ControlPlane& operator=(const ControlPlane&) = delete;

  Component& etcd() { return *etcd_; }
  // apiserver(1) and (2) are others on the same etcd, which do not run until Start().
  Component& apiserver(int number = 0) { return *apiservers_.at(static_cast<size_t>(number)); }
  Component& controller_manager() { return *controller_manager_; }

  // For tests, over loopback. Must come after the start of that apiserver.
  Api NewApi(const std::string& token = kAdmin, int apiserver = 0) const;
  // One for the test's main thread, made anew where an apiserver was restarted.
  Api& api();

  // How the nodes of a lab reach it, after Join().
  ApiAccess access(const std::string& token = kAdmin, int apiserver = 0) const;
  // Writes a kubeconfig for a node's programs and returns its path. Its server is
  // access(token, apiserver), or `server` where one is given.
  std::string WriteKubeconfig(const std::string& token, int apiserver = 0,
                              const std::string& server = "") const;
  const Authority& authority() const { return *authority_; }

  // Gives the control plane 192.168.50.5 and fd00:50::5 on the network "cluster" of this
  // lab (Lab::Connect), and takes them from the lab before.
  void Join(const lab::Lab& lab);
  void Leave();

  // Removes history from etcd: nobody can read what was before this moment.
  void Compact();
  // Removes what tests made: Pods, Services and EndpointSlices in namespace `default`,
  // namespaces, Nodes, Events. Waits until they are gone.
  void Clear();
  // Starts what does not run and thaws what does; controllers that follow at once.
  void Repair();

  // The logs' ends, for a test that failed.
  std::string Logs() const;

 private:
  ControlPlane();

  std::string folder_;
  std::unique_ptr<Authority> authority_;
  std::unique_ptr<Component> etcd_;
  std::vector<std::unique_ptr<Component>> apiservers_;
  std::unique_ptr<Component> controller_manager_;
  int served_controllers_ = 1;  // which start of the apiserver they know
  std::optional<Api> api_;
  int api_knows_ = 0;  // and which one api_ is connected to
};

}  // namespace waggle::cluster

#endif
