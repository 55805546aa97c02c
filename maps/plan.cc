#include "maps/plan.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace waggle::maps {
namespace {

// Where a frontend stands in the state in force.
struct Place {
  size_t port;
  size_t list;
  uint8_t kind;
};

constexpr size_t kNone = ~size_t{0};

// Within one Service.
bool SamePort(const PortState& state, const waggle_service& row) {
  return state.name == row.port_name && state.protocol == row.protocol;
}

bool SameList(const waggle_list& left, const waggle_list& right) {
  return std::memcmp(&left, &right, sizeof(left)) == 0;
}

bool SameBackend(const waggle_backend& left, const waggle_backend& right) {
  return std::memcmp(&left, &right, sizeof(left)) == 0;
}

int CompareEndpoint(const waggle_backend& left, const waggle_backend& right) {
  const int order = std::memcmp(left.addr, right.addr, sizeof(left.addr));
  return order != 0 ? order : std::memcmp(&left.port_be, &right.port_be, sizeof(left.port_be));
}

absl::Span<const waggle_backend> InForce(const ArrayView& arrays, const waggle_list& list) {
  return {arrays.backends + list.base, list.count};
}

waggle_frontend FrontendValue(const FrontendRow& row, uint32_t slot, uint32_t service_id) {
  waggle_frontend value{};
  value.slot = slot;
  value.service_id = service_id;
  value.kind = row.kind;
  value.tag = waggle_frontend_tag(&row.key, slot, service_id, row.kind);
  return value;
}

// Takes from Slots and gives everything back unless the plan was completed.
class Transaction {
 public:
  Transaction(Slots& slots, const ServiceName& name) : slots_(slots), name_(name) {}
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  ~Transaction() {
    if (committed_) return;
    for (const uint32_t id : ids_)
      slots_.services().Release(id);
    for (const uint32_t slot : lists_)
      slots_.lists().Release(slot);
    for (const auto& [base, count] : ranges_)
      slots_.backends().Release(base, count);
    for (uint32_t i = 0; i < frontends_; ++i)
      slots_.ReleaseFrontend();
  }

  absl::StatusOr<uint32_t> TakeService() {
    const auto id = slots_.services().Take();
    if (!id) return Full("services", "--max-services", 1, slots_.services());
    ids_.push_back(*id);
    return *id;
  }
  absl::StatusOr<uint32_t> TakeList() {
    const auto slot = slots_.lists().Take();
    if (!slot) return Full("lists", "--max-services", 1, slots_.lists());
    lists_.push_back(*slot);
    return *slot;
  }
  absl::StatusOr<uint32_t> TakeRange(uint32_t count) {
    const auto base = slots_.backends().Take(count);
    if (!base) return Full("backends", "--max-backends", count, slots_.backends());
    ranges_.emplace_back(*base, count);
    return *base;
  }
  absl::Status TakeFrontend() {
    if (!slots_.TakeFrontend()) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "map frontends is full (", slots_.frontends_used(), " of ", slots_.frontends_capacity(),
          " used): Service ", name_.ToString(), " needs one more; raise --max-frontends"));
    }
    ++frontends_;
    return absl::OkStatus();
  }
  void Commit() { committed_ = true; }

 private:
  template <typename Pool>
  absl::Status Full(const char* map, const char* flag, uint32_t needed, const Pool& pool) const {
    return absl::ResourceExhaustedError(
        absl::StrCat("map ", map, " is full (", pool.used(), " of ", pool.capacity(),
                     " used): Service ", name_.ToString(), " needs ", needed, " more",
                     needed > 1 ? " in a row" : "", "; raise ", flag));
  }

  Slots& slots_;
  const ServiceName& name_;
  bool committed_ = false;
  std::vector<uint32_t> ids_;
  std::vector<uint32_t> lists_;
  std::vector<std::pair<uint32_t, uint32_t>> ranges_;
  uint32_t frontends_ = 0;
};

class Planner {
 public:
  Planner(const ServiceRows& rows, const ServiceState* in_force, const ArrayView& arrays,
          Slots& slots)
      : rows_(rows),
        old_(in_force ? *in_force : kNothing),
        arrays_(arrays),
        transaction_(slots, rows.name) {}

