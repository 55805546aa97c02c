// Reading netlink attributes that anybody may have made: lengths are checked, types too large
// are left out.
#ifndef WAGGLE_LOADER_NETLINK_ATTRIBUTES_H_
#define WAGGLE_LOADER_NETLINK_ATTRIBUTES_H_

#include <libmnl/libmnl.h>

#include <cstddef>
#include <string_view>

namespace waggle::loader {

// The NUL-terminated text of an attribute; empty when it is none.
inline std::string_view Text(const nlattr* attribute) {
  if (!attribute || mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) < 0) return {};
  return mnl_attr_get_str(attribute);
}

// libmnl's macros for this are no C++.
template <typename Take>
void ForEachAttribute(const void* begin, size_t size, Take take) {
  const auto* end = static_cast<const char*>(begin) + size;
  const auto* attribute = static_cast<const nlattr*>(begin);
  while (mnl_attr_ok(attribute, static_cast<int>(end - reinterpret_cast<const char*>(attribute)))) {
    take(attribute);
    attribute = mnl_attr_next(attribute);
  }
}
template <typename Take>
void ForEachNested(const nlattr* nest, Take take) {
  if (nest) ForEachAttribute(mnl_attr_get_payload(nest), mnl_attr_get_payload_len(nest), take);
}

// The attributes behind a message's fixed part, or within another, by type.
template <size_t kTypes>
class Attributes {
 public:
  Attributes(const nlmsghdr* message, size_t fixed) {
    const size_t size = mnl_nlmsg_get_payload_len(message);
    const size_t behind = MNL_ALIGN(fixed);
    if (size < behind) return;
    ForEachAttribute(mnl_nlmsg_get_payload_offset(message, fixed), size - behind,
                     [this](const nlattr* attribute) { Take(attribute); });
  }
  explicit Attributes(const nlattr* nest) {
    ForEachNested(nest, [this](const nlattr* attribute) { Take(attribute); });
  }
  const nlattr* operator[](size_t type) const { return found_[type]; }

 private:
  void Take(const nlattr* attribute) {
    const size_t type = mnl_attr_get_type(attribute);
    if (type < kTypes) found_[type] = attribute;
  }
  const nlattr* found_[kTypes] = {};
};

}  // namespace waggle::loader

#endif
