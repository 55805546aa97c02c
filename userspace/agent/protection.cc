#include "userspace/agent/protection.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "bpf/abi.h"

namespace waggle::agent {
namespace {

bool LessEndpoint(const Backend& left, const Backend& right) {
  return left.endpoint < right.endpoint;
}

}  // namespace

Protection::Records Protection::RecordsOf(const ResolvedService& service) {
  Records records;
  for (const ResolvedPort& port : service.ports) {
    for (const BackendList& list : port.lists) {
      for (const Frontend& frontend : list.frontends) {
        records.push_back({port.name, port.protocol, frontend, list.policy, list.affinity_s,
                           list.fate, false, list.backends});
      }
    }
  }
  return records;
}

void Protection::JoinList(Records& records, net::Protocol protocol, BackendList& list) {
  const std::vector<Backend> named = list.backends;
  for (Record& record : records) {
    if (record.protocol != protocol || std::find(list.frontends.begin(), list.frontends.end(),
                                                 record.frontend) == list.frontends.end()) {
      continue;
    }
    record.known = true;
    std::vector<Backend> unnamed;
    std::set_difference(record.backends.begin(), record.backends.end(), named.begin(), named.end(),
                        std::back_inserter(unnamed), LessEndpoint);
    record.backends = std::move(unnamed);
    std::vector<Backend> both;
    std::set_union(list.backends.begin(), list.backends.end(), record.backends.begin(),
                   record.backends.end(), std::back_inserter(both), LessEndpoint);
    // What is known goes before what was there, should there be too many.
    if (both.size() <= WAGGLE_MAX_LIST) list.backends = std::move(both);
  }
  if (!list.backends.empty()) list.fate = Fate::kForward;
}

ResolvedService Protection::Join(ResolvedService service) {
  if (const auto unread = unread_.find(service.name); unread != unread_.end()) {
    services_.emplace(service.name, RecordsOf(in_force_(service.name)));
    unread_.erase(unread);
  }
  const auto found = services_.find(service.name);
  if (found == services_.end()) return service;
  Records& records = found->second;
  for (ResolvedPort& port : service.ports) {
    for (BackendList& list : port.lists)
      JoinList(records, port.protocol, list);
  }
  for (const Record& record : records) {
    if (record.known) continue;
    auto port = std::find_if(service.ports.begin(), service.ports.end(), [&](const auto& known) {
      return known.name == record.port_name && known.protocol == record.protocol;
    });
    if (port == service.ports.end()) {
      port = service.ports.insert(port, {record.port_name, record.protocol, {}});
    }
    port->lists.push_back(
        {record.fate, record.policy, record.affinity_s, record.backends, {record.frontend}});
  }
  for (ResolvedPort& port : service.ports) {
    std::sort(port.lists.begin(), port.lists.end(),
              [](const auto& left, const auto& right) { return left.frontends < right.frontends; });
  }
  std::sort(service.ports.begin(), service.ports.end(), [](const auto& left, const auto& right) {
    return std::tie(left.name, left.protocol) < std::tie(right.name, right.protocol);
  });
  return service;
}

}  // namespace waggle::agent
