// deploy/ as the real apiserver takes it, and what its service account may do there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/cluster/deploy_fixture.h"

namespace waggle::cluster {
namespace {

using testing::HasSubstr;

// Where a pod finds its account. The sandbox has a /run of its own.
constexpr char kAccount[] = "/var/run/secrets/kubernetes.io/serviceaccount";

class DeployTest : public DeployFixture {
 protected:
  ~DeployTest() override { std::filesystem::remove_all(kAccount); }
};

TEST_F(DeployTest, TheKustomizationIsTheSame) {
  const lab::RunResult built = Kubectl({"diff", "-k", kDeployFolder});
  EXPECT_EQ(built.status, 0) << built.ToString();
}

// What the DaemonSet is to be: the apiserver has looked at its fields, but not at their sense.
TEST_F(DeployTest, TheDaemonSetIsNotPrivilegedAndRunsEverywhere) {
  const Json spec = api().Read("DaemonSet", "kube-system", "waggle")["spec"]["template"]["spec"];
  const Json& container = spec["containers"][0];
  EXPECT_EQ(spec["hostNetwork"], true);
  EXPECT_EQ(spec["priorityClassName"], "system-node-critical");
  EXPECT_EQ(spec["tolerations"], Json::parse(R"([{"operator": "Exists"}])"));
  EXPECT_EQ(container["securityContext"]["privileged"], false);
  EXPECT_EQ(container["securityContext"]["allowPrivilegeEscalation"], false);
  EXPECT_EQ(container["securityContext"]["readOnlyRootFilesystem"], true);
  EXPECT_EQ(container["securityContext"]["capabilities"], Json::parse(R"({"drop": ["ALL"],
                            "add": ["BPF", "NET_ADMIN", "PERFMON", "SYS_RESOURCE"]})"));
  // Restarts for an apiserver that is away come later and later, up to five minutes after it is
  // back.
  EXPECT_GE(container["startupProbe"]["periodSeconds"].get<int>() *
                container["startupProbe"]["failureThreshold"].get<int>(),
            3600);
  std::set<std::string> host_paths;
  for (const Json& volume : spec["volumes"]) {
    if (volume.contains("hostPath")) host_paths.insert(volume["hostPath"]["path"]);
  }
  EXPECT_EQ(host_paths, (std::set<std::string>{"/sys/fs/bpf", "/sys/fs/cgroup"}));
}

// As in a pod: its token and the cluster's CA where the kubelet puts them, the ConfigMap as a
// file, and nothing else.
TEST_F(DeployTest, AnAgentServesWithTheAccountOfTheManifest) {
  const Json web = cluster_.CreateWeb();
  WriteAccount(kAccount);
  const std::string file = cluster_.lab.scratch() + "/config.conf";
  Write(file, Config());
  lab::AgentOptions options;
  options.flags = {"--config", file};
  cluster_.agent = std::make_unique<lab::Agent>(cluster_.lab, cluster_.node1, options);
  cluster_.agent->AwaitReady();
  cluster_.AwaitFollowed();
  const lab::Tally tally =
      lab::AskMany(cluster_.client, "tcp", lab::At(ClusterIpsOf(web).v4, 80), 10);
  EXPECT_TRUE(tally.AllOk()) << tally;
  SetReady(api(), cluster_.b1, false);
  cluster_.AwaitEndpoints("web", {&cluster_.b2});
  cluster_.AwaitFollowed();
  EXPECT_THAT(cluster_.agent->Log(), testing::Not(HasSubstr("403")));
}

struct Attempt {
  const char* verb;  // get, post, put, patch, delete
  const char* path;
  bool allowed;
};

constexpr Attempt kAttempts[] = {
    {"get", "/api/v1/services", true},
    {"get", "/api/v1/services?watch=1&timeoutSeconds=1", true},
    {"get", "/api/v1/namespaces/default/services/kubernetes", true},
    {"get", "/api/v1/nodes", true},
    {"get", "/api/v1/nodes/node1", true},
    {"get", "/apis/discovery.k8s.io/v1/endpointslices", true},
    {"get", "/apis/networking.k8s.io/v1/servicecidrs", true},
    {"post", "/api/v1/namespaces/default/events", true},
    {"post", "/apis/events.k8s.io/v1/namespaces/default/events", true},
    {"patch", "/api/v1/namespaces/default/events/none", true},
    {"get", "/api/v1/secrets", false},
    {"get", "/api/v1/namespaces/kube-system/secrets", false},
    {"get", "/api/v1/configmaps", false},
    {"get", "/api/v1/namespaces/kube-system/configmaps/waggle", false},
    {"get", "/api/v1/pods", false},
    {"get", "/api/v1/namespaces", false},
    {"get", "/api/v1/endpoints", false},
    {"get", "/api/v1/serviceaccounts", false},
    {"get", "/api/v1/namespaces/default/events", false},
    {"get", "/apis/apps/v1/daemonsets", false},
    {"get", "/apis/networking.k8s.io/v1/ingresses", false},
    {"get", "/apis/rbac.authorization.k8s.io/v1/clusterroles", false},
    {"get", "/apis/coordination.k8s.io/v1/leases", false},
    {"get", "/metrics", false},
    {"post", "/api/v1/namespaces/default/services", false},
    {"post", "/api/v1/namespaces/default/pods", false},
    {"post", "/api/v1/namespaces/kube-system/serviceaccounts/waggle/token", false},
    {"put", "/api/v1/namespaces/default/services/kubernetes", false},
    {"patch", "/api/v1/namespaces/default/services/kubernetes", false},
    {"patch", "/api/v1/namespaces/default/services/kubernetes/status", false},
    {"patch", "/api/v1/nodes/node1", false},
    {"patch", "/api/v1/nodes/node1/status", false},
    {"put", "/api/v1/namespaces/default/events/none", false},
    {"delete", "/api/v1/namespaces/default/events/none", false},
    {"delete", "/api/v1/namespaces/default/services/kubernetes", false},
    {"delete", "/api/v1/nodes/node1", false},
    {"delete", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes", false},
};

TEST_F(DeployTest, TheAccountMayDoWhatAnAgentDoesAndNothingElse) {
  Api account = cluster_.control.NewApi(Token());
  for (const Attempt& attempt : kAttempts) {
    const std::string verb = attempt.verb;
    const Json body = Json::object();
    const ApiReply reply = verb == "get"     ? account.Get(attempt.path)
                           : verb == "post"  ? account.Post(attempt.path, body)
                           : verb == "put"   ? account.Put(attempt.path, body)
                           : verb == "patch" ? account.Patch(attempt.path, body)
                                             : account.Delete(attempt.path);
    // Who may but says nothing sensible hears something else than 'forbidden'.
    EXPECT_EQ(reply.status != 403, attempt.allowed)
        << verb << " " << attempt.path << ": " << reply.ToString();
    EXPECT_NE(reply.status, 0) << verb << " " << attempt.path << ": " << reply.ToString();
    EXPECT_NE(reply.status, 401) << verb << " " << attempt.path << ": " << reply.ToString();
  }

  // All that it may do to objects, as the apiserver counts it.
  const ApiReply review = account.Post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
                                       {{"apiVersion", "authorization.k8s.io/v1"},
                                        {"kind", "SelfSubjectRulesReview"},
                                        {"spec", {{"namespace", "kube-system"}}}});
  ASSERT_TRUE(review.ok()) << review.ToString();
  const Json counted = review.AsJson();
  std::set<std::string> rights;
  for (const Json& rule : counted["status"]["resourceRules"]) {
    for (const Json& group : rule["apiGroups"]) {
      for (const Json& resource : rule["resources"]) {
        for (const Json& verb : rule["verbs"]) {
          rights.insert(
              absl::StrCat(std::string(verb), " ", std::string(resource), ".", std::string(group)));
        }
      }
    }
  }
  std::set<std::string> expected = {"create events.", "patch events.",
                                    "create events.events.k8s.io", "patch events.events.k8s.io",
                                    // Everybody's.
                                    "create selfsubjectaccessreviews.authorization.k8s.io",
                                    "create selfsubjectrulesreviews.authorization.k8s.io",
                                    "create selfsubjectreviews.authentication.k8s.io"};
  for (const char* resource : {"services.", "nodes.", "endpointslices.discovery.k8s.io",
                               "servicecidrs.networking.k8s.io"}) {
    for (const char* verb : {"get", "list", "watch"})
      expected.insert(absl::StrCat(verb, " ", resource));
  }
  EXPECT_EQ(rights, expected);
}

}  // namespace
}  // namespace waggle::cluster
