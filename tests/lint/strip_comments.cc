// The part of C++'s lexical grammar that the rules need: what is a comment, what a
// literal, what code.
#include <cctype>

#include "tests/lint/source_rules.h"

namespace waggle::lint {
namespace {

bool IsWordChar(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

class Stripper {
 public:
  Stripper(std::string_view code, Literals literals) : code_(code), literals_(literals) {
    out_.reserve(code.size());
  }

  std::string Run() {
    while (at_ < code_.size()) {
      if (StartsWith("//")) {
        BlankUntilLineEnd();
      } else if (StartsWith("/*")) {
        BlankTo(code_.find("*/", at_ + 2), 2);
      } else if (code_[at_] == '"') {
        if (IsRawString()) {
          RawString();
        } else {
          Quoted('"');
        }
      } else if (code_[at_] == '\'' && !IsDigitSeparator()) {
        Quoted('\'');
      } else {
        out_ += code_[at_++];
      }
    }
    return std::move(out_);
  }

 private:
  bool StartsWith(std::string_view prefix) const { return code_.substr(at_).starts_with(prefix); }

  void Blank() {
    out_ += code_[at_] == '\n' ? '\n' : ' ';
    ++at_;
  }
  // To the end of `found` and `length` characters beyond it, or of the file.
  void BlankTo(size_t found, size_t length) {
    const size_t end = found == std::string_view::npos ? code_.size() : found + length;
    while (at_ < end)
      Blank();
  }
  void BlankUntilLineEnd() {
    while (at_ < code_.size() && code_[at_] != '\n')
      Blank();
  }
  void Literal() {
    if (literals_ == Literals::kKeep) {
      out_ += code_[at_++];
    } else {
      Blank();
    }
  }

  // A quote inside 1'000.
  bool IsDigitSeparator() const {
    return at_ > 0 && std::isxdigit(static_cast<unsigned char>(code_[at_ - 1])) != 0 &&
           at_ + 1 < code_.size() && IsWordChar(code_[at_ + 1]);
  }
  bool IsRawString() const {
    if (at_ == 0 || code_[at_ - 1] != 'R') return false;
    if (at_ == 1) return true;
    const char before = code_[at_ - 2];
    return !IsWordChar(before) || before == '8' || before == 'u' || before == 'U' || before == 'L';
  }

  void Quoted(char quote) {
    out_ += code_[at_++];
    while (at_ < code_.size() && code_[at_] != quote && code_[at_] != '\n') {
      if (code_[at_] == '\\' && at_ + 1 < code_.size()) Literal();
      Literal();
    }
    if (at_ < code_.size()) out_ += code_[at_++];
  }
  void RawString() {
    const size_t open = code_.find('(', at_);
    if (open == std::string_view::npos) {
      out_ += code_[at_++];
      return;
    }
    std::string close = ")";
    close += code_.substr(at_ + 1, open - at_ - 1);
    close += '"';
    const size_t found = code_.find(close, open);
    const size_t end = found == std::string_view::npos ? code_.size() : found + close.size();
    while (at_ < end)
      Literal();
  }

  std::string_view code_;
  Literals literals_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string StripComments(std::string_view code, Literals literals) {
  return Stripper(code, literals).Run();
}

}  // namespace waggle::lint
