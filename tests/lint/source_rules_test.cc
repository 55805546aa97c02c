// Two halves: a table of snippets shows that each rule catches what it is for and
// leaves alone what is right; then the rules are held against the whole tree.
#include "tests/lint/source_rules.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

namespace waggle::lint {
namespace {

namespace fs = std::filesystem;

struct RuleCase {
  const char* name;
  const char* path;
  std::string text;
  const char* expected;  // part of the one finding; nullptr: none

  friend std::ostream& operator<<(std::ostream& out, const RuleCase& c) { return out << c.name; }
};

std::string CaseName(const testing::TestParamInfo<RuleCase>& info) {
  return info.param.name;
}

void ExpectFinding(const std::vector<Finding>& found, const RuleCase& c) {
  if (c.expected == nullptr) {
    for (const Finding& finding : found)
      ADD_FAILURE() << "unexpected: " << finding.ToString();
    return;
  }
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].ToString().find(c.expected), std::string::npos) << found[0].ToString();
}

class Includes : public testing::TestWithParam<RuleCase> {};
TEST_P(Includes, Rule) {
  ExpectFinding(CheckIncludes({GetParam().path, GetParam().text}), GetParam());
}

INSTANTIATE_TEST_SUITE_P(
    Table, Includes,
    testing::Values(
        RuleCase{"AbiMayTypes", "bpf/abi.h", "#include <linux/types.h>\n", nullptr},
        RuleCase{"AbiMayReasons", "bpf/abi.h", "#include \"reasons.def\"\n", nullptr},
        RuleCase{"AbiNotBpf", "bpf/abi.h", "#include <linux/bpf.h>\n", "only <linux/types.h>"},
        RuleCase{"AbiNotStd", "bpf/abi.h", "#include <cstdint>\n", "only <linux/types.h>"},
        RuleCase{"AbiNotSibling", "bpf/abi.h", "#include \"maps.bpf.h\"\n", "bpf/maps.bpf.h"},
        RuleCase{"BpfMayHelpers", "bpf/sock.bpf.c",
                 "#include <linux/in.h>\n#include <bpf/bpf_helpers.h>\n#include \"abi.h\"\n",
                 nullptr},
        RuleCase{"BpfNotLibc", "bpf/sock.bpf.c", "#include <string.h>\n", "only UAPI"},
        RuleCase{"BpfNotAgent", "bpf/sock.bpf.c", "#include \"maps/tables.h\"\n", "maps/tables.h"},
        RuleCase{"LeafMayStdAndAbsl", "userspace/net/x.cc",
                 "#include <arpa/inet.h>\n#include <vector>\n#include \"absl/status/status.h\"\n",
                 nullptr},
        RuleCase{"LeafMaySiblings", "userspace/os/x.cc",
                 "#include \"userspace/status/problem.h\"\n", nullptr},
        RuleCase{"LeafNotAbi", "userspace/net/x.h", "#include \"bpf/abi.h\"\n", "bpf/abi.h"},
        RuleCase{"LeafNotLogging", "userspace/os/x.cc", "#include <spdlog/spdlog.h>\n", "spdlog"},
        RuleCase{"LeafNotAgent", "userspace/net/x.cc", "#include \"userspace/agent/store.h\"\n",
                 "userspace/agent/store.h"},
        RuleCase{"WatchMayLeaves", "k8s-watch/x.cc",
                 "#include <yaml-cpp/yaml.h>\n#include \"k8s-watch/types.h\"\n"
                 "#include \"userspace/net/address.h\"\n",
                 nullptr},
        RuleCase{"WatchNotAbi", "k8s-watch/x.cc", "#include \"bpf/abi.h\"\n", "bpf/abi.h"},
        RuleCase{"WatchNotLibbpf", "k8s-watch/x.cc", "#include <bpf/bpf.h>\n", "bpf/bpf.h"},
        RuleCase{"WatchNotMaps", "k8s-watch/x.h", "#include \"maps/desired.h\"\n", "desired.h"},
        RuleCase{"MapsMayAbi", "maps/x.h",
                 "#include <bpf/bpf.h>\n#include \"bpf/abi.h\"\n#include \"maps/tables.h\"\n",
                 nullptr},
        RuleCase{"MapsNotWatch", "maps/x.h", "#include \"k8s-watch/types.h\"\n", "k8s-watch"},
        RuleCase{"MapsNotBpfConfig", "maps/x.cc", "#include \"bpf/config.bpf.h\"\n", "config.bpf"},
        RuleCase{"LoaderMayMaps", "loader/x.h", "#include \"maps/layout.h\"\n", nullptr},
        RuleCase{"LoaderNotAgent", "loader/x.cc", "#include \"userspace/agent/store.h\"\n",
                 "userspace/agent/store.h"},
        RuleCase{"LoaderMaySkeleton", "loader/x.cc", "#include \"waggle_bpf.skel.h\"\n", nullptr},
        RuleCase{"SkeletonNotInHeader", "loader/x.h", "#include <waggle_bpf.skel.h>\n", "skeleton"},
        RuleCase{"SkeletonNotInAgent", "userspace/agent/x.cc", "#include \"waggle_bpf.skel.h\"\n",
                 "skeleton"},
        RuleCase{"AgentMayAll", "userspace/agent/x.cc",
                 "#include \"loader/attachment.h\"\n#include \"k8s-watch/source.h\"\n"
                 "#include \"maps/plan.h\"\n#include <spdlog/spdlog.h>\n",
                 nullptr},
        RuleCase{"CliNotTests", "userspace/cli/x.cc", "#include \"tests/lab/node.h\"\n",
                 "tests/lab/node.h"},
        RuleCase{"AgentNotBench", "userspace/agent/x.cc", "#include \"bench/world.h\"\n",
                 "bench/world.h"},
        RuleCase{"TestsMayAll", "tests/lab/x.cc",
                 "#include \"tests/lab/node.h\"\n#include \"loader/object.h\"\n", nullptr},
        RuleCase{"NoDotDot", "maps/x.cc", "#include \"../loader/object.h\"\n",
                 "path from elsewhere"},
        RuleCase{"SpacesInDirective", "k8s-watch/x.cc", "  #  include  <bpf/bpf.h>\n", ":1:"},
        RuleCase{"CommentIsNoInclude", "k8s-watch/x.cc",
                 "// #include <bpf/bpf.h>\n/*\n#include \"bpf/abi.h\"\n*/\n", nullptr},
        RuleCase{"UnknownLibrary", "maps/x.cc", "#include <boost/any.hpp>\n", "boost"},
        RuleCase{"LooseLibrary", "userspace/net/x.cc", "#include <httplib.h>\n", "httplib"},
        RuleCase{"NoRoom", "helpers/x.cc", "#include <vector>\n", "no room"}),
    CaseName);

