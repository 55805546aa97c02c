#include "tests/cluster/core_dns.h"

#include <fstream>

#include "absl/strings/str_cat.h"
#include "tests/lab/clients.h"
#include "tests/lab/cluster.h"

namespace waggle::cluster {
namespace {

std::string WriteCorefile(const ControlPlane& control, const lab::Lab& lab,
                          const lab::Place& place) {
  std::string path = absl::StrCat(lab.scratch(), "/", place.name(), ".corefile");
  std::ofstream(path) << ".:" << kDnsPort << " {\n  errors\n  kubernetes cluster.local {\n"
                      << "    kubeconfig " << control.WriteKubeconfig(kAdmin) << "\n  }\n}\n";
  return path;
}

}  // namespace

std::string DnsName(const std::string& service, const std::string& ns) {
  return absl::StrCat(service, ".", ns, ".svc.cluster.local");
}

CoreDns::CoreDns(const ControlPlane& control, const lab::Lab& lab, const lab::Place& place)
    : place_(place),
      process_(place.surroundings(),
               {KubernetesProgram("coredns"), "-conf", WriteCorefile(control, lab, place)},
               lab::Process::Output::kToMemory) {
  process_.CloseInput();
}

void CoreDns::AwaitAnswer(const std::string& service, const lab::Addresses& ips) const {
  const bool answers = lab::WaitFor([&] {
    for (const net::Family family : lab::kBothFamilies) {
      lab::Load asking(place_, {"rate", "--mode", "udp-new", "--to",
                                lab::At(place_.addresses().Of(family), kDnsPort), "--dns",
                                DnsName(service), "--count", "1", "--timeout-ms", "500"});
      if (!asking.Finish().names.contains(ips.Of(family))) return false;
    }
    return true;
  });
  if (!answers) {
    lab::Fail(absl::StrCat("CoreDNS in ", place_.name(), " does not answer for ", service, "\n",
                           process_.Out(), process_.Err()));
  }
}

}  // namespace waggle::cluster
