#include "tests/lab/losses.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace waggle::lab {
namespace {

constexpr std::chrono::milliseconds kOnItsWay{500};

// Two lines a protocol: the names, and the values below them.
std::map<std::string, uint64_t> ReadCounters(const std::string& text) {
  std::map<std::string, uint64_t> counters;
  std::istringstream lines(text);
  for (std::string names, values; std::getline(lines, names) && std::getline(lines, values);) {
    std::istringstream name_words(names), value_words(values);
    std::string protocol, name, ignored;
    // Some are signed, as a limit that there is not: -1.
    int64_t value = 0;
    name_words >> protocol;
    value_words >> ignored;
    while (name_words >> name && value_words >> value)
      counters[protocol + name] = static_cast<uint64_t>(value);
  }
  return counters;
}

}  // namespace

TcpCounts CountTcp(const Place& place) {
  const RunResult read = place.Run({"cat", "/proc/net/snmp", "/proc/net/netstat"});
  const std::map<std::string, uint64_t> counters = ReadCounters(read.out);
  const auto count = [&](const std::string& name) {
    const auto found = counters.find(name);
    if (found == counters.end()) {
      Fail(absl::StrCat("no counter ", name, " in ", place.name(), ": ", read.ToString()));
    }
    return found->second;
  };
  return {count("Tcp:RetransSegs"), count("TcpExt:TCPSynRetrans"),
          count("TcpExt:TCPDSACKRecv") + count("TcpExt:TCPDSACKOfoRecv")};
}

LossWatch::LossWatch(const std::vector<const Place*>& places,
                     const std::vector<const Place*>& busy) {
  for (const Place* place : places)
    places_.push_back({place, false, CountTcp(*place)});
  for (const Place* place : busy)
    places_.push_back({place, true, CountTcp(*place)});
}

std::string LossWatch::Losses() {
  std::string losses;
  for (auto& [place, only_syns, before] : places_) {
    TcpCounts now;
    uint64_t syns = 0, lost = 0;
    // The word that a segment had come already may still be on its way.
    WaitFor(
        [&, &place = place, &only_syns = only_syns, &before = before] {
          now = CountTcp(*place);
          syns = now.syns_again - before.syns_again;
          const uint64_t again = now.sent_again - before.sent_again;
          const uint64_t had = now.had_already - before.had_already;
          lost = only_syns ? syns : again - std::min(again, had);
          return lost == 0;
        },
        kOnItsWay);
    if (lost > 0) {
      absl::StrAppend(&losses, losses.empty() ? "" : "; ", place->name(), " sent ", lost,
                      " TCP segments again, ", syns, " of them SYNs");
    }
    before = now;
  }
  return losses;
}

}  // namespace waggle::lab
