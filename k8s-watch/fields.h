// Reading single fields of an object: what is absent, what is wrong, and how that
// is told. Used by the decoders only.
#ifndef WAGGLE_K8S_WATCH_FIELDS_H_
#define WAGGLE_K8S_WATCH_FIELDS_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "k8s-watch/types.h"
#include "k8s-watch/value.h"
#include "userspace/net/address.h"
#include "userspace/status/problem.h"

namespace waggle::k8s {

// A place in an object, built on the stack while descending; text only on demand.
class Path {
 public:
  Path() = default;
  // `parent` must outlive this, and `key` be a literal.
  Path(const Path& parent, std::string_view key) : parent_(&parent), key_(key) {}
  Path(const Path& parent, size_t index) : parent_(&parent), index_(index) {}

  // "spec.ports[2].port"; empty for the object itself.
  std::string ToString() const;

 private:
  const Path* parent_ = nullptr;
  std::string_view key_;  // not of an item
  size_t index_ = 0;
};

// Problems of one object; after kMaxProblems the rest is only counted, so that a
// hostile object cannot fill the memory with complaints. Most objects have none: what it is made
// of must outlive it, and is only copied into problems.
class Reporter {
 public:
  static constexpr size_t kMaxProblems = 20;

  Reporter(std::string_view kind, std::string_view origin) : kind_(kind), origin_(origin) {}

  [[gnu::cold]] void Add(const Path& path, ProblemReason reason, std::string text);
  [[gnu::cold]] void Invalid(const Path& path, std::string text) {
    Add(path, ProblemReason::kInvalid, std::move(text));
  }
  void set_kind(std::string_view kind) { kind_ = kind; }
  void set_name(const ObjectName* name) { name_ = name; }
  // Something invalid was reported that traffic depends on; see HarmlessFields.
  bool damaged() const { return damaged_; }
  // Moves all problems to the end of `out`. True when there were any.
  bool MoveTo(std::vector<Problem>* out);

 private:
  friend class HarmlessFields;

  ObjectRef object() const;

  std::string_view kind_;
  const ObjectName* name_ = nullptr;  // null: not known
  std::string_view origin_;
  std::vector<Problem> problems_;
  size_t left_out_ = 0;
  bool damaged_ = false;
  bool harmless_ = false;
};

// While it lives, what is reported is of fields that no traffic depends on.
class HarmlessFields {
 public:
  explicit HarmlessFields(Reporter* report)
      : report_(report), before_(std::exchange(report->harmless_, true)) {}
  ~HarmlessFields() { report_->harmless_ = before_; }
  HarmlessFields(const HarmlessFields&) = delete;
  HarmlessFields& operator=(const HarmlessFields&) = delete;

 private:
  Reporter* report_;
  bool before_;
};

// A field: absent (or null), bad (and reported), or with a value.
template <typename T>
struct Field {
  std::optional<T> value;
  bool bad = false;
};

// "the string \"80\"", "80.5", "a list": how a message names what it found.
std::string Describe(const Value& value);
std::string Describe(const nlohmann::json& value);

// The text of a string in quotes, for a sentence about it.
std::string QuoteText(const Value& string);

// The member, or null when it is absent or null. `object` must be a mapping.
const Value* Member(const Value& object, std::string_view key);
const nlohmann::json* Member(const nlohmann::json& object, std::string_view key);

// Each reads member `key` of `object`, which stands at `parent`. A value of another type or
// out of range is reported: what it is, what was expected, `then` ("this port is left out").
Field<std::string_view> ReadString(const Value& object, const Path& parent, std::string_view key,
                                   std::string_view then, Reporter* report);
Field<bool> ReadBool(const Value& object, const Path& parent, std::string_view key,
                     std::string_view then, Reporter* report);
// Whole numbers; 80.0 is one, as it is for kubectl. `what` names the range.
Field<int64_t> ReadInteger(const Value& object, const Path& parent, std::string_view key,
                           int64_t low, int64_t high, std::string_view what, std::string_view then,
                           Reporter* report);
Field<const Value*> ReadObject(const Value& object, const Path& parent, std::string_view key,
                               std::string_view then, Reporter* report);
Field<const Value*> ReadList(const Value& object, const Path& parent, std::string_view key,
                             std::string_view then, Reporter* report);
// A time as the API writes it: RFC 3339, with a fraction of a second or without.
Field<absl::Time> ReadTime(const Value& object, const Path& parent, std::string_view key,
                           std::string_view then, Reporter* report);
// TCP when absent or empty.
Field<net::Protocol> ReadProtocol(const Value& object, const Path& parent, std::string_view then,
                                  Reporter* report);
// A whole number from 1 to 65535; with `zero_allowed` 0 is taken too, but not advertised.
Field<uint16_t> ReadPort(const Value& object, const Path& parent, std::string_view key,
                         bool zero_allowed, std::string_view then, Reporter* report);
// A value as an IP address; nullopt when it is none, and reported.
std::optional<net::Address> ToAddress(const Value& value, const Path& path, std::string_view then,
                                      Reporter* report);

// Why no traffic may go to such an address, as upstream's validation has it:
// "an unspecified", "a loopback", "a link-local" or "a multicast"; nullptr for all others.
const char* SpecialAddress(const net::Address& address);

// RFC 1123: lower-case letters, digits and '-', at most 63 characters.
bool IsLabel(std::string_view text);
// Labels joined by dots, at most 253 characters.
bool IsSubdomain(std::string_view text);

}  // namespace waggle::k8s

#endif