class MapWrites : public testing::TestWithParam<RuleCase> {};
TEST_P(MapWrites, Rule) {
  ExpectFinding(CheckMapWrites({GetParam().path, GetParam().text}), GetParam());
}

INSTANTIATE_TEST_SUITE_P(
    Table, MapWrites,
    testing::Values(
        RuleCase{"Writer", "maps/kernel_map_store.cc", "bpf_map_update_elem(fd, k, v, 0);\n",
                 nullptr},
        RuleCase{"BpfProgram", "bpf/sock.bpf.c", "bpf_map_update_elem(&m, k, v, 0);\n", nullptr},
        RuleCase{"Test", "tests/lab/x.cc", "bpf_map_delete_elem(fd, k);\n", nullptr},
        RuleCase{"Update", "maps/reader.cc", "\n\nbpf_map_update_elem(fd, k, v, 0);\n", ":3:"},
        RuleCase{"Delete", "userspace/cli/x.cc", "bpf_map_delete_elem (fd, k);\n", "delete_elem"},
        RuleCase{"UpdateBatch", "loader/x.cc", "if (bpf_map_update_batch(fd)) {}\n", "batch"},
        RuleCase{"DeleteBatch", "loader/x.cc", "return bpf_map_delete_batch(fd);\n", "batch"},
        RuleCase{"LookupAndDelete", "maps/x.cc", "::bpf_map_lookup_and_delete_elem(fd);\n",
                 "lookup_and_delete"},
        RuleCase{"ThroughPointer", "maps/x.cc", "auto* f = &bpf_map_update_elem;\n", "update_elem"},
        RuleCase{"SkeletonSpelling", "loader/x.cc", "bpf_map__update_elem(map);\n", "update_elem"},
        RuleCase{"Syscall", "loader/x.cc", "syscall(SYS_bpf, BPF_MAP_DELETE_ELEM, &a);\n",
                 "DELETE"},
        RuleCase{"Mmap", "maps/reader.cc", "mmap(0, n, PROT_READ | PROT_WRITE, 0, fd, 0);\n",
                 "PROT_WRITE"},
        RuleCase{"Reading", "maps/reader.cc",
                 "mmap(0, n, PROT_READ, 0, fd, 0);\nbpf_map_lookup_elem(fd, k, v);\n", nullptr},
        RuleCase{"Comment", "maps/x.cc", "// never bpf_map_update_elem here\n", nullptr},
        RuleCase{"Literal", "maps/x.cc",
                 "Fail(\"bpf_map_update_elem\", R\"(bpf_map_delete_elem)\");\n", nullptr},
        RuleCase{"AfterDigitSeparator", "maps/x.cc", "int n = 1'000; bpf_map_delete_elem(f, k);\n",
                 "delete_elem"},
        RuleCase{"AfterEscapedQuote", "maps/x.cc", "char c = '\\''; bpf_map_delete_elem(f, k);\n",
                 "delete_elem"},
        RuleCase{"AfterCommentEnd", "maps/x.cc", "/* \" */ bpf_map_delete_elem(f, k);\n",
                 "delete_elem"},
        RuleCase{"LongerWord", "maps/x.cc", "my_bpf_map_update_elem_count++;\n", nullptr}),
    CaseName);

