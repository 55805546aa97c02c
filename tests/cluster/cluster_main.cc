// main() of the tests on a real control plane: in a sandbox, as the lab's. Each ctest runs
// the tests of one suite, so that the control plane starts once for all of them;
// --suites=A,B,... only checks that this list of the build is whole.
#include <gtest/gtest.h>

#include <cstdio>
#include <set>
#include <string>
#include <string_view>

#include "absl/strings/str_split.h"
#include "tests/cluster/control_plane.h"
#include "tests/lab/sandbox.h"

namespace {

constexpr std::string_view kSuites = "--suites=";

int CheckSuites(std::string_view list) {
  std::set<std::string> listed = absl::StrSplit(absl::string_view(list.data(), list.size()), ',');
  std::set<std::string> real;
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  for (int i = 0; i < all.total_test_suite_count(); ++i) {
    real.insert(all.GetTestSuite(i)->name());
  }
  if (listed == real) return 0;
  for (const std::string& name : real) {
    if (!listed.contains(name)) std::printf("not in CMakeLists.txt: %s\n", name.c_str());
  }
  for (const std::string& name : listed) {
    if (!real.contains(name)) std::printf("no such suite: %s\n", name.c_str());
  }
  return 1;
}

// What the control plane said, after the first test that fails.
class Logs : public testing::EmptyTestEventListener {
 public:
  void OnTestEnd(const testing::TestInfo& info) override {
    const auto* control = waggle::cluster::ControlPlane::IfStarted();
    if (told_ || control == nullptr || !info.result()->Failed()) return;
    told_ = true;
    std::fputs(control->Logs().c_str(), stderr);
  }

 private:
  bool told_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  const bool lists = waggle::lab::OnlyLists(argc, argv);
  testing::InitGoogleTest(&argc, argv);
  if (lists) return RUN_ALL_TESTS();
  if (argc > 1 && std::string_view(argv[1]).starts_with(kSuites)) {
    return CheckSuites(std::string_view(argv[1]).substr(kSuites.size()));
  }
  testing::UnitTest::GetInstance()->listeners().Append(new Logs);
  return waggle::lab::RunInSandbox([] { return RUN_ALL_TESTS(); });
}
