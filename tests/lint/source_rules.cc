// The rules themselves. Each table row carries its reason where it is not plain.
#include "tests/lint/source_rules.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <span>
#include <utility>

namespace waggle::lint {
namespace {

constexpr size_t kMaxLines = 700;
constexpr std::string_view kSkeletonSuffix = ".skel.h";
constexpr std::string_view kMapWriter = "maps/kernel_map_store.cc";

using Names = std::span<const std::string_view>;

// ---- Who may include whom.

struct Room {
  std::string_view prefix;  // a file belongs to the first room whose prefix fits
  Names project;            // prefixes of project paths, besides the room itself
  Names libraries;          // besides the C and C++ standard libraries, POSIX and UAPI
};

constexpr std::string_view kAnything[] = {""};
constexpr std::string_view kLeafRooms[] = {"userspace/net/", "userspace/os/", "userspace/status/",
                                           "userspace/text/"};
constexpr std::string_view kReasons[] = {"bpf/reasons.def"};
constexpr std::string_view kMapsMay[] = {"userspace/net/", "userspace/os/", "userspace/status/",
                                         "bpf/abi.h", "bpf/reasons.def"};
constexpr std::string_view kLoaderMay[] = {"userspace/net/", "userspace/os/", "userspace/status/",
                                           "maps/",          "bpf/abi.h",     "bpf/reasons.def"};
constexpr std::string_view kUpperMay[] = {"userspace/", "maps/",     "loader/",
                                          "k8s-watch/", "bpf/abi.h", "bpf/reasons.def"};

constexpr std::string_view kAbsl[] = {"absl/"};
constexpr std::string_view kLibbpf[] = {"bpf/"};
constexpr std::string_view kWatchLibraries[] = {"absl/", "nlohmann/", "yaml-cpp/", "httplib.h",
                                                "openssl/"};
constexpr std::string_view kMapsLibraries[] = {"absl/", "bpf/", "nlohmann/"};
constexpr std::string_view kLoaderLibraries[] = {"absl/", "bpf/", "libmnl/"};
// Only here may be logged: libraries return errors (no spdlog above this line).
constexpr std::string_view kUpperLibraries[] = {"absl/",     "CLI/",      "fmt/",   "httplib.h",
                                                "nlohmann/", "yaml-cpp/", "spdlog/"};

constexpr Room kRooms[] = {
    {"bpf/abi.h", kReasons, {}},
    {"bpf/", {}, kLibbpf},
    {"userspace/net/", kLeafRooms, kAbsl},
    {"userspace/os/", kLeafRooms, kAbsl},
    {"userspace/status/", kLeafRooms, kAbsl},
    {"userspace/text/", kLeafRooms, kAbsl},
    {"k8s-watch/", kLeafRooms, kWatchLibraries},
    {"maps/", kMapsMay, kMapsLibraries},
    {"loader/", kLoaderMay, kLoaderLibraries},
    {"userspace/", kUpperMay, kUpperLibraries},
    {"tests/", kAnything, kAnything},
    {"bench/", kAnything, kAnything},
};

constexpr std::string_view kProjectFolders[] = {"bpf/",       "maps/",  "loader/", "k8s-watch/",
                                                "userspace/", "tests/", "bench/"};
// Folders of the C library and of the kernel's UAPI; any header without a folder
// is the standard library's unless it is named below.
constexpr std::string_view kSystemFolders[] = {"arpa/", "asm/",     "bits/", "linux/",
                                               "net/",  "netinet/", "sys/",  "experimental/"};
constexpr std::string_view kLooseLibraryHeaders[] = {"httplib.h", "gelf.h", "libelf.h", "yaml.h",
                                                     "zlib.h"};

bool StartsWithAny(std::string_view text, Names prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [text](std::string_view prefix) { return text.starts_with(prefix); });
}

bool HasExtension(std::string_view path, std::initializer_list<std::string_view> extensions) {
  return std::any_of(extensions.begin(), extensions.end(),
                     [path](std::string_view extension) { return path.ends_with(extension); });
}

bool IsCode(std::string_view path) {
  return HasExtension(path, {".cc", ".h", ".c", ".def", ".cpp", ".hpp", ".hh", ".inc"});
}

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

std::string_view TrimLeft(std::string_view text) {
  const size_t start = text.find_first_not_of(" \t");
  return start == std::string_view::npos ? std::string_view() : text.substr(start);
}

struct Include {
  size_t line;
  bool angle;
  std::string name;
};

std::vector<Include> Includes(std::string_view text) {
  std::vector<Include> found;
  const std::string code = StripComments(text, Literals::kKeep);
  size_t number = 0;
  for (std::string_view line : Lines(code)) {
    ++number;
    line = TrimLeft(line);
    if (!line.starts_with('#')) continue;
    line = TrimLeft(line.substr(1));
    if (!line.starts_with("include")) continue;
    line = TrimLeft(line.substr(sizeof("include") - 1));
    if (line.empty() || (line[0] != '<' && line[0] != '"')) continue;
    const bool angle = line[0] == '<';
    const size_t end = line.find(angle ? '>' : '"', 1);
    if (end == std::string_view::npos) continue;
    found.push_back({number, angle, std::string(line.substr(1, end - 1))});
  }
  return found;
}

// The project path that an include names; nullopt: a library's or the system's.
// An include in angle brackets is never ours: <bpf/bpf.h> is libbpf's.
std::optional<std::string> ProjectPath(const SourceFile& file, const Include& include) {
  if (include.angle) return std::nullopt;
  if (StartsWithAny(include.name, kProjectFolders)) return include.name;
  if (include.name.find('/') != std::string::npos) return std::nullopt;
  return file.path.substr(0, file.path.rfind('/') + 1) + include.name;
}

bool IsSystem(std::string_view name) {
  if (name.find('/') != std::string_view::npos) return StartsWithAny(name, kSystemFolders);
  return !StartsWithAny(name, kLooseLibraryHeaders);
}

// What is wrong with one include, or an empty string.
std::string IncludeFault(const SourceFile& file, const Room& room, const Include& include) {
  if (include.name.find("..") != std::string::npos) return "includes by a path from elsewhere";
  if (include.name.ends_with(kSkeletonSuffix)) {
    const bool may =
        StartsWithAny(room.prefix, std::array<std::string_view, 2>{"tests/", "bench/"}) ||
        (room.prefix == "loader/" && file.path.ends_with(".cc"));
    return may ? "" : "includes the skeleton, which only one .cc of loader/ may";
  }
  if (const auto path = ProjectPath(file, include)) {
    // Everything of a room may include the room itself; abi.h is a room of one file.
    if (path->starts_with(room.prefix) || StartsWithAny(*path, room.project)) {
      const bool upward =
          !StartsWithAny(room.prefix, std::array<std::string_view, 2>{"tests/", "bench/"}) &&
          StartsWithAny(*path, std::array<std::string_view, 2>{"tests/", "bench/"});
      return upward ? "includes tests or benchmarks" : "";
    }
    return "may not include " + *path;
  }
  if (room.prefix == "bpf/abi.h") {
    return include.name == "linux/types.h" ? "" : "may include only <linux/types.h>";
  }
  if (room.prefix == "bpf/") {
    const bool may =
        StartsWithAny(include.name, std::array<std::string_view, 3>{"linux/", "asm/", "bpf/"});
    return may ? "" : "may include only UAPI and libbpf's BPF headers";
  }
  if (IsSystem(include.name) || StartsWithAny(include.name, room.libraries)) return "";
  return "is no place for the library of <" + include.name + ">";
}

// ---- Who may write maps.

// libbpf's calls in both spellings, and the raw commands of bpf(2).
constexpr std::string_view kWritingWords[] = {
    "bpf_map_update_elem",
    "bpf_map_update_batch",
    "bpf_map_delete_elem",
    "bpf_map_delete_elem_flags",
    "bpf_map_delete_batch",
    "bpf_map_lookup_and_delete_elem",
    "bpf_map_lookup_and_delete_elem_flags",
    "bpf_map_lookup_and_delete_batch",
    "bpf_map__update_elem",
    "bpf_map__delete_elem",
    "bpf_map__lookup_and_delete_elem",
    "BPF_MAP_UPDATE_ELEM",
    "BPF_MAP_UPDATE_BATCH",
    "BPF_MAP_DELETE_ELEM",
    "BPF_MAP_DELETE_BATCH",
    "BPF_MAP_LOOKUP_AND_DELETE_ELEM",
    "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
    "PROT_WRITE",  // a map mapped for writing; nothing else of ours is mapped so
};

// ---- Form.

// In two pieces each, as this file is checked too.
constexpr std::string_view kPromises[] = {
    "TO"
    "DO",
    "FIX"
    "ME",
    "XX"
    "X"};
constexpr std::string_view kMachinePaths[] = {
    "/wo"
    "rk/",
    "/tmp/bu"
    "ild"};
constexpr std::string_view kBpfLicense = "SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause)";

bool IsWordChar(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

bool HasWord(std::string_view line, std::string_view word) {
  for (size_t at = line.find(word); at != std::string_view::npos; at = line.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !IsWordChar(line[at - 1])) && (end == line.size() || !IsWordChar(line[end]))) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string Finding::ToString() const {
  return path + (line == 0 ? "" : ":" + std::to_string(line)) + ": " + text;
}

std::vector<Finding> CheckIncludes(const SourceFile& file) {
  if (!IsCode(file.path)) return {};
  const auto* room = std::find_if(std::begin(kRooms), std::end(kRooms), [&file](const Room& each) {
    return file.path.starts_with(each.prefix);
  });
  if (room == std::end(kRooms)) {
    return {{file.path, 0, "stands in no room of the include table"}};
  }
  std::vector<Finding> found;
  for (const Include& include : Includes(file.text)) {
    std::string fault = IncludeFault(file, *room, include);
    if (!fault.empty()) found.push_back({file.path, include.line, std::move(fault)});
  }
  return found;
}

std::vector<Finding> CheckSkeletonUse(const std::vector<SourceFile>& files) {
  std::vector<Finding> users;
  for (const SourceFile& file : files) {
    if (!file.path.starts_with("loader/") || !IsCode(file.path)) continue;
    for (const Include& include : Includes(file.text)) {
      if (include.name.ends_with(kSkeletonSuffix)) {
        users.push_back(
            {file.path, include.line, "is not the only file that includes the skeleton"});
      }
    }
  }
  if (users.size() < 2) users.clear();
  return users;
}

std::vector<Finding> CheckMapWrites(const SourceFile& file) {
  const bool exempt = !IsCode(file.path) || file.path == kMapWriter ||
                      file.path.starts_with("bpf/") || file.path.starts_with("tests/");
  if (exempt) return {};
  std::vector<Finding> found;
  const std::string code = StripComments(file.text, Literals::kBlank);
  size_t number = 0;
  for (const std::string_view line : Lines(code)) {
    ++number;
    for (const std::string_view word : kWritingWords) {
      if (!HasWord(line, word)) continue;
      found.push_back({file.path, number,
                       std::string(word) + ": only " + std::string(kMapWriter) + " writes maps"});
    }
  }
  return found;
}

std::vector<Finding> CheckForm(const SourceFile& file) {
  std::vector<Finding> found;
  const auto lines = Lines(file.text);
  if (IsCode(file.path)) {
    // An implementation or a test begins with the header whose contract it keeps.
    const bool has_contract =
        file.text.starts_with("//") || file.text.starts_with("/*") ||
        (HasExtension(file.path, {".cc"}) && file.text.starts_with("#include \""));
    if (!has_contract) {
      found.push_back({file.path, 1, "starts without a comment that says what the file is for"});
    }
    if (lines.size() > kMaxLines) {
      found.push_back({file.path, 0,
                       "has " + std::to_string(lines.size()) + " lines; at most " +
                           std::to_string(kMaxLines) + ": has it one reason to change?"});
    }
    if (file.path.starts_with("bpf/") &&
        (lines.empty() || lines[0].find(kBpfLicense) == std::string_view::npos)) {
      found.push_back({file.path, 1, "does not start with " + std::string(kBpfLicense)});
    }
  }
  size_t number = 0;
  for (const std::string_view line : lines) {
    ++number;
    for (const std::string_view promise : kPromises) {
      if (HasWord(line, promise)) {
        found.push_back(
            {file.path, number, std::string(promise) + ": keep the promise or drop it"});
      }
    }
    for (const std::string_view path : kMachinePaths) {
      if (line.find(path) != std::string_view::npos) {
        found.push_back({file.path, number, std::string(path) + ": a path of one machine"});
      }
    }
  }
  return found;
}

}  // namespace waggle::lint
