// The command line as a whole: parses, runs one command, gives the exit code.
#ifndef WAGGLE_USERSPACE_CLI_COMMAND_LINE_H_
#define WAGGLE_USERSPACE_CLI_COMMAND_LINE_H_

namespace waggle::cli {

// One of exit_codes.h. Help goes to stdout, errors to stderr.
int RunCommandLine(int argc, const char* const* argv);

}  // namespace waggle::cli

#endif