std::string LinesOf(size_t count) {
  std::string text = "// A file.\n";
  for (size_t i = 1; i < count; ++i)
    text += "int x;\n";
  return text;
}

class Form : public testing::TestWithParam<RuleCase> {};
TEST_P(Form, Rule) {
  ExpectFinding(CheckForm({GetParam().path, GetParam().text}), GetParam());
}

constexpr char kLicense[] = "/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */\n";

INSTANTIATE_TEST_SUITE_P(
    Table, Form,
    testing::Values(
        RuleCase{"Commented", "maps/x.h", "// What it is.\n#ifndef X\n", nullptr},
        RuleCase{"NoComment", "maps/x.h", "#ifndef X\n", "without a comment"},
        RuleCase{"EmptyFile", "maps/x.h", "", "without a comment"},
        RuleCase{"ContractInHeader", "maps/x.cc", "#include \"maps/x.h\"\n", nullptr},
        RuleCase{"HeaderHasNone", "maps/x.h", "#include \"maps/y.h\"\n", "without a comment"},
        RuleCase{"TestsToo", "tests/unit/x.cc", "#include <vector>\n", "without a comment"},
        RuleCase{"ScriptNeedsNone", "tools/x", "#!/bin/sh\n", nullptr},
        RuleCase{"LongEnough", "maps/x.cc", LinesOf(700), nullptr},
        RuleCase{"TooLong", "maps/x.cc", LinesOf(701), "701 lines"},
        RuleCase{"BpfLicense", "bpf/x.bpf.h", kLicense, nullptr},
        RuleCase{"BpfNoLicense", "bpf/x.bpf.h", "/* A file. */\n", "SPDX"},
        RuleCase{"BpfOtherLicense", "bpf/x.def", "/* SPDX-License-Identifier: GPL-2.0 */\n",
                 "SPDX"},
        RuleCase{"Promise", "maps/x.cc",
                 "// A file.\n// TO"
                 "DO: more\n",
                 ":2: TO"},
        RuleCase{"PromiseInScript", "tools/x",
                 "# FIX"
                 "ME\n",
                 "FIX"},
        RuleCase{"Template", "tools/x",
                 "mktemp waggle.XX"
                 "XXXX\n",
                 nullptr},
        RuleCase{"MachinePath", "docs/x.md",
                 "see /wo"
                 "rk/main\n",
                 "one machine"},
        RuleCase{"BuildPath", "CMakeLists.txt",
                 "set(x /tmp/bu"
                 "ild-me)\n",
                 "one machine"}),
    CaseName);

