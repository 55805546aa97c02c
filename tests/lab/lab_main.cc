// main() of the lab's tests: everything but the listing of tests runs in a sandbox.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/lab/sandbox.h"

int main(int argc, char** argv) {
  bool listing = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--gtest_list_tests", 18) == 0) listing = true;
  }
  testing::InitGoogleTest(&argc, argv);
  if (listing) return RUN_ALL_TESTS();
  return waggle::lab::RunInSandbox([] { return RUN_ALL_TESTS(); });
}