  absl::StatusOr<Planned> Run() {
    IndexOld();
    MatchPorts();
    for (size_t i = 0; i < rows_.ports.size(); ++i) {
      if (absl::Status status = PlanPort(i); !status.ok()) return status;
    }
    for (size_t i = 0; i < old_.ports.size(); ++i) {
      if (!port_taken_[i]) LeavePort(old_.ports[i]);
    }
    transaction_.Commit();
    return std::move(planned_);
  }

 private:
  static const ServiceState kNothing;

  void IndexOld() {
    for (size_t p = 0; p < old_.ports.size(); ++p) {
      const auto& lists = old_.ports[p].lists;
      for (size_t l = 0; l < lists.size(); ++l) {
        for (const FrontendRow& row : lists[l].frontends) {
          places_.insert_or_assign(row.key, Place{p, l, row.kind});
        }
      }
    }
    port_taken_.assign(old_.ports.size(), false);
  }

  // A port in force keeps its id while one of its frontends stays, whatever its name:
  // frontend rows are immutable and hold the id. Else it is known by its name.
  void MatchPorts() {
    old_port_of_.assign(rows_.ports.size(), kNone);
    for (size_t i = 0; i < rows_.ports.size(); ++i) {
      for (const ListRows& list : rows_.ports[i].lists) {
        for (const FrontendRow& row : list.frontends) {
          const auto place = places_.find(row.key);
          if (place == places_.end() || port_taken_[place->second.port]) continue;
          if (old_port_of_[i] != kNone) continue;
          old_port_of_[i] = place->second.port;
          port_taken_[place->second.port] = true;
        }
      }
    }
    for (size_t i = 0; i < rows_.ports.size(); ++i) {
      if (old_port_of_[i] != kNone) continue;
      for (size_t p = 0; p < old_.ports.size(); ++p) {
        if (port_taken_[p] || !SamePort(old_.ports[p], rows_.ports[i].service)) continue;
        old_port_of_[i] = p;
        port_taken_[p] = true;
        break;
      }
    }
  }

  absl::Status PlanPort(size_t index) {
    const PortRows& wanted = rows_.ports[index];
    const size_t old_index = old_port_of_[index];
    const PortState* old_port = old_index == kNone ? nullptr : &old_.ports[old_index];
    PortState after;
    after.name = wanted.service.port_name;
    after.protocol = wanted.service.protocol;
    if (old_port) {
      after.id = old_port->id;
    } else {
      const auto id = transaction_.TakeService();
      if (!id.ok()) return id.status();
      after.id = *id;
    }
    if (!old_port || !SamePort(*old_port, wanted.service)) {
      planned_.plan.service_puts.emplace_back(after.id, wanted.service);
    }

    std::vector<bool> list_taken(old_port ? old_port->lists.size() : 0, false);
    for (const ListRows& list : wanted.lists) {
      const size_t old_list = MatchList(list, old_index, list_taken);
      absl::Status status = PlanList(list, old_index, old_list, after, list_taken);
      if (!status.ok()) return status;
    }
    for (size_t l = 0; l < list_taken.size(); ++l) {
      if (!list_taken[l]) LeaveList(old_port->lists[l]);
    }
    planned_.after.ports.push_back(std::move(after));
    return absl::OkStatus();
  }

  size_t MatchList(const ListRows& list, size_t old_port, const std::vector<bool>& taken) const {
    for (const FrontendRow& row : list.frontends) {
      const auto place = places_.find(row.key);
      if (place != places_.end() && place->second.port == old_port && !taken[place->second.list]) {
        return place->second.list;
      }
    }
    return kNone;
  }

  // Does a frontend go from this list to another one of the Service?
  bool Loses(const ListState& list, const ListRows& wanted) const {
    for (const FrontendRow& row : list.frontends) {
      const bool stays = std::any_of(wanted.frontends.begin(), wanted.frontends.end(),
                                     [&](const FrontendRow& w) { return SameKey(w.key, row.key); });
      if (!stays && WantedAnywhere(row.key)) return true;
    }
    return false;
  }

