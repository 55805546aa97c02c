#include "userspace/cli/status_facts.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "loader/roles.h"

namespace waggle::cli {
namespace {

constexpr std::string_view kTRANSLATED = "translated";
constexpr std::string_view kREFUSED = "refused";
constexpr std::string_view kDROPPED = "dropped";
constexpr std::string_view kPASSED = "passed";
constexpr std::string_view kDEGRADED = "degraded";

constexpr char kUnknown[] = "unknown";

std::string TcAttachName(uint32_t attach) {
  switch (attach) {
    case WAGGLE_TC_NONE:
      return "none";
    case WAGGLE_TC_TCX:
      return "tcx";
    case WAGGLE_TC_CLSACT:
      return "clsact";
    default:
      return kUnknown;
  }
}

std::string ForwardingName(uint32_t forwarding) {
  switch (forwarding) {
    case WAGGLE_FORWARDING_STACK:
      return "stack";
    case WAGGLE_FORWARDING_REDIRECT:
      return "redirect";
    case WAGGLE_FORWARDING_AUTO:
      return "auto";
    default:
      return kUnknown;
  }
}

// The hooks that a device of this role needs.
std::vector<std::string> HooksOf(const waggle_device& device) {
  switch (device.role) {
    case WAGGLE_ROLE_POD:
      return {"pod_in", "pod_out"};
    case WAGGLE_ROLE_UPLINK:
    case WAGGLE_ROLE_TUNNEL:
      return {device.layer3 ? "net_l3" : "net_in"};
    default:
      return {};
  }
}

// "veth1" of "device 12 (veth1)".
std::string NameIn(const std::string& target) {
  const size_t begin = target.find('(');
  const size_t end = target.rfind(')');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return "";
  return target.substr(begin + 1, end - begin - 1);
}

}  // namespace

double Seconds(uint64_t nanoseconds) {
  const uint64_t milliseconds = nanoseconds / 1'000'000;
  return static_cast<double>(milliseconds) / 1e3;
}

const std::vector<ReasonInfo>& Reasons() {
  static const auto* const reasons = new std::vector<ReasonInfo>{
#define WAGGLE_REASON(identifier, label, class_, text) {label, k##class_, text},
#include "bpf/reasons.def"
#undef WAGGLE_REASON
  };
  return *reasons;
}

const std::vector<std::string_view>& Effects() {
  static const auto* const effects =
      new std::vector<std::string_view>{kTRANSLATED, kREFUSED, kDROPPED, kPASSED, kDEGRADED};
  return *effects;
}

SocketLbFacts SocketLbOf(uint32_t socket_lb, bool packet_path) {
  switch (socket_lb) {
    case WAGGLE_SOCKET_LB_ALL:
      return {"all", "processes of the node and of its pods are served"};
    case WAGGLE_SOCKET_LB_HOST:
      return {"host", packet_path
                          ? "processes in the node's network namespace are served at their "
                            "sockets, pods packet by packet"
                          : "only processes in the node's network namespace are served; pods are "
                            "left to whatever else serves them"};
    case WAGGLE_SOCKET_LB_OFF:
      return {"off", packet_path
                         ? "pods are served packet by packet; processes of the node itself are "
                           "not: they can only be served at the socket, before their source "
                           "address is chosen"
                         : "no process is served: a node process can only be served at the "
                           "socket, before its source address is chosen"};
    default:
      return {"unknown", "the pins hold a number that this version does not know"};
  }
}

PacketPathFacts PacketPathOf(const waggle_settings& settings, uint64_t now_monotonic_ns) {
  PacketPathFacts facts;
  facts.attach = TcAttachName(settings.tc_attach);
  facts.forwarding = ForwardingName(settings.forwarding);
  // 'auto' is never in force.
  if (settings.forwarding == WAGGLE_FORWARDING_AUTO) facts.forwarding = kUnknown;
  facts.forwarding_asked = ForwardingName(settings.forwarding_asked);
  facts.reason = std::string(settings.forwarding_reason,
                             strnlen(settings.forwarding_reason, WAGGLE_REASON_LEN));
  const uint64_t until = settings.lost_flows_pass_until_ns;
  facts.unknown_tcp_passes = until == 0 || until > now_monotonic_ns;
  if (until > now_monotonic_ns) facts.unknown_tcp_left_ns = until - now_monotonic_ns;
  return facts;
}

bool HasPacketPath(const std::optional<waggle_settings>& settings) {
  return settings && settings->tc_attach != WAGGLE_TC_NONE;
}

uint32_t DeviceOf(const loader::Attachment& attachment) {
  constexpr std::string_view kDevice = "device ";
  if (!attachment.target.starts_with(kDevice)) return 0;
  const std::string number = attachment.target.substr(
      kDevice.size(), attachment.target.find(' ', kDevice.size()) - kDevice.size());
  uint32_t ifindex = 0;
  return absl::SimpleAtoi(number, &ifindex) ? ifindex : 0;
}

// Without CAP_SYS_ADMIN the kernel does not tell names of programs, and the hook is only "in" or
// "out"; what our link on this device carries is what belongs there.
std::string HookOn(const waggle_device& device, const std::string& hook) {
  if (hook != "in" && hook != "out") return hook;
  for (const std::string& each : HooksOf(device)) {
    if (each.ends_with("_out") == (hook == "out")) return each;
  }
  return hook;
}

std::vector<DeviceFacts> DevicesOf(const maps::Devices& devices,
                                   const std::map<uint32_t, std::string>& names,
                                   const std::vector<loader::Attachment>& attachments) {
  std::map<uint32_t, DeviceFacts> by_index;
  for (const auto& [ifindex, device] : devices) {
    DeviceFacts& facts = by_index[ifindex];
    facts.device = device;
    facts.role = loader::RoleName(static_cast<waggle_role>(device.role));
    if (const auto name = names.find(ifindex); name != names.end()) facts.name = name->second;
    facts.missing = HooksOf(device);
  }
  for (const loader::Attachment& attachment : attachments) {
    const uint32_t ifindex = DeviceOf(attachment);
    if (ifindex == 0 || !attachment.alive) continue;
    DeviceFacts& facts = by_index[ifindex];
    if (facts.name.empty()) facts.name = NameIn(attachment.target);
    const std::string hook = HookOn(facts.device, attachment.hook);
    facts.programs.push_back(hook);
    std::erase(facts.missing, hook);
  }
  std::vector<DeviceFacts> all;
  for (auto& [ifindex, facts] : by_index) {
    facts.ifindex = ifindex;
    std::sort(facts.programs.begin(), facts.programs.end());
    all.push_back(std::move(facts));
  }
  return all;
}

std::vector<FeatureFacts> FeaturesOf(uint32_t features) {
  return {{"bpf_set_retval", (features & WAGGLE_FEATURE_SET_RETVAL) != 0,
           "a refused or dropped connection goes to closed port 1 of the loopback instead: "
           "ECONNREFUSED for TCP and connected UDP, silence for other datagrams"},
          {"bpf_skc_to_mptcp_sock", (features & WAGGLE_FEATURE_MPTCP_SOCK) != 0,
           "getpeername() of an MPTCP socket shows the backend in place of the Service"},
          {"BPF_FIB_LOOKUP_SKIP_NEIGH", (features & WAGGLE_FEATURE_SKIP_NEIGH) != 0,
           "a packet that is larger than its route allows is not refused while the route's "
           "neighbour is unknown"},
          {"tcx links", (features & WAGGLE_FEATURE_TCX) != 0,
           "programs at devices are filters at clsact, which anybody with the rights can remove"},
          {"bpf_ktime_get_coarse_ns", (features & WAGGLE_FEATURE_COARSE_CLOCK) != 0,
           "each packet at a device costs some 25 ns more"}};
}

std::vector<WorkFacts> WorkOf(const waggle_agent& agent) {
  return {{"events", agent.events},
          {"servicesResolved", agent.services_resolved},
          {"plansApplied", agent.plans_applied},
          {"hashInserts", agent.hash_inserts},
          {"hashDeletes", agent.hash_deletes},
          {"listStores", agent.list_stores},
          {"backendStores", agent.backend_stores},
          {"writeErrors", agent.write_errors}};
}

Totals TotalsOf(const std::vector<ResolvedService>& services) {
  Totals totals;
  totals.services = services.size();
  for (const ResolvedService& service : services) {
    for (const ResolvedPort& port : service.ports) {
      for (const BackendList& list : port.lists) {
        totals.frontends += list.frontends.size();
        totals.backends += list.backends.size();
      }
    }
  }
  return totals;
}

}  // namespace waggle::cli
