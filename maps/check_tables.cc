// The checks on what was read, and the way back from rows to values.

#include <arpa/inet.h>

#include <algorithm>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "maps/reader.h"
#include "maps/slots.h"

namespace waggle::maps {
namespace {

net::Address ToAddress(const __u8 (&bytes)[16]) {
  std::array<uint8_t, 16> copy{};
  std::copy(std::begin(bytes), std::end(bytes), copy.begin());
  return net::Address(copy);
}

bool EndsInNul(const char (&label)[WAGGLE_LABEL_LEN]) {
  return label[WAGGLE_LABEL_LEN - 1] == 0;
}

std::string Describe(const waggle_frontend_key& key) {
  const net::Endpoint endpoint{ToAddress(key.addr), ntohs(key.port_be)};
  return absl::StrCat("frontend ", endpoint.ToString(), "/",
                      std::string(net::ProtocolName(static_cast<net::Protocol>(key.protocol))));
}

class Checker {
 public:
  Checker(const RawTables& raw, const ArrayView& arrays)
      : raw_(raw), arrays_(arrays), ranges_(std::max(arrays.backends_size, 1u)) {}

  CheckedTables Run() {
    for (const RawTables::ServiceEntry& entry : raw_.services)
      CheckService(entry);
    for (const RawTables::FrontendEntry& entry : raw_.frontends)
      CheckFrontend(entry);
    Group();
    return std::move(checked_);
  }

 private:
  struct Port {
    waggle_service service;
    std::vector<ListState> lists;
  };

  void CheckService(const RawTables::ServiceEntry& entry) {
    const waggle_service& value = entry.value;
    const bool sound = EndsInNul(value.ns) && EndsInNul(value.name) && EndsInNul(value.port_name) &&
                       value.ns[0] != 0 && value.name[0] != 0;
    if (!sound) {
      checked_.tables.stray_services.push_back(entry.id);
      Report("services", absl::StrCat("id ", entry.id), "a name is empty or has no end");
      return;
    }
    // Two ids may have one name: an agent that died between two renamings leaves that,
    // and so does a plan in which a port takes the name of one that it must
    // keep. Their rows are in force and sound; the next full plan settles the names.
    ports_.emplace(entry.id, Port{value, {}});
  }

  // The list of a slot, checked when its first frontend is met.
  ListState* FindList(const waggle_frontend& row, const std::string& what, Port& port) {
    const auto known = slot_owner_.find(row.slot);
    if (known != slot_owner_.end()) {
      if (known->second != row.service_id) {
        Report("frontends", what,
               absl::StrCat("slot ", row.slot, " belongs to another Service port"));
        return nullptr;
      }
      for (ListState& list : port.lists) {
        if (list.slot == row.slot) return &list;
      }
      return nullptr;
    }
    if (row.slot >= arrays_.lists_size) {
      Report("frontends", what, absl::StrCat("slot ", row.slot, " lies outside of map lists"));
      return nullptr;
    }
    const waggle_list list = arrays_.lists[row.slot];
    if (list.fate < WAGGLE_FATE_FORWARD || list.fate > WAGGLE_FATE_DROP ||
        list.policy > WAGGLE_POLICY_LOCAL || list.service_id != row.service_id ||
        (list.fate == WAGGLE_FATE_FORWARD) != (list.count > 0)) {
      Report("lists", absl::StrCat("slot ", row.slot), absl::StrCat("contradicts ", what));
      return nullptr;
    }
    if (list.count > 0 && (uint64_t{list.base} + list.count > arrays_.backends_size ||
                           !ranges_.Reserve(list.base, list.count))) {
      Report("lists", absl::StrCat("slot ", row.slot),
             "its range overlaps another or lies outside of map backends");
      return nullptr;
    }
    slot_owner_.emplace(row.slot, row.service_id);
    ListState& fresh = port.lists.emplace_back();
    fresh.slot = row.slot;
    fresh.list = list;
    return &fresh;
  }

  void CheckFrontend(const RawTables::FrontendEntry& entry) {
    const std::string what = Describe(entry.key);
    const waggle_frontend& row = entry.value;
    const auto port = ports_.find(row.service_id);
    ListState* list = nullptr;
    if (row.tag != waggle_frontend_tag(&entry.key, row.slot, row.service_id, row.kind)) {
      Report("frontends", what, "the tag does not fit the row");
    } else if (row.kind > WAGGLE_KIND_EXTERNAL_IP || entry.key.scope > WAGGLE_SCOPE_EXTERNAL) {
      Report("frontends", what, "unknown kind or scope");
    } else if (port == ports_.end()) {
      Report("frontends", what,
             absl::StrCat("names service id ", row.service_id, ", which is unknown"));
    } else {
      list = FindList(row, what, port->second);
    }
    if (!list) {
      checked_.tables.stray_frontends.push_back(entry.key);
      return;
    }
    list->frontends.push_back({entry.key, row.kind});
  }