  absl::Status PlanList(const ListRows& wanted, size_t old_port, size_t old_index,
                        PortState& after_port, std::vector<bool>& list_taken) {
    const ListState* old_list =
        old_index == kNone ? nullptr : &old_.ports[old_port].lists[old_index];
    ListState after;
    after.list = wanted.list;
    after.list.service_id = after_port.id;
    std::vector<waggle_backend> backends = wanted.backends;
    for (waggle_backend& backend : backends)
      backend.service_id = after_port.id;
    if (backends.size() > WAGGLE_MAX_LIST) {
      return absl::ResourceExhaustedError(
          absl::StrCat("Service ", rows_.name.ToString(), " has ", backends.size(),
                       " backends for one frontend: a list holds ", WAGGLE_MAX_LIST));
    }
    after.list.count = static_cast<__u16>(backends.size());

    bool same = false;
    if (old_list) {
      const auto in_force = InForce(arrays_, old_list->list);
      same = std::equal(backends.begin(), backends.end(), in_force.begin(), in_force.end(),
                        SameBackend);
    }
    if (same) after.list.base = old_list->list.base;
    // Lists are switched before frontends move. One that goes to another list must not
    // see its old slot change under it, so what stays moves to a new slot then.
    if (old_list && !(same && SameList(old_list->list, after.list)) && Loses(*old_list, wanted)) {
      old_list = nullptr;
      old_index = kNone;
      same = false;
    }
    if (old_list) {
      list_taken[old_index] = true;
      after.slot = old_list->slot;
    } else {
      const auto slot = transaction_.TakeList();
      if (!slot.ok()) return slot.status();
      after.slot = *slot;
    }
    if (!same) {
      after.list.base = 0;
      if (!backends.empty()) {
        const auto base = transaction_.TakeRange(static_cast<uint32_t>(backends.size()));
        if (!base.ok()) return base.status();
        after.list.base = *base;
        planned_.plan.backends.push_back({*base, std::move(backends)});
      }
      if (old_list && old_list->list.count > 0) {
        planned_.plan.retired.ranges.emplace_back(old_list->list.base, old_list->list.count);
      }
    }
    if (!old_list || !SameList(old_list->list, after.list)) {
      planned_.plan.list_stores.emplace_back(after.slot, after.list);
    }
    absl::Status status = PlanFrontends(wanted, old_port, old_index, after_port.id, after);
    if (!status.ok()) return status;
    after_port.lists.push_back(std::move(after));
    return absl::OkStatus();
  }

  absl::Status PlanFrontends(const ListRows& wanted, size_t old_port, size_t old_list, uint32_t id,
                             ListState& after) {
    FrontendKeyMap<bool> kept;
    for (const FrontendRow& row : wanted.frontends) {
      kept.emplace(row.key, true);
      after.frontends.push_back(row);
      const auto place = places_.find(row.key);
      if (place == places_.end()) {
        if (absl::Status status = transaction_.TakeFrontend(); !status.ok()) return status;
        planned_.plan.frontend_inserts.push_back({row.key, FrontendValue(row, after.slot, id)});
        continue;
      }
      const Place& at = place->second;
      if (at.port != old_port || at.list != old_list || at.kind != row.kind) {
        planned_.plan.frontend_moves.push_back({row.key, FrontendValue(row, after.slot, id)});
      }
    }
    if (old_list == kNone) return absl::OkStatus();
    for (const FrontendRow& row : old_.ports[old_port].lists[old_list].frontends) {
      if (!kept.contains(row.key)) DeleteUnlessWanted(row.key);
    }
    return absl::OkStatus();
  }

  bool WantedAnywhere(const waggle_frontend_key& key) const {
    for (const PortRows& port : rows_.ports) {
      for (const ListRows& list : port.lists) {
        for (const FrontendRow& row : list.frontends) {
          if (SameKey(row.key, key)) return true;
        }
      }
    }
    return false;
  }

