// Where the lab lives: new pid, mount and network namespaces and a cgroup subtree,
// so that processes, namespaces, pins and files of a test vanish with it, however
// it ends.
#ifndef WAGGLE_TESTS_LAB_SANDBOX_H_
#define WAGGLE_TESTS_LAB_SANDBOX_H_

#include <functional>
#include <string>

namespace waggle::lab {

// Paths that a test may use. Valid inside the sandbox only.
struct Sandbox {
  std::string cgroup;  // a cgroup v2 directory of our own
  std::string bpffs;   // a BPF file system of our own
  std::string files;   // a tmpfs directory of our own
};

// Runs `body` inside a new sandbox and returns its result as the exit status (125:
// the sandbox could not be made; the reason is on stderr). In the sandbox /run is
// empty, so names of network namespaces clash with nobody's. Must be called
// before any thread is started. Needs root.
int RunInSandbox(const std::function<int()>& body);

// The arguments of a test program: does it only list its tests, which needs no sandbox? Before
// InitGoogleTest(), which takes them away.
bool OnlyLists(int argc, char** argv);

// The sandbox that this process runs in.
const Sandbox& TheSandbox();

// Removes a cgroup and those below it. False while a process is in one of them.
bool RemoveCgroups(const std::string& path);

// The mount point of cgroup v2, from /proc/self/mountinfo; empty when there is none.
std::string CgroupMount();

}  // namespace waggle::lab

#endif
