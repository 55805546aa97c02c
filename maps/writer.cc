#include "maps/writer.h"

#include <algorithm>

namespace waggle::maps {

absl::Status Writer::ApplySteps(const WritePlan& plan) {
  waggle_agent& counts = *store_->agent();
  uint32_t lists = 0;
  uint32_t backends = 0;
  for (const auto& [base, rows] : plan.backends)
    backends = std::max(backends, base + static_cast<uint32_t>(rows.size()));
  for (const auto& [slot, list] : plan.list_stores)
    lists = std::max(lists, slot + 1);
  if (absl::Status status = store_->Cover(lists, backends); !status.ok()) return status;
  for (const auto& [base, rows] : plan.backends) {
    store_->StoreBackends(base, rows);
    counts.backend_stores += rows.size();
  }
  for (const auto& [id, service] : plan.service_puts) {
    if (absl::Status status = store_->PutService(id, service); !status.ok()) return status;
    ++counts.hash_inserts;
  }
  for (const auto& [slot, list] : plan.list_stores) {
    store_->StoreList(slot, list);
    ++counts.list_stores;
  }
  if (!plan.frontend_inserts.empty()) {
    absl::Status status = store_->InsertFrontends(plan.frontend_inserts);
    if (!status.ok()) return status;
    counts.hash_inserts += plan.frontend_inserts.size();
  }
  for (const WritePlan::FrontendInsert& row : plan.frontend_moves) {
    if (absl::Status status = store_->DeleteFrontend(row.key); !status.ok()) return status;
    ++counts.hash_deletes;
    if (absl::Status status = store_->InsertFrontends({&row, 1}); !status.ok()) return status;
    ++counts.hash_inserts;
  }
  for (const waggle_frontend_key& key : plan.frontend_deletes) {
    if (absl::Status status = store_->DeleteFrontend(key); !status.ok()) return status;
    ++counts.hash_deletes;
  }
  for (const uint32_t id : plan.service_deletes) {
    if (absl::Status status = store_->DeleteService(id); !status.ok()) return status;
    ++counts.hash_deletes;
  }
  return absl::OkStatus();
}

absl::Status Writer::Apply(const WritePlan& plan) {
  if (plan.empty()) return absl::OkStatus();
  ++store_->agent()->plans_applied;
  absl::Status status = ApplySteps(plan);
  if (!status.ok()) ++store_->agent()->write_errors;
  return status;
}

void Writer::ClearLists(const std::vector<uint32_t>& slots) {
  for (const uint32_t slot : slots) {
    store_->StoreList(slot, waggle_list{});
    ++store_->agent()->list_stores;
  }
}

}  // namespace waggle::maps
