#include "userspace/status/problem.h"

namespace waggle {

std::string ObjectRef::ToString() const {
  std::string text = kind;
  if (!name.empty()) text += " " + (ns.empty() ? name : ns + "/" + name);
  return text;
}

std::string_view ProblemReasonName(ProblemReason reason) {
  switch (reason) {
    case ProblemReason::kInvalid:
      return "invalid";
    case ProblemReason::kUnreadable:
      return "unreadable";
    case ProblemReason::kConflict:
      return "conflict";
    case ProblemReason::kUnsupported:
      return "unsupported";
    case ProblemReason::kFull:
      return "full";
    case ProblemReason::kRefused:
      return "refused";
  }
  return "unknown";
}

std::string Problem::ToString() const {
  std::string line = object.ToString();
  if (!origin.empty()) line += " (" + origin + ")";
  if (!field.empty()) line += ": " + field;
  line += ": ";
  line += ProblemReasonName(reason);
  return line + ": " + text;
}

}  // namespace waggle
