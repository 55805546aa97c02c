// The image of tools/image, run by the real containerd and runc as the DaemonSet says: its
// arguments, rights, mounts and network, on a node of the lab.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/prctl.h>

#include <map>
#include <optional>

#include "tests/cluster/deploy_fixture.h"
#include "tests/cluster/http.h"
#include "tests/lab/sandbox.h"

namespace waggle::cluster {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr char kImage[] = "waggle:test";
constexpr char kAccountFolder[] = "/var/run/secrets/kubernetes.io/serviceaccount";
// Where the mount of cgroup v2 is for containerd.
constexpr char kCgroup2[] = "/run/waggle-lab/cgroup2";
constexpr uintmax_t kMaxImageBytes = 20'000'000;
// The runtime starts processes for each call; others may be busy on the same CPUs.
constexpr std::chrono::seconds kRuntimePatience{60};

// What ctr gives to a container unless told otherwise.
constexpr const char* kDefaultCapabilities[] = {
    "CHOWN",   "DAC_OVERRIDE", "FSETID",           "FOWNER",
    "MKNOD",   "NET_RAW",      "SETGID",           "SETUID",
    "SETFCAP", "SETPCAP",      "NET_BIND_SERVICE", "SYS_CHROOT",
    "KILL",    "AUDIT_WRITE"};

// The numbers of those that the DaemonSet adds.
const std::map<std::string, int> kCapabilities = {{"BPF", CAP_BPF},
                                                  {"NET_ADMIN", CAP_NET_ADMIN},
                                                  {"PERFMON", CAP_PERFMON},
                                                  {"SYS_RESOURCE", CAP_SYS_RESOURCE}};

// A folder of cgroup v2, below its mount.
std::string BelowMount(const std::string& cgroup) {
  return cgroup.substr(lab::CgroupMount().size());
}

// Packs an image; a second process of it may run at the same time.
lab::Process Pack(const std::string& output) {
  return {{},
          {WAGGLE_IMAGE_TOOL, "--binary", WAGGLE_BINARY, "--name", kImage, "--output", output},
          lab::Process::Output::kToMemory};
}

// A containerd of our own. What it runs ends with the sandbox.
class Containerd {
 public:
  explicit Containerd(std::string folder) : folder_(std::move(folder)) {
    std::filesystem::create_directories(folder_);
    Write(folder_ + "/config.toml",
          absl::StrCat("version = 2\nroot = \"", folder_, "/root\"\nstate = \"", folder_,
                       "/state\"\n[grpc]\naddress = \"", Socket(), "\"\n[ttrpc]\naddress = \"",
                       Socket(), ".ttrpc\"\n",
                       "[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"", folder_,
                       "/opt\"\n"));
    // Only cgroup v2, as most nodes have it, whatever this machine has.
    process_.emplace(
        lab::Surroundings{},
        lab::Argv{"unshare", "--mount", "sh", "-ec",
                  absl::StrCat("mkdir ", kCgroup2, "; mount --bind ", lab::CgroupMount(), " ",
                               kCgroup2, "; mount --bind ", kCgroup2, " /sys/fs/cgroup; ",
                               "exec containerd -c ", folder_, "/config.toml")},
        lab::Process::Output::kToMemory);
    process_->CloseInput();
    if (!lab::WaitFor([&] { return Ctr({"version"}).ok(); }, kRuntimePatience)) {
      lab::Fail("containerd does not answer: " + process_->Err());
    }
  }

  lab::RunResult Ctr(const lab::Argv& arguments) const {
    lab::Argv argv = {"ctr", "--address", Socket()};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return lab::RunProgram({}, argv, kRuntimePatience);
  }

 private:
  std::string Socket() const { return folder_ + "/socket"; }

  std::string folder_;
  std::optional<lab::Process> process_;
};

class ImageTest : public DeployFixture {
 protected:
  ImageTest() : folder_(lab::TheSandbox().files + "/image") {
    std::filesystem::create_directories(folder_ + "/config");
    WriteAccount(folder_ + "/account");
    // Not the machine's root: its other processes are not the test's.
    Write(folder_ + "/config/config.conf", Config() + "cgroupPath: /run/waggle/cgroup\n");
  }
  ~ImageTest() override { std::filesystem::remove_all(folder_); }

