#include "userspace/text/shared_text.h"

#include <atomic>
#include <functional>
#include <mutex>

#include "absl/container/flat_hash_set.h"

namespace waggle::text {

struct SharedText::Entry {
  const std::string text;
  // From 1 to 0, and from 0 to 1, only under the pool's mutex.
  std::atomic<size_t> owners{1};
};

struct SharedText::Pool {
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
    size_t operator()(const Entry* entry) const { return (*this)(entry->text); }
  };
  struct Equal {
    using is_transparent = void;
    static std::string_view Of(std::string_view text) { return text; }
    static std::string_view Of(const Entry* entry) { return entry->text; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return Of(a) == Of(b);
    }
  };

  // Never destroyed: texts may outlive it at the end of the process.
  static Pool& Get() {
    static Pool& pool = *new Pool;
    return pool;
  }

  std::mutex mutex;
  absl::flat_hash_set<Entry*, Hash, Equal> entries;
};

SharedText::Entry* SharedText::Acquire(std::string_view text) {
  if (text.empty()) return nullptr;
  Pool& pool = Pool::Get();
  const std::lock_guard lock(pool.mutex);
  if (const auto found = pool.entries.find(text); found != pool.entries.end()) {
    return Share(*found);
  }
  auto* entry = new Entry{std::string(text)};
  pool.entries.insert(entry);
  return entry;
}

SharedText::Entry* SharedText::Share(Entry* entry) {
  if (entry != nullptr) entry->owners.fetch_add(1, std::memory_order_relaxed);
  return entry;
}

void SharedText::Release(Entry* entry) {
  if (entry == nullptr) return;
  size_t owners = entry->owners.load(std::memory_order_relaxed);
  while (owners > 1) {
    if (entry->owners.compare_exchange_weak(owners, owners - 1, std::memory_order_acq_rel)) return;
  }
  Pool& pool = Pool::Get();
  const std::lock_guard lock(pool.mutex);
  // Somebody may have asked for this text since.
  if (entry->owners.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  pool.entries.erase(entry);
  delete entry;
}

const std::string& SharedText::str() const {
  static const std::string& empty = *new std::string;
  return entry_ == nullptr ? empty : entry_->text;
}

size_t SharedText::Count() {
  Pool& pool = Pool::Get();
  const std::lock_guard lock(pool.mutex);
  return pool.entries.size();
}

SharedNames::SharedNames(const std::vector<std::string>& names) {
  std::string joined;
  for (const std::string& name : names) {
    joined += name;
    joined += '\0';
  }
  joined_ = SharedText(joined);
}

bool SharedNames::contains(std::string_view name) const {
  std::string_view rest = joined_.str();
  while (!rest.empty()) {
    const size_t end = rest.find('\0');
    if (rest.substr(0, end) == name) return true;
    rest.remove_prefix(end + 1);
  }
  return false;
}

std::vector<std::string> SharedNames::names() const {
  std::vector<std::string> names;
  std::string_view rest = joined_.str();
  while (!rest.empty()) {
    const size_t end = rest.find('\0');
    names.emplace_back(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  return names;
}

}  // namespace waggle::text
