#include "tests/cluster/daemon_set.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/lab/sandbox.h"

namespace waggle::cluster {
namespace {

constexpr char kImage[] = "waggle:test";
constexpr char kContainer[] = "agent";
constexpr char kAccountFolder[] = "/var/run/secrets/kubernetes.io/serviceaccount";
// Where the mount of cgroup v2 is for containerd.
constexpr char kCgroup2[] = "/run/waggle-lab/cgroup2";
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

lab::Argv Words(const Json& list) {
  return list.get<lab::Argv>();
}

}  // namespace

lab::Process PackImage(const std::string& output) {
  return {{},
          {WAGGLE_IMAGE_TOOL, "--binary", WAGGLE_BINARY, "--name", kImage, "--output", output},
          lab::Process::Output::kToMemory};
}

const std::string& PackedImage() {
  static const std::string file = [] {
    const std::string output = lab::TheSandbox().files + "/waggle-image.tar";
    lab::Process pack = PackImage(output);
    if (pack.Wait(kRuntimePatience) != 0) lab::Fail("tools/image: " + pack.Out() + pack.Err());
    return output;
  }();
  return file;
}

Containerd::Containerd(const std::string& image)
    : folder_(lab::TheSandbox().files + "/containerd") {
  std::filesystem::create_directories(folder_);
  std::ofstream(folder_ + "/config.toml")
      << "version = 2\nroot = \"" << folder_ << "/root\"\nstate = \"" << folder_
      << "/state\"\n[grpc]\naddress = \"" << Socket() << "\"\n[ttrpc]\naddress = \"" << Socket()
      << ".ttrpc\"\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"" << folder_ << "/opt\"\n"
      << std::flush;
  // Only cgroup v2, as most nodes have it, whatever this machine has.
  process_.emplace(
      lab::Surroundings{},
      lab::Argv{"unshare", "--mount", "sh", "-ec",
                absl::StrCat("mkdir -p ", kCgroup2, "; mount --bind ", lab::CgroupMount(), " ",
                             kCgroup2, "; mount --bind ", kCgroup2, " /sys/fs/cgroup; ",
                             "exec containerd -c ", folder_, "/config.toml")},
      lab::Process::Output::kToMemory);
  process_->CloseInput();
  if (!lab::WaitFor([&] { return Ctr({"version"}).ok(); }, kRuntimePatience)) {
    lab::Fail("containerd does not answer: " + process_->Err());
  }
  const lab::RunResult imported = Ctr({"images", "import", "--snapshotter", "native", image});
  if (!imported.ok()) lab::Fail("ctr images import: " + imported.ToString());
}

Containerd::~Containerd() {
  process_->Signal(SIGTERM);
  process_->Wait();
  process_->Kill();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

lab::RunResult Containerd::Ctr(const lab::Argv& arguments) const {
  lab::Argv argv = {"ctr", "--address", Socket()};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return lab::RunProgram({}, argv, kRuntimePatience);
}

DaemonSetPod::DaemonSetPod(const Containerd& containerd, const lab::Node& node,
                           const Json& daemon_set, std::string config, std::string account)
    : containerd_(containerd),
      node_(node),
      pod_(daemon_set["spec"]["template"]["spec"]),
      container_(pod_["containers"][0]),
      config_(std::move(config)),
      account_(std::move(account)),
      log_(lab::TheSandbox().files + "/agent.log") {
  std::filesystem::remove(log_);
}

DaemonSetPod::~DaemonSetPod() {
  if (started_) Stop(SIGKILL);
  if (testing::Test::HasFailure()) {
    std::fprintf(stderr, "---- log of the pod on %s ----\n%s----\n", node_.name().c_str(),
                 Log().c_str());
  }
}

lab::Argv DaemonSetPod::RunArgv(const lab::Argv& how, const std::string& id,
                                const std::string& without) const {
  const Json& security = container_["securityContext"];
  // (Without a share of the CPU: not every cgroup v2 has that controller.)
  lab::Argv argv = {"run", "--snapshotter", "native", "--seccomp", "--cpu-shares", "0"};
  argv.insert(argv.end(), how.begin(), how.end());
  if (pod_.value("hostNetwork", false))
    argv.insert(argv.end(), {"--with-ns", "network:/run/netns/" + node_.name()});
  EXPECT_FALSE(pod_.value("hostPID", false)) << "ctr is not told so";
  EXPECT_FALSE(pod_.value("hostIPC", false)) << "ctr is not told so";
  if (security["readOnlyRootFilesystem"]) argv.push_back("--read-only");
  if (security["allowPrivilegeEscalation"]) argv.push_back("--allow-new-privs");
  if (security["privileged"]) argv.push_back("--privileged");
  // Not below the node's, which holds processes itself.
  argv.insert(argv.end(), {"--cgroup", BelowMount(lab::TheSandbox().cgroup) + "/runtime/" + id});

  EXPECT_EQ(security["capabilities"]["drop"], Json({"ALL"}));
  for (const char* name : kDefaultCapabilities)
    argv.insert(argv.end(), {"--cap-drop", absl::StrCat("CAP_", name)});
  for (const std::string& name : Words(security["capabilities"]["add"])) {
    // Nobody can give what this machine does not have.
    if (name == without || prctl(PR_CAPBSET_READ, kCapabilities.at(name)) != 1) continue;
    argv.insert(argv.end(), {"--cap-add", "CAP_" + name});
  }

  std::map<std::string, std::string> sources;
  for (const Json& volume : pod_["volumes"]) {
    std::string& source = sources[volume["name"]];
    if (volume.contains("configMap")) source = config_;
    const std::string host =
        volume.contains("hostPath") ? std::string(volume["hostPath"]["path"]) : "";
    if (host == "/sys/fs/bpf") source = std::filesystem::path(node_.pin_path()).parent_path();
    if (host == "/sys/fs/cgroup") source = kCgroup2 + BelowMount(node_.cgroup());
    EXPECT_NE(source, "") << volume;
  }
  const auto mount = [&](const std::string& source, const std::string& target,
                         const std::string& options) {
    argv.insert(argv.end(), {"--mount", absl::StrCat("type=bind,src=", source, ",dst=", target,
                                                     ",options=rbind:", options)});
  };
  for (const Json& one : container_["volumeMounts"]) {
    const bool slave = one.value("mountPropagation", "") == "HostToContainer";
    mount(sources.at(one["name"]), one["mountPath"],
          absl::StrCat(one.value("readOnly", false) ? "ro" : "rw", slave ? ":rslave" : ""));
  }
  mount(account_, kAccountFolder, "ro");

  argv.insert(argv.end(), {kImage, id});
  for (const char* words : {"command", "args"}) {
    for (const std::string& word : Words(container_[words]))
      argv.push_back(absl::StrReplaceAll(word, {{"$(NODE_NAME)", node_.name()}}));
  }
  return argv;
}

void DaemonSetPod::Start() {
  const lab::RunResult started =
      containerd_.Ctr(RunArgv({"--detach", "--log-uri", "file://" + log_}, kContainer, ""));
  if (!started.ok()) lab::Fail("ctr run: " + started.ToString());
  started_ = true;
}

void DaemonSetPod::Stop(int signal) {
  started_ = false;
  const lab::RunResult killed =
      containerd_.Ctr({"tasks", "kill", "--signal", std::to_string(signal), kContainer});
  EXPECT_TRUE(killed.ok()) << killed.ToString();
  lab::RunResult removed;
  EXPECT_TRUE(lab::WaitFor([&] {
    removed = containerd_.Ctr({"tasks", "rm", kContainer});  // once it has ended
    return removed.ok();
  })) << removed.ToString();
  if (signal == SIGTERM) {
    EXPECT_EQ(removed.err, "");  // of an exit status that is not 0
  }
  removed = containerd_.Ctr({"containers", "rm", kContainer});
  EXPECT_TRUE(removed.ok()) << removed.ToString();
}

lab::RunResult DaemonSetPod::RunWithout(const std::string& capability) const {
  return containerd_.Ctr(RunArgv({"--rm"}, absl::StrCat("without-", capability), capability));
}

lab::RunResult DaemonSetPod::Exec(const lab::Argv& argv) {
  lab::Argv all = {"tasks", "exec", "--exec-id", absl::StrCat("exec", ++execs_), kContainer};
  all.insert(all.end(), argv.begin(), argv.end());
  return containerd_.Ctr(all);
}

lab::RunResult DaemonSetPod::Probe(const std::string& name) {
  return Exec(Words(container_.at(name)["exec"]["command"]));
}

void DaemonSetPod::Await(const std::string& probe) {
  lab::RunResult probed;
  if (!lab::WaitFor([&] { return (probed = Probe(probe)).ok(); }, kRuntimePatience)) {
    lab::Fail(absl::StrCat(probe, " says no: ", probed.ToString(), "\nlog: ", Log()));
  }
}

std::string DaemonSetPod::Log() const {
  std::ifstream file(log_, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace waggle::cluster
