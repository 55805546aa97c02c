#include "k8s-watch/manifest_content.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "k8s-watch/document.h"
#include "k8s-watch/quote.h"

namespace waggle::k8s {
namespace {

// A file of millions of bad objects must not fill the memory with complaints.
constexpr size_t kMaxProblemsPerFile = 1000;
constexpr size_t kMaxNameBytes = 255;

}  // namespace

Problem FileProblem(const std::string& path, std::string origin, std::string text) {
  return {{"file", "", Printable(path, 4096)},
          std::move(origin),
          "",
          ProblemReason::kUnreadable,
          std::move(text)};
}

ManifestContent ParseManifest(std::string_view name, const std::string& path,
                              std::string_view text) {
  ManifestContent content;
  content.path = path;
  size_t left_out = 0;
  const auto add_problem = [&](Problem problem, bool is_cause) {
    if (content.problems.size() < kMaxProblemsPerFile) {
      if (is_cause) content.causes.push_back(content.problems.size());
      content.problems.push_back(std::move(problem));
    } else {
      ++left_out;
    }
  };
  // Whoever writes the file has not come further, or has failed.
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return UnreadableManifest(path, absl::InvalidArgumentError("is empty, expected manifests"));
  }
  const std::string file = Printable(name, kMaxNameBytes);
  const auto visit = [&](const Document& document) {
    const std::string place = absl::StrCat("document ", document.number);
    if (!document.value.ok()) {
      ++content.unidentified;
      return add_problem(FileProblem(path, document.count > 1 ? place : "",
                                     std::string(document.value.status().message())),
                         true);
    }
    // An empty document between two markers.
    if (document.value->is_null()) return;
    ++content.documents;
    DecodeResult decoded;
    DecodeDocument(*document.value, document.count > 1 ? absl::StrCat(file, ", ", place) : file,
                   &decoded);
    content.unidentified += decoded.unidentified;
    content.manifests += decoded.strays == 0;
    for (size_t i = 0; i < decoded.problems.size(); ++i) {
      add_problem(std::move(decoded.problems[i]),
                  std::binary_search(decoded.causes.begin(), decoded.causes.end(), i));
    }
    content.objects.insert(content.objects.end(), std::make_move_iterator(decoded.objects.begin()),
                           std::make_move_iterator(decoded.objects.end()));
  };
  const TextFormat format = name.ends_with(".json") ? TextFormat::kJson : TextFormat::kAny;
  if (auto status = ForEachDocument(text, format, visit); !status.ok()) {
    return UnreadableManifest(path, status);
  }
  if (left_out > 0) {
    content.problems.push_back(
        FileProblem(path, "", absl::StrCat("has ", left_out, " more problems like these")));
  }
  return content;
}

ManifestContent UnreadableManifest(const std::string& path, const absl::Status& why) {
  ManifestContent content;
  content.path = path;
  content.unidentified = 1;
  content.causes = {0};
  content.problems.push_back(FileProblem(path, "", std::string(why.message())));
  return content;
}

}  // namespace waggle::k8s
