// The maps in memory, one elementary step at a time: a test may look (or copy
// everything, as if the agent had died there) after each, and may let the n-th call
// that can fail do so. Lookup() does what find_service() of bpf/service.bpf.h does.
#ifndef WAGGLE_TESTS_UNIT_MAPS_FAKE_MAP_STORE_H_
#define WAGGLE_TESTS_UNIT_MAPS_FAKE_MAP_STORE_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <compare>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "maps/layout.h"
#include "maps/map_store.h"

namespace waggle::maps {

struct KeyLess {
  bool operator()(const waggle_frontend_key& left, const waggle_frontend_key& right) const {
    return std::memcmp(&left, &right, sizeof(left)) < 0;
  }
};

// What a connection to a frontend meets.
struct Outcome {
  uint8_t fate = WAGGLE_FATE_NONE;  // NONE: not a frontend
  uint8_t policy = 0;
  std::vector<net::Endpoint> backends;

  friend auto operator<=>(const Outcome&, const Outcome&) = default;
};

class FakeMapStore final : public MapStore {
 public:
  enum class Step { kBackend, kService, kListTail, kList, kInsert, kDelete, kServiceDelete };
  struct Event {
    Step step;
    uint32_t index;  // of the backend, list or service; 0 for frontends
  };

  explicit FakeMapStore(const Sizes& sizes)
      : sizes_(sizes),
        lists_(sizes.lists()),
        backends_(sizes.backends),
        agent_(std::make_unique<waggle_agent>()) {}

  // As a new agent finds the maps: without the observers and faults of this one.
  std::unique_ptr<FakeMapStore> Copy() const {
    auto copy = std::make_unique<FakeMapStore>(sizes_);
    copy->frontends_ = frontends_;
    copy->services_ = services_;
    copy->lists_ = lists_;
    copy->backends_ = backends_;
    *copy->agent_ = *agent_;
    return copy;
  }

  // Called before and after each elementary step.
  std::function<void(const Event&)> before;
  std::function<void(const Event&)> after;
  // The n-th call from now that can fail does (1: the next); a batch fails half done.
  std::optional<int> fail_in;
  bool no_memory = false;  // Cover() fails where it would have to map more

  absl::Status InsertFrontends(absl::Span<const WritePlan::FrontendInsert> rows) override {
    ++calls;
    const bool fails = Fails();
    for (size_t i = 0; i < rows.size(); ++i) {
      if (fails && i == rows.size() / 2) return absl::UnavailableError("insert: told to fail");
      if (frontends_.contains(rows[i].key)) {
        return absl::AlreadyExistsError("insert into map frontends: File exists");
      }
      if (frontends_.size() >= sizes_.frontends) {
        return absl::ResourceExhaustedError("insert into map frontends: E2BIG");
      }
      Begin(Step::kInsert, 0);
      frontends_.emplace(rows[i].key, rows[i].value);
      End();
    }
    return absl::OkStatus();
  }
  absl::Status DeleteFrontend(const waggle_frontend_key& key) override {
    ++calls;
    if (Fails()) return absl::UnavailableError("delete: told to fail");
    Begin(Step::kDelete, 0);
    frontends_.erase(key);
    End();
    return absl::OkStatus();
  }
  absl::Status PutService(uint32_t id, const waggle_service& value) override {
    ++calls;
    if (Fails()) return absl::UnavailableError("put: told to fail");
    if (!services_.contains(id) && services_.size() >= sizes_.services) {
      return absl::ResourceExhaustedError("insert into map services: E2BIG");
    }
    Begin(Step::kService, id);
    services_.insert_or_assign(id, value);
    End();
    return absl::OkStatus();
  }
  absl::Status DeleteService(uint32_t id) override {
    ++calls;
    if (Fails()) return absl::UnavailableError("delete service: told to fail");
    Begin(Step::kServiceDelete, id);
    services_.erase(id);
    End();
    return absl::OkStatus();
  }
  absl::Status Cover(uint32_t lists, uint32_t backends) override {
    if (lists <= covered_lists_ && backends <= covered_backends_) return absl::OkStatus();
    if (no_memory) return absl::ResourceExhaustedError("mmap: told to fail");
    covered_lists_ = std::max(covered_lists_, lists);
    covered_backends_ = std::max(covered_backends_, backends);
    return absl::OkStatus();
  }
  void StoreList(uint32_t slot, const waggle_list& value) override {
    EXPECT_LT(slot, covered_lists_) << "the real one is not mapped there";
    Begin(Step::kListTail, slot);
    lists_.at(slot).affinity_s = value.affinity_s;
    lists_.at(slot).service_id = value.service_id;
    End();
    Begin(Step::kList, slot);
    lists_.at(slot) = value;
    End();
  }
  void StoreBackends(uint32_t base, absl::Span<const waggle_backend> rows) override {
    EXPECT_LE(base + rows.size(), covered_backends_) << "the real one is not mapped there";
    for (const waggle_backend& row : rows) {
      Begin(Step::kBackend, base);
      backends_.at(base) = row;
      End();
      ++base;
    }
  }
  absl::StatusOr<RawTables> Read() override {
    RawTables raw;
    for (const auto& [key, value] : frontends_)
      raw.frontends.push_back({key, value});
    for (const auto& [id, value] : services_)
      raw.services.push_back({id, value});
    for (const auto& [key, value] : frontends_) {
      if (value.slot >= lists_.size()) continue;
      covered_lists_ = std::max(covered_lists_, value.slot + 1);
      const uint64_t end = uint64_t{lists_[value.slot].base} + lists_[value.slot].count;
      if (end > backends_.size()) continue;
      covered_backends_ = std::max(covered_backends_, static_cast<uint32_t>(end));
    }
    return raw;
  }
  ArrayView arrays() const override {
    return {lists_.data(), static_cast<uint32_t>(lists_.size()), backends_.data(),
            static_cast<uint32_t>(backends_.size())};
  }
  waggle_agent* agent() override { return agent_.get(); }

