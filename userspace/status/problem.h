// What is wrong with an input, as data: which object, which field, why, and what
// to do. Made by the pure rooms, collected by the agent, printed once.
#ifndef WAGGLE_USERSPACE_STATUS_PROBLEM_H_
#define WAGGLE_USERSPACE_STATUS_PROBLEM_H_

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace waggle {

// "Service default/web"; a file or folder has kind "file" and its path as name.
struct ObjectRef {
  std::string kind;
  std::string ns;  // empty for what has no namespace
  std::string name;

  std::string ToString() const;
  friend auto operator<=>(const ObjectRef&, const ObjectRef&) = default;
};

enum class ProblemReason : uint8_t {
  kInvalid,      // the field's value is not allowed; the object or field is left out
  kUnreadable,   // the file, document or object could not be read at all
  kConflict,     // another object has the same claim and wins
  kUnsupported,  // valid, but this version of Waggle does not serve it
  kFull,         // a map has no room for it
  kRefused,      // the kernel refused to take it
};
std::string_view ProblemReasonName(ProblemReason reason);

struct Problem {
  ObjectRef object;
  std::string origin;  // where the object came from ("web.yaml, document 2"); may be empty
  std::string field;   // path in the object ("spec.ports[0].port"); may be empty
  ProblemReason reason = ProblemReason::kInvalid;
  std::string text;  // what is wrong, what was expected, what happens now

  // "Service default/web (web.yaml, document 2): spec.ports[0].port: invalid: …"
  std::string ToString() const;
  friend auto operator<=>(const Problem&, const Problem&) = default;
};

}  // namespace waggle

#endif
