// What the tree of sources has to look like: who may include whom, who may write
// maps, and a few rules of form. Pure functions over text, so that a table of
// snippets shows each rule catching what it is for.
#ifndef WAGGLE_TESTS_LINT_SOURCE_RULES_H_
#define WAGGLE_TESTS_LINT_SOURCE_RULES_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace waggle::lint {

struct SourceFile {
  std::string path;  // from the root of the repository, with '/'
  std::string text;
};

struct Finding {
  std::string path;
  size_t line = 0;  // from 1; 0: the file as a whole
  std::string text;

  std::string ToString() const;
};

// Replaces comments by spaces, and the contents of string and character literals
// too if `literals` says so. Lines keep their numbers. Understands raw strings
// and digit separators.
enum class Literals { kKeep, kBlank };
std::string StripComments(std::string_view code, Literals literals);

// The include table of docs and ARCHITECTURE: each room includes only rooms below
// it, and only the libraries that its job needs.
std::vector<Finding> CheckIncludes(const SourceFile& file);

// The generated skeleton is heavy and holds writable views of maps: one .cc of
// loader/ includes it. A rule over all files at once.
std::vector<Finding> CheckSkeletonUse(const std::vector<SourceFile>& files);

// Only the map writer writes maps. BPF programs and tests are exempt.
std::vector<Finding> CheckMapWrites(const SourceFile& file);

// A leading comment, a bounded length, an SPDX line in bpf/, no promises left in
// the code, no paths of somebody's machine.
std::vector<Finding> CheckForm(const SourceFile& file);

}  // namespace waggle::lint

#endif  // WAGGLE_TESTS_LINT_SOURCE_RULES_H_
