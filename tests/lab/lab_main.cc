// main() of the lab's tests: everything but the listing of tests runs in a sandbox.
#include <gtest/gtest.h>

#include "tests/lab/sandbox.h"

int main(int argc, char** argv) {
  const bool lists = waggle::lab::OnlyLists(argc, argv);
  testing::InitGoogleTest(&argc, argv);
  if (lists) return RUN_ALL_TESTS();
  return waggle::lab::RunInSandbox([] { return RUN_ALL_TESTS(); });
}