  // A key that another list of this Service wants is moved by that list.
  void DeleteUnlessWanted(const waggle_frontend_key& key) {
    if (WantedAnywhere(key)) return;
    planned_.plan.frontend_deletes.push_back(key);
    ++planned_.plan.retired.frontends;
  }

  void LeaveList(const ListState& list) {
    for (const FrontendRow& row : list.frontends)
      DeleteUnlessWanted(row.key);
    Retire(list);
  }

  void Retire(const ListState& list) {
    planned_.plan.retired.slots.push_back(list.slot);
    if (list.list.count > 0) {
      planned_.plan.retired.ranges.emplace_back(list.list.base, list.list.count);
    }
  }

  void LeavePort(const PortState& port) {
    for (const ListState& list : port.lists)
      LeaveList(list);
    planned_.plan.service_deletes.push_back(port.id);
    planned_.plan.retired.service_ids.push_back(port.id);
  }

  const ServiceRows& rows_;
  const ServiceState& old_;
  const ArrayView& arrays_;
  Transaction transaction_;
  FrontendKeyMap<Place> places_;
  std::vector<bool> port_taken_;
  std::vector<size_t> old_port_of_;
  Planned planned_;
};

const ServiceState Planner::kNothing;

template <typename T>
void MoveAppend(std::vector<T>& to, std::vector<T>&& from) {
  if (to.empty()) {
    to = std::move(from);
    return;
  }
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

// Cuts a list down to the longest run of its backends that are still wanted.
void CutList(const ListRows& wanted, const ArrayView& arrays, ListState& list, WritePlan& plan) {
  const auto in_force = InForce(arrays, list.list);
  const auto less = [](const waggle_backend& left, const waggle_backend& right) {
    return CompareEndpoint(left, right) < 0;
  };
  uint32_t best = 0;
  uint32_t best_at = 0;
  uint32_t run = 0;
  for (uint32_t i = 0; i < in_force.size(); ++i) {
    const bool stays =
        std::binary_search(wanted.backends.begin(), wanted.backends.end(), in_force[i], less);
    run = stays ? run + 1 : 0;
    if (run > best) {
      best = run;
      best_at = i + 1 - run;
    }
  }
  if (best == list.list.count) return;
  const uint32_t base = list.list.base;
  const uint32_t tail = list.list.count - best_at - best;
  if (best == 0) {
    plan.retired.ranges.emplace_back(base, list.list.count);
    list.list.fate = WAGGLE_FATE_REFUSE;
    list.list.base = 0;
  } else {
    if (best_at > 0) plan.retired.ranges.emplace_back(base, best_at);
    if (tail > 0) plan.retired.ranges.emplace_back(base + best_at + best, tail);
    list.list.base = base + best_at;
  }
  list.list.count = static_cast<__u16>(best);
  plan.list_stores.emplace_back(list.slot, list.list);
}

}  // namespace

bool WritePlan::empty() const {
  return backends.empty() && service_puts.empty() && list_stores.empty() &&
         frontend_inserts.empty() && frontend_moves.empty() && frontend_deletes.empty() &&
         service_deletes.empty() && retired.empty();
}

void WritePlan::Append(WritePlan other) {
  MoveAppend(backends, std::move(other.backends));
  MoveAppend(service_puts, std::move(other.service_puts));
  MoveAppend(list_stores, std::move(other.list_stores));
  MoveAppend(frontend_inserts, std::move(other.frontend_inserts));
  MoveAppend(frontend_moves, std::move(other.frontend_moves));
  MoveAppend(frontend_deletes, std::move(other.frontend_deletes));
  MoveAppend(service_deletes, std::move(other.service_deletes));
  MoveAppend(retired.slots, std::move(other.retired.slots));
  MoveAppend(retired.ranges, std::move(other.retired.ranges));
  MoveAppend(retired.service_ids, std::move(other.retired.service_ids));
  retired.frontends += other.retired.frontends;
  IndexNewKeys();
}

