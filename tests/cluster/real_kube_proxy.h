// The real kube-proxy on a node of a lab, with the flags that a cluster would give it.
#ifndef WAGGLE_TESTS_CLUSTER_REAL_KUBE_PROXY_H_
#define WAGGLE_TESTS_CLUSTER_REAL_KUBE_PROXY_H_

#include <memory>
#include <string>
#include <vector>

#include "tests/cluster/control_plane.h"
#include "tests/lab/lab.h"

namespace waggle::cluster {

inline constexpr const char* kKubeProxyModes[] = {"iptables", "nftables"};

struct KubeProxyOptions {
  std::string mode = "iptables";  // or "nftables"
  bool legacy_iptables = false;   // the programs that it calls are those of iptables-legacy
  // Without --cluster-cidr it takes nothing for a pod's, and masquerades nothing.
  bool knows_pods = true;
  lab::Argv flags = {};         // after those of KubeProxyArgv(), so that they win
  std::string kubeconfig = {};  // one for the first apiserver, unless named
};

// The whole command line: names its node, knows the pods' addresses, leaves limits of
// connection tracking alone.
lab::Argv KubeProxyArgv(const ControlPlane& control, const lab::Node& node,
                        const KubeProxyOptions& options = {});

// Runs until it goes out of scope, and its rules stay, as they do on a node. Its log is
// printed where the test has failed by then. The node must be known to the apiserver.
class RealKubeProxy {
 public:
  RealKubeProxy(const ControlPlane& control, const lab::Node& node, KubeProxyOptions options = {});
  ~RealKubeProxy();
  RealKubeProxy(const RealKubeProxy&) = delete;
  RealKubeProxy& operator=(const RealKubeProxy&) = delete;

  // Its rules, both families, hold each of `there` and none of `gone`. Ends the test process
  // where it does not come to that. Rules of both modes write a backend as lab::At() does, and
  // "ns/name" of a Service.
  void AwaitRules(const std::vector<std::string>& there, const std::vector<std::string>& gone = {});
  // What iptables-save and ip6tables-save, or nft, say.
  std::string Rules() const;

  void Start();  // once more, after Stop() or Kill()
  void Stop();   // SIGTERM; the rules stay
  void Kill();
  // Stops it and removes its rules, of any mode: kube-proxy --cleanup.
  void CleanUp();

  bool running() { return process_->running(); }
  pid_t pid() const { return process_->pid(); }
  std::string Log() const { return process_->Out() + process_->Err(); }

 private:
  const lab::Node& node_;
  const std::string mode_;
  const bool legacy_;
  const lab::Argv argv_;
  std::unique_ptr<lab::Process> process_;
};

}  // namespace waggle::cluster

#endif
