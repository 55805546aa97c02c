// What `waggle cleanup` does, for `waggle agent --cleanup`, too.
#ifndef WAGGLE_USERSPACE_CLI_CLEANUP_H_
#define WAGGLE_USERSPACE_CLI_CLEANUP_H_

#include <string>

namespace waggle::cli {

// Detaches the programs, removes the pins and says so. The exit code.
int CleanUp(const std::string& pin_path);

}  // namespace waggle::cli

#endif
