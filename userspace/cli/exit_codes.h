// What `waggle` returns to the shell. Stable: scripts and probes rely on them.
#ifndef WAGGLE_USERSPACE_CLI_EXIT_CODES_H_
#define WAGGLE_USERSPACE_CLI_EXIT_CODES_H_

namespace waggle::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;     // the command could not do what was asked
inline constexpr int kExitUsage = 2;     // wrong command line: nothing was done
inline constexpr int kExitNotReady = 3;  // nothing is pinned here, or not ready in time

inline constexpr char kExitCodesHelp[] =
    "Exit codes:\n"
    "  0  done\n"
    "  1  error\n"
    "  2  wrong command line\n"
    "  3  nothing is pinned at the pin path, or not ready before the time-out\n";

}  // namespace waggle::cli

#endif
