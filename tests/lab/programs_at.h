// Which programs of tc stand at a device of a place.
#ifndef WAGGLE_TESTS_LAB_PROGRAMS_AT_H_
#define WAGGLE_TESTS_LAB_PROGRAMS_AT_H_

#include <bpf/bpf.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "loader/link_info.h"
#include "loader/tc_filters.h"
#include "tests/lab/lab.h"

namespace waggle::lab {

// The calling thread is in the place's network namespace until the end of the scope.
class Inside {
 public:
  explicit Inside(const Place& place) : home_(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) {
    Fd there(open(place.surroundings().netns.c_str(), O_RDONLY | O_CLOEXEC));
    if (setns(there.get(), CLONE_NEWNET) != 0) Fail("setns " + place.name());
  }
  ~Inside() {
    if (setns(home_.get(), CLONE_NEWNET) != 0) Fail("setns home");
  }

 private:
  Fd home_;
};

inline uint32_t IndexOf(const Place& place, const std::string& device) {
  Inside inside(place);
  return if_nametoindex(device.c_str());
}

inline std::string LinkProgram(uint32_t link_id) {
  Fd link(bpf_link_get_fd_by_id(link_id));
  if (!link.valid()) return "gone";
  auto info = loader::AskLink(link.get());
  return info.ok() ? loader::ProgramName(info->program_id) : "gone";
}

// Names of the programs at a device, in the order in which they run.
struct Programs {
  std::vector<std::string> in;
  std::vector<std::string> out;

  bool operator==(const Programs&) const = default;
  friend std::ostream& operator<<(std::ostream& stream, const Programs& programs) {
    stream << "in:";
    for (const std::string& name : programs.in)
      stream << " " << name;
    stream << " out:";
    for (const std::string& name : programs.out)
      stream << " " << name;
    return stream;
  }
};

inline Programs ProgramsAt(const Place& place, uint32_t ifindex) {
  Inside inside(place);
  Programs programs;
  const auto take = [&](loader::TcHook hook, uint32_t attach_type,
                        std::vector<std::string>& names) {
    auto links = loader::TcxLinksOf(ifindex, attach_type);
    if (!links.ok()) {
      names.push_back("no device");
      return;
    }
    for (uint32_t id : *links)
      names.push_back(LinkProgram(id));
    auto filters = loader::ListFilters(ifindex, hook);
    if (!filters.ok()) Fail(std::string(filters.status().message()));
    for (const loader::TcFilter& filter : *filters) {
      names.push_back("filter " + filter.name.substr(0, filter.name.find(':')));
    }
  };
  take(loader::TcHook::kIngress, loader::kTcxIngress, programs.in);
  take(loader::TcHook::kEgress, loader::kTcxEgress, programs.out);
  return programs;
}

}  // namespace waggle::lab

#endif
