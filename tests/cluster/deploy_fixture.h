// What deploy/ holds, created in the real apiserver, for tests of it.
#ifndef WAGGLE_TESTS_CLUSTER_DEPLOY_FIXTURE_H_
#define WAGGLE_TESTS_CLUSTER_DEPLOY_FIXTURE_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/cluster/daemon_set.h"
#include "tests/cluster/kube_cluster.h"

namespace waggle::cluster {

inline constexpr char kDeployFolder[] = WAGGLE_DEPLOY;

inline void Write(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text << std::flush;
  if (!file) lab::Fail("cannot write " + path);
}

inline std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The manifest is created before each test and deleted after it.
class DeployFixture : public testing::Test {
 protected:
  DeployFixture() {
    const lab::RunResult created = Kubectl({"create", "--validate=strict", "-f", kManifest});
    if (!created.ok()) lab::Fail("kubectl create: " + created.ToString());
    EXPECT_EQ(created.err, "");  // warnings of the apiserver
  }
  ~DeployFixture() override {
    const lab::RunResult deleted = Kubectl({"delete", "--wait=false", "-f", kManifest});
    EXPECT_TRUE(deleted.ok()) << deleted.ToString();
  }

  lab::RunResult Kubectl(const lab::Argv& arguments) {
    lab::Argv argv = {KubernetesProgram("kubectl"),
                      "--kubeconfig=" + cluster_.control.WriteKubeconfig(kAdmin),
                      "--cache-dir=" + cluster_.lab.scratch() + "/kubectl"};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return cluster_.node1.Run(argv);
  }
  // As the kubelet asks for the token that it puts into a pod.
  std::string Token() {
    const ApiReply reply = api().Post("/api/v1/namespaces/kube-system/serviceaccounts/waggle/token",
                                      {{"apiVersion", "authentication.k8s.io/v1"},
                                       {"kind", "TokenRequest"},
                                       {"spec", {{"expirationSeconds", 3600}}}});
    if (!reply.ok()) lab::Fail("TokenRequest: " + reply.ToString());
    return reply.AsJson()["status"]["token"];
  }
  // The token and what belongs to it, as the files that a pod finds, in this folder.
  void WriteAccount(const std::string& folder) {
    std::filesystem::create_directories(folder);
    Write(folder + "/token", Token());
    Write(folder + "/ca.crt", Read(cluster_.control.authority().cert()));
    Write(folder + "/namespace", "kube-system");
  }
  // config.conf of the ConfigMap, with what its reader is told to change changed.
  std::string Config() {
    const std::string config =
        api().Read("ConfigMap", "kube-system", "waggle")["data"]["config.conf"];
    const std::string changed =
        absl::StrReplaceAll(config, {{"https://APISERVER:6443", cluster_.control.access().Url()}});
    EXPECT_NE(config, changed);
    return changed;
  }
  // As the kubelet of node1 would make it; `containerd` is of this lab and outlives it. One value
  // is not the manifest's: the cgroup that is served, as the root, which an agent finds by itself,
  // holds this machine's own processes.
  std::unique_ptr<DaemonSetPod> PodOnNode1(const Containerd& containerd) {
    const std::string folder = cluster_.lab.scratch() + "/pod";
    std::filesystem::create_directories(folder + "/config");
    Write(folder + "/config/config.conf", Config() + "cgroupPath: /run/waggle/cgroup\n");
    WriteAccount(folder + "/account");
    return std::make_unique<DaemonSetPod>(containerd, cluster_.node1,
                                          api().Read("DaemonSet", "kube-system", "waggle"),
                                          folder + "/config", folder + "/account");
  }
  Api& api() { return cluster_.api(); }

  const std::string kManifest = absl::StrCat(kDeployFolder, "/waggle.yaml");
  KubeCluster cluster_;
};

}  // namespace waggle::cluster

#endif