void WritePlan::IndexNewKeys() {
  FrontendKeyMap<bool> both;
  for (; inserts_indexed_ < frontend_inserts.size(); ++inserts_indexed_) {
    const waggle_frontend_key& key = frontend_inserts[inserts_indexed_].key;
    if (!keys_.try_emplace(key, true).second) both.emplace(key, true);
  }
  for (; deletes_indexed_ < frontend_deletes.size(); ++deletes_indexed_) {
    const waggle_frontend_key& key = frontend_deletes[deletes_indexed_];
    if (!keys_.try_emplace(key, false).second) both.emplace(key, true);
  }
  if (both.empty()) return;
  // The row was counted twice, as a new one and as one to retire; that stays right.
  std::erase_if(frontend_inserts, [&](const FrontendInsert& insert) {
    if (!both.contains(insert.key)) return false;
    frontend_moves.push_back(insert);
    return true;
  });
  std::erase_if(frontend_deletes,
                [&](const waggle_frontend_key& key) { return both.contains(key); });
  for (const auto& [key, unused] : both)
    keys_.erase(key);
  inserts_indexed_ = frontend_inserts.size();
  deletes_indexed_ = frontend_deletes.size();
}

absl::StatusOr<Planned> Plan(const ServiceRows& rows, const ServiceState* in_force,
                             const ArrayView& arrays, Slots& slots) {
  return Planner(rows, in_force, arrays, slots).Run();
}

Planned PlanShrink(const ServiceRows& rows, const ServiceState& in_force, const ArrayView& arrays) {
  FrontendKeyMap<const ListRows*> wanted;
  for (const PortRows& port : rows.ports) {
    for (const ListRows& list : port.lists) {
      for (const FrontendRow& row : list.frontends)
        wanted.emplace(row.key, &list);
    }
  }
  Planned planned;
  ServiceState gone;  // whole lists and ports, to be removed as PlanRemoval() does
  for (const PortState& port : in_force.ports) {
    PortState kept = port;
    PortState lost = port;
    kept.lists.clear();
    lost.lists.clear();
    for (const ListState& list : port.lists) {
      ListState rest = list;
      std::erase_if(rest.frontends,
                    [&](const FrontendRow& row) { return !wanted.contains(row.key); });
      if (rest.frontends.empty()) {
        lost.lists.push_back(list);
        continue;
      }
      for (const FrontendRow& row : list.frontends) {
        if (!wanted.contains(row.key)) planned.plan.frontend_deletes.push_back(row.key);
      }
      planned.plan.retired.frontends +=
          static_cast<uint32_t>(list.frontends.size() - rest.frontends.size());
      CutList(*wanted.at(rest.frontends[0].key), arrays, rest, planned.plan);
      kept.lists.push_back(std::move(rest));
    }
    if (kept.lists.empty()) {
      gone.ports.push_back(std::move(lost));
      continue;
    }
    WritePlan lists = PlanRemoval({{lost}});
    lists.service_deletes.clear();  // the port itself stays
    lists.retired.service_ids.clear();
    planned.plan.Append(std::move(lists));
    planned.after.ports.push_back(std::move(kept));
  }
  planned.plan.Append(PlanRemoval(gone));
  return planned;
}

WritePlan PlanRemoval(const ServiceState& in_force) {
  WritePlan plan;
  for (const PortState& port : in_force.ports) {
    for (const ListState& list : port.lists) {
      for (const FrontendRow& row : list.frontends)
        plan.frontend_deletes.push_back(row.key);
      plan.retired.frontends += static_cast<uint32_t>(list.frontends.size());
      plan.retired.slots.push_back(list.slot);
      if (list.list.count > 0) plan.retired.ranges.emplace_back(list.list.base, list.list.count);
    }
    plan.service_deletes.push_back(port.id);
    plan.retired.service_ids.push_back(port.id);
  }
  return plan;
}

WritePlan PlanStrays(const Tables& tables) {
  WritePlan plan;
  plan.frontend_deletes = tables.stray_frontends;
  plan.retired.frontends = static_cast<uint32_t>(tables.stray_frontends.size());
  plan.service_deletes = tables.stray_services;
  plan.retired.service_ids = tables.stray_services;
  return plan;
}

}  // namespace waggle::maps
