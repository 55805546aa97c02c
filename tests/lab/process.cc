#include "tests/lab/process.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/lab/sandbox.h"

namespace waggle::lab {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void ChildDies(const char* what) {
  std::fprintf(stderr, "lab: %s: %s\n", what, std::strerror(errno));
  _exit(126);
}

void Enter(const Surroundings& where) {
  if (!where.cgroup.empty()) {
    Fd procs(open((where.cgroup + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    if (!procs.valid() || write(procs.get(), "0", 1) != 1) ChildDies("join cgroup");
  }
  if (!where.netns.empty()) {
    Fd netns(open(where.netns.c_str(), O_RDONLY | O_CLOEXEC));
    if (!netns.valid() || setns(netns.get(), CLONE_NEWNET) != 0) ChildDies("join netns");
  }
  if (where.private_cgroup_namespace) {
    std::string mount_point = CgroupMount();
    if (unshare(CLONE_NEWCGROUP | CLONE_NEWNS) != 0) ChildDies("unshare");
    if (umount2(mount_point.c_str(), MNT_DETACH) != 0 ||
        mount("cgroup2", mount_point.c_str(), "cgroup2", 0, nullptr) != 0) {
      ChildDies("mount cgroup2");
    }
  }
  if (where.no_bpf_rights) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    for (int cap : {CAP_BPF, CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_PERFMON}) {
      prctl(PR_CAPBSET_DROP, cap);
    }
    if (syscall(SYS_capget, &header, data) != 0) ChildDies("capget");
    for (int cap : {CAP_BPF, CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_PERFMON}) {
      uint32_t bit = ~(1U << (cap % 32));
      data[cap / 32].effective &= bit;
      data[cap / 32].permitted &= bit;
      data[cap / 32].inheritable &= bit;
    }
    if (syscall(SYS_capset, &header, data) != 0) ChildDies("capset");
  }
}

std::string ReadAll(int fd) {
  std::string out;
  char buffer[4096];
  ssize_t n;
  while ((n = pread(fd, buffer, sizeof(buffer), static_cast<off_t>(out.size()))) > 0) {
    out.append(buffer, static_cast<size_t>(n));
  }
  return out;
}

Fd MemoryFile(const char* name) {
  return Fd(memfd_create(name, MFD_CLOEXEC));
}

int PollMs(Clock::time_point deadline) {
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
  return left.count() > 0 ? static_cast<int>(left.count()) : 0;
}

}  // namespace

std::string RunResult::ToString() const {
  return "exit status " + std::to_string(status) + "\nstdout: " + out + "\nstderr: " + err;
}

Process::Process(const Surroundings& where, const Argv& argv, Output output) {
  std::vector<char*> args;
  for (const std::string& arg : argv)
    args.push_back(const_cast<char*>(arg.c_str()));
  args.push_back(nullptr);

  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) std::abort();
  Fd child_in(in[0]), child_out(out[1]);
  stdin_.Reset(in[1]);
  stdout_.Reset(out[0]);
  stderr_ = MemoryFile("stderr");
  if (output == Output::kToMemory) {
    stdout_ = MemoryFile("stdout");
    child_out.Reset(fcntl(stdout_.get(), F_DUPFD_CLOEXEC, 3));
  }
  if (!where.input.empty()) {
    Fd input = MemoryFile("stdin");
    if (write(input.get(), where.input.data(), where.input.size()) !=
        static_cast<ssize_t>(where.input.size())) {
      std::abort();
    }
    lseek(input.get(), 0, SEEK_SET);
    child_in = std::move(input);
    stdin_.Reset(-1);
  }

  std::fflush(nullptr);
  pid_t pid = fork();
  if (pid < 0) std::abort();
  if (pid == 0) {
    dup2(child_in.get(), STDIN_FILENO);
    dup2(child_out.get(), STDOUT_FILENO);
    dup2(stderr_.get(), STDERR_FILENO);
    for (const char* name : {"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy",
                             "ALL_PROXY", "NOTIFY_SOCKET"}) {
      unsetenv(name);
    }
    // Not the manager of the tests themselves, but one of a test.
    if (const char* manager = getenv("WAGGLE_LAB_NOTIFY")) setenv("NOTIFY_SOCKET", manager, 1);
    signal(SIGPIPE, SIG_DFL);
    Enter(where);
    execvp(args[0], args.data());
    ChildDies(args[0]);
  }
  pid_.value = pid;
  pidfd_.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

Process::~Process() {
  Kill();
}

bool Process::running() {
  return pid_ > 0 && !Wait(std::chrono::milliseconds(0));
}

void Process::Signal(int signal) {
  if (pid_ > 0 && !status_) kill(pid_, signal);
}

std::optional<int> Process::Wait(std::chrono::milliseconds patience) {
  if (status_ || pid_ <= 0) return status_;
  Clock::time_point deadline = Clock::now() + patience;
  pollfd waiting{pidfd_.get(), POLLIN, 0};
  int ready;
  while ((ready = poll(&waiting, 1, PollMs(deadline))) < 0 && errno == EINTR) {
  }
  if (ready != 1) return std::nullopt;
  int status = 0;
  waitpid(pid_, &status, 0);
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return status_;
}

void Process::Kill() {
  if (pid_ <= 0 || status_) return;
  kill(pid_, SIGKILL);
  Wait();
}

std::optional<std::string> Process::ReadLine(std::chrono::milliseconds patience) {
  Clock::time_point deadline = Clock::now() + patience;
  while (true) {
    if (size_t newline = pending_.find('\n'); newline != std::string::npos) {
      std::string line = pending_.substr(0, newline);
      pending_.erase(0, newline + 1);
      return line;
    }
    pollfd waiting{stdout_.get(), POLLIN, 0};
    if (poll(&waiting, 1, PollMs(deadline)) == 0) return std::nullopt;
    char buffer[4096];
    ssize_t n = read(stdout_.get(), buffer, sizeof(buffer));
    if (n == 0 || (n < 0 && errno != EINTR)) return std::nullopt;
    if (n > 0) pending_.append(buffer, static_cast<size_t>(n));
  }
}

void Process::WriteLine(const std::string& line) {
  std::string text = line + "\n";
  // A program that has ended is noticed when its answer is read.
  [[maybe_unused]] ssize_t n = write(stdin_.get(), text.data(), text.size());
}

std::string Process::Out() const {
  return ReadAll(stdout_.get());
}
std::string Process::Err() const {
  return ReadAll(stderr_.get());
}

RunResult RunProgram(const Surroundings& where, const Argv& argv,
                     std::chrono::milliseconds patience) {
  Process process(where, argv, Process::Output::kToMemory);
  process.CloseInput();
  std::optional<int> status = process.Wait(patience);
  if (!status) process.Kill();
  RunResult result{status.value_or(-1), process.Out(), process.Err()};
  if (!status) result.err += "\n(killed: not done in time)";
  return result;
}

}  // namespace waggle::lab
