// A folder of its own for each test, gone afterwards, and manifests to fill it with.
#ifndef WAGGLE_TESTS_UNIT_K8S_WATCH_MANIFEST_FIXTURE_H_
#define WAGGLE_TESTS_UNIT_K8S_WATCH_MANIFEST_FIXTURE_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace waggle::k8s {

class ManifestTest : public testing::Test {
 protected:
  ManifestTest() {
    std::string pattern = testing::TempDir() + "/waggle-manifests-XXXXXX";
    base_ = mkdtemp(pattern.data()) == nullptr ? "" : pattern;
    dir_ = base_ / "d";
  }
  void SetUp() override {
    ASSERT_FALSE(base_.empty());
    std::filesystem::create_directory(dir_);
  }
  ~ManifestTest() override {
    std::error_code ignored;
    if (!base_.empty()) std::filesystem::remove_all(base_, ignored);
  }

  static std::string Svc(const std::string& name, int port) {
    return "apiVersion: v1\nkind: Service\nmetadata:\n  name: " + name +
           "\nspec:\n  clusterIP: 10.96.0.1\n  ports:\n  - port: " + std::to_string(port) + "\n";
  }
  static void WriteFile(const std::filesystem::path& path, const std::string& text) {
    std::ofstream(path) << text;
  }
  void Write(const std::string& name, const std::string& text) { WriteFile(dir_ / name, text); }
  // As editors and kubectl-like tools replace a file.
  void Replace(const std::string& name, const std::string& text) {
    WriteFile(base_ / "new", text);
    std::filesystem::rename(base_ / "new", dir_ / name);
  }
  void Remove(const std::string& name) { std::filesystem::remove(dir_ / name); }

  std::filesystem::path base_;  // for what lies beside the folder
  std::filesystem::path dir_;
};

}  // namespace waggle::k8s

#endif
