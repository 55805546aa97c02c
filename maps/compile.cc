#include "maps/compile.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

namespace waggle::maps {
namespace {

static_assert(static_cast<int>(FrontendKind::kClusterIp) == WAGGLE_KIND_CLUSTER_IP);
static_assert(static_cast<int>(FrontendKind::kNodePort) == WAGGLE_KIND_NODE_PORT);
static_assert(static_cast<int>(FrontendKind::kLoadBalancerIp) == WAGGLE_KIND_LOAD_BALANCER_IP);
static_assert(static_cast<int>(FrontendKind::kExternalIp) == WAGGLE_KIND_EXTERNAL_IP);
static_assert(static_cast<int>(Scope::kInternal) == WAGGLE_SCOPE_INTERNAL);
static_assert(static_cast<int>(Scope::kExternal) == WAGGLE_SCOPE_EXTERNAL);
static_assert(static_cast<int>(Policy::kCluster) == WAGGLE_POLICY_CLUSTER);
static_assert(static_cast<int>(Policy::kLocal) == WAGGLE_POLICY_LOCAL);
static_assert(static_cast<int>(Fate::kForward) == WAGGLE_FATE_FORWARD);
static_assert(static_cast<int>(Fate::kRefuse) == WAGGLE_FATE_REFUSE);
static_assert(static_cast<int>(Fate::kDrop) == WAGGLE_FATE_DROP);

void CopyLabel(const std::string& text, char (&label)[WAGGLE_LABEL_LEN]) {
  const size_t length = std::min(text.size(), sizeof(label) - 1);
  std::memcpy(label, text.data(), length);
}

void CopyAddress(const net::Address& address, __u8 (&bytes)[16]) {
  std::copy(address.bytes().begin(), address.bytes().end(), bytes);
}

waggle_backend CompileBackend(const Backend& backend) {
  waggle_backend row{};
  CopyAddress(backend.endpoint.address, row.addr);
  row.port_be = htons(backend.endpoint.port);
  row.flags = static_cast<__u16>((backend.local ? WAGGLE_BACKEND_LOCAL : 0) |
                                 (backend.terminating ? WAGGLE_BACKEND_TERMINATING : 0));
  return row;
}

FrontendRow CompileFrontend(const Frontend& frontend, net::Protocol protocol) {
  FrontendRow row;
  CopyAddress(frontend.endpoint.address, row.key.addr);
  row.key.port_be = htons(frontend.endpoint.port);
  row.key.protocol = static_cast<__u8>(protocol);
  row.key.scope = static_cast<__u8>(frontend.scope);
  row.kind = static_cast<uint8_t>(frontend.kind);
  return row;
}

}  // namespace

ServiceRows Compile(const ResolvedService& service) {
  ServiceRows rows;
  rows.name = service.name;
  for (const ResolvedPort& port : service.ports) {
    PortRows& port_rows = rows.ports.emplace_back();
    CopyLabel(service.name.ns, port_rows.service.ns);
    CopyLabel(service.name.name, port_rows.service.name);
    CopyLabel(port.name, port_rows.service.port_name);
    port_rows.service.protocol = static_cast<__u8>(port.protocol);
    for (const BackendList& list : port.lists) {
      ListRows& list_rows = port_rows.lists.emplace_back();
      list_rows.list.fate = static_cast<__u8>(list.fate);
      list_rows.list.policy = static_cast<__u8>(list.policy);
      list_rows.list.affinity_s = list.affinity_s;
      if (list.fate == Fate::kForward) {
        for (const Backend& backend : list.backends) {
          list_rows.backends.push_back(CompileBackend(backend));
        }
        // One form for one meaning: CheckTables() takes the other for damage.
        if (list_rows.backends.empty()) list_rows.list.fate = WAGGLE_FATE_REFUSE;
      }
      list_rows.list.count = static_cast<__u16>(list_rows.backends.size());
      for (const Frontend& frontend : list.frontends) {
        list_rows.frontends.push_back(CompileFrontend(frontend, port.protocol));
      }
    }
  }
  return rows;
}

}  // namespace waggle::maps
