#include "bench/common.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <fstream>

#include "tests/lab/sandbox.h"

namespace waggle::bench {

void AddCommonOptions(CLI::App& app, CommonOptions& options) {
  AddNumber(app, "--endpoints", options.endpoints, "of each Service", 1, 100);
  app.add_option("--agent-flag", options.agent_flags,
                 "a flag for every agent, as --agent-flag=--max-half-open=8192; repeat for more");
  app.add_option("--raw", options.raw, "a file for all measurements, as lines of JSON");
}

CLI::Option* AddNumber(CLI::App& app, const std::string& name, int& value, const std::string& what,
                       int least, int most) {
  return app.add_option(name, value, what)->capture_default_str()->check(CLI::Range(least, most));
}

nlohmann::json RunHeader() {
  utsname system{};
  uname(&system);
  return {{"type", "run"},
          {"unixTime", std::time(nullptr)},
          {"kernel", system.release},
          {"cpus", sysconf(_SC_NPROCESSORS_ONLN)}};
}

int RunInLab(const CommonOptions& options, const std::function<int(std::ostream& raw)>& measure) {
  std::ofstream raw;
  if (!options.raw.empty()) {
    raw.open(options.raw);
    if (!raw) {
      std::fprintf(stderr, "%s: cannot write %s\n", program_invocation_short_name,
                   options.raw.c_str());
      return 2;
    }
  }
  return lab::RunInSandbox([&] { return measure(raw); });
}

}  // namespace waggle::bench
