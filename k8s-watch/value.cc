#include "k8s-watch/value.h"

#include <nlohmann/json.hpp>

namespace waggle::k8s {
namespace {

using nlohmann::json;

size_t Count(const json& value) {
  size_t count = 1;
  if (value.is_object()) count += value.size();  // the keys
  if (value.is_structured()) {
    for (const json& member : value)
      count += Count(member);
  }
  return count;
}

// Parsers limit the depth.
void Append(const json& value, std::vector<Value>* values) {
  switch (value.type()) {
    case json::value_t::boolean:
      return values->push_back(Value::Bool(value.get<bool>()));
    case json::value_t::number_integer:
      return values->push_back(Value::Integer(value.get<int64_t>()));
    case json::value_t::number_unsigned:
      return values->push_back(Value::Unsigned(value.get<uint64_t>()));
    case json::value_t::number_float:
      return values->push_back(Value::Float(value.get<double>()));
    case json::value_t::string:
      return values->push_back(Value::String(*value.get_ptr<const json::string_t*>()));
    case json::value_t::array: {
      const size_t at = values->size();
      values->push_back(Value::Null());
      for (const json& item : value)
        Append(item, values);
      (*values)[at] = Value::List(value.size(), values->size() - at);
      return;
    }
    case json::value_t::object: {
      const size_t at = values->size();
      values->push_back(Value::Null());
      for (const auto& [key, member] : value.get_ref<const json::object_t&>()) {
        values->push_back(Value::String(key));
        Append(member, values);
      }
      (*values)[at] = Value::Mapping(value.size(), values->size() - at);
      return;
    }
    case json::value_t::null:
    case json::value_t::binary:
    case json::value_t::discarded:
      break;
  }
  values->push_back(Value::Null());
}

}  // namespace

const Value* Value::Find(std::string_view key) const {
  if (!is_mapping()) return nullptr;
  const Value* const end = next();
  for (const Value* at = this + 1; at != end; at = at[1].next()) {
    if (at->text() == key) return at + 1;
  }
  return nullptr;
}

std::vector<Value> ToValues(const json& json) {
  std::vector<Value> values;
  values.reserve(Count(json));
  Append(json, &values);
  return values;
}

}  // namespace waggle::k8s
