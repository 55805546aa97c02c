#include "userspace/cli/terminal.h"

#include <cstdio>
#include <string>

#include "maps/text_table.h"
#include "userspace/cli/exit_codes.h"

namespace waggle::cli {

int Print(std::string_view text) {
  const size_t written = std::fwrite(text.data(), 1, text.size(), stdout);
  if (written == text.size() && std::fflush(stdout) == 0) return kExitOk;
  Complain("cannot write to the standard output");
  return kExitError;
}

void Complain(std::string_view message) {
  const std::string line = "waggle: " + maps::Printable(message) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void Complain(const std::vector<Problem>& problems) {
  for (const Problem& problem : problems)
    Complain(problem.ToString());
}

int Fail(const absl::Status& status) {
  std::string message(status.message());
  if (absl::IsPermissionDenied(status)) message += " (this command needs root)";
  Complain(message);
  const bool later = absl::IsNotFound(status) || absl::IsDeadlineExceeded(status);
  return later ? kExitNotReady : kExitError;
}

}  // namespace waggle::cli
