#include "tests/lab/losses.h"

#include <map>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace waggle::lab {
namespace {

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

LossWatch::LossWatch(const std::vector<const Place*>& places) {
  for (const Place* place : places)
    places_.emplace_back(place, CountTcp(*place));
}

std::string LossWatch::Losses() {
  std::string losses;
  for (auto& [place, before] : places_) {
    const TcpCounts now = CountTcp(*place);
    const uint64_t again = now.sent_again - before.sent_again,
                   had = now.had_already - before.had_already;
    if (again > had) {
      absl::StrAppend(&losses, losses.empty() ? "" : "; ", place->name(), " sent ", again - had,
                      " TCP segments again, ", now.syns_again - before.syns_again, " of them SYNs");
    }
    before = now;
  }
  return losses;
}

}  // namespace waggle::lab
