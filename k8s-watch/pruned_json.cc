#include "k8s-watch/pruned_json.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "k8s-watch/quote.h"
#include "k8s-watch/tree_builder.h"

namespace waggle::k8s {
namespace {

using nlohmann::json;

class PrunedReader : public nlohmann::json_sax<json> {
 public:
  PrunedReader() : builder_(&alias_budget_) {}

  bool null() override { return Scalar(nullptr); }
  bool boolean(bool value) override { return Scalar(value); }
  bool number_integer(number_integer_t value) override { return Scalar(value); }
  bool number_unsigned(number_unsigned_t value) override { return Scalar(value); }
  bool number_float(number_float_t value, const string_t&) override { return Scalar(value); }
  bool string(string_t& value) override { return Scalar(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return Skips(1) || Check(builder_.StartMapping(0)); }
  bool start_array(size_t) override { return Skips(1) || Check(builder_.StartList(0)); }
  bool end_object() override { return End(); }
  bool end_array() override { return End(); }
  bool key(string_t& value) override {
    if (skipped_ > 0) return true;
    if (value == kPrunedKey) {
      skip_next_ = true;
      return true;
    }
    return Check(builder_.Key(std::move(value), 0));
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    std::string_view what = error.what();
    const size_t colon = what.find(": ");
    if (colon != std::string_view::npos) what.remove_prefix(colon + 2);
    status_ = absl::InvalidArgumentError(absl::StrCat("not JSON: ", Printable(what, 200)));
    return false;
  }

  absl::StatusOr<json> Take() {
    if (!status_.ok()) return status_;
    return builder_.Take();
  }

 private:
  // True when the value that begins is not to be kept; `levels` it opens.
  bool Skips(size_t levels) {
    if (skipped_ == 0 && !skip_next_) return false;
    skip_next_ = false;
    skipped_ += levels;
    return true;
  }
  bool Scalar(json value) { return Skips(0) || Check(builder_.Scalar(std::move(value), 0)); }
  bool End() {
    if (skipped_ > 0) {
      --skipped_;
      return true;
    }
    return Check(builder_.End());
  }
  bool Check(absl::Status status) {
    status_ = std::move(status);
    return status_.ok();
  }

  size_t alias_budget_ = 0;
  TreeBuilder builder_;
  absl::Status status_;
  bool skip_next_ = false;
  size_t skipped_ = 0;  // levels within a value that is not kept
};

}  // namespace

absl::StatusOr<json> ReadPrunedJson(std::string_view text) {
  PrunedReader reader;
  json::sax_parse(text, &reader);
  return reader.Take();
}

}  // namespace waggle::k8s
