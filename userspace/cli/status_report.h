// `waggle status` as values and text. Pure: everything comes in, nothing is read here.
#ifndef WAGGLE_USERSPACE_CLI_STATUS_REPORT_H_
#define WAGGLE_USERSPACE_CLI_STATUS_REPORT_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "loader/attachment.h"
#include "maps/reader.h"

namespace waggle::cli {

struct StatusInput {
  std::string pin_path;
  maps::KernelView view;
  std::vector<loader::Attachment> attachments;
  std::map<uint32_t, std::string> device_names;  // by ifindex; those that are known
  std::set<uint32_t> native_xdp;                 // ifindexes of devices with XDP in their driver
};

struct AgentHealth {
  bool alive = false;             // it holds the pins
  bool ready = false;             // alive, and everything known is programmed
  std::string state;              // "starting", "ready", "hung", "stopped", "killed", "none"
  std::string meaning;            // one sentence for people
  uint64_t uptime_ns = 0;         // 0 unless alive
  uint64_t heartbeat_age_ns = 0;  // 0 when there never was one
};

// `locked`: a living process holds the pins. Both times are CLOCK_BOOTTIME.
AgentHealth HealthOf(const waggle_agent& agent, bool locked, uint64_t now_boottime_ns);

// At most 80 columns, but for names. `wide` adds program tags, each device, counters that are
// zero, what each counter means, and the work done; its lines are as long as they need to be.
std::string RenderStatusText(const StatusInput& input, bool wide);
// One object, indented by two; ends in a newline.
std::string RenderStatusJson(const StatusInput& input);

// "3d4h", "2h3m", "4m5s", "6.7s": the two largest units, rounded down.
std::string DurationText(uint64_t nanoseconds);

}  // namespace waggle::cli

#endif
