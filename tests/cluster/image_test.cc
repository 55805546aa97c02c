// The image of tools/image, run by the real containerd and runc as the DaemonSet says: its
// arguments, rights, mounts, probes and network, on a node of the lab.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <memory>

#include "absl/strings/match.h"
#include "tests/cluster/daemon_set.h"
#include "tests/cluster/deploy_fixture.h"
#include "tests/lab/sandbox.h"

namespace waggle::cluster {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr uintmax_t kMaxImageBytes = 20'000'000;
constexpr std::chrono::seconds kPackPatience{60};

void ExpectYes(const lab::RunResult& probed) {
  EXPECT_TRUE(probed.ok()) << probed.ToString();
}

using ImageTest = DeployFixture;

TEST_F(ImageTest, ServesUnderContainerdWithTheRightsOfTheDaemonSet) {
  const Json web = cluster_.CreateWeb();
  // The same input makes the same bytes.
  const std::string other = cluster_.lab.scratch() + "/other.tar";
  lab::Process again = PackImage(other);
  const std::string& image = PackedImage();
  ASSERT_EQ(again.Wait(kPackPatience), 0) << again.Err();
  EXPECT_EQ(lab::RunProgram({}, {"cmp", image, other}).status, 0) << again.Out();
  EXPECT_LE(std::filesystem::file_size(image), kMaxImageBytes) << again.Out();

  const Containerd containerd(image);
  const std::unique_ptr<DaemonSetPod> pod = PodOnNode1(containerd);
  // What the kubelet asks. At first there is nothing to be seen of the agent, and it must not be
  // killed for that; the next one is known to live before it is ready.
  for (const bool first : {true, false}) {
    SCOPED_TRACE(first ? "first start" : "second start");
    cluster_.control.apiserver().Freeze();
    pod->Start();
    if (first) {
      EXPECT_TRUE(lab::WaitFor([&] { return absl::StrContains(pod->Log(), "serving healthz"); }));
      const lab::RunResult starting = pod->Probe("startupProbe");
      EXPECT_EQ(starting.status, 3) << starting.ToString();
      EXPECT_THAT(starting.err, HasSubstr("nothing is pinned"));
    } else {
      pod->Await("startupProbe");
      ExpectYes(pod->Probe("livenessProbe"));
    }
    const lab::RunResult not_yet = pod->Probe("readinessProbe");
    EXPECT_EQ(not_yet.status, 3) << not_yet.ToString();
    EXPECT_THAT(not_yet.err, HasSubstr(first ? "nothing is pinned" : "agent starting"));
    cluster_.control.apiserver().Thaw();
    pod->Await("readinessProbe");
    for (const char* probe : {"startupProbe", "livenessProbe"})
      ExpectYes(pod->Probe(probe));
    if (first) pod->Stop(SIGTERM);
  }
  cluster_.AwaitFollowed();

  // What docs/install.md has its reader look at.
  const lab::RunResult status = pod->Exec({"/usr/sbin/waggle", "status"});
  EXPECT_TRUE(status.ok()) << status.ToString();
  EXPECT_THAT(status.out, AllOf(HasSubstr("ready"), HasSubstr("Forwarding: redirect")));
  const lab::RunResult list = pod->Exec({"/usr/sbin/waggle", "service", "list", "-o", "json"});
  EXPECT_EQ(list.out, lab::ServiceList(cluster_.node1).out) << list.ToString();

  // Traffic of pods and of the node itself.
  for (const lab::Place* place : {static_cast<const lab::Place*>(&cluster_.client),
                                  static_cast<const lab::Place*>(&cluster_.node1)}) {
    for (const lab::Traffic& traffic : lab::AllTraffic()) {
      const lab::Tally tally =
          lab::AskMany(*place, traffic.mode, lab::At(ClusterIpsOf(web).Of(traffic.family), 80), 10);
      EXPECT_TRUE(tally.AllOk()) << place->name() << " " << traffic.Name() << " " << tally;
    }
  }
  SetReady(api(), cluster_.b1, false);
  cluster_.AwaitEndpoints("web", {&cluster_.b2});
  EXPECT_TRUE(lab::WaitFor([&] {
    return lab::AskMany(cluster_.client, "tcp", lab::At(ClusterIpsOf(web).v4, 80), 10)
               .names.count("b1") == 0;
  }));

  // As `kubectl exec` does it.
  cluster_.node1.Nft("table ip kube-proxy {\n}\n");
  lab::Surroundings where = cluster_.node1.surroundings();
  where.input =
      "*nat\n:KUBE-SERVICES - [0:0]\n-A OUTPUT -m comment --comment \"kubernetes service "
      "portals\" -j KUBE-SERVICES\nCOMMIT\n";
  ASSERT_TRUE(lab::RunProgram(where, {"ip6tables-nft-restore", "--noflush"}).ok());
  const lab::RunResult cleaned = pod->Exec({"/usr/sbin/waggle", "cleanup", "--kube-proxy"});
  EXPECT_TRUE(cleaned.ok()) << cleaned.ToString();
  EXPECT_THAT(cleaned.out, AllOf(HasSubstr("removed table ip kube-proxy of nftables"),
                                 HasSubstr("removed 1 chain and 1 rule of ip6tables-nft")));

  pod->Stop(SIGTERM);
  EXPECT_THAT(pod->Log(), AllOf(HasSubstr("stopping;"), Not(HasSubstr("error"))));

  // No right is given for nothing.
  for (const char* capability : {"BPF", "NET_ADMIN", "PERFMON"}) {
    const lab::RunResult refused = pod->RunWithout(capability);
    EXPECT_FALSE(refused.ok()) << capability << refused.ToString();
    EXPECT_NE(refused.status, -1) << "runs without " << capability << refused.ToString();
    EXPECT_THAT(refused.err, HasSubstr("CAP_")) << capability << refused.ToString();
  }
  const lab::RunResult gone =
      lab::Waggle(cluster_.node1, {"cleanup", "--pin-path", cluster_.node1.pin_path()});
  EXPECT_TRUE(gone.ok()) << gone.ToString();
}

}  // namespace
}  // namespace waggle::cluster