  // `ctr run` with what the DaemonSet's pod says; but for one capability.
  lab::Argv RunArgv(const lab::Argv& how, const std::string& id, const std::string& without = "") {
    const Json pod = api().Read("DaemonSet", "kube-system", "waggle")["spec"]["template"]["spec"];
    const Json& container = pod["containers"][0];
    const Json& security = container["securityContext"];
    const lab::Node& node = cluster_.node1;
    // (Without a share of the CPU: not every cgroup v2 has that controller.)
    lab::Argv argv = {"run", "--snapshotter", "native", "--seccomp", "--cpu-shares", "0"};
    argv.insert(argv.end(), how.begin(), how.end());
    if (pod["hostNetwork"])
      argv.insert(argv.end(), {"--with-ns", "network:/run/netns/" + node.name()});
    if (security["readOnlyRootFilesystem"]) argv.push_back("--read-only");
    if (security["allowPrivilegeEscalation"]) argv.push_back("--allow-new-privs");
    if (security["privileged"]) argv.push_back("--privileged");
    // Not below the node's, which holds processes itself.
    argv.insert(argv.end(), {"--cgroup", BelowMount(lab::TheSandbox().cgroup) + "/runtime/" + id});

    EXPECT_EQ(security["capabilities"]["drop"], Json({"ALL"}));
    for (const char* name : kDefaultCapabilities)
      argv.insert(argv.end(), {"--cap-drop", absl::StrCat("CAP_", name)});
    for (const std::string name : security["capabilities"]["add"]) {
      // Nobody can give what this machine does not have.
      if (name == without || prctl(PR_CAPBSET_READ, kCapabilities.at(name)) != 1) continue;
      argv.insert(argv.end(), {"--cap-add", "CAP_" + name});
    }

    std::map<std::string, std::string> sources;
    for (const Json& volume : pod["volumes"]) {
      std::string& source = sources[volume["name"]];
      if (volume.contains("configMap")) source = folder_ + "/config";
      const std::string host =
          volume.contains("hostPath") ? std::string(volume["hostPath"]["path"]) : "";
      if (host == "/sys/fs/bpf") source = lab::TheSandbox().bpffs;
      if (host == "/sys/fs/cgroup") source = kCgroup2 + BelowMount(node.cgroup());
      EXPECT_NE(source, "") << volume;
    }
    const auto mount = [&](const std::string& source, const std::string& target,
                           const std::string& options) {
      argv.insert(argv.end(), {"--mount", absl::StrCat("type=bind,src=", source, ",dst=", target,
                                                       ",options=rbind:", options)});
    };
    for (const Json& one : container["volumeMounts"]) {
      const bool slave = one.value("mountPropagation", "") == "HostToContainer";
      mount(sources.at(one["name"]), one["mountPath"],
            absl::StrCat(one.value("readOnly", false) ? "ro" : "rw", slave ? ":rslave" : ""));
    }
    mount(folder_ + "/account", kAccountFolder, "ro");

    argv.insert(argv.end(), {kImage, id});
    for (const char* words : {"command", "args"}) {
      for (const std::string word : container[words])
        argv.push_back(absl::StrReplaceAll(word, {{"$(NODE_NAME)", node.name()}}));
    }
    return argv;
  }
  std::string Pins() const { return lab::TheSandbox().bpffs + "/waggle"; }

  const std::string folder_;
};

TEST_F(ImageTest, ServesUnderContainerdWithTheRightsOfTheDaemonSet) {
  const Json web = cluster_.CreateWeb();
  // The same input makes the same bytes.
  const std::string image = folder_ + "/image.tar", other = folder_ + "/other.tar";
  lab::Process one = Pack(image), two = Pack(other);
  for (lab::Process* pack : {&one, &two})
    ASSERT_EQ(pack->Wait(kRuntimePatience), 0) << pack->Err();
  EXPECT_EQ(lab::RunProgram({}, {"cmp", image, other}).status, 0) << one.Out() << two.Out();
  EXPECT_LE(std::filesystem::file_size(image), kMaxImageBytes) << one.Out();

  const Containerd containerd(folder_ + "/containerd");
  const lab::RunResult imported =
      containerd.Ctr({"images", "import", "--snapshotter", "native", image});
  ASSERT_TRUE(imported.ok()) << imported.ToString();
  const std::string log = folder_ + "/agent.log";
  const lab::RunResult started =
      containerd.Ctr(RunArgv({"--detach", "--log-uri", "file://" + log}, "agent"));
  ASSERT_TRUE(started.ok()) << started.ToString();
  const lab::RunResult ready =
      lab::Waggle(cluster_.node1, {"status", "--wait", "--pin-path", Pins()});
  ASSERT_TRUE(ready.ok()) << ready.ToString() << Read(log);

  // What the kubelet asks.
  const Json container =
      api().Read("DaemonSet", "kube-system", "waggle")["spec"]["template"]["spec"]["containers"][0];
  for (const char* probe : {"startupProbe", "livenessProbe", "readinessProbe"}) {
    lab::Argv asked = {"tasks", "exec", "--exec-id", probe, "agent"};
    for (const std::string word : container[probe]["exec"]["command"])
      asked.push_back(word);
    const lab::RunResult probed = containerd.Ctr(asked);
    EXPECT_TRUE(probed.ok()) << probe << ": " << probed.ToString();
  }

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
  const lab::RunResult cleaned = containerd.Ctr({"tasks", "exec", "--exec-id", "cleanup", "agent",
                                                 "/usr/sbin/waggle", "cleanup", "--kube-proxy"});
  EXPECT_TRUE(cleaned.ok()) << cleaned.ToString();
  EXPECT_THAT(cleaned.out, AllOf(HasSubstr("removed table ip kube-proxy of nftables"),
                                 HasSubstr("removed 1 chain and 1 rule of ip6tables-nft")));

  EXPECT_TRUE(containerd.Ctr({"tasks", "kill", "--signal", "SIGTERM", "agent"}).ok());
  EXPECT_TRUE(lab::WaitFor([&] { return containerd.Ctr({"tasks", "rm", "agent"}).ok(); }));
  EXPECT_THAT(Read(log), AllOf(HasSubstr("stopping;"), Not(HasSubstr("error"))));

  // No right is given for nothing.
  for (const char* capability : {"BPF", "NET_ADMIN", "PERFMON"}) {
    const lab::RunResult refused =
        containerd.Ctr(RunArgv({"--rm"}, absl::StrCat("without-", capability), capability));
    EXPECT_FALSE(refused.ok()) << capability << refused.ToString();
    EXPECT_NE(refused.status, -1) << "runs without " << capability << refused.ToString();
    EXPECT_THAT(refused.err, HasSubstr("CAP_")) << capability << refused.ToString();
  }
  const lab::RunResult gone = lab::Waggle(cluster_.node1, {"cleanup", "--pin-path", Pins()});
  EXPECT_TRUE(gone.ok()) << gone.ToString();
}

}  // namespace
}  // namespace waggle::cluster
