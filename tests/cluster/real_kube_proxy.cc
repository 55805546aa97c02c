#include "tests/cluster/real_kube_proxy.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/lab/sandbox.h"

namespace waggle::cluster {
namespace {

// Ready in 1 s; it asks the apiserver for its node first, and others may use the CPUs.
constexpr std::chrono::seconds kProxyPatience{60};

lab::RunResult Must(lab::RunResult result, const std::string& what) {
  if (!result.ok()) lab::Fail(absl::StrCat(what, ": ", result.ToString()));
  return result;
}

// A folder with programs of the names that kube-proxy calls, which are iptables-legacy.
std::string LegacyPrograms() {
  const std::string folder = lab::TheSandbox().files + "/iptables-legacy";
  if (!std::filesystem::create_directory(folder)) return folder;
  for (const char* family : {"iptables", "ip6tables"}) {
    for (const char* program : {"", "-save", "-restore"}) {
      std::filesystem::create_symlink(absl::StrCat("/usr/sbin/", family, "-legacy", program),
                                      absl::StrCat(folder, "/", family, program));
    }
  }
  return folder;
}

}  // namespace

lab::Argv KubeProxyArgv(const ControlPlane& control, const lab::Node& node,
                        const KubeProxyOptions& options) {
  lab::Argv argv = {
      KubernetesProgram("kube-proxy"),
      "--kubeconfig=" +
          (options.kubeconfig.empty() ? control.WriteKubeconfig(kKubeProxy) : options.kubeconfig),
      "--hostname-override=" + node.name(), "--proxy-mode=" + options.mode,
      // Sizes of the machine's tables, not a namespace's to change.
      "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0",
      "--conntrack-tcp-timeout-close-wait=0"};
  if (options.knows_pods) {
    argv.insert(argv.end(),
                {"--detect-local-mode=ClusterCIDR", "--cluster-cidr=10.244.0.0/16,fd00:244::/32"});
  }
  argv.insert(argv.end(), options.flags.begin(), options.flags.end());
  if (options.legacy_iptables) {
    const char* path = getenv("PATH");
    argv.insert(argv.begin(),
                {"env", absl::StrCat("PATH=", LegacyPrograms(), ":", path ? path : "")});
  }
  return argv;
}

RealKubeProxy::RealKubeProxy(const ControlPlane& control, const lab::Node& node,
                             KubeProxyOptions options)
    : node_(node),
      mode_(options.mode),
      legacy_(options.legacy_iptables),
      argv_(KubeProxyArgv(control, node, options)) {
  Start();
}

RealKubeProxy::~RealKubeProxy() {
  Kill();
  if (testing::Test::HasFailure()) {
    std::fprintf(stderr, "---- log of kube-proxy on %s ----\n%s----\n", node_.name().c_str(),
                 Log().c_str());
  }
}

void RealKubeProxy::Start() {
  if (process_ && running()) lab::Fail("kube-proxy runs already on " + node_.name());
  process_ =
      std::make_unique<lab::Process>(node_.surroundings(), argv_, lab::Process::Output::kToMemory);
  process_->CloseInput();
}

void RealKubeProxy::Stop() {
  process_->Signal(SIGTERM);
  if (!process_->Wait()) lab::Fail("kube-proxy does not stop at SIGTERM\n" + Log());
}

void RealKubeProxy::Kill() {
  process_->Kill();
}

void RealKubeProxy::CleanUp() {
  Stop();
  Must(node_.Run({KubernetesProgram("kube-proxy"), "--cleanup"}), "kube-proxy --cleanup");
}

std::string RealKubeProxy::Rules() const {
  if (mode_ == "nftables") {
    // No table: nothing written yet.
    return absl::StrCat(node_.Run({"nft", "list", "table", "ip", "kube-proxy"}).out,
                        node_.Run({"nft", "list", "table", "ip6", "kube-proxy"}).out);
  }
  const std::string save = legacy_ ? "tables-legacy-save" : "tables-save";
  return absl::StrCat(Must(node_.Run({"ip" + save}), "ip" + save).out,
                      Must(node_.Run({"ip6" + save}), "ip6" + save).out);
}

void RealKubeProxy::AwaitRules(const std::vector<std::string>& there,
                               const std::vector<std::string>& gone) {
  std::string rules;
  const auto in_rules = [&](const std::string& text) { return absl::StrContains(rules, text); };
  bool done = false;
  lab::WaitFor(
      [&] {
        rules = Rules();
        done = std::all_of(there.begin(), there.end(), in_rules) &&
               std::none_of(gone.begin(), gone.end(), in_rules);
        return done || !running();
      },
      kProxyPatience);
  if (!done) {
    lab::Fail(absl::StrCat("kube-proxy on ", node_.name(), ": rules with ",
                           absl::StrJoin(there, ", "), " and without ", absl::StrJoin(gone, ", "),
                           " do not come\n", rules, "\nlog: ", Log()));
  }
}

}  // namespace waggle::cluster
