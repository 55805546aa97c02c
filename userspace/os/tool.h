// Other people's programs: runs one to its end. A leaf.
#ifndef WAGGLE_USERSPACE_OS_TOOL_H_
#define WAGGLE_USERSPACE_OS_TOOL_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace waggle::os {

// The path of a program in $PATH, or where administrators' programs are; empty: not here.
std::string FindTool(std::string_view name);

// Runs it with `input` on its standard input and gives back what it wrote to its standard
// output, however much. argv[0] is a path, or a name for FindTool(): NotFound where there is
// none. It failed: Internal, with its standard error in the text.
absl::StatusOr<std::string> RunTool(const std::vector<std::string>& argv,
                                    std::string_view input = "");

}  // namespace waggle::os

#endif
