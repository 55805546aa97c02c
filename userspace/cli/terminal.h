// The two ways in which commands speak: results on stdout, and one line for each
// error on stderr.
#ifndef WAGGLE_USERSPACE_CLI_TERMINAL_H_
#define WAGGLE_USERSPACE_CLI_TERMINAL_H_

#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "userspace/status/problem.h"

namespace waggle::cli {

// Writes all of `text` to stdout. kExitOk, or kExitError when it could not be written (a full
// disk must not look like an empty list).
int Print(std::string_view text);

// "waggle: <message>" on stderr, in one line whatever the message holds.
void Complain(std::string_view message);
void Complain(const std::vector<Problem>& problems);

// Complains, says what rights are missing, and gives the exit code: kExitNotReady for
// NotFound and DeadlineExceeded, else kExitError.
int Fail(const absl::Status& status);

}  // namespace waggle::cli

#endif
