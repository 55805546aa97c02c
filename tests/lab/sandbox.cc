#include "tests/lab/sandbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>

#include "tests/lab/peer/sockets.h"

namespace waggle::lab {
namespace {

constexpr int kCannot = 125;
constexpr char kPrefix[] = "waggle-test-";

Sandbox& Instance() {
  static Sandbox sandbox;
  return sandbox;
}

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "lab sandbox: %s: %s\n", what.c_str(), std::strerror(errno));
  _exit(kCannot);
}

void Must(bool ok, const std::string& what) {
  if (!ok) Die(what);
}

// The owner of a subtree holds a lock on it for as long as it lives: what can be
// locked belongs to a dead one.
void SweepStaleCgroups(const std::string& mount) {
  DIR* dir = opendir(mount.c_str());
  if (dir == nullptr) return;
  while (dirent* entry = readdir(dir)) {
    if (std::strncmp(entry->d_name, kPrefix, sizeof(kPrefix) - 1) != 0) continue;
    std::string path = mount + "/" + entry->d_name;
    Fd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.valid() && flock(fd.get(), LOCK_EX | LOCK_NB) == 0) RemoveCgroups(path);
  }
  closedir(dir);
}

// Makes <mount>/waggle-test-<pid>-<n> and locks it.
std::string MakeCgroup(const std::string& mount, Fd& lock) {
  for (int n = 0;; ++n) {
    std::string path = mount + "/" + kPrefix + std::to_string(getpid()) + "-" + std::to_string(n);
    if (mkdir(path.c_str(), 0755) != 0) {
      Must(errno == EEXIST, "mkdir " + path);
      continue;
    }
    lock.Reset(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    // A sweeper that came between mkdir and flock has taken it: try the next name.
    if (lock.valid() && flock(lock.get(), LOCK_EX | LOCK_NB) == 0 &&
        access(path.c_str(), F_OK) == 0) {
      return path;
    }
  }
}

// A process that outlives us, whatever kills us, and then removes the subtree. It
// is nobody's child, so that killing our process tree does not reach it. The end
// of file on `done` tells that it has finished.
void StartJanitor(const std::string& cgroup, Fd& alive, Fd& done) {
  int alive_pipe[2], done_pipe[2];
  Must(pipe2(alive_pipe, O_CLOEXEC) == 0 && pipe2(done_pipe, O_CLOEXEC) == 0, "pipe");
  pid_t middle = fork();
  Must(middle >= 0, "fork");
  if (middle == 0) {
    setsid();
    if (fork() != 0) _exit(0);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; ++fd)
      dup2(null, fd);
    // Only the two ends of ours stay open: anything else would keep somebody waiting.
    for (int fd = 3; fd < 1024; ++fd) {
      if (fd != alive_pipe[0] && fd != done_pipe[1]) close(fd);
    }
    char byte;
    while (read(alive_pipe[0], &byte, 1) < 0 && errno == EINTR) {
    }
    for (int i = 0; i < 1000 && !RemoveCgroups(cgroup); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    _exit(0);
  }
  waitpid(middle, nullptr, 0);
  close(alive_pipe[0]);
  close(done_pipe[1]);
  alive.Reset(alive_pipe[1]);
  done.Reset(done_pipe[0]);
}

void Mount(const char* type, const std::string& where) {
  Must(mkdir(where.c_str(), 0755) == 0 || errno == EEXIST, "mkdir " + where);
  Must(mount(type, where.c_str(), type, 0, nullptr) == 0, std::string("mount ") + type);
}

void FurnishNamespaces() {
  Must(unshare(CLONE_NEWNS | CLONE_NEWNET) == 0, "unshare");
  Must(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "make mounts private");
  Must(mount("proc", "/proc", "proc", 0, nullptr) == 0, "mount /proc");
  Mount("tmpfs", "/run");
  Must(mkdir("/run/netns", 0755) == 0, "mkdir /run/netns");
  Must(mkdir("/run/waggle-lab", 0755) == 0, "mkdir /run/waggle-lab");
  Instance().files = "/run/waggle-lab/files";
  Must(mkdir(Instance().files.c_str(), 0755) == 0, "mkdir files");
  Instance().bpffs = "/run/waggle-lab/bpf";
  Mount("bpf", Instance().bpffs);
}

int Status(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

// Process 1 of the new pid namespace: reaps orphans, ends with the test, and takes
// everybody with it.
[[noreturn]] void Init(int parent_alive_fd, const std::function<int()>& body) {
  Must(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "prctl");
  pollfd parent{parent_alive_fd, 0, 0};
  if (poll(&parent, 1, 0) == 1 && (parent.revents & (POLLHUP | POLLERR)) != 0) _exit(kCannot);
  FurnishNamespaces();
  pid_t test = fork();
  Must(test >= 0, "fork");
  if (test == 0) {
    close(parent_alive_fd);
    signal(SIGPIPE, SIG_IGN);  // a client that died is seen by its missing answer
    int status = body();
    std::fflush(nullptr);
    _exit(status);
  }
  while (true) {
    int status;
    pid_t ended = waitpid(-1, &status, 0);
    if (ended == test) _exit(Status(status));
    if (ended < 0 && errno != EINTR) Die("waitpid");
  }
}

}  // namespace

bool RemoveCgroups(const std::string& path) {
  if (DIR* dir = opendir(path.c_str())) {
    while (dirent* entry = readdir(dir)) {
      if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
        RemoveCgroups(path + "/" + entry->d_name);
      }
    }
    closedir(dir);
  }
  return rmdir(path.c_str()) == 0 || errno == ENOENT;
}

std::string CgroupMount() {
  std::ifstream in("/proc/self/mountinfo");
  std::string line;
  while (std::getline(in, line)) {
    size_t dash = line.find(" - cgroup2 ");
    if (dash == std::string::npos) continue;
    std::istringstream fields(line.substr(0, dash));
    std::string id, parent, device, root, where;
    fields >> id >> parent >> device >> root >> where;
    return where;
  }
  return "";
}

int RunInSandbox(const std::function<int()>& body) {
  if (geteuid() != 0) {
    std::fprintf(stderr, "lab sandbox: needs root\n");
    return kCannot;
  }
  std::string mount = CgroupMount();
  errno = ENOENT;
  Must(!mount.empty(), "cgroup v2 is not mounted");
  SweepStaleCgroups(mount);
  Fd lock, alive, done;
  Instance().cgroup = MakeCgroup(mount, lock);
  StartJanitor(Instance().cgroup, alive, done);

  int parent_pipe[2];
  Must(pipe2(parent_pipe, O_CLOEXEC) == 0, "pipe");
  Must(unshare(CLONE_NEWPID) == 0, "unshare");
  pid_t init = fork();
  Must(init >= 0, "fork");
  if (init == 0) {
    close(parent_pipe[1]);
    alive.Reset(-1);
    done.Reset(-1);
    lock.Reset(-1);
    Init(parent_pipe[0], body);
  }
  close(parent_pipe[0]);
  int status;
  while (waitpid(init, &status, 0) < 0 && errno == EINTR) {
  }
  alive.Reset(-1);
  char byte;
  while (read(done.get(), &byte, 1) < 0 && errno == EINTR) {
  }
  return Status(status);
}

bool OnlyLists(int argc, char** argv) {
  return std::any_of(argv + 1, argv + argc, [](const char* argument) {
    return std::string_view(argument).starts_with("--gtest_list_tests");
  });
}

const Sandbox& TheSandbox() {
  return Instance();
}

}  // namespace waggle::lab