  // `error` is filled when the lookup meets what it never must: a slot or range that
  // is not in force, or a backend that another Service port owns.
  Outcome Lookup(const waggle_frontend_key& key, std::string* error) const {
    Outcome outcome;
    const auto found = frontends_.find(key);
    if (found == frontends_.end()) return outcome;
    const waggle_frontend& row = found->second;
    if (row.tag != waggle_frontend_tag(&key, row.slot, row.service_id, row.kind)) return outcome;
    if (row.slot >= lists_.size() || lists_[row.slot].fate == WAGGLE_FATE_NONE) {
      *error = "dangling slot " + std::to_string(row.slot);
      return outcome;
    }
    const waggle_list& list = lists_[row.slot];
    outcome.fate = list.fate;
    outcome.policy = list.policy;
    if (list.service_id != row.service_id) *error = "the list belongs to another Service port";
    if (list.fate == WAGGLE_FATE_FORWARD && list.count == 0) outcome.fate = WAGGLE_FATE_REFUSE;
    for (uint32_t i = 0; i < list.count; ++i) {
      if (uint64_t{list.base} + i >= backends_.size()) {
        *error = "range outside of the map";
        return outcome;
      }
      const waggle_backend& backend = backends_[list.base + i];
      if (backend.service_id != row.service_id) *error = "a backend of another Service port";
      std::array<uint8_t, 16> bytes{};
      std::memcpy(bytes.data(), backend.addr, bytes.size());
      outcome.backends.push_back({net::Address(bytes), ntohs(backend.port_be)});
    }
    return outcome;
  }

  std::map<waggle_frontend_key, waggle_frontend, KeyLess>& frontends() { return frontends_; }
  std::map<uint32_t, waggle_service>& services() { return services_; }
  std::vector<waggle_list>& lists() { return lists_; }
  std::vector<waggle_backend>& backends() { return backends_; }

  int calls = 0;  // that would have been system calls

 private:
  bool Fails() { return fail_in && --*fail_in == 0; }
  void Begin(Step step, uint32_t index) {
    event_ = {step, index};
    if (before) before(event_);
  }
  void End() {
    if (after) after(event_);
  }

  Sizes sizes_;
  std::map<waggle_frontend_key, waggle_frontend, KeyLess> frontends_;
  std::map<uint32_t, waggle_service> services_;
  std::vector<waggle_list> lists_;
  std::vector<waggle_backend> backends_;
  uint32_t covered_lists_ = 0;  // as the real one is mapped
  uint32_t covered_backends_ = 0;
  std::unique_ptr<waggle_agent> agent_;
  Event event_{};
};

}  // namespace waggle::maps

#endif
