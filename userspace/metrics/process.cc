#include "userspace/metrics/process.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

namespace waggle::metrics {
namespace {

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

// When the machine started, Unix seconds; 0: not known.
double BootTime() {
  std::ifstream stat("/proc/stat");
  for (std::string word; stat >> word;) {
    double seconds = 0;
    if (word == "btime" && stat >> seconds) return seconds;
  }
  return 0;
}

}  // namespace

ProcessFacts ReadProcess() {
  ProcessFacts facts;
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    facts.cpu_seconds = Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) facts.max_fds = static_cast<double>(limit.rlim_cur);

  std::ifstream file("/proc/self/stat");
  std::stringstream text;
  text << file.rdbuf();
  const std::string stat = text.str();
  // The name, field 2, may hold anything; what follows its last parenthesis are numbers.
  if (const size_t name_end = stat.rfind(')'); name_end != std::string::npos) {
    std::istringstream fields(stat.substr(name_end + 1));
    std::string skipped;
    for (int field = 3; field < 22; ++field)
      fields >> skipped;
    double start_ticks = 0, virtual_bytes = 0, resident_pages = 0;
    if (fields >> start_ticks >> virtual_bytes >> resident_pages) {
      facts.virtual_bytes = virtual_bytes;
      facts.resident_bytes = resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));
      const double boot = BootTime();
      if (boot > 0) {
        facts.start_time = boot + start_ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
      }
    }
  }
  std::error_code error;
  for (auto entry = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    ++facts.open_fds;
  }
  return facts;
}

}  // namespace waggle::metrics
