// Runs a program to its end and keeps what it said. Leaves nothing behind: output goes
// into memory, not into files or pipes that could fill up.
#ifndef WAGGLE_TESTS_UNIT_CLI_RUN_H_
#define WAGGLE_TESTS_UNIT_CLI_RUN_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/unit/golden.h"

namespace waggle::cli {

struct RunResult {
  int exit_code = -1;  // 128 + signal when killed
  std::string out;
  std::string err;
};

inline std::string ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  lseek(fd, 0, SEEK_SET);
  for (ssize_t got = 0; (got = read(fd, buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

inline RunResult RunProgram(const std::vector<std::string>& words, const std::string& input = "",
                            int out_fd = -1) {
  const int in = memfd_create("in", 0);
  const int out = memfd_create("out", 0);
  const int err = memfd_create("err", 0);
  EXPECT_EQ(write(in, input.data(), input.size()), static_cast<ssize_t>(input.size()));
  lseek(in, 0, SEEK_SET);
  std::vector<char*> argv;
  for (const std::string& word : words)
    argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(in, STDIN_FILENO);
    dup2(out_fd >= 0 ? out_fd : out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  RunResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = ReadAll(out);
  result.err = ReadAll(err);
  for (int fd : {in, out, err})
    close(fd);
  return result;
}

// `waggle` with these arguments.
inline RunResult Waggle(std::vector<std::string> arguments, const std::string& input = "",
                        int out_fd = -1) {
  arguments.insert(arguments.begin(), WAGGLE_BINARY);
  return RunProgram(arguments, input, out_fd);
}

}  // namespace waggle::cli

#endif
