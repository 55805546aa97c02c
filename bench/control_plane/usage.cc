#include "bench/control_plane/usage.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace waggle::bench {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

int64_t TicksToNs(int64_t ticks) {
  return ticks * (kNsPerSecond / sysconf(_SC_CLK_TCK));
}

// "VmHWM:    1234 kB" of /proc/PID/status; 0 where the process is gone.
int64_t StatusBytes(const std::string& path, const std::string& field) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field + ":")) return std::stoll(line.substr(field.size() + 1)) * 1024;
  }
  return 0;
}

// Policies are a thread's; a new one has that of the thread that made it.
std::vector<pid_t> ThreadsOf(pid_t process) {
  std::vector<pid_t> threads;
  std::error_code gone;
  for (const auto& task :
       std::filesystem::directory_iterator(absl::StrCat("/proc/", process, "/task"), gone)) {
    threads.push_back(std::stoi(task.path().filename()));
  }
  return threads;
}

void SetPolicy(const std::vector<pid_t>& processes, int policy, int priority) {
  const sched_param param{.sched_priority = priority};
  for (const pid_t process : processes) {
    for (const pid_t thread : ThreadsOf(process))
      sched_setscheduler(thread, policy, &param);
  }
}

}  // namespace

int64_t CpuNs(pid_t pid) {
  std::ostringstream text;
  text << std::ifstream(absl::StrCat("/proc/", pid, "/stat")).rdbuf();
  // The name, in parentheses, may hold anything.
  std::istringstream rest(
      text.str().substr(std::min(text.str().rfind(')') + 1, text.str().size())));
  std::string skipped;
  for (int i = 0; i < 11; ++i)
    rest >> skipped;
  int64_t user = 0, system = 0, children_user = 0, children_system = 0;
  rest >> user >> system >> children_user >> children_system;
  return TicksToNs(user + system + children_user + children_system);
}

Memory MemoryOf(pid_t pid) {
  const std::string path = absl::StrCat("/proc/", pid, "/status");
  return {StatusBytes(path, "VmHWM"), StatusBytes(path, "RssAnon")};
}

AnonymousPeak::AnonymousPeak(std::function<pid_t()> pid)
    : thread_([this, pid = std::move(pid)] {
        while (!over_) {
          if (const pid_t process = pid(); process > 0) {
            peak_ = std::max<int64_t>(peak_, MemoryOf(process).anonymous_bytes);
          }
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      }) {}

AnonymousPeak::~AnonymousPeak() {
  over_ = true;
  thread_.join();
}

Preference::Preference(std::vector<pid_t> processes, std::vector<pid_t> first)
    : processes_(std::move(processes)), first_(std::move(first)) {
  SetPolicy(processes_, SCHED_RR, 1);
  SetPolicy(first_, SCHED_RR, 2);
}

Preference::~Preference() {
  SetPolicy(first_, SCHED_OTHER, 0);
  SetPolicy(processes_, SCHED_OTHER, 0);
}

}  // namespace waggle::bench