  void Group() {
    for (auto& [id, port] : ports_) {
      for (ListState& list : port.lists) {
        std::sort(list.frontends.begin(), list.frontends.end(),
                  [](const FrontendRow& left, const FrontendRow& right) {
                    return std::memcmp(&left.key, &right.key, sizeof(left.key)) < 0;
                  });
      }
      std::sort(port.lists.begin(), port.lists.end(),
                [](const ListState& left, const ListState& right) {
                  return std::memcmp(&left.frontends[0].key, &right.frontends[0].key,
                                     sizeof(waggle_frontend_key)) < 0;
                });
      PortState state;
      state.id = id;
      state.name = port.service.port_name;
      state.protocol = port.service.protocol;
      state.lists = std::move(port.lists);
      const ServiceName name{port.service.ns, port.service.name};
      checked_.tables.services[name].ports.push_back(std::move(state));
    }
    for (auto& [name, service] : checked_.tables.services) {
      std::sort(service.ports.begin(), service.ports.end(),
                [](const PortState& left, const PortState& right) { return left.id < right.id; });
    }
  }

  void Report(const char* map, std::string field, std::string text) {
    Problem problem;
    problem.object = {"pinned map", "", map};
    problem.field = std::move(field);
    problem.reason = ProblemReason::kInvalid;
    problem.text = std::move(text);
    checked_.problems.push_back(std::move(problem));
  }

  const RawTables& raw_;
  const ArrayView& arrays_;
  RangePool ranges_;
  CheckedTables checked_;
  absl::flat_hash_map<uint32_t, Port> ports_;
  absl::flat_hash_map<uint32_t, uint32_t> slot_owner_;
};

Backend ToBackend(const waggle_backend& row) {
  Backend backend;
  backend.endpoint = {ToAddress(row.addr), ntohs(row.port_be)};
  backend.local = (row.flags & WAGGLE_BACKEND_LOCAL) != 0;
  backend.terminating = (row.flags & WAGGLE_BACKEND_TERMINATING) != 0;
  return backend;
}

}  // namespace

CheckedTables CheckTables(const RawTables& raw, const ArrayView& arrays) {
  return Checker(raw, arrays).Run();
}

ResolvedService DecompileService(const ServiceName& name, const ServiceState& state,
                                 const ArrayView& arrays) {
  ResolvedService service;
  service.name = name;
  for (const PortState& port_state : state.ports) {
    if (port_state.lists.empty()) continue;  // a crash before the first frontend
    ResolvedPort& port = service.ports.emplace_back();
    port.name = port_state.name;
    port.protocol = static_cast<net::Protocol>(port_state.protocol);
    for (const ListState& list_state : port_state.lists) {
      BackendList& list = port.lists.emplace_back();
      list.fate = static_cast<Fate>(list_state.list.fate);
      list.policy = static_cast<Policy>(list_state.list.policy);
      list.affinity_s = list_state.list.affinity_s;
      for (uint32_t i = 0; i < list_state.list.count; ++i) {
        list.backends.push_back(ToBackend(arrays.backends[list_state.list.base + i]));
      }
      std::sort(list.backends.begin(), list.backends.end());
      for (const FrontendRow& row : list_state.frontends) {
        list.frontends.push_back({{ToAddress(row.key.addr), ntohs(row.key.port_be)},
                                  static_cast<FrontendKind>(row.kind),
                                  static_cast<Scope>(row.key.scope)});
      }
      std::sort(list.frontends.begin(), list.frontends.end());
    }
    std::sort(port.lists.begin(), port.lists.end(),
              [](const BackendList& left, const BackendList& right) {
                return left.frontends < right.frontends;
              });
  }
  std::sort(service.ports.begin(), service.ports.end());
  return service;
}

std::vector<ResolvedService> Decompile(const Tables& tables, const ArrayView& arrays) {
  std::vector<ResolvedService> services;
  services.reserve(tables.services.size());
  for (const auto& [name, state] : tables.services)
    services.push_back(DecompileService(name, state, arrays));
  std::sort(services.begin(), services.end());
  return services;
}

}  // namespace waggle::maps