TEST(Skeleton, OneFileMayIncludeIt) {
  const SourceFile one{"loader/object.cc", "#include \"waggle_bpf.skel.h\"\n"};
  const SourceFile two{"loader/link.cc", "#include \"waggle_bpf.skel.h\"\n"};
  const SourceFile test{"tests/unit/x.cc", "#include \"waggle_bpf.skel.h\"\n"};
  EXPECT_TRUE(CheckSkeletonUse({one, test}).empty());
  EXPECT_EQ(CheckSkeletonUse({one, two, test}).size(), 2u);
}

TEST(StripComments, KeepsLinesAndCode) {
  EXPECT_EQ(StripComments("a /* b\nc */ d // e\nf", Literals::kKeep), "a     \n     d     \nf");
  EXPECT_EQ(StripComments("\"//\" x", Literals::kKeep), "\"//\" x");
  EXPECT_EQ(StripComments("\"//\" x", Literals::kBlank), "\"  \" x");
  EXPECT_EQ(StripComments("R\"a(\")b)a\" x", Literals::kBlank), "R          x");
}

// ---- The tree.

bool IsOurs(const fs::path& relative) {
  const std::string name = relative.filename().string();
  const std::string top = relative.begin()->string();
  if (top == "tools" || top == ".ci") return true;
  if (name == "CMakeLists.txt") return true;
  static constexpr const char* kExtensions[] = {".cc",  ".h",    ".c",    ".def",   ".cpp",
                                                ".hpp", ".hh",   ".inc",  ".cmake", ".md",
                                                ".sh",  ".yaml", ".json", ".txtar"};
  const std::string extension = relative.extension().string();
  return std::find(std::begin(kExtensions), std::end(kExtensions), extension) !=
         std::end(kExtensions);
}

std::vector<SourceFile> ReadTree(const fs::path& root) {
  std::vector<SourceFile> files;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::recursive_directory_iterator();
       ++it) {
    const fs::path relative = it->path().lexically_relative(root);
    const std::string name = relative.filename().string();
    if (it->is_directory()) {
      const bool build = it.depth() == 0 && name.starts_with("build");
      if (build || name == ".git" || name == ".cache") it.disable_recursion_pending();
      continue;
    }
    if (!it->is_regular_file() || !IsOurs(relative)) continue;
    std::ifstream in(it->path(), std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    files.push_back({relative.generic_string(), text.str()});
  }
  return files;
}

class Tree : public testing::Test {
 protected:
  static void SetUpTestSuite() { files_ = ReadTree(WAGGLE_SOURCE_DIR); }
  static void Expect(std::vector<Finding> (*check)(const SourceFile&)) {
    // A walk that finds nothing would pass every rule.
    ASSERT_TRUE(std::any_of(files_.begin(), files_.end(),
                            [](const SourceFile& file) { return file.path == "bpf/abi.h"; }));
    for (const SourceFile& file : files_) {
      for (const Finding& finding : check(file))
        ADD_FAILURE() << finding.ToString();
    }
  }
  static std::vector<SourceFile> files_;
};
std::vector<SourceFile> Tree::files_;

TEST_F(Tree, IncludesFollowTheTable) {
  Expect(CheckIncludes);
}
TEST_F(Tree, OnlyTheMapWriterWritesMaps) {
  Expect(CheckMapWrites);
}
TEST_F(Tree, FormIsKept) {
  Expect(CheckForm);
}
TEST_F(Tree, SkeletonIsIncludedOnce) {
  for (const Finding& finding : CheckSkeletonUse(files_))
    ADD_FAILURE() << finding.ToString();
}

}  // namespace
}  // namespace waggle::lint
