// The program `waggle`.
#include "userspace/cli/command_line.h"

int main(int argc, char** argv) {
  return waggle::cli::RunCommandLine(argc, argv);
}
