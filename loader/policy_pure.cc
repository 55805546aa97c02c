// What needs no kernel: which forwarding follows from what was found, and what the bytes
// of a table of iptables-legacy say.
#include <netinet/in.h>  // first: the kernel's headers then leave out what it defines

#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "loader/policy_engines.h"

namespace waggle::loader {

ForwardingChoice ChooseForwarding(waggle_forwarding asked,
                                  const absl::StatusOr<std::vector<PolicyEngine>>& found) {
  ForwardingChoice choice;
  const auto first = [&] {
    std::string text = absl::StrCat(found->front().where, ": ", found->front().why);
    if (found->size() > 1) absl::StrAppend(&text, " (and ", found->size() - 1, " more)");
    return text;
  };
  if (asked == WAGGLE_FORWARDING_REDIRECT) {
    choice.forwarding = WAGGLE_FORWARDING_REDIRECT;
    choice.reason = "as asked";
    if (found.ok() && !found->empty()) absl::StrAppend(&choice.reason, ", although ", first());
  } else if (asked == WAGGLE_FORWARDING_STACK) {
    choice.reason = "as asked";
  } else if (!found.ok()) {
    choice.reason =
        absl::StrCat("could not look for policy engines: ", std::string(found.status().message()));
  } else if (found->empty()) {
    choice.forwarding = WAGGLE_FORWARDING_REDIRECT;
    choice.reason = "no policy engine found";
  } else {
    choice.reason = first();
  }
  for (char& c : choice.reason) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  if (constexpr size_t kMost = WAGGLE_REASON_LEN - 1; choice.reason.size() > kMost) {
    choice.reason.resize(kMost);
    choice.reason.replace(kMost - 3, 3, "...");
  }
  return choice;
}

absl::StatusOr<std::vector<std::string>> LegacyChains(std::span<const uint8_t> entries, bool ipv6) {
  const size_t fixed = ipv6 ? sizeof(ip6t_entry) : sizeof(ipt_entry);
  const size_t target_at =
      ipv6 ? offsetof(ip6t_entry, target_offset) : offsetof(ipt_entry, target_offset);
  const size_t next_at =
      ipv6 ? offsetof(ip6t_entry, next_offset) : offsetof(ipt_entry, next_offset);
  const auto read16 = [&](size_t at) {
    uint16_t value;
    std::memcpy(&value, entries.data() + at, sizeof(value));
    return size_t{value};
  };
  constexpr size_t kNameAt = offsetof(xt_entry_target, u.user.name);
  constexpr size_t kNameMostLegacy = XT_EXTENSION_MAXNAMELEN;

  std::vector<std::string> chains;
  for (size_t at = 0, next = 0; at < entries.size(); at += next) {
    const auto damaged = [&](const char* what) {
      return absl::InvalidArgumentError(absl::StrCat("rule at offset ", at, ": ", what));
    };
    const size_t left = entries.size() - at;
    if (left < fixed) return damaged("cut short");
    const size_t target = read16(at + target_at);
    next = read16(at + next_at);
    if (next > left || next < fixed) return damaged("its length is wrong");
    if (target < fixed || target + sizeof(xt_entry_target) > next) {
      return damaged("its target is outside of it");
    }
    const auto text = [&](size_t from, size_t most) {
      const auto* begin = reinterpret_cast<const char*>(entries.data() + from);
      return std::string_view(begin, strnlen(begin, most));
    };
    // A chain begins with a rule that has its name in the place of a target's data.
    if (text(at + target + kNameAt, kNameMostLegacy) != XT_ERROR_TARGET) continue;
    const size_t name = target + sizeof(xt_entry_target);
    const std::string_view chain =
        text(at + name, std::min<size_t>(next - name, XT_FUNCTION_MAXNAMELEN));
    // The one named as its target ends the table.
    if (chain != XT_ERROR_TARGET) chains.emplace_back(chain);
  }
  return chains;
}

}  // namespace waggle::loader
