// Files of a test's testdata/, WAGGLE_TESTDATA.
#ifndef WAGGLE_TESTS_UNIT_GOLDEN_H_
#define WAGGLE_TESTS_UNIT_GOLDEN_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace waggle {

inline std::string TestData(const std::string& name) {
  return std::string(WAGGLE_TESTDATA) + "/" + name;
}

inline std::string FileText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Compares with a file of testdata/. WAGGLE_UPDATE_GOLDEN=1 writes the file in place of
// the comparison, to be read in the diff.
inline void ExpectGolden(const std::string& actual, const std::string& name) {
  if (getenv("WAGGLE_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(TestData(name), std::ios::binary) << actual;
    return;
  }
  EXPECT_EQ(actual, FileText(TestData(name))) << name;
}

}  // namespace waggle

#endif
