// Flows as text: a table for people, JSON for programs. Pure.
#ifndef WAGGLE_USERSPACE_CLI_FLOW_REPORT_H_
#define WAGGLE_USERSPACE_CLI_FLOW_REPORT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "maps/flow_pins.h"
#include "maps/flow_table.h"

namespace waggle::cli {

// Sorts by protocol, client, frontend and backend, drops what was read twice (the established
// one of the two stays), and keeps the first `limit` (0: all).
void SortFlows(std::vector<maps::Flow>& flows, size_t limit);

struct FlowNames {
  const maps::ServicePorts& services;
  std::function<std::string(uint32_t ifindex)> device;  // its name; empty: nobody knows
};

// Takes the text piece by piece, as there may be hundreds of thousands of flows. False: stop.
using TextSink = std::function<bool(std::string_view)>;

// `wide` adds where the packets leave, ages, and what is special about a flow.
void WriteFlowsTable(const std::vector<maps::Flow>& flows, const FlowNames& names, bool wide,
                     const TextSink& sink);
// One array, one flow a line; ends in a newline.
void WriteFlowsJson(const std::vector<maps::Flow>& flows, const FlowNames& names,
                    const TextSink& sink);

}  // namespace waggle::cli

#endif
