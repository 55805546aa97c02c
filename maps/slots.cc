#include "maps/slots.h"

#include <algorithm>
#include <bit>
#include <iterator>

namespace waggle::maps {

IdPool::IdPool(uint32_t capacity) : capacity_(capacity), taken_((capacity + 63) / 64) {
  // Bits past the end count as taken.
  if (capacity % 64 != 0) taken_.back() = ~uint64_t{0} << (capacity % 64);
}

std::optional<uint32_t> IdPool::Take() {
  for (; first_word_ < taken_.size(); ++first_word_) {
    uint64_t& word = taken_[first_word_];
    if (word == ~uint64_t{0}) continue;
    const auto bit = static_cast<uint32_t>(std::countr_one(word));
    word |= uint64_t{1} << bit;
    ++used_;
    return first_word_ * 64 + bit;
  }
  return std::nullopt;
}

bool IdPool::Reserve(uint32_t id) {
  if (id >= capacity_) return false;
  uint64_t& word = taken_[id / 64];
  const uint64_t bit = uint64_t{1} << (id % 64);
  if (word & bit) return false;
  word |= bit;
  ++used_;
  return true;
}

void IdPool::Release(uint32_t id) {
  // Ids out of pinned maps may be anything; Reserve() has refused those.
  if (id >= capacity_) return;
  const uint64_t bit = uint64_t{1} << (id % 64);
  if (!(taken_[id / 64] & bit)) return;
  taken_[id / 64] &= ~bit;
  first_word_ = std::min(first_word_, id / 64);
  --used_;
}

RangePool::RangePool(uint32_t capacity) : capacity_(capacity) {
  AddFree(0, capacity);
}

void RangePool::AddFree(uint32_t base, uint32_t count) {
  free_by_base_.emplace(base, count);
  free_by_size_.emplace(count, base);
}

void RangePool::RemoveFree(uint32_t base, uint32_t count) {
  free_by_base_.erase(base);
  free_by_size_.erase({count, base});
}

std::optional<uint32_t> RangePool::Take(uint32_t count) {
  const auto fit = free_by_size_.lower_bound({count, 0});
  if (fit == free_by_size_.end()) return std::nullopt;
  const auto [size, base] = *fit;
  RemoveFree(base, size);
  if (size > count) AddFree(base + count, size - count);
  used_ += count;
  return base;
}

bool RangePool::Reserve(uint32_t base, uint32_t count) {
  auto next = free_by_base_.upper_bound(base);
  if (next == free_by_base_.begin()) return false;
  const auto [free_base, free_count] = *std::prev(next);
  const uint64_t end = uint64_t{base} + count;
  if (count == 0 || end > uint64_t{free_base} + free_count) return false;
  RemoveFree(free_base, free_count);
  if (base > free_base) AddFree(free_base, base - free_base);
  const auto tail = static_cast<uint32_t>(uint64_t{free_base} + free_count - end);
  if (tail > 0) AddFree(base + count, tail);
  used_ += count;
  return true;
}

void RangePool::Release(uint32_t base, uint32_t count) {
  used_ -= count;
  auto next = free_by_base_.lower_bound(base);
  if (next != free_by_base_.end() && next->first == base + count) {
    const auto [next_base, next_count] = *next;
    RemoveFree(next_base, next_count);
    count += next_count;
  }
  auto after = free_by_base_.lower_bound(base);
  if (after != free_by_base_.begin()) {
    const auto [before_base, before_count] = *std::prev(after);
    if (before_base + before_count == base) {
      RemoveFree(before_base, before_count);
      base = before_base;
      count += before_count;
    }
  }
  AddFree(base, count);
}

Slots::Slots(const Sizes& sizes)
    : lists_(sizes.lists()),
      services_(sizes.services),
      backends_(sizes.backends),
      frontends_capacity_(sizes.frontends) {}

bool Slots::TakeFrontend() {
  if (frontends_used_ >= frontends_capacity_) return false;
  ++frontends_used_;
  return true;
}

void Slots::Adopt(const Tables& tables) {
  frontends_used_ += static_cast<uint32_t>(tables.stray_frontends.size());
  for (const uint32_t id : tables.stray_services)
    services_.Reserve(id);
  for (const auto& [name, service] : tables.services) {
    for (const PortState& port : service.ports) {
      services_.Reserve(port.id);
      for (const ListState& list : port.lists) {
        lists_.Reserve(list.slot);
        if (list.list.count > 0) backends_.Reserve(list.list.base, list.list.count);
        frontends_used_ += static_cast<uint32_t>(list.frontends.size());
      }
    }
  }
}

void Slots::Retire(const Retired& retired, uint64_t epoch) {
  frontends_used_ -= retired.frontends;
  for (const uint32_t id : retired.service_ids)
    services_.Release(id);
  if (retired.slots.empty() && retired.ranges.empty()) return;
  quarantine_.push_back({epoch, retired.slots, retired.ranges});
}

std::vector<uint32_t> Slots::Reclaim(uint64_t epoch) {
  std::vector<uint32_t> slots;
  while (!quarantine_.empty() && quarantine_.front().epoch <= epoch) {
    const Waiting& waiting = quarantine_.front();
    for (const auto& [base, count] : waiting.ranges)
      backends_.Release(base, count);
    for (const uint32_t slot : waiting.slots) {
      lists_.Release(slot);
      slots.push_back(slot);
    }
    quarantine_.pop_front();
  }
  return slots;
}

}  // namespace waggle::maps
